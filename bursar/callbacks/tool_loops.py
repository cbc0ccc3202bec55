"""The loop guard before a decorated tool runs: calls of a loop, and writes that were done already, are refused.

What the guard knows of the conversation it has read in the messages of its model calls; the answer that asked for the
tool says which conversation that is. A call that no answer is known to have asked for is let go.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from typing import TYPE_CHECKING, Any

from bursar.clients.doors import owner_of
from bursar.flow.refusals import note_loop
from bursar.guards.calls import call_key, traits_of
from bursar.guards.loop_judge import admit
from bursar.guards.loop_notes import refusal

if TYPE_CHECKING:
    from collections.abc import Generator

    from bursar.flow.call import ToolStep, World
    from bursar.guards.loops import LoopVerdict
    from bursar.runs.scoped import ScopedFrame
    from bursar.words.ports import Effect


judging: contextvars.ContextVar[tuple[str, str]] = contextvars.ContextVar("bursar_judging", default=("", ""))
"""Tool and id of the call that a framework's adapter has judged and is making: it is not judged again in it."""


class RefusedError(Exception):
    """A call that is not made; `text` stands in place of its result."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def judge(step: ToolStep) -> LoopVerdict | None:
    """What the loop guard says of a call that is about to be made; None lets it go."""
    loops = _frame(step).loops
    if loops is None or step.requested_by is None or step.given is None or judging.get()[0] == step.name:
        return None
    conversation = loops.asked_in(step.requested_by.partition("/")[0])
    if conversation is None:
        return None
    guard = loops.guard
    key, _ = call_key(step.name, step.given, traits_of(step.name, guard.tools))
    with conversation.lock:
        waited_us = conversation.waited(owner_of(step).world.clock.wall_us())
        return admit(guard, conversation.state, step.name, key, conversation.spent(_frame(step).run), waited_us)


def approved(step: ToolStep, verdict: LoopVerdict) -> bool:
    """Ask the guard's `approve` about a write that was done already; what it raises is a no."""
    loops = _frame(step).loops
    if verdict.action != "ask" or loops is None or loops.guard.approve is None or step.given is None:
        return False
    try:
        return loops.guard.approve(step.name, json.loads(step.given)) is True
    except Exception:  # noqa: BLE001 - whoever cannot say yes has not said it
        return False


async def aapproved(step: ToolStep, verdict: LoopVerdict) -> bool:
    """As `approved`, in a thread: a person may take his time."""
    return verdict.action == "ask" and await asyncio.to_thread(approved, step, verdict)


def concluded(step: ToolStep, verdict: LoopVerdict, world: World, *, yes: bool) -> Generator[Effect, Any, None]:
    """Note what was decided. Raises `RefusedError` where the call is not made."""
    yield note_loop(step, world, verdict, "approved" if yes else verdict.action)
    if not yes and not step.frame.observe:
        raise RefusedError(refusal(verdict.kind))


def _frame(step: ToolStep) -> ScopedFrame:
    from bursar.runs.scoped import ScopedFrame

    assert isinstance(step.frame, ScopedFrame)
    return step.frame
