"""Measure what a request says, without keeping a word of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.clients.blocks import block_hash
from bursar.clients.meter import EMPTY, Meter, Size, size_of, text_of
from bursar.clients.toolset import FUNCTIONS_END, claude_prompt, gpt_tool
from bursar.pricing.tokens import COUNTER
from bursar.words.events import Transcript, filled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MESSAGE_TOKENS: Final = 4
"""Tokens of a message's frame: OpenAI publishes 3 and the role; vendors that publish nothing were measured near it."""
_PLAIN: Final = {"role": None, "content": None}.keys()
"""The keys of a message that only says something."""


def measure(
    messages: Sequence[Any],
    always: Iterable[Any],
    *,
    tools: Sequence[Any] = (),
    tool_choice: Any = None,
    provider: str = "openai",
    model: str = "",
) -> Transcript:
    """Measure messages one by one, and what is sent with every call (system prompt, tool schemas) together.

    What is attached weighs what `provider` says of `model`.
    """
    base = offered(tools, tool_choice, provider=provider, model=model)
    return weigh(base, messages, always, Meter(provider, model))[0]


def offered(
    tools: Sequence[Any],
    tool_choice: Any = None,
    *,
    provider: str = "openai",
    model: str = "",
) -> Transcript:
    """Measure the tools of a request, without a word that is said."""
    written = [text_of(tool) for tool in tools]
    sizes = [size_of(text) for text in written]
    tokens, most = _weight(tools, written, sizes, tool_choice, provider, model)
    marks = [size.mark for size in sizes]
    return Transcript(
        fixed_tokens=tokens,
        fixed_most=most,
        utf8_bytes=sum([size.utf8_bytes for size in sizes]),
        key=hash(tuple(marks)),
        tools_hash=block_hash(marks, lambda: written),
    )


def weigh(
    base: Transcript,
    messages: Sequence[Any],
    always: Iterable[Any],
    meter: Meter,
    *,
    first: str | None = None,
    unbounded: bool = False,
) -> tuple[Transcript, list[Any]]:
    """Measure messages and what else is sent with every call, beside the tools that were measured (`base`).

    `first` tells conversations apart that begin alike; `unbounded` says that the provider adds what is not here. With
    it come the contents of those messages that are more than a plain text, for whoever looks into them.
    """
    # Most requests are a few messages: a pass for each sum would cost more than what it adds up.
    tokens, marks, utf8_bytes, fixed = [], [], base.utf8_bytes, 0
    attached: dict[int, Size] = {}
    blocks = []
    known = COUNTER.measure
    for message in messages:
        if message.__class__ is dict and message.keys() == _PLAIN and (text := message["content"]).__class__ is str:
            # Nearly all messages: who says what. Measured here as `Meter.message` would.
            weight, utf8, _ = known(text)
            tokens.append(weight + MESSAGE_TOKENS)
            marks.append(hash((message["role"], hash(text))))
            utf8_bytes += utf8
        else:
            size = meter.message(message)
            if size.media_most:
                attached[len(tokens)] = size
            tokens.append(size.tokens + MESSAGE_TOKENS)
            marks.append(size.mark)
            utf8_bytes += size.utf8_bytes
            unbounded = unbounded or size.unbounded
            blocks.append(message.get("content") if isinstance(message, dict) else None)
    values, fixed_marks = [], []
    for value in always:
        if value is not None:
            size = meter.value(value)
            fixed += size.tokens + size.media
            utf8_bytes += size.utf8_bytes + size.media_most
            unbounded = unbounded or size.unbounded
            values.append(value)
            fixed_marks.append(size.mark)
    media, most = _attached(attached, len(tokens)) if attached else ((), ())
    instructs = values or (messages and _instructs(messages[0]))
    # In the order of `Transcript`'s fields.
    script: Transcript = filled(
        Transcript,
        (
            *(tuple(tokens), tuple(marks), base.fixed_tokens + fixed, utf8_bytes),
            hash((marks[0] if marks else 0, tuple(fixed_marks), base.key, first)),
            *(unbounded, base.fixed_most + fixed, media, most),
            _system_hash(values, fixed_marks, messages, marks) if instructs else None,
            base.tools_hash,
        ),
    )
    return script, blocks


def _attached(sizes: Mapping[int, Size], count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    each = [sizes.get(n, EMPTY) for n in range(count)]
    return tuple([size.media for size in each]), tuple([size.media_most for size in each])


def _system_hash(always: list[Any], fixed: list[int], messages: Sequence[Any], marks: list[int]) -> str | None:
    """Hash what instructs the model: what is sent with every call but tools, and the first messages of the system."""
    led = 0
    while led < len(messages) and _instructs(messages[led]):
        led += 1
    known = fixed + marks[:led]
    return block_hash(known, lambda: map(text_of, [*always, *(message.get("content") for message in messages[:led])]))


def _instructs(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _weight(
    tools: Sequence[Any], written: list[str], sizes: list[Size], choice: Any, provider: str, model: str
) -> tuple[int, int]:
    """Tokens of tools, and those that they hardly exceed."""
    said = sum([size.tokens for size in sizes])
    if not tools:
        return 0, 0
    if provider == "anthropic":
        said += claude_prompt(model, choice)
        return said, said
    spared = sum(
        [
            size.tokens - _gpt_tool(tool, text, size.tokens)
            for tool, text, size in zip(tools, written, sizes, strict=True)
        ]
    )
    return said - spared + min(FUNCTIONS_END, spared), said


def _gpt_tool(tool: Any, written: str, tokens: int) -> int:
    return gpt_tool(tool, written, tokens) if isinstance(tool, dict) else tokens
