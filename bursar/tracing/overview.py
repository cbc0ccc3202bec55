"""Read what the first screen shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.tracing.rolled import Rolled
from bursar.tracing.tags import MORE
from bursar.words.clock import first_id
from bursar.words.records import UNATTRIBUTED
from bursar.words.rows import DaySpend, Nameless, Overview, Unpriced
from bursar.words.windows import window_at

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from bursar.tracing.rollup import Rollup

DAYS_BEFORE = 7
_MOST_MODELS: Final = 5

_Today = tuple[int, int, Nameless, tuple[Unpriced, ...]]


class OverviewReader(Rolled):
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
            before.append((day.since_us, middle_us, day.until_us))
        rollup = self._sums(since_us, now_us + 1_000)
        days = tuple(
            DaySpend(self._nusd(rollup, begin, middle), self._nusd(rollup, middle, end))
            for begin, middle, end in before
        )
        calls, nusd, unattributed, unpriced = (
            self._today(today.since_us, now_us + 1_000)
            if rollup is None
            else self._summed_today(rollup, today.since_us, now_us + 1_000)
        )
        return Overview(calls, nusd, days, unattributed, unpriced)

    def _today(self, since_us: int, until_us: int) -> _Today:
        span = first_id(since_us), first_id(until_us)
        ((calls, nusd, nameless, nameless_nusd),) = self._ask(
            f"""SELECT count(*) + {MORE}, CAST(total(c.cost_nusd) AS INTEGER),
                total(coalesce(c.requests, 1)) FILTER (WHERE d.workflow = ?),
                total(c.cost_nusd) FILTER (WHERE d.workflow = ?)
            FROM model_call c JOIN dimension d ON d.id = c.dimension WHERE c.call_id >= ? AND c.call_id < ?""",
            (UNATTRIBUTED, UNATTRIBUTED, *span),
        )
        unpriced = self._ask(
            f"""SELECT coalesce(d.response_model, d.request_model), CAST(total(coalesce(c.requests, 1)) AS INTEGER) AS n
            FROM model_call c JOIN dimension d ON d.id = c.dimension
            WHERE c.call_id >= ? AND c.call_id < ? AND c.cost_nusd IS NULL GROUP BY 1 ORDER BY n DESC, 1
            LIMIT {_MOST_MODELS}""",
            span,
        )
        unattributed = Nameless(int(nameless), int(nameless_nusd or 0))
        return calls, nusd, unattributed, tuple(Unpriced._make(row) for row in unpriced)

    def _summed_today(self, rollup: Rollup, since_us: int, until_us: int) -> _Today:
        workflows = self._numbers(rollup, "workflow", since_us, until_us)
        models = self._numbers(rollup, "model", since_us, until_us)
        unpriced = [Unpriced(key, sums["unpriced"]) for key, sums in models.items()]
        unpriced = sorted((row for row in unpriced if row.calls), key=lambda row: (-row.calls, row.model))
        nameless = workflows.get(UNATTRIBUTED)
        return (
            sum(sums["attempts"] + sums["more"] for sums in workflows.values()),
            sum(sums["nusd"] for sums in workflows.values()),
            Nameless(nameless["attempts"] + nameless["more"], nameless["nusd"]) if nameless else Nameless(0, 0),
            tuple(unpriced[:_MOST_MODELS]),
        )

    def _nusd(self, rollup: Rollup | None, since_us: int, until_us: int) -> int:
        if rollup is not None:
            return self._cost(rollup, since_us, until_us)
        return self._row_cost(first_id(since_us), first_id(until_us))
