"""Runs and budgets: what they inherit, add up, refuse and say."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, BursarWarning, ConfigError
from bursar.runs import budgets as _budgets
from bursar.runs import scoped as _scoped
from bursar.runs.process import process
from bursar.testing import Provider, Reply
from bursar.tracing.queries import Reader

ASKED: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=200)) as provider:
        yield provider


@pytest.fixture
def gpt(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        yield bursar.wrap(client)


def call(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(**ASKED)


def test_nested_runs_and_budgets_all_count(gpt: openai.OpenAI, provider: Provider) -> None:
    """A call holds on its run, on every budget round it and on the runs round those; each is charged once."""
    with bursar.run("outer", Budget(model_calls=10)) as outer:
        call(gpt)
        with bursar.run("inner", Budget(usd="1")) as inner, bursar.budget(model_calls=2) as limited:
            assert bursar.current_run() is inner
            assert limited.run is inner
            call(gpt)
            call(gpt)
            with pytest.raises(BudgetExceeded) as stopped:
                call(gpt)
        assert stopped.value.unit == "model_calls"
        assert stopped.value.scope.startswith("budget ")
        assert limited.remaining == {"model_calls": 0}
        assert limited.spend.settled.model_calls == 2
        assert bursar.current_run() is outer
    assert bursar.current_run() is None
    assert (outer.spend.settled.model_calls, inner.spend.settled.model_calls) == (3, 2)
    assert outer.spend.usd == Decimal(provider.billed_nusd).scaleb(-9)
    assert inner.stop_reason == "budget"
    with Reader(process().ledger.path) as reader:
        family = reader.family(outer.id)
        assert [row.workflow for row in family] == ["outer", "inner"]
        assert family[1].parent_run_id == outer.id
        assert len(reader.calls(family)) == 3


def test_two_runs_of_one_budget_are_two_budgets(gpt: openai.OpenAI) -> None:
    """A Budget is a specification; what is spent of it lives in the run. The same object twice counts once."""
    spec = Budget(model_calls=1)
    for _ in range(2):
        with bursar.run("again", spec, spec) as run:
            call(gpt)
            with pytest.raises(BudgetExceeded):
                call(gpt)
        assert run.remaining == {"model_calls": 0}


def test_several_budgets_of_one_run_all_hold(gpt: openai.OpenAI) -> None:
    """Two budgets are two limits, and the tighter one stops."""
    with bursar.run("two", Budget(usd="1"), Budget(model_calls=1)):
        call(gpt)
        with pytest.raises(BudgetExceeded):
            call(gpt)


def test_a_run_is_a_decorator_of_functions_and_coroutines(gpt: openai.OpenAI) -> None:
    """Each call of a decorated function is a run of its own; a generator is refused, it would leak its run."""

    @bursar.run("decorated", Budget(model_calls=1))
    def work() -> bursar.Run | None:
        call(gpt)
        return bursar.current_run()

    @bursar.run("decorated", Budget(model_calls=1))
    async def work_async() -> bursar.Run | None:
        return bursar.current_run()

    one, two = work(), work()
    assert one is not None
    assert two is not None
    assert one.id != two.id
    with pytest.warns(BursarWarning, match="saw no model call"):
        assert asyncio.run(work_async()) is not None

    @bursar.budget(model_calls=1)
    def narrow() -> None:
        call(gpt)

    narrow()

    def generate() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        bursar.run("decorated")(generate)


def test_async_with_and_tasks_inherit_the_run(provider: Provider) -> None:
    """Tasks made inside a run belong to it."""

    async def everything() -> bursar.Run:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as bare:
            client = bursar.wrap(bare)
            async with bursar.run("tasks", Budget(usd="1")) as run, bursar.budget(usd="0.5") as part:
                await asyncio.gather(*(client.chat.completions.create(**ASKED) for _ in range(5)))
                assert part.spend.settled.model_calls == 5
        return run

    assert asyncio.run(everything()).spend.settled.model_calls == 5


def test_a_raw_thread_needs_bind(gpt: openai.OpenAI, monkeypatch: Any) -> None:
    """A thread without the context is outside of the run, which is said; bind carries it there, also into several."""
    monkeypatch.setattr(_scoped, "_said", set())
    with pytest.warns(BursarWarning, match=r"run\.bind"), bursar.run("threads", Budget(usd="1")) as run:
        for target in (lambda: call(gpt), run.bind(lambda: call(gpt)), run.bind(call)):
            arguments = (gpt,) if target.__name__ == "call" else ()
            threads = [threading.Thread(target=target, args=arguments) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert run.spend.settled.model_calls == 4


def test_a_run_without_a_budget_gets_the_default_and_says_so_once(gpt: openai.OpenAI, monkeypatch: Any) -> None:
    """The safe default limits dollars and calls, warns the first time, and lets an unpriced model be counted."""
    monkeypatch.setattr(_budgets, "_said", set())
    monkeypatch.setenv("BURSAR_DEFAULT_MODEL_CALLS", "2")
    bursar.configure()
    with pytest.warns(BursarWarning, match=r"\$5 and 2 model calls"):
        opened = bursar.run("careless")
        with opened as run:
            call(gpt)
            call(gpt)
            with pytest.raises(BudgetExceeded):
                call(gpt)
    assert run.remaining["model_calls"] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with bursar.run("careless") as run:
            call(gpt)
            with pytest.raises(openai.NotFoundError):
                gpt.chat.completions.create(model="nobody-knows", messages=ASKED["messages"])


def test_a_run_can_be_unlimited_by_name(gpt: openai.OpenAI) -> None:
    """Budget.unlimited() says it on purpose; what is spent is counted all the same."""
    with bursar.run("free", Budget.unlimited()) as run:
        call(gpt)
    assert run.remaining == {}
    assert run.spend.settled.model_calls == 1


def test_a_budget_outside_of_a_run_opens_one(gpt: openai.OpenAI) -> None:
    """budget() alone is enough; its calls are unattributed and limited."""
    with bursar.budget(model_calls=1) as limited:
        call(gpt)
        with pytest.raises(BudgetExceeded):
            call(gpt)
    assert limited.run.workflow == "unattributed"
    assert limited.run.stop_reason == "budget"


@pytest.mark.parametrize("how", ["argument", "environment", "configure"])
def test_observing_stops_nothing(gpt: openai.OpenAI, monkeypatch: Any, how: str) -> None:
    """In observe mode every guard judges and records, and none acts."""
    if how == "environment":
        monkeypatch.setenv("BURSAR_MODE", "observe")
        bursar.configure()
    elif how == "configure":
        bursar.configure(mode="observe")
    with bursar.run(
        "watched", Budget(model_calls=1, usd="0.0001"), mode="observe" if how == "argument" else None
    ) as run:
        for _ in range(3):
            call(gpt)
        with pytest.raises(openai.NotFoundError):
            gpt.chat.completions.create(model="nobody-knows", messages=ASKED["messages"])
    assert run.spend.settled.model_calls == 3
    assert run.stop_reason == "finished"
    with Reader(process().ledger.path) as reader:
        verdicts = reader.verdicts(reader.family(run.id))
    assert {verdict.acted for verdict in verdicts} == {False}
    assert "deny" in {verdict.action for verdict in verdicts}


def test_how_a_run_ended_is_on_the_record(gpt: openai.OpenAI) -> None:
    """finished, stopped by its budget, or the exception that left it."""

    def leave(error: BaseException | None) -> bursar.Run:
        with bursar.run("endings", Budget(usd="1")) as run:
            call(gpt)
            if error is not None:
                raise error
        return run

    assert leave(None).summary().split(" · ")[0].endswith("finished")
    with pytest.raises(ValueError, match="mine"):
        leave(ValueError("mine"))
    with pytest.raises(KeyboardInterrupt):
        leave(KeyboardInterrupt())
    with Reader(process().ledger.path) as reader:
        assert [row.stop_reason for row in reader.runs()] == ["KeyboardInterrupt", "ValueError", "finished"]


def test_a_summary_says_what_it_cost(gpt: openai.OpenAI) -> None:
    """One line: state, calls, tokens, dollars of the limit, how sure."""
    with bursar.run("sum", Budget(usd="0.50")) as run:
        assert "open" in run.summary()
        call(gpt)
    assert str(run).startswith(f"sum {run.id[:10]} finished · 1 model + 0 tool calls · 207 tokens · $0.00")
    assert str(run).endswith("of $0.5000 · list price, 0 unpriced")


def test_waiting_has_an_end(provider: Provider) -> None:
    """Who waits for the holds of others longer than max_wait is refused, and told so."""
    provider.reset()
    with Provider(latency_s=0.6) as slow, openai.OpenAI(base_url=slow.openai_url, api_key="x") as bare:
        client = bursar.wrap(bare)
        errors: list[BudgetExceeded] = []
        with bursar.run("slow", Budget(tokens=400, max_wait=0.1)) as run:

            def one() -> None:
                try:
                    call(client)
                except BudgetExceeded as error:
                    errors.append(error)

            threads = [threading.Thread(target=run.bind(one)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert [error.why for error in errors] == ["waited"]


def test_errors_cross_process_boundaries(gpt: openai.OpenAI) -> None:
    """A refusal can be pickled: its numbers go along, its run does not."""
    with bursar.run("pickle", Budget(tokens=1)), pytest.raises(BudgetExceeded) as stopped:
        call(gpt)
    copy = pickle.loads(pickle.dumps(stopped.value))
    assert (copy.unit, copy.limit, copy.remaining, copy.run) == ("tokens", 1, 1, None)
    assert str(copy) == str(stopped.value)
    assert not copy.sent


def test_a_forked_child_starts_afresh(gpt: openai.OpenAI, provider: Provider) -> None:
    """A child does not spend its parent's budget: it writes to the same ledger with a process of its own."""
    with bursar.run("parent", Budget(usd="1")) as run:
        call(gpt)
        before = process()
        child = os.fork()
        if child == 0:
            os._exit(0 if process() is not before and bursar.current_run() is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        call(gpt)
    assert run.spend.settled.model_calls == 2
    assert len(provider.charges) == 2


@pytest.mark.parametrize(
    "arguments", [{"workflow": ""}, {"workflow": "x", "user": ""}, {"workflow": "x", "mode": "strict"}, {"workflow": 7}]
)
def test_a_run_that_cannot_be_meant_is_refused(arguments: dict[str, Any]) -> None:
    """An empty workflow or tag and an unknown mode are named when the run is made."""
    with pytest.raises(ConfigError):
        bursar.run(**arguments)


def test_a_run_nobody_asked_anything_in_warns(gpt: openai.OpenAI) -> None:
    """An SDK is loaded and no call was seen: the missing line is named."""
    with pytest.warns(BursarWarning, match=r"bursar\.wrap"), bursar.run("unseen", Budget(usd="1")):
        pass


def test_a_bound_can_be_hard(gpt: openai.OpenAI, provider: Provider) -> None:
    """bound="hard" holds what bytes cannot exceed, and says so on the row."""
    with bursar.run("hard", Budget(usd="0.01", bound="hard")) as run:
        call(gpt)
    with Reader(process().ledger.path) as reader:
        (row,) = reader.calls(reader.family(run.id))
    assert row.bound == "hard"
    assert (row.held_nusd or 0) >= provider.billed_nusd


def test_configuring_leaves_open_runs_as_they_are(gpt: openai.OpenAI, tmp_path: Path) -> None:
    """A run that is open goes on with its limits and its ledger; what is opened afterwards uses the new one."""
    with bursar.run("before", Budget(model_calls=2)) as run:
        call(gpt)
        bursar.configure(ledger=tmp_path / "other.db")
        call(gpt)
        with pytest.raises(BudgetExceeded):
            call(gpt)
    call(gpt)
    assert run.spend.settled.model_calls == 2
    with Reader(tmp_path / "other.db") as reader:
        assert [row.requests for row in reader.spend_by("workflow")] == [1]


def test_a_stream_that_outlives_its_run_is_on_its_row(gpt: openai.OpenAI, provider: Provider) -> None:
    """What ends after its run is charged to it, and the run's row says so."""
    with bursar.run("late", Budget(usd="1")) as run:
        stream = gpt.chat.completions.create(**ASKED, stream=True)
    list(stream)
    with Reader(process().ledger.path) as reader:
        assert reader.run(run.id).nusd == run.spend.settled.nusd == provider.billed_nusd


def test_one_opener_serves_several_threads(gpt: openai.OpenAI) -> None:
    """Each use of an opener opens anew, also at the same time, and each leaves its own."""
    opener = bursar.run("shared", Budget(model_calls=1))
    inside, errors = threading.Barrier(3), []

    def work() -> None:
        try:
            with opener as run:
                call(gpt)
                inside.wait()
                assert bursar.current_run() is run
            assert bursar.current_run() is None
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_run_may_be_left_in_another_task(gpt: openai.OpenAI) -> None:
    """A fixture enters in one task and leaves in another: the run ends all the same."""
    opener = bursar.run("fixture", Budget(usd="1"))

    async def enter() -> bursar.Run:
        run = opener.__enter__()
        call(gpt)
        return run

    async def leave() -> None:
        opener.__exit__(None, None, None)

    async def both() -> bursar.Run:
        run = await asyncio.create_task(enter())
        await asyncio.create_task(leave())
        return run

    assert asyncio.run(both()).stop_reason == "finished"


def test_a_cheap_tier_is_held_at_the_standard_price(provider: Provider) -> None:
    """Flex that is full may be served and billed as standard: the hold covers that."""
    asked: Any = ASKED | {"model": "gpt-5", "max_completion_tokens": 2_000, "service_tier": "flex"}
    reply = Reply(output_tokens=2_000, service_tier="default")
    with (
        Provider(latency_s=0.0, replies=lambda _: reply) as full,
        openai.OpenAI(base_url=full.openai_url, api_key="x") as bare,
    ):
        with bursar.run("flex", Budget(usd="0.0101")), pytest.raises(BudgetExceeded):
            while True:
                bursar.wrap(bare).chat.completions.create(**asked)
        assert full.billed_nusd <= 10_100_000


def test_a_slow_reader_is_charged_what_was_written_meanwhile() -> None:
    """While the caller is busy the provider goes on writing, and bills it."""
    reply = Reply(output_tokens=100, chunk_tokens=4, chunk_delay_s=0.02)
    with (
        Provider(latency_s=0.0, replies=lambda _: reply) as slow,
        openai.OpenAI(base_url=slow.openai_url, api_key="x") as bare,
    ):
        with bursar.run("slow", Budget(usd="1")) as run:
            with bursar.wrap(bare).chat.completions.create(**ASKED, stream=True) as stream:
                next(stream)
                threading.Event().wait(0.6)
        slow.wait_idle()
        assert run.spend.settled.nusd >= slow.billed_nusd
