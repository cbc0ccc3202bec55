"""The loop guard in an agent: what it makes of the messages before a model call, and of a tool call before it is made.

Its memory is the thread's own (`agent_memory`), so it goes on where a checkpoint is resumed. What it refuses has a
result all the same: a message that stands in place of one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp

from bursar.callbacks.agent_steps import as_chat, results_of
from bursar.callbacks.tool_loops import judging
from bursar.clients.loops import News, Now, say, take_in
from bursar.flow.call import ToolStep
from bursar.flow.refusals import note_loop
from bursar.guards.calls import call_key, traits_of
from bursar.guards.loop_judge import admit
from bursar.guards.loop_notes import NOTE_MARK, refusal
from bursar.runs.drive import adrive, drive
from bursar.words.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence

    from bursar.callbacks.agent_memory import AgentMemory
    from bursar.guards.loops import LoopVerdict
    from bursar.runs.loops import Look, Loops
    from bursar.runs.scoped import ScopedFrame
    from bursar.words.ports import Effect


def judge(memory: AgentMemory, messages: Sequence[Any], frame: ScopedFrame, *, anew: bool) -> Look | None:
    """What the loop guard says of what has happened since the last model call of the thread.

    `anew`: the memory was made of a checkpoint, which knows nothing of the calls that were refused after it. Never
    raises: a defect of ours must not stop an agent, and is said.
    """
    loops, conversation = frame.loops, memory.loops
    if loops is None:
        return None
    now = Now(frame.run, frame.owner.world.clock.wall_us(), frame.observe)
    try:
        fresh, again = memory.fresh(messages)
        visible = set(results_of(messages)) if again else None
        with conversation.lock:
            if anew:
                _refuse_again(loops, memory, fresh, frame)
            told = [as_chat(message) for message in fresh]
            news = News(told, again, visible, lambda call_id: results_of(messages)[call_id])
            return take_in(loops.guard, conversation, news, now)
    except Exception as error:  # noqa: BLE001 - the guard is a help; the call itself is what the caller wants
        say(error)
        return None


class ToolCheck:
    """What the loop guard says of one tool call before it is made."""

    def __init__(self, request: Any, frame: ScopedFrame, verdict: LoopVerdict) -> None:
        call = request.tool_call
        self._name, self._args, self._id = str(call["name"]), call["args"], str(call["id"])
        self._frame, self._verdict = frame, verdict
        self._step = ToolStep(new_id(), self._name, frame, "", tool_call_id=self._id)

    def refused(self) -> ToolMessage | None:
        """What stands in place of a result where the call is not made."""
        yes = self._approved()
        drive(self._noted(yes=yes), self._frame.owner.desk)
        return self._message(yes=yes)

    async def arefused(self) -> ToolMessage | None:
        """As `refused`; whoever is asked may take his time."""
        yes = await asyncio.to_thread(self._approved) if self._asks else False
        await adrive(self._noted(yes=yes), self._frame.owner.desk)
        return self._message(yes=yes)

    @property
    def _asks(self) -> bool:
        return self._verdict.action == "ask" and not self._frame.observe

    def _approved(self) -> bool:
        loops = self._frame.loops
        if not self._asks or loops is None or loops.guard.approve is None:
            return False
        try:
            return loops.guard.approve(self._name, self._args) is True
        except GraphBubbleUp:
            # It asks by an interrupt of the graph: the answer comes when the agent is resumed.
            raise
        except Exception:  # noqa: BLE001 - whoever cannot say yes has not said it
            return False

    def _noted(self, *, yes: bool) -> Generator[Effect, Any, None]:
        yield note_loop(self._step, self._frame.owner.world, self._verdict, "approved" if yes else self._verdict.action)

    def _message(self, *, yes: bool) -> ToolMessage | None:
        if yes or self._frame.observe:
            return None
        text = refusal(self._verdict.kind)
        return ToolMessage(text, tool_call_id=self._id, name=self._name, status="error")


def check_tool(request: Any, memory: AgentMemory, frame: ScopedFrame) -> ToolCheck | None:
    """What the loop guard says of a tool call; None lets it go. Never raises."""
    loops, conversation = frame.loops, memory.loops
    if loops is None:
        return None
    try:
        with conversation.lock:
            waited_us = conversation.waited(frame.owner.world.clock.wall_us())
            verdict = _admitted(loops, memory, request.tool_call, frame, waited_us)
    except Exception as error:  # noqa: BLE001 - as above
        say(error)
        return None
    return None if verdict is None else ToolCheck(request, frame, verdict)


def made(request: Any, handler: Callable[[Any], Any]) -> Any:
    """Make a tool call that was let go."""
    token = judging.set(_named(request))
    try:
        return handler(request)
    finally:
        judging.reset(token)


async def amade(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """As `made`."""
    token = judging.set(_named(request))
    try:
        return await handler(request)
    finally:
        judging.reset(token)


def is_judged(request: Any) -> bool:
    """Whether another middleware has judged this tool call and is making it."""
    return judging.get() == _named(request)


def _named(request: Any) -> tuple[str, str]:
    return str(request.tool_call["name"]), str(request.tool_call["id"])


def _admitted(
    loops: Loops, memory: AgentMemory, call: Mapping[str, Any], frame: ScopedFrame, waited_us: int | None
) -> LoopVerdict | None:
    guard, conversation, tool = loops.guard, memory.loops, str(call["name"])
    key, _ = call_key(tool, call["args"], traits_of(tool, guard.tools))
    return admit(guard, conversation.state, tool, key, conversation.spent(frame.run), waited_us)


def _refuse_again(loops: Loops, memory: AgentMemory, fresh: Sequence[Any], frame: ScopedFrame) -> None:
    asked = {call["id"]: call for message in fresh for call in getattr(message, "tool_calls", ())}
    for message in fresh:
        if getattr(message, "type", None) == "tool" and str(message.content).startswith(NOTE_MARK):
            call = asked.get(message.tool_call_id)
            if call is not None:
                _admitted(loops, memory, call, frame, None)
