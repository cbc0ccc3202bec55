"""OpenAI's legacy Completions API."""

from collections.abc import Iterator, Sequence
from typing import Any

from bursar.testing.billing import ModelPrice, Vendor
from bursar.testing.books import Api, ReceivedRequest
from bursar.testing.cache import PromptCache, Reading, Segment
from bursar.testing.chat_api import check_cap, tier_of
from bursar.testing.chat_object import usage
from bursar.testing.dialect import Answer, EventStream, Frame, event
from bursar.testing.refusal import RefusalError
from bursar.testing.reply import Reply

_DEFAULT_CAP = 16


class CompletionsApi:
    """POST /v1/completions, plain and streamed: text in, text out, no tools and no reasoning."""

    api: Api = "completions"
    vendor: Vendor = "openai"

    def check(self, request: ReceivedRequest, price: ModelPrice) -> None:
        """Refuses no prompt and a cap out of range."""
        if request.body.get("prompt") in (None, "", []):
            message = "Missing required parameter: 'prompt'."
            raise RefusalError(400, message, param="prompt", code="missing_required_parameter")
        check_cap("max_tokens", request.body.get("max_tokens"), price)

    def cap(self, body: dict[str, Any]) -> int | None:
        """`max_tokens`, else the API's default of 16."""
        cap = body.get("max_tokens")
        return cap if isinstance(cap, int) else _DEFAULT_CAP

    def choices(self, body: dict[str, Any]) -> int:
        """`best_of` answers are written and billed for each prompt, of which `n` are shown."""
        return len(prompts(body)) * max(body.get("n") or 1, body.get("best_of") or 1)

    def tier(self, request: ReceivedRequest, reply: Reply, price: ModelPrice) -> str:
        """The tier asked for where the model has it."""
        return tier_of(request, reply, price)

    def segments(self, body: dict[str, Any]) -> list[Segment]:
        """The prompts; a list of token numbers weighs its length."""
        return [Segment("", len(each)) if isinstance(each, list) else Segment(str(each)) for each in prompts(body)]

    def read(self, cache: PromptCache, model: str, segments: Sequence[Segment]) -> Reading:
        """Automatic."""
        return cache.read_automatic(model, segments)

    def plain(self, answer: Answer) -> dict[str, Any]:
        """A `text_completion` object."""
        choices = [_choice(index, answer.generation.text, _reason(answer)) for index in range(_shown(answer))]
        return answer.reply.with_usage({**_head(answer), "choices": choices}, usage(answer))

    def stream(self, answer: Answer) -> EventStream:
        """Chunks."""
        return CompletionStream(answer)


class CompletionStream:
    """The text chunks to `[DONE]`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        options = answer.request.body.get("stream_options")
        wanted = isinstance(options, dict) and bool(options.get("include_usage"))
        self._tells_usage = wanted and answer.reply.fault != "no_usage"

    def opening(self) -> bytes:
        """Nothing: the first chunk has text."""
        return b""

    def frames(self) -> Iterator[Frame]:
        """The shown choices side by side; what `best_of` discards takes its tokens and shows nothing."""
        for chunk in self._answer.generation.chunks(self._answer.reply.chunk_tokens):
            payload = b"".join(self._chunk(index, chunk.text, None) for index in range(_shown(self._answer)))
            yield Frame(payload, chunk.tokens)

    def closing(self) -> bytes:
        """The finish reasons, the usage chunk where it was asked for, and `[DONE]`."""
        reason = _reason(self._answer)
        ends = b"".join(self._chunk(index, "", reason) for index in range(_shown(self._answer)))
        if self._tells_usage:
            body = {**_head(self._answer), "choices": []}
            ends += event(self._answer.reply.with_usage(body, usage(self._answer)))
        return ends + b"data: [DONE]\n\n"

    def error_event(self) -> bytes:
        """A data line with an error object."""
        message = "The server had an error while processing your request."
        return event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})

    def _chunk(self, index: int, text: str, reason: str | None) -> bytes:
        return event({**_head(self._answer), "choices": [_choice(index, text, reason)]})


def prompts(body: dict[str, Any]) -> list[Any]:
    """The prompts of a request: texts, or lists of token numbers."""
    given = body.get("prompt")
    return given if isinstance(given, list) and not all(isinstance(each, int) for each in given) else [given]


def _shown(answer: Answer) -> int:
    body = answer.request.body
    return len(prompts(body)) * (body.get("n") or 1)


def _head(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"cmpl-{answer.ident}",
        "object": "text_completion",
        "created": answer.created_s,
        "model": answer.model,
    }


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _reason(answer: Answer) -> str:
    return "length" if answer.generation.truncated else "stop"
