"""A response of OpenAI's as a stream of numbered events."""

from collections.abc import Iterator
from typing import Any

from bursar.testing import responses_object as objects
from bursar.testing.dialect import Answer, Frame, event
from bursar.testing.generation import Chunk, Section


class ResponseStream:
    """`response.created` to `response.completed`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._sequence = 0

    def opening(self) -> bytes:
        """`response.created` and `response.in_progress`."""
        response = objects.started(self._answer)
        kinds = ("response.created", "response.in_progress")
        return b"".join(self._event(kind, response=response) for kind in kinds)

    def frames(self) -> Iterator[Frame]:
        """Output items, each added, filled by deltas, and done."""
        for chunk in self._answer.generation.chunks(self._answer.reply.chunk_tokens):
            section = self._answer.generation.sections[chunk.section]
            yield Frame(b"".join(self._chunk_events(chunk, section)), chunk.tokens)

    def closing(self) -> bytes:
        """`response.completed`, or `response.incomplete` when the cap cut; both with the usage."""
        kind = "response.incomplete" if self._answer.generation.truncated else "response.completed"
        return self._event(kind, response=objects.finished(self._answer))

    def error_event(self) -> bytes:
        """An `error` event."""
        message = "The server had an error while processing your request."
        return self._event("error", code="server_error", message=message, param=None)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number = self._sequence
        self._sequence += 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)

    def _chunk_events(self, chunk: Chunk, section: Section) -> Iterator[bytes]:
        index = chunk.section
        if chunk.first:
            empty = objects.empty_item(self._answer, index, section)
            yield self._event("response.output_item.added", output_index=index, item=empty)
        if section.kind == "text":
            yield from self._text_events(chunk, section)
        elif section.kind == "tool":
            yield from self._call_events(chunk, section)
        if chunk.last:
            done = objects.item(self._answer, index, section)
            yield self._event("response.output_item.done", output_index=index, item=done)

    def _text_events(self, chunk: Chunk, section: Section) -> Iterator[bytes]:
        place = {**self._place(chunk, section), "content_index": 0}
        if chunk.first:
            yield self._event("response.content_part.added", **place, part=objects.part(""))
        yield self._event("response.output_text.delta", **place, delta=chunk.text, logprobs=[])
        if chunk.last:
            yield self._event("response.output_text.done", **place, text=section.text, logprobs=[])
            yield self._event("response.content_part.done", **place, part=objects.part(section.text))

    def _call_events(self, chunk: Chunk, section: Section) -> Iterator[bytes]:
        place = self._place(chunk, section)
        yield self._event("response.function_call_arguments.delta", **place, delta=chunk.text)
        if chunk.last:
            yield self._event("response.function_call_arguments.done", **place, arguments=section.text)

    def _place(self, chunk: Chunk, section: Section) -> dict[str, Any]:
        return {
            "output_index": chunk.section,
            "item_id": objects.item_id(self._answer, chunk.section, section),
        }
