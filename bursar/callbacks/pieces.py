"""What a stream of LangChain has said, and for how long its reader let it wait.

A handler is told of a piece before the reader has it, and of nothing when he asks for the next: how long he took and
how long the provider did is one time. Beyond what a provider needs for a piece it is taken for the reader's.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from bursar.clients.watch import UNREAD_TOKENS_S
from bursar.flow.unmeasured import CHUNK_TOKENS
from bursar.pricing.estimate import COLD_FACTOR
from bursar.pricing.tokens import COUNTER

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_US: Final = 100_000
"""Between two pieces of an answer no provider takes longer in the usual case."""


class Pieces(list[str]):
    """The texts of one stream, in order, and how many characters they have."""

    __slots__ = ("_last_us", "_now_us", "_waited_us", "length")

    def __init__(self, now_us: Callable[[], int]) -> None:
        super().__init__()
        self._now_us, self._last_us, self._waited_us, self.length = now_us, 0, 0, 0

    def append(self, text: str) -> None:
        """Add what was said just now."""
        if self:
            self._waited_us += self._pause_us()
        self._last_us = self._now_us()
        self.length += len(text)
        super().append(text)

    def read(self) -> int:
        """Output tokens that have come, by our own count."""
        return COUNTER.measure("".join(self)).tokens

    def tokens(self, provider: str) -> int:
        """Output tokens that the provider may have counted by now: what was seen, and what it wrote ahead meanwhile."""
        factor, seen = COLD_FACTOR.get(provider, 2.0), self.read()
        # Behind the last piece comes one that may be as large as the largest so far.
        largest = COUNTER.measure(max(self, key=len, default="")).tokens
        unread = (self._waited_us + self._pause_us()) * UNREAD_TOKENS_S // 1_000_000
        return ceil(seen * factor) + max(0, ceil(largest * factor) - CHUNK_TOKENS) + unread

    def _pause_us(self) -> int:
        paused_us = self._now_us() - self._last_us
        return paused_us if paused_us > PAUSE_US else 0
