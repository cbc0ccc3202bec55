"""Gates at the doors of hand-written code: nothing is made without a yes to just that, and the ledger says what was said."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import apsw
import pytest

import bursar
from bursar import ApprovalDenied, ApprovalTimeout, Budget, BudgetExceeded, BursarWarning, ConfigError, CostGate
from bursar.approvals import Question, Reply
from bursar.runs.process import process
from bursar.runs.scoped import scoped_frame
from bursar.testing import Provider
from bursar.words.events import Amounts
from bursar.words.questions import Step
from tests.clients.books import verdicts_of
from tests.clients.callers import CALLERS

pytestmark = pytest.mark.filterwarnings("ignore:run 'w' ended and saw no model call")
ASK: Any = {"model": "claude-sonnet-5-5", "max_tokens": 400}
HI: Any = [{"role": "user", "content": "hi"}]


class Person:
    """Answers questions as told, and remembers them."""

    def __init__(self, *replies: Any) -> None:
        self.asked: list[Question] = []
        self._replies = list(replies)

    def __call__(self, question: Question) -> Any:
        self.asked.append(question)
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


def states() -> list[str]:
    return [row.state for row in reversed(process().approvals.book.latest(0, 100))]


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_call_is_made_after_a_yes_and_not_after_a_no(ask: Any, provider: Provider) -> None:
    """Through every kind of wrapped client; a refusal leaves nothing held, and is charged nothing."""
    person = Person(True, Reply(False, reason="too dear"))
    with bursar.run("w", Budget(usd="1"), CostGate(ask_above_usd="0.000001", approver=person)) as run:
        ask(provider)
        billed = provider.billed_nusd
        with pytest.raises(ApprovalDenied, match="too dear") as stopped:
            ask(provider)
        assert run.spend.held.nusd == 0
        assert run.stop_reason == "approval_denied"
    assert len(provider.charges) == 1
    assert run.spend.settled.nusd == billed
    assert [question.kind for question in person.asked] == ["model", "model"]
    assert (stopped.value.answer, stopped.value.kind, stopped.value.sent) == ("too dear", "model", False)
    assert stopped.value.bound is not None
    assert stopped.value.bound >= (stopped.value.likely or 0) > 0
    assert states() == ["used", "denied"]
    assert [v.action for v in verdicts_of(run) if v.guard == "gate"] == ["ask", "approved", "ask", "deny"]


def test_a_dear_call_is_denied_and_nobody_is_asked(provider: Provider, claude: anthropic.Anthropic) -> None:
    """`deny_above_usd` judges the bound, whatever a person would say."""
    person, client = Person(True), bursar.wrap(claude)
    with bursar.run("w", Budget(usd="1"), CostGate(ask="always", deny_above_usd="0.001", approver=person)):
        with pytest.raises(ApprovalDenied, match="above the"):
            client.messages.create(**ASK, messages=HI)
    assert (person.asked, provider.charges) == ([], [])


def test_nobody_is_asked_about_what_cannot_be_paid(provider: Provider, claude: anthropic.Anthropic) -> None:
    """The balance is looked at first: a call that does not fit is the budget's to refuse."""
    person, client = Person(True), bursar.wrap(claude)
    with bursar.run("w", Budget(usd="0.000002"), CostGate(ask="always", approver=person)):
        with pytest.raises(BudgetExceeded):
            client.messages.create(**ASK, messages=HI)
        with pytest.raises(BudgetExceeded):
            bursar.tool(usd="0.02")(lambda: 1)()
    assert person.asked == []


def test_a_refused_tool_returns_what_the_model_reads() -> None:
    """The function is not run, nothing is charged, the run goes on; the reason is in the text, sync and async."""
    made: list[str] = []

    def pay(to: str) -> str:
        made.append(to)
        return "paid"

    async def apay(to: str) -> str:
        made.append(to)
        return "paid"

    person = Person(Reply(False, reason="use the cheap one", by="ana"))
    with bursar.run("w", Budget(usd="1"), CostGate(tool="*pay", ask="always", approver=person)) as run:
        said = bursar.tool(usd="0.02", name="pay")(pay)("bob")
        asaid = asyncio.run(bursar.tool(usd="0.02")(apay)("bob"))
        assert run.spend.settled.nusd == 0
        assert run.stop_reason is None
    assert made == []
    for text in (said, asaid):
        assert "refused by ana: use the cheap one" in text
    assert person.asked[0].arguments == '{"to":"bob"}'


def test_case_79_arguments_that_change_while_a_person_thinks_are_asked_about_again() -> None:
    """What was approved is not what would be done: it is asked anew, and the new one is what runs."""
    order = {"amount": 1}
    ran: list[Any] = []

    def person(question: Question) -> bool:
        asked.append(question.arguments)
        if len(asked) == 1:
            order["amount"] = 1_000_000
        return len(asked) == 1

    asked: list[str] = []
    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=person)):
        said = str(bursar.tool(name="pay")(lambda order: ran.append(dict(order)))(order))
    assert asked == ['{"order":{"amount":1}}', '{"order":{"amount":1000000}}']
    assert ran == []
    assert "was not made" in said


def test_case_79_arguments_that_change_before_the_tool_runs_are_not_run() -> None:
    """A call that waits for room after its yes is looked at once more; what it held is given back."""
    order, ran = {"amount": 1}, []
    pay = bursar.tool(name="pay", usd="0.02")(lambda order: ran.append(dict(order)))
    answered = threading.Event()

    def person(question: Question) -> bool:
        answered.set()
        return True

    with bursar.run("w", Budget(usd="1", tool_calls=1), CostGate(tool="pay", ask="always", approver=person)) as run:
        # A call in flight has what there is: the next waits for it, behind its yes.
        store, path = process().memory, scoped_path()
        store.reserve("other/0", path, Amounts(tool_calls=1), owner=1)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(run.bind(lambda: pay(order)))
            assert answered.wait(10)
            while not store.peek(path, frozenset(), None)[0].crowd > 1:
                time.sleep(0.01)
            order["amount"] = 1_000_000
            store.release("other/0")
            said = waiting.result(10)
        assert (run.spend.held.nusd, run.spend.settled.nusd) == (0, 0)
    assert ran == []
    assert "changed after it was approved" in str(said)


def scoped_path() -> Any:
    frame = scoped_frame()
    assert frame is not None
    return frame.path


def test_messages_that_change_while_a_person_thinks_are_not_sent(
    provider: Provider, claude: anthropic.Anthropic
) -> None:
    """What was approved is what is sent: a snapshot, whatever becomes of the caller's list."""
    messages: Any = [{"role": "user", "content": "hi"}]

    def person(question: Question) -> bool:
        messages[0]["content"] = "something else " * 1_000
        return True

    with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=person)):
        bursar.wrap(claude).messages.create(**ASK, messages=messages)
    assert provider.charges[0].input_tokens < 100


def test_a_second_use_and_a_second_call_ask_again() -> None:
    """A yes is for one call: the same arguments again are another call."""
    person = Person(True)
    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=person)):
        pay = bursar.tool(name="pay")(lambda to: f"paid {to}")
        assert [pay("bob"), pay("bob")] == ["paid bob", "paid bob"]
    assert len(person.asked) == 2
    book = process().approvals.book
    row = book.latest(0, 1)[0]
    assert not book.use(row.id, row.binding, row.bound_nusd)


def test_case_78_a_yes_is_to_one_thing_at_one_price_once() -> None:
    """Ids are 128 random bits; an answer is used for what it was given to, at no higher price, before its time is over."""
    book, question = process().approvals.book, _question()
    row = book.open(question, until_us=book.now_us() + 10_000_000, asking="inbox", user_hash=None)
    assert len(row.id) == 32
    assert not book.use(row.id, "b1", 10)
    assert book.decide(row.id, Reply(True), by="ana", via="inbox")[1]
    assert not book.decide(row.id, Reply(False), by="eve", via="inbox")[1]
    assert not book.use(row.id, "other", 10)
    assert not book.use(row.id, "b1", 12)
    assert not book.use(row.id, "b1", None)
    assert book.use(row.id, "b1", 11)
    assert not book.use(row.id, "b1", 11)
    late = book.open(question, until_us=book.now_us() - 1, asking="inbox", user_hash=None)
    assert not book.decide(late.id, Reply(True), by="ana", via="inbox")[1]
    with pytest.raises(bursar.LedgerError, match="no question"):
        book.decide("0" * 32, Reply(True), by="ana", via="inbox")


def _question(**more: Any) -> Question:
    given: dict[str, Any] = {
        "kind": "tool", "name": "pay", "workflow": "w", "run_id": "r", "op_id": "o", "arguments": "{}", "whole": True,
        "binding": "b1", "likely_nusd": 10, "bound_nusd": 10, "ceiling_nusd": 11, "sure": "", "spent_nusd": None,
        "left_nusd": None, "rules": ("g",), "why": "because", "approvers": (), "timeout_us": None,
    }  # fmt: skip
    return Question(**(given | more))


def test_case_80_an_edit_runs_what_was_written_and_is_judged_again() -> None:
    """Other arguments, the caller's own objects for what was left alone; a rule that they meet is heard."""
    ran: list[tuple[Any, Any]] = []
    handle = object()

    def pay(to: str, amount: int, via: Any) -> str:
        ran.append((to, via))
        return f"paid {amount}"

    def person(question: Question) -> Reply:
        return Reply(True, arguments={**json.loads(question.arguments), "amount": amounts.pop(0)})

    amounts = [5, 500]
    gates = (
        CostGate(tool="pay", ask="always", approver=person),
        CostGate(tool="pay", when=lambda args: args["amount"] > 100, deny=True),
    )
    with bursar.run("w", Budget(usd="1"), *gates):
        tool = bursar.tool(pay)
        assert tool("bob", 50, via=handle) == "paid 5"
        assert "is not allowed" in tool("bob", 50, via=handle)
    assert ran == [("bob", handle)]


def test_a_yes_that_lasts_covers_calls_like_it_up_to_its_amount() -> None:
    """For this run, for this tool, up to an amount, until a time; a revoked one covers nothing."""
    person = Person(Reply(True, scope="run", up_to_usd="0.05"))
    gate = CostGate(tool="pay", ask="always", approver=person)
    with bursar.run("w", Budget(usd="1"), gate):
        pay = bursar.tool(usd="0.02", name="pay")(lambda to: to)
        assert [pay(name) for name in "abcd"] == list("abcd")
    # Two and two: the third would pass the amount, and is asked about.
    assert len(person.asked) == 2
    with bursar.run("w", Budget(usd="1"), gate):
        pay("e")
    assert len(person.asked) == 3
    always = Person(Reply(True, scope="tool", until="1h"))
    wide = CostGate(tool="pay", ask="always", approver=always)
    for workflow in ("w", "w", "v"):
        with bursar.run(workflow, Budget(usd="1"), wide):
            pay("x")
    assert len(always.asked) == 2
    book = process().approvals.book
    grant = next(grant for grant in book.grants() if grant.workflow == "w" and grant.scope == "tool")
    assert (grant.uses, grant.by_whom) == (2, "Person")
    assert book.revoke(grant.id, "ana")
    assert not book.revoke(grant.id, "ana")
    with bursar.run("w", Budget(usd="1"), wide):
        pay("x")
    assert len(always.asked) == 3


def test_a_grant_is_for_the_gate_that_asked() -> None:
    """A yes to one gate is none to another one, and code loosens no other's."""
    lax, strict = Person(Reply(True, scope="run")), Person(False)
    gates = (CostGate(tool="pay", ask="always", approver=lax), CostGate(tool="p*", ask="always", approver=strict))
    with bursar.run("w", Budget(usd="1"), *gates):
        pay = bursar.tool(name="pay")(lambda: 1)
        assert "was not made" in str(pay())
        assert "was not made" in str(pay())
    assert (len(lax.asked), len(strict.asked)) == (1, 2)


def test_case_82_no_answer_in_time_is_a_no(provider: Provider, claude: anthropic.Anthropic) -> None:
    """A function that hangs, and one that will not say."""
    hang = threading.Event()
    with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=lambda q: hang.wait(20), timeout=0.2)) as run:
        with pytest.raises(ApprovalTimeout, match="nobody answered in time"):
            bursar.wrap(claude).messages.create(**ASK, messages=HI)
    hang.set()
    assert (run.stop_reason, provider.charges, states()) == ("approval_timeout", [], ["timeout"])


@pytest.mark.parametrize("said", ["yes", 1, {"decision": "approve"}])
def test_what_is_no_answer_is_no_yes(said: Any) -> None:
    """Only True, and a Reply, are a yes; a function that fails is none."""
    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=lambda q: said)):
        assert "neither True" in str(bursar.tool(name="pay")(lambda: 1)())
    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=lambda q: 1 / 0)):
        assert "raised ZeroDivisionError" in str(bursar.tool(name="pay")(lambda: 1)())


def test_one_approver_after_another() -> None:
    """One that leaves it to the next, an inbox that nobody reads for a second, and then one that answers."""
    person = Person(True)
    chain = [lambda q: None, "inbox 1s", person]
    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=chain)):
        assert bursar.tool(name="pay")(lambda: "paid")() == "paid"
    assert len(person.asked) == 1


def test_case_87_a_price_that_rose_while_a_person_thought_is_asked_about_again(
    provider: Provider, claude: anthropic.Anthropic
) -> None:
    """The yes was to less: another one is needed, and the hold is taken after it."""
    held: list[int] = []

    def person(question: Question) -> bool:
        held.append(run.spend.held.nusd)
        bounds.append(question.bound_nusd or 0)
        prices = process().world.prices
        for key, card in list(prices._cards.items()):
            if card is not None and len(bounds) == 1:
                prices._cards[key] = replace(card, base=card.base._replace(output=card.base.output * 3))
        return len(bounds) == 1

    bounds: list[int] = []
    with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=person)) as run:
        with pytest.raises(ApprovalDenied):
            bursar.wrap(claude).messages.create(**ASK, messages=HI)
    assert bounds[1] > 2 * bounds[0]
    assert (held, provider.charges) == ([0, 0], [])


def test_thinking_is_not_counted_as_the_runs_time_unless_told_to(
    provider: Provider, claude: anthropic.Anthropic
) -> None:
    """`seconds` stands still while a person is asked; with `count_wait` it does not."""
    client = bursar.wrap(claude)

    def slow(question: Question) -> bool:
        time.sleep(0.6)
        return True

    with bursar.run("w", Budget(usd="1", seconds=0.5), CostGate(ask="always", approver=slow)):
        client.messages.create(**ASK, messages=HI)
    with bursar.run("w", Budget(usd="1", seconds=0.5), CostGate(ask="always", approver=slow, count_wait=True)):
        with pytest.raises(BudgetExceeded, match="seconds"):
            client.messages.create(**ASK, messages=HI)


def test_an_event_loop_goes_on_while_a_person_thinks(provider: Provider) -> None:
    """Awaited calls wait without blocking; a synchronous one on the loop's own thread is refused and says what can."""

    async def main() -> tuple[int, BaseException | None]:
        ticks = 0
        thinking = asyncio.Event()

        async def person(question: Question) -> bool:
            await thinking.wait()
            return True

        async def tick() -> None:
            nonlocal ticks
            for _ in range(20):
                await asyncio.sleep(0)
                ticks += 1
            thinking.set()

        async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as client:
            with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=person)):
                call = asyncio.create_task(bursar.wrap(client).messages.create(**ASK, messages=HI))
                await asyncio.gather(call, tick())
        refused = None
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as sync:
            with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=lambda q: True)):
                try:
                    bursar.wrap(sync).messages.create(**ASK, messages=HI)
                except ApprovalDenied as error:
                    refused = error
        return ticks, refused

    ticks, refused = asyncio.run(main())
    assert ticks == 20
    assert "BursarMiddleware" in str(refused)
    assert len(provider.charges) == 1


def test_a_cancelled_wait_withdraws_its_question(provider: Provider) -> None:
    """Nothing is made, nothing is held, and the question is no longer open."""

    async def main() -> bursar.Run:
        asked = asyncio.Event()

        async def person(question: Question) -> bool:
            asked.set()
            await asyncio.sleep(60)
            return True

        async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as client:
            with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=person)) as run:
                call = asyncio.create_task(bursar.wrap(client).messages.create(**ASK, messages=HI))
                await asked.wait()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert run.spend.held.nusd == 0
        return run

    asyncio.run(main())
    assert (states(), provider.charges) == (["withdrawn"], [])


def test_who_is_cancelled_while_his_question_is_written_down_leaves_none_open() -> None:
    """Another process is writing, so his row comes when he has gone: nobody is left to say yes to somebody else's."""
    book, question = process().approvals.book, _question(approvers=(Step("inbox"),), short_nusd=1)
    book.open_ones()

    async def main() -> None:
        other = apsw.Connection(process().ledger.path.as_posix())
        other.execute("BEGIN IMMEDIATE")
        asking = asyncio.create_task(process().approvals.aask(question))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.sleep(0.1)
        other.execute("ROLLBACK")
        other.close()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())
    assert (book.open_ones(), states()) == ([], ["withdrawn"])


def test_a_yes_that_comes_too_late_is_for_nothing() -> None:
    """Cancelled in the moment of the answer: the tool does not run, and the ledger does not say that it did."""
    ran: list[int] = []

    @bursar.tool(name="pay")
    async def pay() -> None:
        ran.append(1)

    async def person(question: Question) -> bool:
        [row] = process().approvals.book.open_ones()
        process().approvals.book.decide(row.id, Reply(True), by="ana", via="inbox")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)
        return True

    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=person)):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(pay())
    assert (ran, states()) == ([], ["withdrawn"])


def test_observing_gates_ask_nobody(provider: Provider, claude: anthropic.Anthropic) -> None:
    """They judge and leave a verdict that did not act."""
    person = Person(False)
    with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=person), mode="observe") as run:
        bursar.wrap(claude).messages.create(**ASK, messages=HI)
    assert person.asked == []
    assert [(v.guard, v.action, v.acted) for v in verdicts_of(run)] == [("gate", "ask", False)]


def test_gates_of_the_file_hold_beside_those_of_the_program(tmp_path: Path) -> None:
    """Code adds to the file and loosens nothing; an error in it names file, line and value."""
    config = tmp_path / "bursar.toml"
    config.write_text('[[gate]]\ntool = "pay"\nask = "always"\napprover = "python:tests.approvals.policy:never"\n')
    bursar.configure(config=str(config))
    lax = Person(True)
    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=lax)):
        assert "refused by never: not today" in str(bursar.tool(name="pay")(lambda: 1)())
    with bursar.run("w", Budget(usd="1")):
        assert "not today" in str(bursar.tool(name="pay")(lambda: 1)())
    config.write_text('\n\n[[gate]]\ntool = "pay"\nask = "allways"\n')
    bursar.configure(config=str(config))
    with pytest.raises(ConfigError, match=r"bursar\.toml:3: ask='allways'"):
        process()


def test_a_dearer_model_than_declared_is_asked_about(
    tmp_path: Path, provider: Provider, claude: anthropic.Anthropic
) -> None:
    """`[workflow.w] models = [...]`: the declared one goes, a cheaper one goes, a dearer one asks."""
    config = tmp_path / "bursar.toml"
    config.write_text('[workflow.w]\nmodels = ["claude-sonnet-5-5"]\n')
    bursar.configure(config=str(config))
    person, client = Person(False), bursar.wrap(claude)
    with bursar.run("w", Budget(usd="1"), CostGate(ask="dearer", approver=person)):
        client.messages.create(**ASK, messages=HI)
        client.messages.create(**(ASK | {"model": "claude-haiku-5-5"}), messages=HI)
        assert person.asked == []
        with pytest.raises(ApprovalDenied):
            client.messages.create(**(ASK | {"model": "claude-opus-5-5"}), messages=HI)
    assert "declares claude-sonnet-5-5" in person.asked[0].why


def test_the_top_tier_is_known_by_its_price(provider: Provider, claude: anthropic.Anthropic) -> None:
    """A gate on "top" asks about the dearest models of the vendor and not about the others."""
    person, client = Person(True), bursar.wrap(claude)
    with bursar.run("w", Budget(usd="5"), CostGate(model="top", ask="always", approver=person)):
        for model in ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"):
            client.messages.create(**(ASK | {"model": model}), messages=HI)
    assert [question.name for question in person.asked] == ["claude-opus-5-5"]


def test_case_86_a_gate_that_asks_too_often_says_so_with_a_proposal() -> None:
    """The twenty-first question within an hour is said once, with an amount that would ask a tenth as often."""
    with bursar.run("w", Budget(usd="5"), CostGate(ask_above_usd="0.01", approver=lambda q: True)):
        pay = bursar.tool(usd="0.02", name="pay")(lambda n: n)
        for n in range(20):
            pay(n)
        with pytest.warns(BursarWarning, match=r"21 questions within an hour .* ask_above_usd='0\.02") as said:
            pay(20)
        pay(21)
    assert len(said) == 1


def test_a_yes_that_cannot_be_kept_is_a_no(ledger: Path) -> None:
    """Without its ledger a gate asks nobody and lets nothing pass."""
    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver=lambda q: True)):
        process().ledger.close()
        ledger.unlink()
        ledger.mkdir()
        with pytest.warns(BursarWarning):
            said = bursar.tool(name="pay")(lambda: "paid")()
        assert "cannot be kept in the ledger" in str(said)
    ledger.rmdir()
