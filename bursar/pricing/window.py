"""A window of observations: what the next one will probably be, and what it will hardly exceed."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE: Final = 200
"""Observations kept; older ones are forgotten, so that a changed prompt is learned anew."""
FEW: Final = 3


class Window:
    """The last 200 observations of one quantity (0 or more).

    For independent observations the next one exceeds the largest of n with probability 1 / (n + 1). `outlook` adds
    the spread over the square root of n to that largest, nothing where all were equal, and doubles it while there
    are fewer than three.
    """

    __slots__ = ("_at_highest", "_at_lowest", "_highest", "_lowest", "_seen", "_total", "count")

    def __init__(self, seen: Iterable[float] = ()) -> None:
        self._seen: deque[float] = deque(seen, maxlen=SIZE)
        self.count = len(self._seen)
        self._highest = self._lowest = self._total = 0.0
        self._at_highest = self._at_lowest = 0
        if self._seen:
            self._bounds()

    def add(self, value: float) -> None:
        """Take one more observation."""
        seen = self._seen
        if self.count < SIZE:
            self.count += 1
            seen.append(value)
        else:
            leaving = seen[0]
            seen.append(value)
            if leaving == value:
                return
            self._total -= leaving
            self._at_highest -= leaving == self._highest
            self._at_lowest -= leaving == self._lowest
        if not self._at_highest or not self._at_lowest:
            # The last of the extremes has left: look for the next.
            self._bounds()
            return
        self._total += value
        if value >= self._highest:
            self._at_highest = self._at_highest + 1 if value == self._highest else 1
            self._highest = value
        if value <= self._lowest:
            self._at_lowest = self._at_lowest + 1 if value == self._lowest else 1
            self._lowest = value

    def outlook(self) -> tuple[float, float] | None:
        """The mean, and what the next observation will hardly exceed; None before the first."""
        n, highest = self.count, self._highest
        if not n:
            return None
        high = 2 * highest if n < FEW else highest + (highest - self._lowest) / sqrt(n)
        return self._total / n, high

    def largest(self) -> float:
        """The largest observation, 0 before the first."""
        return self._highest if self._seen else 0.0

    def values(self) -> list[float]:
        """The observations, oldest first."""
        return list(self._seen)

    def _bounds(self) -> None:
        seen = self._seen
        self._highest, self._lowest, self._total = max(seen), min(seen), sum(seen)
        self._at_highest, self._at_lowest = seen.count(self._highest), seen.count(self._lowest)
