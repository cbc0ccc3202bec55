"""Anthropic's Messages API."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bursar.testing import content
from bursar.testing.billing import ModelPrice, Vendor
from bursar.testing.books import Api, ReceivedRequest
from bursar.testing.cache import PromptCache, Reading, Segment
from bursar.testing.dialect import Answer, EventStream
from bursar.testing.messages_object import message
from bursar.testing.messages_stream import MessageStream
from bursar.testing.refusal import RefusalError
from bursar.testing.reply import Reply

_PER_REQUEST = 3
_PER_MESSAGE = 4
_PER_TOOL = 12
_TOOL_PROMPT = {"claude-haiku-4-5": (496, 588), "claude-sonnet-4-5": (496, 588), "claude-opus-4-5": (496, 588)}
_TOOL_PROMPT_SONNET_5 = (354, 474)
_TOOL_PROMPT_5 = (286, 406)
_MOST_MARKS = 4


class MessagesApi:
    """POST /v1/messages, plain and streamed."""

    api: Api = "messages"
    vendor: Vendor = "anthropic"

    def check(self, request: ReceivedRequest, price: ModelPrice) -> None:
        """Refuses what Anthropic refuses: no messages, no cap, a cap out of range, too many cache marks."""
        body = request.body
        check_prompt(body)
        if "max_tokens" not in body:
            raise RefusalError(400, "max_tokens: Field required")
        cap = body["max_tokens"]
        if not isinstance(cap, int) or isinstance(cap, bool):
            raise RefusalError(400, "max_tokens: Input should be a valid integer")
        if cap < 0:
            raise RefusalError(400, "max_tokens: Input should be greater than or equal to 0")
        if cap > price.max_output:
            most = f"which is the maximum allowed number of output tokens for {request.model}"
            raise RefusalError(400, f"max_tokens: {cap} > {price.max_output}, {most}")

    def cap(self, body: dict[str, Any]) -> int | None:
        """`max_tokens`, which includes thinking."""
        cap = body.get("max_tokens")
        return cap if isinstance(cap, int) else None

    def choices(self, body: dict[str, Any]) -> int:
        """Always one."""
        del body
        return 1

    def tier(self, request: ReceivedRequest, reply: Reply, price: ModelPrice) -> str:
        """The script's, else "standard": what capacity there is decides here, not the caller."""
        del request, price
        return reply.service_tier or "standard"

    def segments(self, body: dict[str, Any]) -> list[Segment]:
        """Tools, then the system prompt, then the messages."""
        return prompt_segments(body)

    def read(self, cache: PromptCache, model: str, segments: Sequence[Segment]) -> Reading:
        """Only what the caller marked."""
        return cache.read_marked(model, segments)

    def plain(self, answer: Answer) -> dict[str, Any]:
        """A `message` object."""
        return message(answer)

    def stream(self, answer: Answer) -> EventStream:
        """Message events."""
        return MessageStream(answer)


def check_prompt(body: dict[str, Any]) -> None:
    """Refuses a request without messages or with more cache marks than Anthropic takes."""
    if not isinstance(body.get("messages"), list):
        raise RefusalError(400, "messages: Field required")
    if not body["messages"]:
        raise RefusalError(400, "messages: at least one message is required")
    marks = sum(segment.ttl is not None for segment in prompt_segments(body))
    if marks > _MOST_MARKS:
        raise RefusalError(400, f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {marks}.")


def prompt_segments(body: dict[str, Any]) -> list[Segment]:
    """The prompt as the model reads it; a mark on the request itself counts for its last segment."""
    model = str(body.get("model"))
    tools = content.as_list(body.get("tools"))
    segments = [Segment("", _PER_REQUEST + (_tool_prompt(model, body.get("tool_choice")) if tools else 0))]
    segments += [content.tool_schema(tool, _PER_TOOL) for tool in tools]
    if body.get("system"):
        segments += content.parts(body["system"], _PER_MESSAGE, "anthropic", model)
    for turn in body["messages"]:
        if isinstance(turn, dict):
            segments += content.parts(turn.get("content"), _PER_MESSAGE, "anthropic", model)
    ttl = content.ttl_of(body)
    if ttl is not None:
        segments[-1] = replace(segments[-1], ttl=segments[-1].ttl or ttl)
    return segments


def _tool_prompt(model: str, choice: Any) -> int:
    """What the vendor puts before any tools, more of it where one has to be used."""
    newest = _TOOL_PROMPT_SONNET_5 if model.startswith("claude-sonnet-5") else _TOOL_PROMPT_5
    known = next((sizes for name, sizes in _TOOL_PROMPT.items() if model.startswith(name)), newest)
    return known[isinstance(choice, dict) and choice.get("type") in {"any", "tool"}]
