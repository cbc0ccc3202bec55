"""Put notes into a request: each right after the results that it is about, where it stays in every later request.

So two requests of one conversation begin with the same bytes, and the provider's prompt cache stays warm.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})


def with_notes(api: str, body: Mapping[str, Any], notes: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    """A copy of the body with its notes; what is not about a note is the caller's own object."""
    where = "input" if api == "responses" else "messages"
    messages = body.get(where)
    if not notes or not isinstance(messages, list):
        return dict(body)
    noted: list[Any] = []
    count: Counter[str] = Counter()
    due: str | None = None
    for message in messages:
        ids = result_ids(message)
        if due is not None and not ids:
            # After the last result of the round: an answer of the model must be followed by all of its results.
            noted.append({"role": "user", "content": due})
            due = None
        text = None
        for call_id in ids:
            text = notes.get((call_id, count[call_id]), text)
            count[call_id] += 1
        if text is not None and api == "messages":
            noted.append(_beside_results(message, text))
            continue
        due = text if text is not None else due
        noted.append(message)
    if due is not None:
        noted.append({"role": "user", "content": due})
    return {**body, where: noted}


def result_ids(message: Any) -> list[str]:
    """Whose results a message holds: ids of calls, of the older form the function's name."""
    if not isinstance(message, dict):
        return []
    if message.get("role") in ("tool", "function") or message.get("type") in _OUTPUTS:
        return [str(message.get("tool_call_id") or message.get("call_id") or message.get("name"))]
    content = message.get("content")
    blocks = content if isinstance(content, list) and message.get("role") == "user" else []
    results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    return [str(block.get("tool_use_id")) for block in results]


def _beside_results(message: dict[str, Any], text: str) -> dict[str, Any]:
    content = message["content"]
    last = max(n for n, block in enumerate(content) if isinstance(block, dict) and block.get("type") == "tool_result")
    return {**message, "content": [*content[: last + 1], {"type": "text", "text": text}, *content[last + 1 :]]}
