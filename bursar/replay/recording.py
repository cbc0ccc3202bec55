"""A recorded run: what its record says of its steps, from a trajectory, a skeleton or a plain list of messages.

A step is an assistant message that somebody asked for. What goes into it is everything before it, by OpenAI's
published rule: 3 tokens a message and 3 for the reply, plus the text, the names and arguments of tool calls and
the results of tools. What comes out is its own text and calls. A usage that the provider recorded on the message
wins over all counting. Beside the steps stands what happened in them, for the loop guard: of text, hashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.clients.steps import Round, Spoke, StepReader
from bursar.guards.calls import ToolFact, fact, traits_of
from bursar.guards.results import EMPTY, digest
from bursar.replay.sizes import call_tokens, content_tokens
from bursar.words.errors import RecordingError
from bursar.words.money import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.clients.steps import Happening
    from bursar.guards.calls import ToolTraits

MESSAGE_TOKENS: Final = 3
"""Tokens of a message's frame, and of the reply's beginning: OpenAI's cookbook."""
_MOST_COUNT: Final = 10**12


class Step(NamedTuple):
    """One model call of a recorded run; `measured` where the provider counted the tokens."""

    input_tokens: int
    output_tokens: int
    measured: bool


class Event(NamedTuple):
    """What happened after a step (counted from 1; 0 is before the first): calls that came back, or a text as its hash.

    With neither it is a message of the user. `arguments` of the calls, None where they are no object; empty
    where none are known.
    """

    step: int
    facts: tuple[ToolFact, ...] = ()
    said: str | None = None
    arguments: tuple[Mapping[str, Any] | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded run. `success` is None where the record does not say; `raw` is the record itself."""

    id: str
    model: str | None
    success: bool | None
    steps: tuple[Step, ...]
    source: str
    events: tuple[Event, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


def recording_of(path: str, line: int | None, value: Any, tools: Mapping[str, ToolTraits]) -> Recording:
    """The run that a record (of this line of a file) describes. Raises `RecordingError` where it is none."""
    if isinstance(value, list):
        value = {"messages": value}
    if not isinstance(value, dict):
        raise RecordingError(path, line, f"is a {type(value).__name__}, not a recorded run")
    messages, steps = value.get("messages"), value.get("steps")
    if isinstance(messages, list):
        found, events = _message_steps(path, line, value.get("system"), messages, tools)
    elif isinstance(steps, list):
        found = tuple(_skeleton_step(path, line, step) for step in steps if step != ["u"])
        events = _skeleton_events(steps)
    else:
        raise RecordingError(path, line, "has neither messages nor steps")
    name = value.get("id")
    model, success = value.get("model"), value.get("success")
    return Recording(
        name if isinstance(name, str) else Path(path).name + ("" if line is None else f":{line}"),
        model if isinstance(model, str) else None,
        success if isinstance(success, bool) else None,
        found,
        path,
        events,
        value,
    )


def _message_steps(
    path: str, line: int | None, system: Any, messages: list[Any], tools: Mapping[str, ToolTraits]
) -> tuple[tuple[Step, ...], tuple[Event, ...]]:
    steps: list[Step] = []
    reader = StepReader()
    happened: list[tuple[int, Happening]] = []
    before = MESSAGE_TOKENS + (content_tokens(system) + MESSAGE_TOKENS if system else 0)
    asked = False
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RecordingError(path, line, "has a message without a role")
        said = content_tokens(message.get("content")) + call_tokens(message.get("tool_calls"))
        if message["role"] == "assistant":
            # A greeting that opens the conversation was asked of nobody.
            if asked:
                steps.append(_usage(message.get("usage")) or Step(before, said, measured=False))
        elif message["role"] not in ("system", "developer"):
            asked = True
        happened += [(len(steps), found) for found in reader.feed(message, len(steps))]
        before += said + MESSAGE_TOKENS
    happened += [(len(steps), found) for found in reader.finish()]
    return tuple(steps), tuple(_event(step, found, tools) for step, found in happened)


def _event(step: int, found: Happening, tools: Mapping[str, ToolTraits]) -> Event:
    if isinstance(found, Spoke):
        return Event(found.mark, said=digest(found.text.encode("utf-8", "surrogatepass")))
    if not isinstance(found, Round):
        return Event(step)
    facts = [
        fact(c.tool, c.arguments, c.content, traits_of(c.tool, tools), call_id=c.call_id, is_error=c.is_error)
        for c in found.calls
    ]
    return Event(found.mark, tuple(facts), arguments=tuple(_object(c.arguments) for c in found.calls))


def _object(arguments: Any) -> Mapping[str, Any] | None:
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except ValueError:
            return None
    return arguments if isinstance(arguments, dict) else None


def _usage(usage: Any) -> Step | None:
    if not isinstance(usage, dict):
        return None
    into, out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if into is None and out is None:
        into, out = usage.get("input_tokens"), usage.get("output_tokens")
        for part in ("cache_read_input_tokens", "cache_creation_input_tokens"):
            into = into + usage[part] if _is_count(into) and _is_count(usage.get(part)) else into
    if into is None or out is None or not _is_count(into) or not _is_count(out):
        return None
    return Step(into, out, measured=True)


def _skeleton_step(path: str, line: int | None, step: Any) -> Step:
    if not isinstance(step, list) or len(step) < 3 or not _is_count(step[1]) or not _is_count(step[2]):
        raise RecordingError(path, line, "has a step that is not [kind, input tokens, output tokens, ...]")
    return Step(step[1], step[2], measured=False)


def _skeleton_events(steps: list[Any]) -> tuple[Event, ...]:
    events, number = [], 0
    for step in steps:
        if step == ["u"]:
            events.append(Event(number))
            continue
        number += 1
        asked = step[4] if len(step) > 4 and isinstance(step[4], list) else []
        calls = [call for call in asked if isinstance(call, list) and len(call) >= 6]
        # A call without a result was not completed.
        facts = [_skeleton_fact(call) for call in calls if isinstance(call[3], str)]
        if facts:
            events.append(Event(number, tuple(facts)))
        elif not calls and len(step) > 3 and isinstance(step[3], str):
            events.append(Event(number, said=step[3]))
    return tuple(events)


def _skeleton_fact(call: list[Any]) -> ToolFact:
    tool, key, _, normal, masked, error = call[:6]
    return ToolFact(str(tool), str(key), normal, str(masked), error=bool(error), empty=normal == EMPTY)


def _is_count(value: Any) -> bool:
    return value.__class__ is int and 0 <= value <= min(_MOST_COUNT, MAX_AMOUNT)
