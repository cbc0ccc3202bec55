"""OpenAI's Chat Completions API."""

from collections.abc import Sequence
from typing import Any

from bursar.testing import content
from bursar.testing.billing import ModelPrice, Vendor
from bursar.testing.books import Api, ReceivedRequest
from bursar.testing.cache import PromptCache, Reading, Segment
from bursar.testing.chat_object import completion
from bursar.testing.chat_stream import ChatStream
from bursar.testing.dialect import Answer, EventStream, dump
from bursar.testing.refusal import RefusalError
from bursar.testing.reply import Reply

_PER_REQUEST = 3
_PER_MESSAGE = 3
_PER_NAME = 1
_PER_TOOL = 8
_MOST_CHOICES = 128


class ChatApi:
    """POST /v1/chat/completions, plain and streamed."""

    api: Api = "chat"
    vendor: Vendor = "openai"

    def check(self, request: ReceivedRequest, price: ModelPrice) -> None:
        """Refuses no messages, a wrong `n`, a cap out of range, and `max_tokens` for reasoning models."""
        body = request.body
        if not content.as_list(body.get("messages")):
            raise RefusalError(
                400,
                "Missing required parameter: 'messages'.",
                param="messages",
                code="missing_required_parameter",
            )
        if price.reasoning and body.get("max_tokens") is not None:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model."
            hint = " Use 'max_completion_tokens' instead."
            raise RefusalError(400, message + hint, param="max_tokens", code="unsupported_parameter")
        for name in ("max_tokens", "max_completion_tokens"):
            check_cap(name, body.get(name), price)
        choices = body.get("n")
        if choices is not None and (not isinstance(choices, int) or not 1 <= choices <= _MOST_CHOICES):
            raise RefusalError(
                400,
                f"Invalid 'n': expected an integer from 1 to {_MOST_CHOICES}.",
                param="n",
                code="invalid_value",
            )

    def cap(self, body: dict[str, Any]) -> int | None:
        """`max_completion_tokens` or the older `max_tokens`; reasoning included."""
        caps = (body.get(name) for name in ("max_completion_tokens", "max_tokens"))
        return next((cap for cap in caps if isinstance(cap, int)), None)

    def choices(self, body: dict[str, Any]) -> int:
        """`n`."""
        return body.get("n") or 1

    def tier(self, request: ReceivedRequest, reply: Reply, price: ModelPrice) -> str:
        """The tier asked for where the model has it."""
        return tier_of(request, reply, price)

    def segments(self, body: dict[str, Any]) -> list[Segment]:
        """Tools, then the messages."""
        segments = [Segment("", _PER_REQUEST)]
        model = str(body.get("model"))
        segments += [content.function_schema(tool, _PER_TOOL) for tool in content.as_list(body.get("tools"))]
        for message in body["messages"]:
            if isinstance(message, dict):
                overhead = _PER_MESSAGE + (_PER_NAME if message.get("name") else 0)
                segments += content.parts(message.get("content"), overhead, "openai", model)
                segments += [_earlier_call(call) for call in content.as_list(message.get("tool_calls"))]
        return segments

    def read(self, cache: PromptCache, model: str, segments: Sequence[Segment]) -> Reading:
        """Automatic."""
        return cache.read_automatic(model, segments)

    def plain(self, answer: Answer) -> dict[str, Any]:
        """A `chat.completion` object."""
        return completion(answer)

    def stream(self, answer: Answer) -> EventStream:
        """Chunks."""
        return ChatStream(answer)


def check_cap(name: str, cap: Any, price: ModelPrice) -> None:
    """Refuses a cap that is no positive integer or more than the model can write."""
    if cap is None:
        return
    if not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
        raise RefusalError(400, f"Invalid '{name}': expected an integer above 0.", param=name, code="invalid_value")
    if cap > price.max_output:
        message = f"{name} is too large: {cap}. This model supports at most {price.max_output} completion tokens."
        raise RefusalError(400, message, param=name, code="invalid_value")


def tier_of(request: ReceivedRequest, reply: Reply, price: ModelPrice) -> str:
    """The script's tier, else the one asked for where the model has it, else "default"."""
    asked = reply.service_tier or request.body.get("service_tier")
    return asked if isinstance(asked, str) and asked in price.tiers else "default"


def _earlier_call(call: Any) -> Segment:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return Segment(dump(call), _PER_TOOL)
    return Segment(f"{function.get('name')}{function.get('arguments')}", _PER_TOOL)
