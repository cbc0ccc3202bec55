"""Windows of time in a named zone: the keys under which limits of a day or a month are kept.

Nothing resets at midnight: another day is another account. Spans are half-open; a day has 23, 24 or 25 hours.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import tzinfo
    from zoneinfo import ZoneInfo

WINDOWS: Final = ("hour", "day", "week", "month", "total")
_HOUR_US: Final = 3_600 * 1_000_000
_FOREVER_US: Final = 2**62


class Window(NamedTuple):
    """One window: its name, and from when to when (microseconds since the epoch, the end not included)."""

    key: str
    since_us: int
    until_us: int


def window_at(kind: str, at_us: int, zone: ZoneInfo) -> Window:
    """The window of this kind that a moment lies in.

    Hours are those of UTC, so that the hour that a clock change repeats is two; days, weeks (from Monday, numbered
    as in ISO 8601) and months are those of the zone.
    """
    if kind == "total":
        return Window("total", 0, _FOREVER_US)
    if kind == "hour":
        since_us = at_us - at_us % _HOUR_US
        return Window(f"hour:{_moment(since_us, UTC):%Y-%m-%dT%H}Z", since_us, since_us + _HOUR_US)
    today = _moment(at_us, zone).date()
    if kind == "day":
        first, after, key = today, today + timedelta(days=1), f"day:{today}"
    elif kind == "week":
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
        year, week, _ = today.isocalendar()
        key = f"week:{year}-W{week:02}"
    else:
        first = today.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
        key = f"month:{today:%Y-%m}"
    return Window(key, _begin_us(first, zone), _begin_us(after, zone))


def _begin_us(day: date, zone: ZoneInfo) -> int:
    # Where clocks are set at midnight the first or the second midnight may belong to the day before.
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    first, second = (_us(midnight.replace(fold=fold)) for fold in (0, 1))
    return second if _moment(first, zone).date() < day == _moment(second, zone).date() else first


def _moment(at_us: int, zone: tzinfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).astimezone(zone)


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
