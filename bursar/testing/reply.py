"""Replies: what a test wants the provider to answer, and how it should fail."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bursar.testing.books import COUNTING, ReceivedRequest
from bursar.testing.extras import NONE, Extras

Fault = Literal["reset", "reset_after_billing", "drop_mid_stream", "error_mid_stream", "hang", "no_usage", "expire"]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call in an answer; without an `id` the provider makes one up."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model, before the caller's cap cuts it.

    The answer is `thinking_tokens` of reasoning, then text (`text`, or else `output_tokens` tokens of
    made-up English), then `tool_calls`; all of it is output and billed as such. Faults:

    - "reset": the connection is reset when the request has been read; nothing is generated or billed
    - "reset_after_billing": generated, billed, then reset (with an error `status`: then that error)
    - "drop_mid_stream": the connection is cut after half of the answer; a stream is billed like a client's
      disconnect (what was generated plus the chunk under way), a plain answer in full
    - "error_mid_stream": after half of the chunks an error event ends the stream, billed as generated so far;
      a plain call gets a 500, not billed
    - "hang": no answer until the client leaves, the provider closes, or `timeout_s` is over; not billed
    - "no_usage": a billed answer that does not say its usage
    - "expire": in a batch, a request that nobody came to; it is not billed

    `usage_override` stands in the JSON instead of the whole usage object, whatever it holds. `latency_s` is
    the time to the first byte instead of the provider's, `chunk_tokens` the output tokens per stream event,
    `chunk_delay_s` the seconds each of them takes, also in a plain call. `service_tier` is the tier that
    serves and bills the call instead of the one asked for. `ignores_cap`: the whole answer is written, as some
    self-hosted servers do, however low the caller's cap. `extras` is what is billed besides plain tokens.
    """

    text: str | None = None
    output_tokens: int = 200
    tool_calls: Sequence[ToolUse] = ()
    thinking_tokens: int = 0
    status: int = 200
    error_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    timeout_s: float | None = None
    usage_override: Mapping[str, Any] | None = None
    response_model: str | None = None
    latency_s: float | None = None
    chunk_tokens: int = 8
    chunk_delay_s: float = 0.0
    service_tier: str | None = None
    ignores_cap: bool = False
    extras: Extras = NONE

    def with_usage(self, body: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        """`body` with its usage, with what the script puts in its place, or with none."""
        if self.fault == "no_usage":
            return body
        return {**body, "usage": usage if self.usage_override is None else dict(self.usage_override)}


ReplyFunction = Callable[[ReceivedRequest], Reply]


def scripted(replies: Sequence[Reply]) -> ReplyFunction:
    """Answers in the order given, the last one again for every later request; safe between threads.

    Requests that only count tokens take nothing from the script.
    """
    if not replies:
        raise ValueError("a script needs at least one reply")
    script = tuple(replies)
    lock = threading.Lock()
    position = 0

    def next_reply(request: ReceivedRequest) -> Reply:
        nonlocal position
        if request.api in COUNTING:
            return Reply()
        with lock:
            reply = script[min(position, len(script) - 1)]
            position += 1
        return reply

    return next_reply
