"""Times as people write them: 7d, 24h, 2026-11-01."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime
from typing import Final

import typer

_AGO: Final = re.compile(r"([0-9]{1,5})([mhdw])")
_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def read_time(text: str | None) -> int | None:
    """Read a time as microseconds since the epoch: so long ago, or the beginning of a day in UTC."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return time.time_ns() // 1_000 - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000
    day = read_day(text)
    assert day is not None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def read_day(text: str | None) -> date | None:
    """Read a day; a wrong one is wrong usage."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; write 7d, 24h or a day, as in 2026-11-01") from None
