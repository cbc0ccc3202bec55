"""Time and ids, read in one place so that everything else can be given them."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from datetime import UTC, date, datetime
from typing import Final

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DAY_NS: Final = 86_400 * 1_000_000_000
_PAIRS: Final = tuple(a + b for a in _DIGITS for b in _DIGITS)

monotonic_ns: Final = time.monotonic_ns
"""The clock of `SystemClock.monotonic_us`, in nanoseconds: for what is read with every chunk of a stream."""


class SystemClock:
    """The clocks of this machine. Durations come from the monotonic one only; the wall clock is information."""

    __slots__ = ("_day", "_today")

    def __init__(self) -> None:
        self._day = -1
        self._today = date.min

    def today(self) -> date:
        """The day in UTC, by which prices are dated."""
        day = time.time_ns() // _DAY_NS
        if day != self._day:
            self._today = datetime.fromtimestamp(day * 86_400, UTC).date()
            self._day = day
        return self._today

    def wall_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000

    def monotonic_us(self) -> int:
        """Microseconds of a clock that never steps."""
        return time.monotonic_ns() // 1_000


class UlidSource:
    """Ids of 26 Crockford base-32 digits that sort by time: 48 bits of milliseconds, 50 of this process, 30 of a count.

    The process part is drawn anew in a forked child, so that parent and child never make the same id.
    """

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Draw a new process part."""
        self._process = "".join(secrets.choice(_DIGITS) for _ in range(10))
        self._count = itertools.count(secrets.randbelow(1 << 20))
        self._head = (0, 0, "")

    def make(self) -> str:
        """Make the next id."""
        n = next(self._count)
        ms, high = time.time_ns() // 1_000_000, n >> 10
        head = self._head
        if head[0] != ms or head[1] != high:
            # All but the last two digits: many ids are made in one millisecond.
            digits = _stamp(ms) + self._process + _PAIRS[high >> 10 & 1023] + _PAIRS[high & 1023]
            head = self._head = (ms, high, digits)
        return head[2] + _PAIRS[n & 1023]


def first_id(time_us: int) -> str:
    """The least of all ids made at this time (microseconds since the epoch) or later."""
    return _stamp(max(0, time_us) // 1_000)


def time_of(call_id: str) -> int:
    """When an id was made, in microseconds since the epoch."""
    ms = 0
    for digit in call_id[:10]:
        ms = ms << 5 | max(0, _DIGITS.find(digit))
    return ms * 1_000


def _stamp(ms: int) -> str:
    pairs = _PAIRS
    return (
        pairs[ms >> 40 & 1023]
        + pairs[ms >> 30 & 1023]
        + pairs[ms >> 20 & 1023]
        + pairs[ms >> 10 & 1023]
        + pairs[ms & 1023]
    )


CLOCK: Final = SystemClock()
new_id: Final = UlidSource().make
