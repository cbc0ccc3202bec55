"""Measure values as one model takes them in: texts, blocks, what is attached; tokens, bytes and a mark of each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.clients.attachments import ATTACHED, attached
from bursar.pricing.tokens import COUNTER

if TYPE_CHECKING:
    from collections.abc import Mapping

_LISTS: Final = (list, tuple)
_FRAME: Final = frozenset({"type", "text", "cache_control"})
_SEALED: Final = {
    "thinking": "signature",
    "redacted_thinking": "data",
    "reasoning": "encrypted_content",
    "compaction": "encrypted_content",
}
"""Thinking and summaries that are sent back, and where they hold what only the provider can read."""
_SEALED_PER_TOKEN: Final = 6
"""Characters of what is sealed for a token: four bytes of text in base64, rounded up. No vendor publishes it."""


class Size(NamedTuple):
    """Tokens and bytes of a value, a hash of it, and tokens of what it attaches: probably, and at most."""

    tokens: int
    utf8_bytes: int
    mark: int
    media: int = 0
    media_most: int = 0
    unbounded: bool = False


EMPTY: Final = Size(0, 0, 0)


class Meter:
    """Measures values as one model of one provider takes them in."""

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model

    def message(self, message: Any) -> Size:
        """A message of any form, without the tokens of its frame."""
        if isinstance(message, str):
            return size_of(message)
        if not isinstance(message, dict):
            return self.value(message)
        kind = message.get("type")
        if kind is not None and (kind in ATTACHED or kind in _SEALED):
            # Of Responses: an item that is what elsewhere is a block.
            return self._block(message)
        content = message.get("content")
        size = size_of(content) if content.__class__ is str else self.value(content)
        for name, value in message.items():
            if name not in ("content", "role") and value is not None:
                size = _add(size, self.value(value))
        tokens, utf8_bytes, mark, media, media_most, unbounded = size
        return Size(tokens, utf8_bytes, hash((message.get("role"), mark)), media, media_most, unbounded)

    def value(self, value: Any) -> Size:
        """A text, a block, a list of them, or whatever else is sent as JSON."""
        if isinstance(value, str):
            return size_of(value)
        if value is None:
            return EMPTY
        if isinstance(value, _LISTS):
            size = EMPTY
            for item in value:
                size = _add(size, self.value(item))
            return size
        if isinstance(value, dict):
            return self._block(value)
        return size_of(_json(value))

    def _block(self, block: Mapping[str, Any]) -> Size:
        kind = block.get("type")
        if kind in ATTACHED:
            return self._attached(block)
        if isinstance(block.get("text"), str):
            rest = {name: value for name, value in block.items() if name not in _FRAME and value}
            return _add(size_of(block["text"]), self.value(rest)) if rest else size_of(block["text"])
        if kind == "tool_result":
            return self.value(block.get("content"))
        sealed = _SEALED.get(kind) if isinstance(kind, str) else None
        if sealed is not None and isinstance(block.get(sealed), str):
            return _unsealed(block, sealed)
        return size_of(_json(block))

    def _attached(self, block: Mapping[str, Any]) -> Size:
        said = self.value([block.get("title"), block.get("context")])
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") in ("text", "content"):
            # A document in words is as long as its words.
            return _add(said, self.value([source.get("data"), source.get("content")]))
        found = attached(self._provider, self._model, block)
        weight, mark = found
        return _add(
            said,
            Size(0, 0, hash(_json(block)) if mark is None else mark, weight.likely, weight.most, weight.unbounded),
        )


def _unsealed(block: Mapping[str, Any], name: str) -> Size:
    # What is readable is a part or a summary of what is sealed: the larger of the two is what it stands for.
    sealed: str = block[name]
    readable = block.get("thinking") or block.get("summary") or block.get("content")
    said = size_of(text_of(readable)) if readable else EMPTY
    within = len(sealed) // _SEALED_PER_TOKEN
    return Size(max(said.tokens, within), max(said.utf8_bytes, len(sealed)), hash((said.mark, sealed)))


def text_of(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else _json(value)


def size_of(text: str) -> Size:
    """A text."""
    size = COUNTER.measure(text)
    return Size(size.tokens, size.utf8_bytes, hash(text))


def _add(one: Size, other: Size) -> Size:
    return Size(
        one.tokens + other.tokens,
        one.utf8_bytes + other.utf8_bytes,
        hash((one.mark, other.mark)),
        one.media + other.media,
        one.media_most + other.media_most,
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
