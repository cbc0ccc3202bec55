"""The retry guard: how often, and for how much, the same thing is sent again.

What counts as one thing is an operation with the SDK's own retries of it, and the operations before it that asked the
same and failed (`lineage.py`). The first attempt is the budget's business alone: only what comes after it is judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bursar.words.money import parse_count, parse_usd
from bursar.words.seconds import parse_seconds

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class RetryCap:
    """Where retries of one operation end, be they the SDK's or the caller's own.

    `attempts` is how often it may be sent in all, the first time included. `usd` is what its failed attempts may have
    been charged together with the bound of the next one: dollars as a str, an int or a Decimal, never a float; None
    sets no such limit. A model without a price is not retried under it. `max_retry_after` is the longest wait, in
    seconds, that a provider may ask for (`retry-after`) before a retry: a longer one ends the operation at once.

    Beyond any of them a call raises `RetriesExhausted`, before it is sent, or in place of the wait. Where several
    apply the strictest of each counts. Raises `TypeError` for a float of dollars or another wrong type, `ConfigError`
    for zero, negative and NaN.
    """

    attempts: int = 3
    usd: str | int | Decimal | None = None
    max_retry_after: float = 60.0

    def __post_init__(self) -> None:
        self.limits()

    def limits(self) -> RetryLimits:
        """The three as they are compared."""
        return RetryLimits(
            parse_count(self.attempts, "attempts"),
            None if self.usd is None else parse_usd(self.usd, "usd"),
            parse_seconds(self.max_retry_after, "max_retry_after"),
        )


class RetryLimits(NamedTuple):
    """A cap in plain integers: sends, nano-dollars (None: no limit), microseconds."""

    attempts: int
    nusd: int | None
    wait_us: int

    def strictest(self, other: RetryLimits | None) -> RetryLimits:
        """The smaller of each."""
        if other is None:
            return self
        dollars = [nusd for nusd in (self.nusd, other.nusd) if nusd is not None]
        return RetryLimits(
            min(self.attempts, other.attempts), min(dollars, default=None), min(self.wait_us, other.wait_us)
        )


class TooMany(NamedTuple):
    """A retry that must not be. why: "attempts", "usd" or "price_unknown"; the numbers are in `unit`."""

    why: str
    unit: str
    limit: int
    settled: int
    needed: int


def judge(limits: RetryLimits, sent: int, spent_nusd: int, next_nusd: int | None) -> TooMany | None:
    """Say why a thing that was sent `sent` times must not be sent again; None where it may.

    `spent_nusd` is what its failed attempts were charged, `next_nusd` the bound of the next (None: without a price).
    """
    if not sent:
        return None
    if sent >= limits.attempts:
        return TooMany("attempts", "attempts", limits.attempts, sent, 1)
    if limits.nusd is None:
        return None
    if next_nusd is None:
        return TooMany("price_unknown", "usd", limits.nusd, spent_nusd, 0)
    if spent_nusd + next_nusd > limits.nusd:
        return TooMany("usd", "usd", limits.nusd, spent_nusd, next_nusd)
    return None
