"""Measure what a request says, without keeping a word of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar._events import Transcript
from bursar.pricing.tokens import COUNTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MESSAGE_TOKENS: Final = 4
"""Tokens of a message's frame: OpenAI publishes 3 and the role; vendors that publish nothing were measured near it."""
IMAGE_TOKENS: Final = 1_600
"""Tokens of an image before the published formulas are applied: Anthropic's largest (1.15 megapixels)."""
_MEDIA: Final = frozenset(
    {"image", "image_url", "input_image", "document", "file", "input_file", "input_audio", "audio", "video"}
)


_FRAME: Final = frozenset({"type", "text", "cache_control"})


class _Size(NamedTuple):
    tokens: int
    utf8_bytes: int
    mark: int
    unbounded: bool = False


_EMPTY: Final = _Size(0, 0, 0)


def measure(
    messages: Iterable[Any], fixed: Iterable[Any], *, first: object = None, unbounded: bool = False
) -> Transcript:
    """Measure messages one by one, and what is sent with every call (system prompt, tool schemas) together.

    `first` tells conversations apart that begin alike; `unbounded` says that the provider adds what is not here.
    """
    sizes = [_message(message) for message in messages]
    rest = [_value(value) for value in fixed if value is not None]
    return Transcript(
        tokens=tuple(size.tokens + MESSAGE_TOKENS for size in sizes),
        marks=tuple(size.mark for size in sizes),
        fixed_tokens=sum(size.tokens for size in rest),
        utf8_bytes=sum(size.utf8_bytes for size in sizes) + sum(size.utf8_bytes for size in rest),
        key=hash((sizes[0].mark if sizes else 0, tuple(size.mark for size in rest), first)),
        unbounded=unbounded or any(size.unbounded for size in sizes),
    )


def _message(message: Any) -> _Size:
    if isinstance(message, str):
        return _text(message)
    if not isinstance(message, dict):
        return _value(message)
    size = _value(message.get("content"))
    for name, value in message.items():
        if name not in ("content", "role") and value is not None:
            size = _add(size, _value(value))
    return size._replace(mark=hash((message.get("role"), size.mark)))


def _value(value: Any) -> _Size:
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return _EMPTY
    if isinstance(value, list | tuple):
        size = _EMPTY
        for item in value:
            size = _add(size, _value(item))
        return size
    if isinstance(value, dict):
        return _block(value)
    return _text(_json(value))


def _block(block: Mapping[str, Any]) -> _Size:
    kind = block.get("type")
    if kind in _MEDIA:
        size = _Size(IMAGE_TOKENS, IMAGE_TOKENS, hash(_json(block)), unbounded=True)
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") in ("text", "content"):
            # A document in words is as long as its words.
            size = _add(size, _value([source.get("data"), source.get("content")]))
        return _add(size, _value([block.get("title"), block.get("context")]))
    if isinstance(block.get("text"), str):
        rest = {name: value for name, value in block.items() if name not in _FRAME and value}
        return _add(_text(block["text"]), _value(rest)) if rest else _text(block["text"])
    if kind == "tool_result":
        return _value(block.get("content"))
    return _text(_json(block))


def _text(text: str) -> _Size:
    size = COUNTER.measure(text)
    return _Size(size.tokens, size.utf8_bytes, hash(text))


def _add(one: _Size, other: _Size) -> _Size:
    return _Size(
        one.tokens + other.tokens,
        one.utf8_bytes + other.utf8_bytes,
        hash((one.mark, other.mark)),
        one.unbounded or other.unbounded,
    )


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        # Too deep, a large number, a lone surrogate: the slow way knows more; what it cannot write is not sent.
        return json.dumps(value, default=_plain, skipkeys=True)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else type(value).__name__
