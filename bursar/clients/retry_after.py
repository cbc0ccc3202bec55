"""What a refused response says of being sent again: whether, and how long to wait before that."""

from __future__ import annotations

import email.utils
import math
import time
from typing import TYPE_CHECKING, Final

from bursar.words.seconds import LONGEST_S

if TYPE_CHECKING:
    from collections.abc import Mapping

_RETRIED: Final = frozenset({408, 409, 429})


def is_retried(status: int, headers: Mapping[str, str]) -> bool:
    """Whether both SDKs send such a request again where they have retries left: the header, else the status."""
    told = headers.get("x-should-retry")
    return told == "true" if told in ("true", "false") else status in _RETRIED or status >= 500


def wait_us(headers: Mapping[str, str], now_s: float | None = None) -> int | None:
    """How long `retry-after-ms`, else `retry-after` asks to wait, in microseconds; a date counts from `now_s`.

    None where neither says a time that is still to come: absent, unreadable, NaN, zero, negative or past. Then the
    SDKs wait as long as they think fit. Whatever is longer than a year, infinity too, is a year.
    """
    seconds = _number(headers.get("retry-after-ms"), 1_000)
    if seconds is None:
        said = headers.get("retry-after")
        seconds = _number(said, 1)
        if seconds is None:
            seconds = _until(said, time.time() if now_s is None else now_s)
    if seconds is None or not seconds > 0:
        return None
    return math.ceil(min(seconds, LONGEST_S) * 1_000_000)


def _number(text: str | None, divisor: int) -> float | None:
    try:
        return None if text is None else float(text) / divisor
    except ValueError:
        return None


def _until(text: str | None, now_s: float) -> float | None:
    parts = None if text is None else email.utils.parsedate_tz(text)
    try:
        return None if parts is None else email.utils.mktime_tz(parts) - now_s
    except (ValueError, OverflowError):
        return None
