"""A dialect: how one API of a vendor reads a request and words an answer."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bursar.testing.billing import InputTokens, ModelPrice, Vendor
from bursar.testing.books import Api, ReceivedRequest
from bursar.testing.cache import PromptCache, Reading, Segment
from bursar.testing.generation import Generation
from bursar.testing.reply import Reply


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, ready to be worded.

    `ident` is unique among the provider's answers. `told_nusd` is what it says itself that it costs, None where the
    seller does not.
    """

    request: ReceivedRequest
    reply: Reply
    generation: Generation
    prompt: InputTokens
    choices: int
    tier: str
    speed: str
    ident: str
    created_s: int
    told_nusd: int | None = None

    @property
    def model(self) -> str:
        """The model name that the answer gives."""
        return self.reply.response_model or self.reply.extras.served_by or self.request.model

    @property
    def output_tokens(self) -> int:
        """All output of all choices."""
        return self.generation.size * self.choices


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of a stream and the output tokens that became ready with it; the payload may be empty."""

    payload: bytes
    output_tokens: int


class EventStream(Protocol):
    """One answer worded as events: the opening, the frames and the closing, asked for in that order."""

    def opening(self) -> bytes:
        """What is sent when the prompt has been read."""

    def frames(self) -> Iterator[Frame]:
        """The answer as it is generated."""

    def closing(self) -> bytes:
        """What is sent at the end."""

    def error_event(self) -> bytes:
        """What is sent instead of the rest when the server fails."""


class Dialect(Protocol):
    """One API that generates."""

    api: Api
    vendor: Vendor

    def check(self, request: ReceivedRequest, price: ModelPrice) -> None:
        """Raises the refusal that the vendor would send."""

    def cap(self, body: dict[str, Any]) -> int | None:
        """The most output tokens per choice that the caller allows; None where nothing was said."""

    def choices(self, body: dict[str, Any]) -> int:
        """How many answers the caller wants."""

    def tier(self, request: ReceivedRequest, reply: Reply, price: ModelPrice) -> str:
        """The service tier that serves and bills the call."""

    def segments(self, body: dict[str, Any]) -> list[Segment]:
        """The prompt in the order in which the model reads it."""

    def read(self, cache: PromptCache, model: str, segments: Sequence[Segment]) -> Reading:
        """What of the prompt is cached, by this vendor's rules."""

    def plain(self, answer: Answer) -> dict[str, Any]:
        """The whole answer as one JSON object."""

    def stream(self, answer: Answer) -> "EventStream":
        """The whole answer as server-sent events."""


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {dump(data)}\n\n".encode()


def dump(data: Any) -> str:
    """JSON text; NaN and infinity pass, since a script may ask for them."""
    return json.dumps(data, separators=(",", ":"), allow_nan=True)
