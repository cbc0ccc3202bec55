"""Measure what a request says, without keeping a word of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.clients.attachments import ATTACHED, attached
from bursar.clients.blocks import block_hash
from bursar.clients.toolset import FUNCTIONS_END, claude_prompt, gpt_tool
from bursar.pricing.tokens import COUNTER
from bursar.words.events import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MESSAGE_TOKENS: Final = 4
"""Tokens of a message's frame: OpenAI publishes 3 and the role; vendors that publish nothing were measured near it."""
_PLAIN: Final = {"role": None, "content": None}.keys()
"""The keys of a message that only says something."""
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
    messages: Sequence[Any],
    fixed: Iterable[Any],
    *,
    tools: Sequence[Any] = (),
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
    meter = _Meter(provider, model)
    always = [value for value in fixed if value is not None]
    rest = [meter.value(value) for value in always]
    offered = [_text_of(tool) for tool in tools]
    said, most = _fixed(rest, tools, offered, tool_choice, provider, model)
    sizes, tokens, marks, utf8_bytes, attaches, endless = _weighed(messages, meter)
    unbounded = unbounded or endless
    fixed_marks = []
    for size in rest:
        fixed_marks.append(size.mark)
        utf8_bytes += size.utf8_bytes + size.media_most
        unbounded = unbounded or size.unbounded
    return Transcript(
        tuple(tokens),
        tuple(marks),
        said,
        utf8_bytes,
        hash((marks[0] if marks else 0, tuple(fixed_marks), first)),
        unbounded,
        most,
        tuple([size.media for size in sizes]) if attaches else (),
        tuple([size.media_most for size in sizes]) if attaches else (),
        _system_hash(always, fixed_marks, messages, marks),
        block_hash(fixed_marks[len(always) :], lambda: offered),
    )


def with_messages(base: Transcript, messages: Sequence[Any], *, provider: str, model: str) -> Transcript:
    """What was measured of a request without messages, and with it these: `role`, `content` and perhaps more.

    Only what is sent with every call may be in `base`, and of that no system prompt: it is hashed with the messages.
    """
    meter = _Meter(provider, model)
    sizes, tokens, marks, utf8_bytes, attaches, unbounded = _weighed(messages, meter)
    return Transcript(
        tuple(tokens),
        tuple(marks),
        base.fixed_tokens,
        base.utf8_bytes + utf8_bytes,
        hash((marks[0] if marks else 0, base.key)),
        base.unbounded or unbounded,
        base.fixed_most,
        tuple([size.media for size in sizes]) if attaches else (),
        tuple([size.media_most for size in sizes]) if attaches else (),
        _system_hash([], [], messages, marks),
        base.tools_hash,
    )


def _weighed(messages: Sequence[Any], meter: _Meter) -> tuple[list[_Size], list[int], list[int], int, bool, bool]:
    """Size, tokens and mark of each message; bytes of all, whether they attach something, and if that is unbounded."""
    # Most requests are a few messages: a pass for each sum would cost more than what it adds up.
    sizes, tokens, marks, utf8_bytes, attaches, unbounded = [], [], [], 0, False, False
    for message in messages:
        if message.__class__ is dict and message.keys() == _PLAIN and message["content"].__class__ is str:
            # Nearly all messages: who says what. Measured here as `_Meter.message` would.
            size, (weight, utf8, _) = _EMPTY, COUNTER.measure(message["content"])
            tokens.append(weight + MESSAGE_TOKENS)
            marks.append(hash((message["role"], hash(message["content"]))))
            utf8_bytes += utf8
        else:
            size = meter.message(message)
            tokens.append(size.tokens + MESSAGE_TOKENS)
            marks.append(size.mark)
            utf8_bytes += size.utf8_bytes
            attaches = attaches or size.media_most > 0
            unbounded = unbounded or size.unbounded
        sizes.append(size)
    return sizes, tokens, marks, utf8_bytes, attaches, unbounded


def _system_hash(always: list[Any], fixed: list[int], messages: Sequence[Any], marks: list[int]) -> str | None:
    """Hash what instructs the model: what is sent with every call but tools, and the first messages of the system."""
    led = 0
    while led < len(messages) and _instructs(messages[led]):
        led += 1
    known = fixed[: len(always)] + marks[:led]
    return block_hash(known, lambda: map(_text_of, [*always, *(message.get("content") for message in messages[:led])]))


def _instructs(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _fixed(
    rest: list[_Size], tools: Sequence[Any], offered: list[str], choice: Any, provider: str, model: str
) -> tuple[int, int]:
    """Add the sizes of tools to what is sent with every call; its tokens, and those that it hardly exceeds."""
    said = sum([size.tokens + size.media for size in rest])
    if not tools:
        return said, said
    spared = 0
    for tool, written in zip(tools, offered, strict=True):
        size = _text(written)
        rest.append(size)
        said += size.tokens
        if provider != "anthropic":
            spared += size.tokens - _gpt_tool(tool, written, size.tokens)
    if provider == "anthropic":
        said += claude_prompt(model, choice)
        return said, said
    return said - spared + min(FUNCTIONS_END, spared), said


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
        content = message.get("content")
        size = _text(content) if content.__class__ is str else self.value(content)
        for name, value in message.items():
            if name not in ("content", "role") and value is not None:
                size = _add(size, self.value(value))
        tokens, utf8_bytes, mark, media, media_most, unbounded = size
        return _Size(tokens, utf8_bytes, hash((message.get("role"), mark)), media, media_most, unbounded)

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
