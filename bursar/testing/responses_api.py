"""OpenAI's Responses API."""

from collections.abc import Iterator, Sequence
from typing import Any

from bursar.testing import content
from bursar.testing.billing import ModelPrice, Vendor
from bursar.testing.books import Api, ReceivedRequest
from bursar.testing.cache import PromptCache, Reading, Segment
from bursar.testing.chat_api import check_cap, tier_of
from bursar.testing.dialect import Answer, EventStream
from bursar.testing.refusal import RefusalError
from bursar.testing.reply import Reply
from bursar.testing.responses_object import finished
from bursar.testing.responses_stream import ResponseStream

_PER_REQUEST = 3
_PER_ITEM = 4
_PER_TOOL = 8


class ResponsesApi:
    """POST /v1/responses, plain and streamed."""

    api: Api = "responses"
    vendor: Vendor = "openai"

    def check(self, request: ReceivedRequest, price: ModelPrice) -> None:
        """Refuses a cap out of range."""
        check_input(request.body)
        check_cap("max_output_tokens", request.body.get("max_output_tokens"), price)

    def cap(self, body: dict[str, Any]) -> int | None:
        """`max_output_tokens`, reasoning included."""
        cap = body.get("max_output_tokens")
        return cap if isinstance(cap, int) else None

    def choices(self, body: dict[str, Any]) -> int:
        """Always one."""
        del body
        return 1

    def tier(self, request: ReceivedRequest, reply: Reply, price: ModelPrice) -> str:
        """The tier asked for where the model has it."""
        return tier_of(request, reply, price)

    def segments(self, body: dict[str, Any]) -> list[Segment]:
        """Tools, then the instructions, then the input items."""
        return prompt_segments(body)

    def read(self, cache: PromptCache, model: str, segments: Sequence[Segment]) -> Reading:
        """Automatic."""
        return cache.read_automatic(model, segments)

    def plain(self, answer: Answer) -> dict[str, Any]:
        """A finished `response` object."""
        return finished(answer)

    def stream(self, answer: Answer) -> EventStream:
        """Numbered events."""
        return ResponseStream(answer)


def check_input(body: dict[str, Any]) -> None:
    """Refuses a request with nothing to read."""
    if not isinstance(body.get("input"), str | list):
        message = "Missing required parameter: 'input'."
        raise RefusalError(400, message, param="input", code="missing_required_parameter")


def prompt_segments(body: dict[str, Any]) -> list[Segment]:
    """The prompt as the model reads it."""
    segments = [Segment("", _PER_REQUEST)]
    model = str(body.get("model"))
    segments += [content.function_schema(tool, _PER_TOOL) for tool in content.as_list(body.get("tools"))]
    if body.get("instructions"):
        segments += content.parts(body["instructions"], _PER_ITEM, "openai", model)
    items = body["input"] if isinstance(body["input"], list) else [body["input"]]
    for item in items:
        segments += _item(item, model)
    return segments


def _item(item: Any, model: str) -> Iterator[Segment]:
    if not isinstance(item, dict):
        return content.parts(item, _PER_ITEM, "openai", model)
    if item.get("type") == "function_call":
        return content.parts(f"{item.get('name')}{item.get('arguments')}", _PER_ITEM, "openai", model)
    return content.parts(item.get("content", item.get("output", [])), _PER_ITEM, "openai", model)
