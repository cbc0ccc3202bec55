"""The words of a request, an answer and a stream, as the content modes keep them: who spoke, and what.

Only called where content is kept. Images and files are named, not kept; objects of the caller are named by their type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.clients.usage import get
from bursar.tracing.content import LONGEST_TEXT, Part

if TYPE_CHECKING:
    from collections.abc import Hashable

_MEDIA: Final = frozenset(
    {"image", "image_url", "input_image", "document", "file", "input_file", "input_audio", "audio", "video"}
)
_SAID_IN: Final = {"responses": "input", "embeddings": "input", "completions": "prompt"}
_SDKS: Final = ("anthropic.", "openai.")
_NAMES: Final = {"thinking": "thinking", "tool_use": "tool call", "server_tool_use": "tool call"}


def asked(api: str, body: Any) -> list[Part]:
    """What a request says: instructions first, then message by message. Never raises."""
    try:
        body = _data(body)
        if not isinstance(body, dict):
            return []
        first = body.get("system" if api == "messages" else "instructions")
        said = body.get(_SAID_IN.get(api, "messages"))
        parts = [Part("system", _text(first))] if first else []
        items = [said] if isinstance(said, str) else said or []
        return parts + [part for item in items for part in _message(item, "user")]
    except Exception:  # noqa: BLE001 - objects of the caller may raise what they like
        return [Part("unreadable", "")]


def said(api: str, body: Any) -> list[Part]:
    """What an answer says. Never raises."""
    try:
        body = _data(body)
        if not isinstance(body, dict):
            return []
        if api in {"chat", "completions"}:
            said = [choice.get("message", choice.get("text")) for choice in body.get("choices") or []]
            return [part for each in said for part in _message(each, "assistant")]
        if api == "messages":
            return _message({"role": "assistant", "content": body.get("content")}, "assistant")
        return [part for item in body.get("output") or [] for part in _message(item, "assistant")]
    except Exception:  # noqa: BLE001 - an answer of a shape that nobody knows
        return [Part("unreadable", "")]


class Heard:
    """What a stream has said so far, each part by itself: what belongs together is joined before secrets are sought."""

    def __init__(self, api: str) -> None:
        self._api = api
        self._roles: dict[Hashable, str] = {}
        self._pieces: dict[Hashable, list[str]] = {}
        self._length = 0

    def see(self, event: Any) -> None:
        """Take in one event. Never raises."""
        try:
            if self._api == "messages":
                self._see_messages(event)
            elif self._api in {"chat", "completions"}:
                self._see_chat(event)
            else:
                self._see_responses(event)
        except Exception:  # noqa: BLE001 - an event of a shape that nobody knows
            return

    def parts(self) -> list[Part]:
        """The parts in the order in which they began."""
        return [Part(self._roles[key], "".join(pieces)) for key, pieces in self._pieces.items()]

    def _see_messages(self, event: Any) -> None:
        block, delta, key = get(event, "content_block"), get(event, "delta"), get(event, "index")
        if block is not None:
            role = _NAMES.get(get(block, "type"), "assistant")
            self._add(key, role, f"{get(block, 'name')} " if role == "tool call" else "")
        elif get(event, "type") == "content_block_delta":
            self._add(key, "assistant", get(delta, "text") or get(delta, "partial_json") or get(delta, "thinking"))

    def _see_chat(self, chunk: Any) -> None:
        for choice in get(chunk, "choices") or []:
            number, delta = get(choice, "index"), get(choice, "delta")
            self._add(number, "assistant", get(delta, "content") or get(delta, "refusal") or get(choice, "text"))
            for call in get(delta, "tool_calls") or []:
                function, key = get(call, "function"), (number, get(call, "index"))
                self._add(key, "tool call", f"{get(function, 'name')} " if get(function, "name") else "")
                self._add(key, "tool call", get(function, "arguments"))

    def _see_responses(self, event: Any) -> None:
        kind = get(event, "type")
        if isinstance(kind, str) and kind.endswith(".delta"):
            role = "tool call" if "arguments" in kind else "thinking" if "reasoning" in kind else "assistant"
            self._add((get(event, "output_index"), get(event, "content_index"), kind), role, get(event, "delta"))

    def _add(self, key: Hashable, role: str, text: Any) -> None:
        if isinstance(text, str) and self._length < 4 * LONGEST_TEXT:
            self._length += len(text)
            self._roles.setdefault(key, role)
            self._pieces.setdefault(key, []).append(text)


def _message(item: Any, role: str) -> list[Part]:
    if isinstance(item, str):
        return [Part(role, item)]
    if not isinstance(item, dict):
        return []
    named = item.get("role")
    spoken = named if isinstance(named, str) else role
    parts: list[Part] = []
    content = item.get("content")
    for block in content if isinstance(content, list) else [content]:
        if block is not None and block != "":
            kind = _NAMES.get(block.get("type", ""), spoken) if isinstance(block, dict) else spoken
            parts.append(Part(kind, _text(block)))
    if isinstance(item.get("refusal"), str):
        parts.append(Part(spoken, item["refusal"]))
    parts += [Part("tool call", _call(get(call, "function"))) for call in item.get("tool_calls") or []]
    if content is None and isinstance(item.get("type"), str):
        # An item of Responses that is no message: a call, its output, reasoning.
        parts.append(Part(item["type"].replace("_", " "), _text(item)))
    return parts


def _call(function: Any) -> str:
    return f"{get(function, 'name')} {get(function, 'arguments')}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_text(item) for item in value)
    if isinstance(value, dict):
        if value.get("type") in _MEDIA:
            return f"[{value['type']}]"
        for key in ("text", "thinking", "content", "output"):
            if isinstance(value.get(key), str | list):
                return _text(value[key])
        given = value.get("input", value.get("arguments"))
        if given is not None:
            return f"{value.get('name')} {given if isinstance(given, str) else _json(given)}"
    return _json(value)


def _json(value: Any) -> str:
    return orjson.dumps(
        value, default=lambda other: f"<{type(other).__name__}>", option=orjson.OPT_NON_STR_KEYS
    ).decode()


def _data(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _data(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_data(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    # An SDK's own object becomes plain data; of anybody else's nothing is run.
    if type(value).__module__.startswith(_SDKS):
        return _data(value.model_dump())
    return f"<{type(value).__name__}>"
