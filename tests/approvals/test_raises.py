"""A budget that is full and somebody who may raise it: asked in time, raised once, by what was said, and written down."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget, BudgetExceeded, ConfigError, CostGate
from bursar.approvals import Question, Reply
from bursar.cli.app import app
from bursar.runs.process import process
from bursar.testing import Provider
from tests.approvals.test_gates import ASK, HI, Person, states
from tests.clients.books import verdicts_of

pytestmark = pytest.mark.filterwarnings("ignore:run 'w' ended and saw no model call")
CENT = 10_000_000


def cli(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def pay() -> Any:
    """A tool for two cents."""
    return bursar.tool(usd="0.02", name="pay")(lambda n=0: f"paid {n}")


def test_a_model_call_that_does_not_fit_is_asked_about_and_goes_on(
    provider: Provider, claude: anthropic.Anthropic
) -> None:
    """A yes raises the run's limit by just what the call lacks; who, how much and why stand beside the call."""
    person, client = Person(Reply(True, by="ana", reason="go on")), bursar.wrap(claude)
    with bursar.run("w", Budget(usd="0.000010"), CostGate(ask="full", approver=person)) as run:
        client.messages.create(**ASK, messages=HI)
        limit, settled = run.limits["usd"], run.spend.settled.nusd
    [question] = person.asked
    assert question.short_nusd == (question.bound_nusd or 0) - 10_000
    assert limit == question.bound_nusd
    assert (settled, len(provider.charges)) == (provider.billed_nusd, 1)
    assert "a yes raises that limit by" in question.why
    [raised] = [v for v in verdicts_of(run) if v.action == "raise"]
    assert (raised.guard, raised.limit, raised.nusd, raised.scope) == (
        "gate",
        limit,
        question.short_nusd,
        f"run {run.id}",
    )
    row = process().approvals.book.latest(0, 1)[0]
    assert (row.state, row.raise_nusd, row.by_whom) == ("used", question.short_nusd, "ana")
    shown = cli("trace", run.id)
    assert "gate: raise" in shown
    assert "ana: go on" in shown
    assert "more, " in shown


def test_what_fits_is_not_asked_about(provider: Provider, claude: anthropic.Anthropic) -> None:
    """The gate is silent while there is room, also for a call that is clamped into it."""
    person, client = Person(True), bursar.wrap(claude)
    with bursar.run("w", Budget(usd="0.02"), CostGate(ask="full", approver=person)):
        client.messages.create(**ASK, messages=HI)
        client.messages.create(**(ASK | {"max_tokens": 4_000}), messages=HI)
    assert person.asked == []


def test_a_no_leaves_it_to_the_budget_and_holds(provider: Provider, claude: anthropic.Anthropic) -> None:
    """`BudgetExceeded` as without a gate, with what was said; nobody is asked for the same budget again."""
    person, client = Person(Reply(False, reason="enough", by="ana")), bursar.wrap(claude)
    with bursar.run("w", Budget(usd="0.000010"), CostGate(ask="full", approver=person)) as run:
        with pytest.raises(BudgetExceeded, match=r"asked for more said no .*ana: enough") as stopped:
            client.messages.create(**ASK, messages=HI)
        with pytest.raises(BudgetExceeded):
            client.messages.create(**ASK, messages=HI)
        assert run.stop_reason == stopped.value.reason
        assert run.limits["usd"] == 10_000
    assert (len(person.asked), provider.charges, states()) == (1, [], ["denied"])


def test_of_many_calls_without_room_one_asks(provider: Provider) -> None:
    """Twenty tasks and a budget for none: one question, raised for all, and all of them go."""
    person = Person(Reply(True, raise_usd="1", by="ana"))

    async def main() -> None:
        async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as client:
            wrapped = bursar.wrap(client)
            with bursar.run("w", Budget(usd="0.000010"), CostGate(ask="full", approver=person)):
                await asyncio.gather(*(wrapped.messages.create(**ASK, messages=HI) for _ in range(20)))

    asyncio.run(main())
    assert (len(person.asked), len(provider.charges)) == (1, 20)


def test_of_many_tools_without_room_one_asks() -> None:
    """The same in threads; a raise for three lets three go, and the next asks again."""
    answered = threading.Event()

    def person(question: Question) -> Reply:
        asked.append(question)
        answered.wait(0.3)
        return Reply(True, raise_usd="0.06")

    asked: list[Question] = []
    with bursar.run("w", Budget(usd="0.01"), CostGate(tool="pay", ask="full", approver=person)) as run:
        with ThreadPoolExecutor(7) as pool:
            said = [pool.submit(run.bind(pay()), n) for n in range(7)]
        assert sorted(str(each.result()) for each in said) == [f"paid {n}" for n in range(7)]
        assert run.spend.settled.nusd == 14 * CENT
        assert run.limits["usd"] == CENT + 6 * CENT * len(asked)
    assert 1 < len(asked) < 7


def test_the_innermost_budget_in_the_way_is_raised() -> None:
    """What lies around it keeps its own limit, and is asked about in its turn."""
    person = Person(Reply(True, raise_usd="0.05"))
    with bursar.run("w", Budget(usd="0.03"), CostGate(ask="full", approver=person)) as run:
        with bursar.budget(usd="0.01") as inner:
            assert pay()() == "paid 0"
            assert inner.remaining["usd"] * 1_000_000_000 == 4 * CENT
            assert run.limits["usd"] == 3 * CENT
            assert pay()() == "paid 0"
        assert run.limits["usd"] == 8 * CENT
    first, second = (str(question.limit_scope) for question in person.asked)
    assert first.startswith(f"budget {run.id}")
    assert second == f"run {run.id}"


def test_a_raise_keeps_what_is_set_aside_for_the_last_call(provider: Provider, claude: anthropic.Anthropic) -> None:
    """The whole and what ordinary calls have of it grow together; the last call still has its part."""
    person = Person(Reply(True, raise_usd="0.04"))
    with bursar.run(
        "w", Budget(usd="0.03", reserve_final="0.02"), CostGate(tool="*", ask="full", approver=person)
    ) as run:
        assert pay()() == pay()() == "paid 0"
        assert run.remaining["usd"] * 1_000_000_000 == 3 * CENT
        with run.final():
            bursar.wrap(claude).messages.create(**ASK, messages=HI)
    assert (len(person.asked), run.limits["usd"]) == (1, 7 * CENT)


def test_any_yes_may_raise_the_budget() -> None:
    """A gate that asks for another reason: the limit is raised beside the yes; an edit may do both."""
    person = Person(Reply(True, raise_usd="0.50"), Reply(True, raise_usd="0.50", arguments={"n": 7}), True)
    with bursar.run("w", Budget(usd="0.10"), CostGate(tool="pay", ask="always", approver=person)) as run:
        assert [pay()(1), pay()(1), pay()(1)] == ["paid 1", "paid 7", "paid 1"]
        assert run.limits["usd"] == 110 * CENT
    assert [question.short_nusd for question in person.asked] == [None] * 3


def test_what_was_said_of_a_tool_call_stands_beside_it() -> None:
    """`bursar trace` shows question, answer and raise under the call, and a refused one as refused."""
    person = Person(Reply(True, raise_usd="0.50", by="ana", reason="the big one"), Reply(False, reason="no", by="ana"))
    with bursar.run("w", Budget(usd="0.10"), CostGate(tool="pay", ask="always", approver=person)) as run:
        pay()(1), pay()(2)
    lines = cli("trace", run.id).splitlines()
    made = next(n for n, line in enumerate(lines) if "1 tool pay" in line)
    assert "gate: ask tool pay: every call of tool pay is asked about" in lines[made + 1]
    assert "gate: approved tool pay: Person: ana: the big one" in lines[made + 2]
    assert f"gate: raise run {run.id}: $0.5000 more, $0.6000 now: Person: ana: the big one" in lines[made + 3]
    assert "2 refused · gate: deny tool pay: Person: ana: no" in lines[made + 4]


def test_one_question_for_a_gate_that_asks_and_a_budget_that_is_full() -> None:
    """Both in one; a no there is the gate's, and nothing is made."""
    person = Person(Reply(True), Reply(False, reason="no"))
    gates = CostGate(tool="pay", ask="always", approver=person), CostGate(ask="full")
    with bursar.run("w", Budget(usd="0.01"), *gates) as run:
        assert pay()() == "paid 0"
        assert run.limits["usd"] == 2 * CENT
        assert "refused by Person: no" in pay()()
    assert len(person.asked) == 2
    assert len(person.asked[0].rules) == 2


def test_an_amount_that_cannot_be_meant_is_a_no() -> None:
    """Less than is lacking, nothing to raise, a full budget opened for good."""
    for reply, what in (
        (Reply(True, raise_usd="0.001"), "less than this call lacks"),
        (Reply(True, scope="run"), "raised by an amount and not opened"),
    ):
        with bursar.run("w", Budget(usd="0.01"), CostGate(ask="full", approver=Person(reply))) as run:
            with pytest.raises(BudgetExceeded, match=what):
                pay()()
            assert run.limits["usd"] == CENT
    with bursar.run(
        "w", Budget(tool_calls=5), CostGate(tool="pay", ask="always", approver=Person(Reply(True, raise_usd="1")))
    ):
        assert "no budget of this run limits dollars" in pay()()
    for yes, amount in ((False, "1"), (True, "-1")):
        with pytest.raises(ConfigError):
            Reply(yes, raise_usd=amount)
    with pytest.raises(TypeError):
        Reply(True, raise_usd=0.5)  # type: ignore[arg-type]


def test_other_units_and_shared_limits_are_not_raised(tmp_path: Path) -> None:
    """Nobody is asked where a raise of dollars would not let the call go, or the money is not this run's alone."""
    config, person = tmp_path / "bursar.toml", Person(Reply(True, raise_usd="5"))
    gate = CostGate(ask="full", approver=person)
    with bursar.run("w", Budget(usd="0.01", tool_calls=1), gate):
        assert pay()() == "paid 0"
        with pytest.raises(BudgetExceeded, match="tool_calls"):
            pay()()
    assert len(person.asked) == 1
    config.write_text('[env.development]\nusd_per_day = "0.01"\n')
    bursar.configure(config=str(config))
    with bursar.run("w", Budget(usd="5"), gate), pytest.raises(BudgetExceeded, match="env development"):
        pay()()
    # A raise of the run's own would not let it go either.
    with bursar.run("w", Budget(usd="0.01"), gate), pytest.raises(BudgetExceeded, match="env development"):
        pay()()
    assert len(person.asked) == 1


def test_code_does_not_raise_what_the_file_has_set(tmp_path: Path) -> None:
    """`usd_per_run` is raised by a gate of the file, not by one of the program."""
    config, person = tmp_path / "bursar.toml", Person(Reply(True, raise_usd="5"))
    config.write_text('[workflow.w]\nusd_per_run = "0.01"\n')
    bursar.configure(config=str(config))
    with bursar.run("w", CostGate(ask="full", approver=person)), pytest.raises(BudgetExceeded):
        pay()()
    assert person.asked == []
    policy = 'ask = "full"\napprover = "python:tests.approvals.policy:generous"\n'
    config.write_text(f'[workflow.w]\nusd_per_run = "0.01"\n[[gate]]\n{policy}')
    bursar.configure(config=str(config))
    with bursar.run("w"):
        assert pay()() == "paid 0"


def test_where_nobody_can_be_asked_the_budget_refuses(provider: Provider, claude: anthropic.Anthropic) -> None:
    """A synchronous call on the loop's own thread cannot wait: it is refused, says which door can, and closes nothing."""
    person, client = Person(True), bursar.wrap(claude)

    async def main() -> None:
        with pytest.raises(BudgetExceeded, match="cannot be asked here"):
            client.messages.create(**ASK, messages=HI)

    with bursar.run("w", Budget(usd="0.000010"), CostGate(ask="full", approver=person)):
        asyncio.run(main())
        client.messages.create(**ASK, messages=HI)
    assert (len(person.asked), len(provider.charges)) == (1, 1)


def test_observing_gates_raise_nothing(provider: Provider) -> None:
    """They leave the question as a verdict that did not act, beside the budget's own."""
    person = Person(True)
    with bursar.run("w", Budget(usd="0.01"), CostGate(ask="full", approver=person), mode="observe") as run:
        pay()()
        assert run.limits["usd"] == CENT
    assert person.asked == []
    assert [(v.guard, v.action, v.acted) for v in verdicts_of(run)] == [
        ("gate", "ask", False),
        ("budget", "deny", False),
    ]


def test_the_command_line_raises_and_lists() -> None:
    """`bursar approvals approve ID --raise-usd`: shown before, raised for the call that waits, listed after."""
    said: list[Any] = []

    def work() -> None:
        with bursar.run("w", Budget(usd="0.01"), CostGate(ask="full", approver="inbox", timeout="60s")) as run:
            said.append(pay()())
            said.append(run.limits["usd"])

    thread = threading.Thread(target=work)
    thread.start()
    book = process().approvals.book
    while not book.open_ones():
        threading.Event().wait(0.02)
    number = book.open_ones()[0].id
    assert "lacks   $0.01000" in cli("approvals", "show", number)
    told = cli("approvals", "approve", number, "--raise-usd", "0.25", "--by", "ana", "--reason", "the big one")
    thread.join()
    assert "$0.2500 more" in told
    assert said == ["paid 0", 26 * CENT]
    line = next(line for line in cli("approvals", "grants").splitlines() if "more" in line)
    assert "ana" in line
    assert "raised" in line
