"""Read the ledger: aggregates for reports, and the rows of runs."""

from __future__ import annotations

from typing import Any, Final

from bursar.tracing.run_rows import RunReader
from bursar.tracing.tags import AGGREGATE, BETWEEN, BY, CALLS, MORE, NOBODY_WAITED, NONE, WRITES
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError
from bursar.words.rows import SpendRow, UnpricedRow

_JOINED: Final = "model_call c JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending"

_WAITED: Final = f"coalesce(d.path, '') NOT IN {NOBODY_WAITED}"
_ALONE: Final = f"instr(e.flags, '{AGGREGATE}') = 0"
_RESENT: Final = (
    "CASE WHEN d.attempt_source IS NULL OR d.attempt_source = 'fallback' THEN 0 "
    "WHEN c.input_tokens > 0 THEN c.input_tokens ELSE c.est_input_tokens END"
)
"""Input that was sent again. A refused attempt has none that was counted: what it was estimated at was sent."""
_UNKNOWN: Final = (None, None)


class Reader(RunReader):
    """Reads a ledger file by its rows."""

    def spend_by(self, by: str, since_us: int = 0, until_us: int | None = None) -> list[SpendRow]:
        """What each value of a tag, or of two ("feature,day"), spent from `since_us` (included) to `until_us` (not).

        The dearest come first. Percentiles are of attempts that ended well, by the nearest-rank rule; nobody waited for
        batches and background responses, and nobody knows how long, nor of what was imported. Raises `LedgerError` for
        a tag that is none.
        """
        key, span = _key(by), _between(since_us, until_us)
        rows = self._totals(key, span)
        reasons = self._reasons(key, span)
        latencies = self._ranks(key, "c.latency_us", _WAITED, span)
        inputs = self._ranks(key, "c.input_tokens", _ALONE, span)
        return [
            SpendRow._make(
                (
                    name, *row[:10], reasons.get(name), *latencies.get(name, _UNKNOWN), *row[10:17],
                    *inputs.get(name, _UNKNOWN), *row[17:],
                )
            )
            for name, *row in rows
        ]  # fmt: skip

    def run_costs(self, since_us: int) -> dict[str, list[int]]:
        """What each run of a workflow cost, in nano-dollars, for runs that began since then and have ended."""
        rows = self._ask(
            """SELECT d.workflow, r.cost_nusd FROM run r JOIN dimension d ON d.id = r.dimension
            WHERE r.run_id >= ? AND r.ended_us IS NOT NULL AND r.cost_nusd IS NOT NULL""",
            (first_id(since_us),),
        )
        return _grouped(rows)

    def daily_costs(self, by: str, since_us: int) -> dict[str, list[int]]:
        """What each value of a tag cost on each day (of UTC) on which it cost anything, in nano-dollars."""
        rows = self._ask(
            f"""SELECT {BY[by]}, sum(c.cost_nusd) FROM {_JOINED}
            WHERE c.call_id >= ? AND {BY[by]} IS NOT NULL GROUP BY {BY[by]}, c.ts_us / 86400000000""",
            (first_id(since_us),),
        )
        return _grouped([(key, cost) for key, cost in rows if cost])

    def unpriced(self, since_us: int) -> list[UnpricedRow]:
        """The models without a price that were called since then, the most called first."""
        rows = self._ask(
            f"""SELECT d.provider, d.request_model, d.response_model, count(*) + {MORE}, {_sum("c.input_tokens")},
                {_sum("c.output_tokens")}, max(c.ts_us) FROM {_JOINED}
            WHERE c.call_id >= ? AND c.cost_nusd IS NULL GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3""",
            (first_id(since_us),),
        )
        return [UnpricedRow._make(row) for row in rows]

    def _totals(self, key: str, span: tuple[str, str]) -> list[tuple[Any, ...]]:
        rows = self._ask(
            f"""SELECT coalesce({key}, ?) AS k, count(DISTINCT substr(c.call_id, 1, 26)) + {MORE}, count(*) + {MORE},
            sum(e.status = 'error'),
            {_sum("c.input_tokens")}, {_sum("c.output_tokens")}, {_sum("c.cache_read_tokens")}, {_sum(WRITES)},
            {_sum("c.reasoning_tokens")}, {_sum("c.tool_calls")},
            count(*) - count(DISTINCT substr(c.call_id, 1, 26)) + coalesce(sum(d.attempt_source = 'harness'), 0),
            total(c.cost_nusd),
            {_calls("c.cost_nusd IS NULL")}, {_calls("e.usage_source IN ('estimated', 'stream_partial')")},
            sum(instr(e.flags, 'clamped') > 0), {_sum(_RESENT)}, {_sum("c.trimmed_tokens")},
            {_calls("d.path IS 'batch'")}, {_calls("e.cost_status = 'list_price'")},
            {_calls("e.cost_status IN ('upper_bound', 'lower_bound')")}, {_calls("e.cost_status = 'estimated'")},
            {_calls("e.cost_status = 'provider'")}
            FROM {_JOINED} WHERE c.call_id >= ? AND c.call_id < ? GROUP BY k ORDER BY total(c.cost_nusd) DESC, k""",
            (NONE, *span),
        )
        # total() sums as a double, exact to 2**53 nano-dollars, and is 0.0 where sum() is NULL.
        return [(*row[:11], int(row[11]), *row[12:]) for row in rows]

    def _reasons(self, key: str, span: tuple[str, str]) -> dict[str, str]:
        rows = self._ask(
            f"""SELECT coalesce({key}, ?) AS k, e.retry_reason, count(*) AS n FROM {_JOINED}
            WHERE c.call_id >= ? AND c.call_id < ? AND e.retry_reason IS NOT NULL
            GROUP BY k, e.retry_reason ORDER BY n, e.retry_reason DESC""",
            (NONE, *span),
        )
        return {name: reason for name, reason, _ in rows}

    def _ranks(self, key: str, column: str, condition: str, span: tuple[str, str]) -> dict[str, tuple[int, int]]:
        """The median and the 95th percentile of a column over attempts that ended well."""
        rows = self._ask(
            f"""SELECT k, min(value) FILTER (WHERE place * 2 >= size), min(value) FILTER (WHERE place * 20 >= size * 19)
            FROM (SELECT coalesce({key}, ?) AS k, {column} AS value,
                row_number() OVER (PARTITION BY coalesce({key}, ?) ORDER BY {column}) AS place,
                count(*) OVER (PARTITION BY coalesce({key}, ?)) AS size
                FROM {_JOINED} WHERE c.call_id >= ? AND c.call_id < ? AND e.status = 'ok'
                AND {column} IS NOT NULL AND {condition}) GROUP BY k""",
            (NONE, NONE, NONE, *span),
        )
        return {name: (p50, p95) for name, p50, p95 in rows}


def _key(by: str) -> str:
    names = by.split(",")
    if not 1 <= len(names) <= 2 or any(name not in BY for name in names):
        raise LedgerError(f"a report cannot be made by {by!r}; it can by {', '.join(BY)}, or two of them: feature,day")
    if len(names) == 1:
        return BY[by]
    first, second = (f"coalesce({BY[name]}, '{NONE}')" for name in names)
    return f"{first} || '{BETWEEN}' || {second}"


def _calls(condition: str) -> str:
    return f"coalesce(sum({CALLS}) FILTER (WHERE {condition}), 0)"


def _sum(column: str) -> str:
    # sum() fails beyond 64 bits; total() adds as a double, exact to 2**53.
    return f"CAST(total({column}) AS INTEGER)"


def _between(since_us: int, until_us: int | None) -> tuple[str, str]:
    # An id begins with its time: a range of time is a range of the primary key.
    return first_id(since_us), "~" if until_us is None else first_id(until_us)


def _grouped(rows: list[tuple[Any, ...]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, cost in rows:
        found.setdefault(key, []).append(cost)
    return found
