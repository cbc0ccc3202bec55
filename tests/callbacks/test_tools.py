"""`bursar.tool`: calls of tools are limited before they run, charged once, and one row each."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import bursar
from bursar import Budget, BudgetExceeded, ConfigError
from bursar.testing import Provider, Reply, ToolUse
from bursar.testing.reply import scripted
from bursar.words.tools import ToolSpec, declared
from tests.callbacks.loops import (
    Tools,
    chat_loop,
    chat_stream_loop,
    claude_aloop,
    claude_loop,
    responses_loop,
    tools_of,
)
from tests.clients.books import rows_of, verdicts_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:run 'w' ended and saw no model call")
ONE = 20_000_000
SCRIPT = [
    Reply(text="", tool_calls=[ToolUse("look", {"at": "Rome", "n": 1}), ToolUse("look", {"at": "Oslo", "n": 2})]),
    Reply(text="", tool_calls=[ToolUse("look", {"at": "Rome", "n": 1})]),
    Reply(text="done"),
]
LOOPS: dict[str, Callable[[Provider, Tools], None]] = {
    "messages": claude_loop,
    "messages stream": partial(claude_loop, stream=True),
    "chat": chat_loop,
    "chat stream": chat_stream_loop,
    "responses": responses_loop,
    "responses stream": partial(responses_loop, stream=True),
}


def look(at: str, n: int = 0) -> str:
    return f"seen {at}"


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_decorated_tool_counts_once_and_knows_who_asked(loop: Callable[[Provider, Tools], None]) -> None:
    """Three calls asked for and made are three, each row with the provider's id, its answer, its step, its repeats."""
    with Provider(latency_s=0.0, replies=scripted(SCRIPT)) as provider, bursar.run("w", Budget(usd="1")) as run:
        loop(provider, {"look": bursar.tool(usd="0.02", effect="read")(look)})
        billed = provider.billed_nusd
    assert run.spend.settled.tool_calls == 3
    assert run.spend.settled.nusd == billed + 3 * ONE
    first, second, _ = rows_of(run)
    rows = tools_of(run)
    assert [row.requested_by for row in rows] == [first.call_id, first.call_id, second.call_id]
    assert [row.step for row in rows] == [first.step, first.step, second.step]
    assert len({row.tool_call_id for row in rows} - {None}) == 3
    assert [(row.repeat_index, row.same_result) for row in rows] == [(0, None), (0, None), (1, True)]
    assert rows[0].args_hash == rows[2].args_hash != rows[1].args_hash
    assert {(row.tool_name, row.effect, row.status, row.nusd, row.fee_status) for row in rows} == {
        ("look", "read", "ok", ONE, "declared")
    }
    assert [row.result_bytes for row in rows] == [9, 9, 9]
    assert rows[0].result_hash == rows[2].result_hash != rows[1].result_hash
    assert all(row.flags == () for row in rows)


def test_an_async_loop() -> None:
    """The same with coroutines, whose call has ended when the value is there."""
    began: list[float] = []

    @bursar.tool
    async def look(at: str, n: int) -> str:
        began.append(n)
        await asyncio.sleep(0.01)
        return at

    async def everything() -> bursar.Run:
        async with bursar.run("w", Budget(usd="1", tool_calls=3)) as run:
            await claude_aloop(provider, {"look": look})
        return run

    with Provider(latency_s=0.0, replies=scripted(SCRIPT)) as provider:
        run = asyncio.run(everything())
    rows = tools_of(run)
    assert began == [1, 2, 1]
    assert run.spend.settled.tool_calls == 3
    assert all(row.latency_us >= 10_000 and row.requested_by and row.tool_call_id for row in rows)
    assert inspect.iscoroutinefunction(look)


def test_fifty_threads_ten_calls() -> None:
    """A budget for ten calls lets exactly ten of fifty run at once, and forty raise before they run."""
    ran: list[int] = []
    stopped: list[BudgetExceeded] = []
    together = threading.Barrier(10, timeout=10)

    @bursar.tool
    def work(n: int) -> int:
        together.wait()
        ran.append(n)
        return n

    def attempt(n: int) -> bool:
        try:
            return work(n) == n
        except BudgetExceeded as error:
            stopped.append(error)
            return False

    with bursar.run("w", Budget(tool_calls=10)) as run, ThreadPoolExecutor(50) as pool:
        done = list(pool.map(run.bind(attempt), range(50)))
    assert (sum(done), len(ran)) == (10, 10)
    assert {(error.unit, error.limit, error.needed, error.sent) for error in stopped} == {("tool_calls", 10, 1, False)}
    assert run.spend.settled.tool_calls == 10
    assert len(tools_of(run)) == 10
    assert [verdict.action for verdict in verdicts_of(run)] == ["deny"] * 40


def test_fifty_tasks_of_one_answer_and_a_price() -> None:
    """An answer asks for fifty priced calls and there are dollars for ten: ten run, and the answer counts none twice."""
    ran: list[int] = []

    @bursar.tool(usd="0.02")
    async def work(n: int) -> int:
        await asyncio.sleep(0.01)
        ran.append(n)
        return n

    async def everything(provider: Provider) -> bursar.Run:
        import openai

        async with (
            openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare,
            bursar.run("w", Budget(usd="0.215")) as run,
        ):
            message: Any = [{"role": "user", "content": "go"}]
            await bursar.wrap(bare).chat.completions.create(
                model="gpt-4o", max_completion_tokens=1_000, messages=message
            )
            results = await asyncio.gather(*(work(n=n) for n in range(50)), return_exceptions=True)
            assert sum(isinstance(result, BudgetExceeded) for result in results) == 40
        return run

    replies = [Reply(text="", tool_calls=[ToolUse("work", {"n": n}) for n in range(50)])]
    with Provider(latency_s=0.0, replies=scripted(replies)) as provider:
        run = asyncio.run(everything(provider))
        assert run.spend.settled.nusd == provider.billed_nusd + 10 * ONE
    assert (len(ran), run.spend.settled.tool_calls) == (10, 10)
    assert {row.requested_by for row in tools_of(run)} == {rows_of(run)[0].call_id}
    assert len({row.tool_call_id for row in tools_of(run)}) == 10


def test_a_refused_call_may_be_tried_again() -> None:
    """What was refused is still asked for: in a scope with room it runs as the call that it is."""
    replies = [Reply(text="", tool_calls=[ToolUse("look", {"at": "Rome"}, id="call_7")]), Reply()]
    tool, other = bursar.tool(look), bursar.tool(name="other")(look)
    refused: list[str] = []

    def patient(at: str) -> str:
        with bursar.budget(usd="0.01", tool_calls=1), pytest.raises(BudgetExceeded):
            other("Rome")
            tool(at=at)
        refused.append(at)
        return tool(at)

    with Provider(latency_s=0.0, replies=scripted(replies)) as provider, bursar.run("w", Budget(tool_calls=2)) as run:
        chat_loop(provider, {"look": patient})
    row = tools_of(run)[-1]
    assert refused == ["Rome"]
    assert (row.tool_call_id, row.status, row.repeat_index) == ("call_7", "ok", 0)
    assert run.spend.settled.tool_calls == 2


def test_the_exception_of_a_tool_passes_untouched() -> None:
    """It is charged and recorded by its type, and the very object arrives, unchained, with its own message."""
    error = ValueError("sk-proj-ABCDEFGHIJKLMNOPQRSTUV12")

    @bursar.tool(usd="0.02")
    def broken() -> None:
        raise error

    with bursar.run("w", Budget(usd="1")) as run:
        with pytest.raises(ValueError, match="sk-") as raised:
            broken()
        assert raised.value is error
        assert raised.value.__cause__ is raised.value.__context__ is None
    (row,) = tools_of(run)
    assert (row.status, row.error_type, row.nusd, row.fee_status) == ("error", "ValueError", ONE, "upper_bound")
    assert (row.result_hash, row.result_bytes) == (None, None)
    assert run.spend.settled.nusd == ONE


@pytest.mark.parametrize("how", ["cancel", "throw away"])
def test_a_cancelled_tool_is_recorded(how: str) -> None:
    """A coroutine that is cancelled, or dropped while it waits, leaves its row and its charge."""
    started = asyncio.Event()

    @bursar.tool(usd="0.02")
    async def slow() -> None:
        started.set()
        await asyncio.sleep(30)

    async def everything() -> bursar.Run:
        async with bursar.run("w", Budget(usd="1")) as run:
            if how == "cancel":
                task = asyncio.create_task(slow())
                await started.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                coroutine = slow()
                coroutine.send(None)
                coroutine.close()
        return run

    run = asyncio.run(everything())
    (row,) = tools_of(run)
    name = "CancelledError" if how == "cancel" else "GeneratorExit"
    assert (row.status, row.error_type, row.nusd) == ("cancelled", name, ONE)


def test_a_stop_inside_a_tool_is_a_stop_of_it() -> None:
    """A tool that is an agent itself and is stopped: `Stopped` passes through, and the row says so."""

    @bursar.tool
    def agent() -> None:
        with bursar.budget(tool_calls=1):
            inner()
            inner()

    @bursar.tool
    def inner() -> None:
        return None

    with bursar.run("w", Budget(tool_calls=9)) as run, pytest.raises(BudgetExceeded):
        agent()
    assert sorted((row.tool_name, row.status, row.error_type) for row in tools_of(run)) == [
        ("agent", "blocked", "BudgetExceeded"),
        ("inner", "ok", None),
    ]


def test_a_loop_that_changes_arguments_is_matched_by_name() -> None:
    """A handle is added that the model knows nothing of: the call counts once, and the row says how it was matched."""

    @bursar.tool
    def look(at: str, n: int, db: object) -> str:
        return at

    handle = object()
    with Provider(latency_s=0.0, replies=scripted(SCRIPT)) as provider, bursar.run("w", Budget(usd="1")) as run:
        claude_loop(provider, {"look": partial(look, db=handle)})
    rows = tools_of(run)
    assert run.spend.settled.tool_calls == 3
    assert [row.requested_by for row in rows] == [rows_of(run)[n].call_id for n in (0, 0, 1)]
    assert [row.repeat_index for row in rows] == [0, 0, 1]
    assert {row.tool_call_id for row in rows} == {None}
    assert {row.flags for row in rows} == {("args_lossy", "matched_by_name")}


def test_a_tool_that_nobody_asked_for_is_a_step_all_the_same() -> None:
    """A call by the program's own code counts, and has no answer that asked for it."""
    with bursar.run("w", Budget(tool_calls=5)) as run:
        assert bursar.tool(look)("Rome") == "seen Rome"
    (row,) = tools_of(run)
    assert (row.requested_by, row.tool_call_id, row.nusd, row.fee_status) == (None, None, None, "unknown")
    assert run.spend.settled.tool_calls == 1
    assert run.unpriced == 0


def test_tools_that_run_at_the_provider_are_counted_by_the_answer() -> None:
    """A search at the provider is in the count of the answer and is nothing that a function could be."""
    from bursar.clients.answers import of_message

    body = {
        "content": [
            {"type": "server_tool_use", "id": "s", "name": "look", "input": {}},
            {"type": "tool_use", "id": "t", "name": "look", "input": {}},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 5},
    }
    answer = of_message("messages", body)
    assert (answer.tool_calls, [ask.tool_call_id for ask in answer.asked]) == (2, ["t"])
    items = [
        {"type": "web_search_call", "id": "s"},
        {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"},
    ]
    answer = of_message("responses", {"output": items, "usage": {"input_tokens": 5, "output_tokens": 5}})
    assert (answer.tool_calls, [ask.tool_call_id for ask in answer.asked]) == (2, ["t"])


def test_methods_and_positions() -> None:
    """By position or by name, on an object or a class: the same arguments are the same call."""

    class Desk:
        @bursar.tool(name="read")
        def read(self, page: int, *lines: int, quick: bool = False) -> int:
            return page

        @classmethod
        @bursar.tool
        def shut(cls, page: int) -> str:
            return cls.__name__

        @staticmethod
        @bursar.tool
        def bare(page: int) -> int:
            return page

    with bursar.run("w", Budget(tool_calls=9)) as run:
        assert Desk().read(1) == Desk().read(page=1) == Desk().read(1, quick=False) == Desk().read(1, 5) == 1
        assert (Desk.shut(2), Desk.bare(3)) == ("Desk", 3)
    rows = tools_of(run)
    assert [row.repeat_index for row in rows] == [0, 1, 0, 0, 0, 0]
    assert [row.tool_name for row in rows] == ["read"] * 4 + ["shut", "bare"]
    assert not any(row.flags for row in rows)


def test_what_is_no_tool_is_refused_where_it_is_declared() -> None:
    """Generators, classes, wrong effects, floats of money and empty names: an error that names the value."""

    def stream() -> Any:
        yield 1

    async def astream() -> Any:
        yield 1

    for bad in (stream, astream):
        with pytest.raises(TypeError, match=r"stream is a generator"):
            bursar.tool(bad)
    with pytest.raises(TypeError, match=r"above @bursar\.tool"):
        bursar.tool(staticmethod(look))
    with pytest.raises(TypeError, match="takes a function, not type"):
        bursar.tool(Provider)
    with pytest.raises(TypeError, match=r"never a float"):
        bursar.tool(usd=0.02)  # type: ignore[call-overload]
    for options, shown in (
        ({"effect": "delete"}, "effect='delete' is none of read, idempotent, write, poll"),
        ({"usd": "-1"}, "usd='-1'"),
        ({"name": " "}, "name=' ' is not the name"),
    ):
        with pytest.raises(ConfigError, match=shown):
            bursar.tool(**options)  # type: ignore[call-overload]
    assert declared == {}


def test_what_was_declared_can_be_read() -> None:
    """A guard finds effect, key and exemption by the name that the model uses."""

    def key(at: str) -> str:
        return at

    decorated = bursar.tool(name="seek", usd="0", effect="poll", loop_key=key, exempt=True)(look)
    assert declared == {"seek": ToolSpec("seek", 0, "poll", key, exempt=True)}
    assert (decorated.__name__, inspect.signature(decorated)) == ("look", inspect.signature(look))


def test_outside_of_any_run_calls_are_recorded(ledger: Path) -> None:
    """They belong to nobody, cost what they cost, and nothing stops them."""
    assert bursar.tool(usd="0.02")(look)("Rome") == "seen Rome"
    from bursar.db import open_ledger

    (row,) = open_ledger(ledger, read_only=True).execute(
        "SELECT d.workflow, d.operation, t.run, t.repeat_index, t.fee_nusd, t.status FROM tool_call t "
        "JOIN dimension d ON d.id = t.dimension"
    )
    assert row == ("unattributed", "execute_tool", None, None, ONE, "ok")


def test_in_observe_mode_nothing_is_refused() -> None:
    """What would have been refused runs, is recorded, counted, and noted as such."""
    with bursar.run("w", Budget(tool_calls=1), mode="observe") as run:
        assert [bursar.tool(look)("Rome") for _ in range(3)] == ["seen Rome"] * 3
    assert run.spend.settled.tool_calls == 3
    assert [(verdict.action, verdict.acted) for verdict in verdicts_of(run)] == [("deny", False)] * 2


def test_a_warning_budget_lets_tools_go_and_says_so() -> None:
    """over="warn" and warn_at speak of tool calls as of any unit."""
    said: list[str] = []
    budget = Budget(tool_calls=2, warn_at="50%", on_warn=lambda notice: said.append(notice.unit), over="warn")
    with pytest.warns(bursar.BursarWarning, match="goes beyond 2 tool_calls"), bursar.run("w", budget) as run:
        for _ in range(3):
            bursar.tool(look)("Rome")
    assert said == ["tool_calls"]
    assert [verdict.action for verdict in verdicts_of(run)] == ["warn", "over"]


def test_a_deadline_stops_tools() -> None:
    """A tool that has not begun by the deadline does not begin."""
    with bursar.run("w", Budget(seconds=0.000001)) as run, pytest.raises(BudgetExceeded) as stopped:
        bursar.tool(look)("Rome")
    assert stopped.value.why == "deadline"
    assert tools_of(run) == []
