"""The provider's books: what reached it, what it charged, how much was generating at once."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

Api = Literal[
    "messages", "chat", "responses", "count_tokens", "input_tokens", "embeddings", "completions", "batches", "files",
    "unknown",
]  # fmt: skip
COUNTING: frozenset[Api] = frozenset({"count_tokens", "input_tokens"})
Ended = Literal["complete", "aborted", "fault"]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One HTTP request as it arrived; `number` counts from 1. Headers have lower-case names.

    `body` is empty when it was no JSON object. `retry_count` is what the SDK says of itself.
    """

    number: int
    api: Api
    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    model: str
    stream: bool
    max_output_tokens: int | None
    retry_count: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request cost: tokens of each kind, and the price in nano-dollars.

    `input_tokens` is the uncached part of the prompt; `cache_read`, the `cache_write`s and audio come on top.
    `output_tokens` includes reasoning, audio and, in chat, all `n` choices. `beside_nusd` is the part of the price that
    other models and summaries had, by Anthropic's iterations. `answer` is what the answer's id ends with, however its
    API begins it; embeddings have none.
    """

    number: int
    model: str
    api: Api
    input_tokens: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output_tokens: int
    nusd: int
    ended: Ended
    stream: bool
    cache_write_30m: int = 0
    cache_write_12h: int = 0
    audio_input: int = 0
    audio_output: int = 0
    web_searches: int = 0
    beside_nusd: int = 0
    answer: str = ""


class Books:
    """Written by the server's thread, read from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[ReceivedRequest] = []
        self._charges: list[Charge] = []
        self._arrived = 0
        self._in_flight = 0
        self._peak = 0

    def next_number(self) -> int:
        """The number of a request that has just arrived."""
        with self._lock:
            self._arrived += 1
            return self._arrived

    def receive(self, request: ReceivedRequest) -> None:
        """Notes a request, also one that will be refused."""
        with self._lock:
            self._requests.append(request)

    def charge(self, charge: Charge) -> None:
        """Notes what a request cost."""
        with self._lock:
            self._charges.append(charge)

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Counts one more generation in flight inside the block."""
        with self._lock:
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    @property
    def requests(self) -> list[ReceivedRequest]:
        """A copy, in order of arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def charges(self) -> list[Charge]:
        """A copy, in order of billing."""
        with self._lock:
            return list(self._charges)

    @property
    def in_flight(self) -> int:
        """Generations in flight now."""
        with self._lock:
            return self._in_flight

    @property
    def peak(self) -> int:
        """The most generations in flight at once."""
        with self._lock:
            return self._peak

    def reset(self) -> None:
        """Forgets everything but the generations in flight; numbers start at 1 again."""
        with self._lock:
            self._requests.clear()
            self._charges.clear()
            self._arrived = 0
            self._peak = self._in_flight
