"""Lengths of time that a user writes: seconds at the edges, whole microseconds inside."""

from __future__ import annotations

import re
from decimal import Decimal
from math import ceil, isfinite
from typing import Final

from bursar.words.errors import ConfigError

LONGEST_S: Final = 366 * 86_400
"""The longest time that can be meant, in seconds: a year. What runs or waits longer is no agent loop."""
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_seconds(value: object, name: str = "seconds") -> int:
    """Read seconds as microseconds, rounded up. Raises `TypeError`, `ConfigError` with the name and the value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r} is a number of seconds")
    if not (isfinite(value) and 0 < value <= LONGEST_S):
        raise ConfigError(f"{name}={value!r}: it lies between 0 and {LONGEST_S:,} seconds")
    return ceil(Decimal(str(value)) * 1_000_000)


def parse_duration(value: object, name: str) -> int:
    """Read "120s", "5m", "2h" or a number of seconds as microseconds.

    Raises `TypeError`, `ConfigError` with the name and the value.
    """
    if not isinstance(value, str):
        return parse_seconds(value, name)
    found = _DURATION.fullmatch(value)
    if found is None:
        raise ConfigError(f"{name}={value[:60]!r} is not a length of time; write one as in '120s', '5m' or '2h'")
    return parse_seconds(int(found[1]) * _UNIT_S[found[2]], name)
