"""The loop guard and the window where only a callback handler stands: it sees a request and cannot change it.

So the loop guard's notes and blocks are written down as what would have been done, and its last rung ends the run; the
window does nothing, and that is written down once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.callbacks.agent_steps import as_chat
from bursar.clients.loops import Now, by_marks, say
from bursar.clients.window_notes import window_note
from bursar.runs.judged import Judged
from bursar.runs.scoped import changed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.runs.loops import Look
    from bursar.runs.scoped import ScopedFrame
    from bursar.words.events import ModelRequest
    from bursar.words.records import Verdict


def watched(frame: ScopedFrame, request: ModelRequest, messages: Sequence[Any]) -> ScopedFrame:
    """The frame of a call that the handler admits, with what its guards have seen in the messages."""
    if frame.judged is not None or (frame.loops is None and frame.context is None):
        return frame
    return changed(frame, judged=Judged(_look(frame, request, messages), None, _idle_window(frame)))


def _look(frame: ScopedFrame, request: ModelRequest, messages: Sequence[Any]) -> Look | None:
    if frame.loops is None:
        return None
    now = Now(frame.run, frame.owner.world.clock.wall_us(), frame.observe, ends=True, acts=False)
    try:
        return by_marks(frame.loops, request, [as_chat(message) for message in messages], now)
    except Exception as error:  # noqa: BLE001 - the guard is a help; the call itself is what the caller wants
        say(error)
        return None


def _idle_window(frame: ScopedFrame) -> tuple[Verdict, ...]:
    if frame.context is None:
        return ()
    with frame.context.lock:
        if not frame.context.first("handler"):
            return ()
    what = (
        "a callback handler cannot change a request, so nothing is trimmed here. To trim it, give the agent "
        "BursarMiddleware(), or the model bursar.wrap(model)"
    )
    return (window_note(frame, "skip", what),)
