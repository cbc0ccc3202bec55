"""Decorated tools under a loop guard: what repeats is not done again, and the model is told in place of a result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import bursar
from bursar import Budget, LoopGuard, ToolTraits
from bursar.guards.loop_notes import NOTE_MARK
from bursar.testing import Provider, ReceivedRequest, Reply, ToolUse
from tests.callbacks.loops import tools_of
from tests.clients.books import verdicts_of
from tests.clients.looping_agents import chat, forbidden, messages, responses, until

Door = Callable[[Provider, Callable[[dict[str, Any]], str]], str]
DOORS = [chat, messages, responses]


def looker(found: list[int], **options: Any) -> Callable[[dict[str, Any]], str]:
    """A tool that finds nothing, and notes each time that it ran."""

    @bursar.tool(name="look", **options)
    def look(page: int) -> str:
        found.append(page)
        return "nothing on this page"

    return lambda arguments: look(**arguments)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_the_calls_of_a_loop_are_refused(door: Door) -> None:
    """The tool runs five times, the sixth is refused with a note as its result, and the seventh ends the run: its last
    answer is kept, refused calls are rows of no tool and cost nothing."""
    ran: list[int] = []
    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            assert door(provider, looker(ran, usd="0.01")) == "what I have is this"
        last = provider.requests[-1].body
    assert len(ran) == 5
    assert run.stop_reason == "loop"
    assert f"{NOTE_MARK}Not done" in str(last)
    actions = [(row.action, row.streak) for row in verdicts_of(run) if row.guard == "loops"]
    assert ("block", 5) in actions
    assert len(tools_of(run)) == 5
    assert run.spend.settled.tool_calls == 5


def test_a_call_that_is_not_of_the_loop_is_let_through() -> None:
    """Only the calls of the loop are refused: another page is looked at while the block stands."""
    ran: list[int] = []

    def reply(request: ReceivedRequest) -> Reply:
        if forbidden(request) or len(ran) > 6:
            return Reply(text="what I have is this")
        page = 2 if f"{NOTE_MARK}Not done" in str(request.body) else 1
        return Reply(text="", tool_calls=[ToolUse("look", {"page": page})])

    with Provider(latency_s=0.0, replies=reply) as provider:
        with bursar.run("look", Budget(usd="5"), LoopGuard()):
            chat(provider, looker(ran))
    assert ran[:5] == [1] * 5
    assert 2 in ran


@pytest.mark.parametrize("answer", [True, False, None])
def test_a_write_that_was_done_is_asked_about_or_refused(answer: bool | None) -> None:
    """The second identical order is made only where somebody says yes; without anybody to ask it is not made."""
    sent: list[int] = []
    asked: list[tuple[str, object]] = []

    def approve(name: str, arguments: object) -> bool:
        asked.append((name, arguments))
        return bool(answer)

    def reply(request: ReceivedRequest) -> Reply:
        results = str(request.body).count("tool_call_id")
        if results >= 2 or forbidden(request):
            return Reply(text="what I have is this")
        return Reply(text="", tool_calls=[ToolUse("look", {"page": 7})])

    guard = LoopGuard(approve=None if answer is None else approve)
    with Provider(latency_s=0.0, replies=reply) as provider, bursar.run("order", Budget(usd="5"), guard) as run:
        chat(provider, looker(sent, effect="write"))
    assert sent == ([7, 7] if answer else [7])
    assert asked == ([] if answer is None else [("look", {"page": 7})])
    (verdict,) = [row for row in verdicts_of(run) if row.reason == "repeated_write" and row.action != "nudge"]
    assert verdict.action == {True: "approved", False: "ask", None: "block"}[answer]


def test_a_declared_poll_is_never_refused() -> None:
    """What the decorator says of a tool is known to the guard; what the guard says goes before."""
    ran: list[int] = []
    with Provider(latency_s=0.0, replies=until(lambda _: len(ran) >= 9)) as provider:
        with bursar.run("poll", Budget(usd="5"), LoopGuard()):
            chat(provider, looker(ran, effect="poll"))
    assert len(ran) == 9
    ran.clear()
    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        with bursar.run("poll", Budget(usd="5"), LoopGuard(tools={"look": ToolTraits()})):
            chat(provider, looker(ran, effect="poll"))
    assert len(ran) == 5


def test_observing_refuses_nothing() -> None:
    """mode="observe" notes what would have been refused, and the tool runs."""
    ran: list[int] = []
    with Provider(latency_s=0.0, replies=until(lambda _: len(ran) >= 8)) as provider:
        with bursar.run("look", Budget(usd="5"), LoopGuard(), mode="observe") as run:
            chat(provider, looker(ran))
    assert len(ran) == 8
    assert any(row.action in ("block", "finish") and not row.acted for row in verdicts_of(run))


def test_without_a_guard_or_an_answer_that_asked_nothing_is_refused() -> None:
    """A tool that a program calls by itself may do so as often as it likes, sync and async."""
    ran: list[int] = []

    @bursar.tool(name="look")
    async def look(page: int) -> str:
        ran.append(page)
        return "nothing"

    async def often() -> None:
        for _ in range(9):
            assert await look(page=1) == "nothing"

    with bursar.run("program", Budget(usd="5"), LoopGuard()):
        asyncio.run(often())
    assert len(ran) == 9
