"""Lengths of time that a user writes: seconds at the edges, whole microseconds inside."""

from __future__ import annotations

from decimal import Decimal
from math import ceil, isfinite
from typing import Final

from bursar._errors import ConfigError

LONGEST_S: Final = 366 * 86_400
"""The longest time that can be meant, in seconds: a year. What runs or waits longer is no agent loop."""


def parse_seconds(value: object, name: str = "seconds") -> int:
    """Read seconds as microseconds, rounded up. Raises `TypeError`, `ConfigError` with the name and the value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r} is a number of seconds")
    if not (isfinite(value) and 0 < value <= LONGEST_S):
        raise ConfigError(f"{name}={value!r}: it lies between 0 and {LONGEST_S:,} seconds")
    return ceil(Decimal(str(value)) * 1_000_000)
