"""The first screen's arithmetic: where the day will end, and what an ordinary day costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.words.rows import DaySpend, Overview


def projected(overview: Overview) -> int | None:
    """Nano-dollars at the end of the day, if it goes on as the days before; None where there were none.

    What came after this time of day on an average day before, times how much dearer today has been so far. Where today
    or no day before had spent anything by now, that average alone is added.
    """
    days = [day for day in overview.before if day.until_now_nusd or day.rest_nusd]
    if not days:
        return None
    until_now = sum(day.until_now_nusd for day in days)
    rest = sum(day.rest_nusd for day in days)
    if not until_now or not overview.nusd:
        return overview.nusd + rest // len(days)
    return overview.nusd + rest * overview.nusd // until_now


def mean_day(before: Sequence[DaySpend]) -> int | None:
    """Nano-dollars of an average day that had any; None for none."""
    days = [day.until_now_nusd + day.rest_nusd for day in before if day.until_now_nusd or day.rest_nusd]
    return sum(days) // len(days) if days else None
