"""Read runs, with their attempts, tool calls and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.tracing.tags import WRITES
from bursar.tracing.view import View
from bursar.words.errors import LedgerError
from bursar.words.rows import CallRow, RunRow, ToolRow, VerdictRow

if TYPE_CHECKING:
    from collections.abc import Sequence

OF_RUNS: Final = (
    "run r CROSS JOIN run_lane l ON l.run = r.number CROSS JOIN model_call c "
    "ON c.call_id >= l.lane AND c.call_id < l.lane || '~' AND c.run = l.run"
)
"""Runs with their attempts: of the half minutes in which they had any, in the order in which that is quick."""


class RunReader(View):
    """Reads runs row by row."""

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

    def _runs(self, condition: str, values: Sequence[Any]) -> list[RunRow]:
        rows = self._ask(
            f"""SELECT r.run_id, r.parent_run_id, d.workflow, r.user_hash, r.started_us, r.ended_us, r.stop_reason,
                r.steps, r.tool_calls, r.tokens, r.cost_nusd, r.unpriced, r.unmeasured_nusd, r.limits
            FROM run r JOIN dimension d ON d.id = r.dimension WHERE true {condition}""",
            values,
        )
        return [RunRow._make((*row[:-1], _limits(row[-1]))) for row in rows]


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


def _names(runs: Sequence[RunRow]) -> str:
    # One value, however many there are: SQLite limits the number of bound values.
    return orjson.dumps([row.run_id for row in runs]).decode()
