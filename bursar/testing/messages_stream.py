"""A message of Anthropic's as a stream of events."""

from collections.abc import Iterator
from typing import Any

from bursar.testing import messages_object as objects
from bursar.testing.dialect import Answer, Frame, event
from bursar.testing.generation import Chunk, Section

_DELTA_USAGE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
)
_DELTAS = {
    "thinking": ("thinking_delta", "thinking"),
    "text": ("text_delta", "text"),
    "tool": ("input_json_delta", "partial_json"),
}


class MessageStream:
    """`message_start` to `message_stop`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._handovers = objects.handovers(answer)

    def opening(self) -> bytes:
        """`message_start`, whose usage has the prompt and a first output token, and a ping."""
        usage = objects.usage(self._answer, min(1, self._answer.output_tokens))
        message = self._answer.reply.with_usage(objects.head(self._answer), usage)
        begun = [_event({"type": "message_start", "message": message}), _event({"type": "ping"})]
        for index, block in enumerate(self._handovers):
            begun.append(_event({"type": "content_block_start", "index": index, "content_block": block}))
            begun.append(_event({"type": "content_block_stop", "index": index}))
        return b"".join(begun)

    def frames(self) -> Iterator[Frame]:
        """Content blocks, each started, filled by deltas, and stopped."""
        for chunk in self._answer.generation.chunks(self._answer.reply.chunk_tokens):
            section = self._answer.generation.sections[chunk.section]
            index = len(self._handovers) + chunk.section
            yield Frame(b"".join(_chunk_events(index, chunk, section)), chunk.tokens)

    def closing(self) -> bytes:
        """`message_delta` with the cumulative usage, then `message_stop`."""
        usage = objects.usage(self._answer, self._answer.output_tokens)
        delta = {"stop_reason": objects.stop_reason(self._answer), "stop_sequence": None}
        body = {"type": "message_delta", "delta": delta}
        ended = self._answer.reply.with_usage(
            body, {name: usage[name] for name in _DELTA_USAGE} | objects.at_the_end(self._answer)
        )
        return _event(ended) + _event({"type": "message_stop"})

    def error_event(self) -> bytes:
        """An `error` event."""
        return _event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})


def _event(data: dict[str, Any]) -> bytes:
    return event(data, data["type"])


def _chunk_events(index: int, chunk: Chunk, section: Section) -> Iterator[bytes]:
    if chunk.first:
        block = objects.empty_block(section)
        yield _event({"type": "content_block_start", "index": index, "content_block": block})
    kind, name = _DELTAS[section.kind]
    yield _delta(index, {"type": kind, name: chunk.text})
    if chunk.last:
        if section.kind == "thinking":
            yield _delta(index, {"type": "signature_delta", "signature": objects.SIGNATURE})
        yield _event({"type": "content_block_stop", "index": index})


def _delta(index: int, delta: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta})
