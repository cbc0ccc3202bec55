"""Measure what a request says, without keeping a word of it."""

from __future__ import annotations

import json
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar._events import Transcript
from bursar.clients.attachments import ATTACHED, attached
from bursar.clients.blocks import block_hash
from bursar.clients.toolset import FUNCTIONS_END, claude_prompt, gpt_tool
from bursar.pricing.tokens import COUNTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MESSAGE_TOKENS: Final = 4
"""Tokens of a message's frame: OpenAI publishes 3 and the role; vendors that publish nothing were measured near it."""
_FRAME: Final = frozenset({"type", "text", "cache_control"})
_SEALED: Final = {"thinking": "signature", "redacted_thinking": "data", "reasoning": "encrypted_content"}
"""Thinking that is sent back, and where it holds what only the provider can read."""
_SEALED_PER_TOKEN: Final = 6
"""Characters of sealed thinking for a token: four bytes of text in base64, rounded up. No vendor publishes it."""


class _Size(NamedTuple):
    tokens: int
    utf8_bytes: int
    mark: int
    media: int = 0
    media_most: int = 0
    unbounded: bool = False


_EMPTY: Final = _Size(0, 0, 0)


def measure(
    messages: Iterable[Any],
    fixed: Iterable[Any],
    *,
    tools: Iterable[Any] = (),
    tool_choice: Any = None,
    first: object = None,
    unbounded: bool = False,
    provider: str = "openai",
    model: str = "",
) -> Transcript:
    """Measure messages one by one, and what is sent with every call (system prompt, tool schemas) together.

    `first` tells conversations apart that begin alike; `unbounded` says that the provider adds what is not here.
    What is attached weighs what `provider` says of `model`.
    """
    meter, said_first = _Meter(provider, model), list(messages)
    sizes = [meter.message(message) for message in said_first]
    always = [value for value in fixed if value is not None]
    rest = [meter.value(value) for value in always]
    offered = [(tool, _text_of(tool)) for tool in tools]
    texts = [_text(written) for _, written in offered]
    led = takewhile(_instructs, said_first)
    system = [*always, *(message.get("content") for message in led)]
    marks = [size.mark for size in (*rest, *sizes[: len(system) - len(always)])]
    rest += texts
    said = most = sum(size.tokens + size.media for size in rest)
    if offered and provider == "anthropic":
        said = most = said + claude_prompt(model, tool_choice)
    elif offered:
        known = zip(offered, texts, strict=True)
        spared = sum(size.tokens - _gpt_tool(tool, written, size.tokens) for (tool, written), size in known)
        said = most - spared + min(FUNCTIONS_END, spared)
    attaches = any(size.media_most for size in sizes)
    return Transcript(
        tokens=tuple(size.tokens + MESSAGE_TOKENS for size in sizes),
        marks=tuple(size.mark for size in sizes),
        fixed_tokens=said,
        utf8_bytes=sum(size.utf8_bytes for size in sizes) + sum(size.utf8_bytes + size.media_most for size in rest),
        key=hash((sizes[0].mark if sizes else 0, tuple(size.mark for size in rest), first)),
        unbounded=unbounded or any(size.unbounded for size in [*sizes, *rest]),
        fixed_most=most,
        media=tuple(size.media for size in sizes) if attaches else (),
        media_most=tuple(size.media_most for size in sizes) if attaches else (),
        system_hash=block_hash(marks, lambda: map(_text_of, system)),
        tools_hash=block_hash([size.mark for size in texts], lambda: (written for _, written in offered)),
    )


def _instructs(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


class _Meter:
    """Measures values as one model of one provider takes them in."""

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model

    def message(self, message: Any) -> _Size:
        if isinstance(message, str):
            return _text(message)
        if not isinstance(message, dict):
            return self.value(message)
        kind = message.get("type")
        if kind is not None and (kind in ATTACHED or kind in _SEALED):
            # Of Responses: an item that is what elsewhere is a block.
            return self._block(message)
        size = self.value(message.get("content"))
        for name, value in message.items():
            if name not in ("content", "role") and value is not None:
                size = _add(size, self.value(value))
        return size._replace(mark=hash((message.get("role"), size.mark)))

    def value(self, value: Any) -> _Size:
        if isinstance(value, str):
            return _text(value)
        if value is None:
            return _EMPTY
        if isinstance(value, list | tuple):
            size = _EMPTY
            for item in value:
                size = _add(size, self.value(item))
            return size
        if isinstance(value, dict):
            return self._block(value)
        return _text(_json(value))

    def _block(self, block: Mapping[str, Any]) -> _Size:
        kind = block.get("type")
        if kind in ATTACHED:
            return self._attached(block)
        if isinstance(block.get("text"), str):
            rest = {name: value for name, value in block.items() if name not in _FRAME and value}
            return _add(_text(block["text"]), self.value(rest)) if rest else _text(block["text"])
        if kind == "tool_result":
            return self.value(block.get("content"))
        sealed = _SEALED.get(kind) if isinstance(kind, str) else None
        if sealed is not None and isinstance(block.get(sealed), str):
            return _thinking(block, sealed)
        return _text(_json(block))

    def _attached(self, block: Mapping[str, Any]) -> _Size:
        said = self.value([block.get("title"), block.get("context")])
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") in ("text", "content"):
            # A document in words is as long as its words.
            return _add(said, self.value([source.get("data"), source.get("content")]))
        found = attached(self._provider, self._model, block)
        weight, mark = found
        return _add(
            said,
            _Size(0, 0, hash(_json(block)) if mark is None else mark, weight.likely, weight.most, weight.unbounded),
        )


def _thinking(block: Mapping[str, Any], name: str) -> _Size:
    # What is readable is a part or a summary of what is sealed: the larger of the two is what was thought.
    sealed: str = block[name]
    readable = block.get("thinking", block.get("summary"))
    said = _text(_text_of(readable)) if readable else _EMPTY
    within = len(sealed) // _SEALED_PER_TOKEN
    return _Size(max(said.tokens, within), max(said.utf8_bytes, len(sealed)), hash((said.mark, sealed)))


def _gpt_tool(tool: Any, written: str, tokens: int) -> int:
    return gpt_tool(tool, written, tokens) if isinstance(tool, dict) else tokens


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _text(text: str) -> _Size:
    size = COUNTER.measure(text)
    return _Size(size.tokens, size.utf8_bytes, hash(text))


def _add(one: _Size, other: _Size) -> _Size:
    return _Size(
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
