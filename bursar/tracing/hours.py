"""A period in hours and days, as sums are kept of them, and in the rows at its ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.words.clock import first_id, time_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR_US: Final = 3_600_000_000
DAY: Final = 24
"""Hours of a day."""
LAST: Final = "~"
"""Comes after every id."""
_EVER: Final = 1 << 40


class Plan(NamedTuple):
    """A period in parts: ranges of ids that are read from the rows, and of hours and days that are summed."""

    rows: tuple[tuple[str, str], ...]
    sums: tuple[tuple[int, int, int], ...]


def days_over(mark: str) -> int:
    """The first day, by its number since the epoch, that is not over where attempts are summed up to this id."""
    return time_of(mark) // (DAY * HOUR_US)


def plan(mark: str, since_us: int, until_us: int | None) -> Plan:
    """The parts of a period where attempts are summed up to an id, the mark."""
    first, last = first_id(since_us), LAST if until_us is None else first_id(until_us)
    begin = -(-max(0, since_us) // 1_000 * 1_000 // HOUR_US)
    # Beyond the mark nothing is summed: up to there every hour may be taken whole.
    end = _EVER if until_us is None or last >= mark else until_us // HOUR_US
    if begin >= end:
        return Plan(((first, last),), ())
    rows = [(first, min(last, first_id(begin * HOUR_US))), (max(mark, first_id(begin * HOUR_US)), last)]
    if end < _EVER:
        rows[1] = (first_id(end * HOUR_US), last)
    return Plan(tuple(span for span in rows if span[0] < span[1]), tuple(_spans(begin, end, days_over(mark))))


def _spans(begin: int, end: int, over: int) -> Iterator[tuple[int, int, int]]:
    # Days that are over, and single hours before and after them.
    first, last = -(-begin // DAY), min(end // DAY, over)
    if first >= last:
        yield 1, begin, end
        return
    yield 1, begin, first * DAY
    yield DAY, first, last
    yield 1, last * DAY, end
