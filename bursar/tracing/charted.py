"""Read what the charts of the page show."""

from __future__ import annotations

from bursar.tracing.rolled import Rolled
from bursar.tracing.tags import NONE
from bursar.tracing.tally import PAIR
from bursar.words.clock import first_id
from bursar.words.rows import DayTokens, SessionCost


class ChartReader(Rolled):
    """Reads small aggregates for charts. Days are those of UTC."""

    def tokens_per_feature(self, since_us: int, until_us: int | None) -> list[DayTokens]:
        """Input and output tokens of each feature on each day that had any."""
        rollup = self._sums(since_us, until_us)
        if rollup is not None:
            found = []
            for pair, sums in self._numbers(rollup, "feature,day", since_us, until_us).items():
                feature, _, day = pair.rpartition(PAIR)
                tokens = sums["input_tokens"] + sums["output_tokens"]
                if tokens > 0:
                    found.append(DayTokens(day, feature, tokens))
            return sorted(found)
        rows = self._ask(
            """SELECT date(c.ts_us / 1000000, 'unixepoch'), coalesce(d.feature, ?),
                CAST(total(c.input_tokens + c.output_tokens) AS INTEGER) AS n
            FROM model_call c JOIN dimension d ON d.id = c.dimension
            WHERE c.call_id >= ? AND c.call_id < ? GROUP BY 1, 2 HAVING n > 0 ORDER BY 1, 2""",
            (NONE, first_id(since_us), "~" if until_us is None else first_id(until_us)),
        )
        return [DayTokens._make(row) for row in rows]

    def dearest_sessions(self, since_us: int, until_us: int | None, limit: int = 15) -> list[SessionCost]:
        """What the dearest sessions cost, and in how many operations."""
        rows = self._ask(
            """SELECT session_id, CAST(total(cost_nusd) AS INTEGER) AS n, count(DISTINCT substr(call_id, 1, 26))
            FROM model_call WHERE call_id >= ? AND call_id < ? AND session_id IS NOT NULL
            GROUP BY session_id ORDER BY n DESC, session_id LIMIT ?""",
            (first_id(since_us), "~" if until_us is None else first_id(until_us), limit),
        )
        return [SessionCost._make(row) for row in rows]
