"""Read what the first screen shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar._clock import first_id
from bursar._records import UNATTRIBUTED
from bursar._rows import DaySpend, Nameless, Overview, Unpriced
from bursar._windows import window_at
from bursar.tracing.queries import MORE, Reader

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

DAYS_BEFORE = 7


class OverviewReader(Reader):
    """Reads one day of a ledger, and the week before it."""

    def overview(self, now_us: int, zone: ZoneInfo) -> Overview:
        """The day of a zone that a moment lies in, until that moment."""
        today = window_at("day", now_us, zone)
        into_us = now_us - today.since_us
        before, since_us = [], today.since_us
        for _ in range(DAYS_BEFORE):
            day = window_at("day", since_us - 1, zone)
            since_us = day.since_us
            middle_us = min(day.since_us + into_us, day.until_us)
            before.append(DaySpend(self._nusd(day.since_us, middle_us), self._nusd(middle_us, day.until_us)))
        span = first_id(today.since_us), first_id(now_us + 1_000)
        ((calls, nusd, nameless, nameless_nusd),) = self._ask(
            f"""SELECT count(*) + {MORE}, CAST(total(c.cost_nusd) AS INTEGER), total(d.workflow = ?),
                total(c.cost_nusd) FILTER (WHERE d.workflow = ?)
            FROM model_call c JOIN dimension d ON d.id = c.dimension WHERE c.call_id >= ? AND c.call_id < ?""",
            (UNATTRIBUTED, UNATTRIBUTED, *span),
        )
        unpriced = self._ask(
            """SELECT coalesce(d.response_model, d.request_model), count(*) AS n
            FROM model_call c JOIN dimension d ON d.id = c.dimension
            WHERE c.call_id >= ? AND c.call_id < ? AND c.cost_nusd IS NULL GROUP BY 1 ORDER BY n DESC, 1 LIMIT 5""",
            span,
        )
        unattributed = Nameless(int(nameless), int(nameless_nusd or 0))
        return Overview(calls, nusd, tuple(before), unattributed, tuple(Unpriced._make(row) for row in unpriced))

    def _nusd(self, since_us: int, until_us: int) -> int:
        rows = self._ask(
            "SELECT CAST(total(cost_nusd) AS INTEGER) FROM model_call WHERE call_id >= ? AND call_id < ?",
            (first_id(since_us), first_id(until_us)),
        )
        return int(rows[0][0])
