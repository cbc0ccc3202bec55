"""An agent's messages as the loop guard reads them, and its notes as the agent's model reads them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def as_chat(message: Any) -> dict[str, Any]:
    """One message of LangChain in the shape of chat completions; one of another kind says nothing."""
    kind = getattr(message, "type", None)
    if kind == "human":
        return {"role": "user", "content": message.content}
    if kind == "ai":
        made = [*message.tool_calls, *message.invalid_tool_calls]
        calls = [_call(call) for call in made]
        # Where it has calls, its content may have them once more, as blocks.
        return {"role": "assistant", "content": None if calls else message.content, "tool_calls": calls}
    if kind == "tool":
        # A tool that says that it failed has; one that says nothing may have, and its words tell.
        failed = True if message.status == "error" else None
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content, "is_error": failed}
    return {}


def results_of(messages: Sequence[Any]) -> Counter[str]:
    """How often each call's id has a result."""
    return Counter(message.tool_call_id for message in messages if getattr(message, "type", None) == "tool")


def with_notes(messages: Sequence[Any], notes: Mapping[tuple[str, int], str]) -> list[Any]:
    """The messages with the guard's notes, each right after the results of the round that it is about.

    The same in every request: what the provider has cached stays as it is.
    """
    noted: list[Any] = []
    count: Counter[str] = Counter()
    due: str | None = None
    for message in messages:
        is_result = getattr(message, "type", None) == "tool"
        if due is not None and not is_result:
            # After the last result of the round: calls must be followed by all of theirs.
            noted.append(HumanMessage(due))
            due = None
        if is_result:
            due = notes.get((message.tool_call_id, count[message.tool_call_id]), due)
            count[message.tool_call_id] += 1
        noted.append(message)
    if due is not None:
        noted.append(HumanMessage(due))
    return noted


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": call.get("id"), "function": {"name": call.get("name"), "arguments": call.get("args")}}
