"""Read the ledger: aggregates for reports, the rows of one run for its trace. Never writes, works beside writers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from bursar.db import open_ledger
from bursar.schema import MIGRATIONS
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError
from bursar.words.rows import CallRow, RunRow, SpendRow, ToolRow, UnpricedRow, VerdictRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BY: Final = {
    "workflow": "d.workflow",
    "model": "coalesce(d.response_model, d.request_model)",
    "user": "c.user_hash",
    "session": "c.session_id",
    "feature": "d.feature",
    "owner": "d.owner",
    "tenant": "d.tenant",
    "env": "d.env",
    "release": "d.release",
    "prompt_version": "d.prompt_version",
    "provider": "d.provider",
    "tier": "coalesce(d.tier_served, d.tier_requested, 'standard')",
    "path": "d.path",
    "request_model": "d.request_model",
    "fallback_from": "d.fallback_from",
    "system_hash": "(SELECT p.system_hash FROM prompt p WHERE p.id = c.prompt)",
    "tools_hash": "(SELECT p.tools_hash FROM prompt p WHERE p.id = c.prompt)",
    "hour": "strftime('%Y-%m-%dT%HZ', c.ts_us / 1000000, 'unixepoch')",
    "day": "date(c.ts_us / 1000000, 'unixepoch')",
    "week": "strftime('%G-W%V', c.ts_us / 1000000, 'unixepoch')",
    "month": "strftime('%Y-%m', c.ts_us / 1000000, 'unixepoch')",
    **{
        name: f"json_extract(d.extra, '$.{name}')"
        for name in ("agent", "node", "graph_step", "purpose", "source", "prompt_name", "data_sources")
    },
}
"""What a report may group by, and where that is kept. Times are those of UTC, weeks are numbered as in ISO 8601."""
TIMES: Final = ("hour", "day", "week", "month")
NONE: Final = "(none)"
BETWEEN: Final = " · "
"""What stands between the values of two tags."""

OF_RUNS: Final = (
    "run r CROSS JOIN run_lane l ON l.run = r.number CROSS JOIN model_call c "
    "ON c.call_id >= l.lane AND c.call_id < l.lane || '~' AND c.run = l.run"
)
"""Runs with their attempts: of the half minutes in which they had any, in the order in which that is quick."""
_JOINED: Final = "model_call c JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending"
WRITES: Final = (
    "c.cache_write_5m_tokens + c.cache_write_30m_tokens + c.cache_write_1h_tokens + c.cache_write_12h_tokens"
)
MORE: Final = "CAST(total(c.requests - 1) AS INTEGER)"
"""Calls beyond the number of rows: a row that was imported may be the sum of many."""
CALLS: Final = "coalesce(c.requests, 1)"
"""How many calls a row stands for; of nobody knows how many, one."""
AGGREGATE: Final = "aggregate"
"""Flag: the row is the sum of several calls, or of nobody knows how many."""
NOBODY_WAITED: Final = ("batch", "background", "imported")
"""Paths of calls whose latency is nobody's, or not known."""
_WAITED: Final = f"coalesce(d.path, '') NOT IN {NOBODY_WAITED}"
_ALONE: Final = f"instr(e.flags, '{AGGREGATE}') = 0"
_RESENT: Final = (
    "CASE WHEN d.attempt_source IS NULL OR d.attempt_source = 'fallback' THEN 0 "
    "WHEN c.input_tokens > 0 THEN c.input_tokens ELSE c.est_input_tokens END"
)
"""Input that was sent again. A refused attempt has none that was counted: what it was estimated at was sent."""


_UNKNOWN: Final = (None, None)


def _grouped(rows: list[tuple[Any, ...]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, cost in rows:
        found.setdefault(key, []).append(cost)
    return found


class Reader:
    """A read-only view of a ledger file, which is brought up to date first where an older version wrote it.

    Raises `LedgerError` where there is none, or none of ours, or an old one that may not be written.
    """

    def __init__(self, path: Path) -> None:
        self._database = open_ledger(path, read_only=True)
        if self._ask("PRAGMA user_version", ())[0][0] < len(MIGRATIONS):
            self._database.close()
            _bring_up(path)
            self._database = open_ledger(path, read_only=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._database.close()

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

    def runs(self, limit: int = 20) -> list[RunRow]:
        """The newest runs first."""
        return self._runs("ORDER BY r.run_id DESC LIMIT ?", (limit,))

    def run(self, prefix: str) -> RunRow:
        """The run whose id begins so ("last" is the newest). Raises `LedgerError` for none, and for several."""
        if prefix == "last":
            found = self.runs(1)
            if not found:
                raise LedgerError("the ledger has no run yet; run something under bursar.run(...), or `bursar demo`")
        elif prefix and prefix.isascii():
            found = self._runs(
                "AND r.run_id >= ? AND r.run_id < ? ORDER BY r.run_id LIMIT 6", (prefix.upper(), prefix.upper() + "~")
            )
        else:
            found = []
        if not found:
            raise LedgerError(f"no run's id begins with {prefix[:40]!r}; `bursar trace last` shows the newest")
        if len(found) > 1 and found[0].run_id != prefix.upper():
            names = ", ".join(row.run_id for row in found[:5])
            more = ", ..." if len(found) > 5 else ""
            raise LedgerError(f"several runs begin with {prefix[:40]!r}: {names}{more}")
        return found[0]

    def family(self, run_id: str) -> list[RunRow]:
        """A run and all runs nested in it, parents first."""
        family = self._runs("AND r.run_id = ?", (run_id,))
        seen = {row.run_id for row in family}
        for row in family:
            # A file that was tampered with may hold a ring.
            nested = self._runs("AND r.parent_run_id = ? ORDER BY r.run_id", (row.run_id,))
            family += [child for child in nested if child.run_id not in seen]
            seen.update(child.run_id for child in nested)
        return family

    def calls(self, runs: Sequence[RunRow]) -> list[CallRow]:
        """The attempts of these runs, in the order in which they began."""
        return self._attempts(OF_RUNS, "r.run_id IN (SELECT value FROM json_each(?))", (_names(runs),))

    def operation(self, op_id: str) -> list[CallRow]:
        """The attempts at one operation."""
        return self._attempts(
            "model_call c LEFT JOIN run r ON r.number = c.run", "c.call_id >= ? AND c.call_id < ?", (op_id, op_id + "~")
        )

    def _attempts(self, source: str, where: str, values: Sequence[Any]) -> list[CallRow]:
        rows = self._ask(
            f"""SELECT c.call_id, r.run_id, c.step, d.request_model, d.response_model, d.path, e.status, e.error_type,
                e.http_status, e.finish_reason, e.retry_reason, e.usage_source, e.flags, e.bound, c.ts_us,
                c.latency_us, c.ttft_us, c.queue_us, c.input_tokens, c.cache_read_tokens, {WRITES}, c.output_tokens,
                c.reasoning_tokens, c.tool_calls, c.max_tokens, c.sent_max_tokens, c.held_nusd, c.cost_nusd,
                e.cost_status, c.response_id, c.request_id, e.price_version, d.region, c.web_searches,
                c.audio_input_tokens, c.audio_output_tokens, c.side_usage, d.attempt_source, d.fallback_from,
                c.backoff_us
            FROM {source} JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending
            WHERE {where} ORDER BY c.call_id""",
            values,
        )
        return [
            CallRow._make((*row[:12], tuple(row[12].split()), *row[13:-4], _side(row[-4]), *row[-3:])) for row in rows
        ]

    def unpriced(self, since_us: int) -> list[UnpricedRow]:
        """The models without a price that were called since then, the most called first."""
        rows = self._ask(
            f"""SELECT d.provider, d.request_model, d.response_model, count(*) + {MORE}, {_sum("c.input_tokens")},
                {_sum("c.output_tokens")}, max(c.ts_us) FROM {_JOINED}
            WHERE c.call_id >= ? AND c.cost_nusd IS NULL GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3""",
            (first_id(since_us),),
        )
        return [UnpricedRow._make(row) for row in rows]

    def tools(self, runs: Sequence[RunRow]) -> list[ToolRow]:
        """The tool calls of these runs, in the order in which they began."""
        rows = self._ask(
            """SELECT t.call_id, r.run_id, t.step, t.ts_us, t.latency_us, t.queue_us, t.tool_name, t.tool_type,
                t.tool_call_id, t.requested_by, t.args_hash, t.result_bytes, t.result_hash, t.repeat_index,
                t.effect, t.status, t.error_type, t.fee_nusd, t.fee_status, t.same_result, t.flags
            FROM tool_call t JOIN run r ON r.number = t.run
            WHERE r.run_id IN (SELECT value FROM json_each(?)) ORDER BY t.call_id""",
            (_names(runs),),
        )
        return [
            ToolRow._make((*row[:14], None if row[19] is None else bool(row[19]), *row[14:19], tuple(row[20].split())))
            for row in rows
        ]

    def verdicts(self, runs: Sequence[RunRow]) -> list[VerdictRow]:
        """What guards said in these runs, when it was not a plain yes."""
        rows = self._ask(
            """SELECT op_id, run_id, ts_us, guard, action, reason, scope, unit, "limit", settled, held, needed, acted,
                streak, onset, tokens, nusd, pays_after
            FROM verdict WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY id""",
            (_names(runs),),
        )
        return [VerdictRow._make((*row[:12], bool(row[12]), *row[13:])) for row in rows]

    def _ask(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        import apsw

        try:
            return self._database.execute(sql, values)
        except apsw.Error as error:
            raise LedgerError(f"the ledger {self._database.path} cannot be read ({error})") from None

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

    def _runs(self, condition: str, values: Sequence[Any]) -> list[RunRow]:
        rows = self._ask(
            f"""SELECT r.run_id, r.parent_run_id, d.workflow, r.user_hash, r.started_us, r.ended_us, r.stop_reason,
                r.steps, r.tool_calls, r.tokens, r.cost_nusd, r.unpriced, r.unmeasured_nusd, r.limits
            FROM run r JOIN dimension d ON d.id = r.dimension WHERE true {condition}""",
            values,
        )
        return [RunRow._make((*row[:-1], _limits(row[-1]))) for row in rows]


def _bring_up(path: Path) -> None:
    try:
        open_ledger(path).close()
    except LedgerError as error:
        raise LedgerError(
            f"{path} was written by an older version and has to be brought up to date before it can be read: {error}"
        ) from None


def _key(by: str) -> str:
    names = by.split(",")
    if not 1 <= len(names) <= 2 or any(name not in BY for name in names):
        raise LedgerError(f"a report cannot be made by {by!r}; it can by {', '.join(BY)}, or two of them: feature,day")
    if len(names) == 1:
        return BY[by]
    first, second = (f"coalesce({BY[name]}, '{NONE}')" for name in names)
    return f"{first} || '{BETWEEN}' || {second}"


def _limits(text: str | None) -> tuple[tuple[str, int], ...]:
    try:
        found = orjson.loads(text or "{}")
    except ValueError:
        # One run's limits that cannot be read are no reason to show no run.
        return ()
    return tuple(found.items())


def _side(text: str | None) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(orjson.loads(text or "[]"))
    except ValueError:
        return ()


def _calls(condition: str) -> str:
    return f"coalesce(sum({CALLS}) FILTER (WHERE {condition}), 0)"


def _sum(column: str) -> str:
    # sum() fails beyond 64 bits; total() adds as a double, exact to 2**53.
    return f"CAST(total({column}) AS INTEGER)"


def _names(runs: Sequence[RunRow]) -> str:
    # One value, however many there are: SQLite limits the number of bound values.
    return orjson.dumps([row.run_id for row in runs]).decode()


def _between(since_us: int, until_us: int | None) -> tuple[str, str]:
    # An id begins with its time: a range of time is a range of the primary key.
    return first_id(since_us), "~" if until_us is None else first_id(until_us)
