"""What the guards of a frame make of a request before it is sent: loops looked for, gates frozen, a window trimmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.clients.gates import frozen
from bursar.clients.loops import look
from bursar.clients.notes import with_notes
from bursar.clients.requests import without_tool_use
from bursar.clients.windows import plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.flow.call import Call
    from bursar.runs.loops import Look
    from bursar.runs.scoped import ScopedFrame
    from bursar.words.events import ModelRequest


def steered(request: ModelRequest, body: Any, frame: ScopedFrame, *, readable: bool) -> tuple[Look | None, Any]:
    """What the loop guard says of a request, and the body that the guards make of it; None where it stays."""
    looked, changed = _looked(request, body, frame, readable=readable)
    if frame.gates is not None and readable:
        changed = frozen(body if changed is None else changed)
    return looked, changed


def told(call: Call, frame: ScopedFrame) -> None:
    """Put on a call what was seen in its messages before it was one."""
    if call.loops is not None and frame.loops is not None:
        frame.loops.ask(call.op_id, call.loops.conversation)
    if frame.judged is not None:
        frame.judged.mark(call)


def _looked(request: ModelRequest, body: Any, frame: ScopedFrame, *, readable: bool) -> tuple[Look | None, Any]:
    """What the loop guard says of a request, and the body that it makes of it; None where it changes nothing."""
    if frame.judged is not None and frame.judged.looked:
        # The messages were changed where they were looked at.
        return frame.judged.take_look(), None
    if frame.loops is None or not readable:
        return None, None
    now_us = frame.owner.world.clock.wall_us()
    found = look(frame.loops, request, body, frame.run, now_us, observe_only=frame.observe)
    return found, None if found is None or frame.observe else _changed(request.api, body, found)


def _changed(api: str, body: Any, looked: Look) -> Any:
    if not looked.conversation.notes and not looked.last:
        return None
    noted = with_notes(api, body, looked.conversation.notes)
    return without_tool_use(api, noted) if looked.last else noted


def trimmed(call: Call, body: Any, read: Callable[[Any], ModelRequest] | None, frame: ScopedFrame) -> None:
    """Let the window of the frame make of a call what it does, unless that was done farther from the wire."""
    if frame.judged is not None and frame.judged.cut:
        return
    if read is not None:
        plan(call, body, read, frame.owner)
    if call.loops is not None and call.forgotten:
        with call.loops.conversation.lock:
            # Reading again what the model no longer sees is fair.
            call.loops.conversation.state.forget(set(call.forgotten))
