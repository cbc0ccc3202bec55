"""A chat completion as a stream of chunks."""

from collections.abc import Iterator
from typing import Any

from bursar.testing import chat_object as objects
from bursar.testing.dialect import Answer, Frame, event
from bursar.testing.generation import Chunk, Section


class ChatStream:
    """The role chunks to `[DONE]`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        options = answer.request.body.get("stream_options")
        # OpenRouter's last event has it whatever was asked.
        wanted = (isinstance(options, dict) and bool(options.get("include_usage"))) or answer.told_nusd is not None
        self._tells_usage = wanted and answer.reply.fault != "no_usage"

    def opening(self) -> bytes:
        """A chunk per choice that says the role."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._choice(index, delta) for index in range(self._answer.choices))

    def frames(self) -> Iterator[Frame]:
        """The choices side by side; reasoning takes its time and tokens and shows nothing."""
        for chunk in self._answer.generation.chunks(self._answer.reply.chunk_tokens):
            section = self._answer.generation.sections[chunk.section]
            for index in range(self._answer.choices):
                delta = self._delta(chunk, section, index)
                yield Frame(self._choice(index, delta) if delta else b"", chunk.tokens)

    def closing(self) -> bytes:
        """The finish reasons, the usage chunk where it was asked for, and `[DONE]`."""
        reason = objects.finish_reason(self._answer)
        ends = b"".join(self._choice(index, {}, reason) for index in range(self._answer.choices))
        return ends + self._usage_chunk() + b"data: [DONE]\n\n"

    def error_event(self) -> bytes:
        """A data line with an error object."""
        message = "The server had an error while processing your request."
        return event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})

    def _head(self) -> dict[str, Any]:
        head = objects.head(self._answer, "chat.completion.chunk")
        return {**head, "usage": None} if self._tells_usage else head

    def _usage_chunk(self) -> bytes:
        if not self._tells_usage:
            return b""
        chunk = {**objects.head(self._answer, "chat.completion.chunk"), "choices": []}
        return event(self._answer.reply.with_usage(chunk, objects.usage(self._answer)))

    def _choice(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**self._head(), "choices": [choice]})

    def _delta(self, chunk: Chunk, section: Section, choice: int) -> dict[str, Any] | None:
        if section.kind == "thinking":
            return None
        if section.kind == "text":
            return {"content": chunk.text}
        calls = [index for index, _ in self._answer.generation.of_kind("tool")]
        call: dict[str, Any] = {"function": {"arguments": chunk.text}}
        if chunk.first:
            call = objects.tool_call(section, chunk.text, choice)
        return {"tool_calls": [{"index": calls.index(chunk.section), **call}]}
