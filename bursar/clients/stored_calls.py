"""Calls that only the provider keeps: a request of Responses that names an earlier answer has results alone.

What that answer asked for was seen when it came; so a call and its result are put together here, as far as answers
went by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.runs.loops import Stored

if TYPE_CHECKING:
    from bursar.flow.call import Call
    from bursar.runs.loops import Conversation, Loops
    from bursar.words.events import Answer

    Found = tuple[Conversation, list[Any]] | None


def continued(loops: Loops, api: str, body: dict[str, Any], messages: list[Any]) -> tuple[str | None, Found]:
    """The name of the conversation at the provider, and what is known of it: the calls, with their results behind."""
    if api != "responses":
        return None, None
    thread = _thread(body)
    before = body.get("previous_response_id") or thread
    stored = loops.stored(before) if isinstance(before, str) else None
    if stored is None:
        return thread, None
    calls = [
        {"type": "function_call", "call_id": ask.tool_call_id, "name": ask.name, "arguments": ask.args}
        for ask in stored.asked
    ]
    return thread, (stored.conversation, [*calls, *messages])


def note_stored(call: Call, answer: Answer) -> None:
    """Note what an answer of Responses asks for: the next request may name it instead of repeating it."""
    from bursar.runs.scoped import ScopedFrame

    frame = call.frame
    if call.loops is None or call.request.api != "responses" or not isinstance(frame, ScopedFrame):
        return
    for name in (answer.response_id, call.loops.thread):
        if name and frame.loops is not None:
            frame.loops.store(name, Stored(call.loops.conversation, answer.asked))


def _thread(body: dict[str, Any]) -> str | None:
    given = body.get("conversation")
    name = given.get("id") if isinstance(given, dict) else given
    return name if isinstance(name, str) else None
