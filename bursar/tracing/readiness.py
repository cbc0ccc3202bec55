"""Read what the ledger knows of a workflow that somebody wants to put into production."""

from __future__ import annotations

from typing import Any, Final

from bursar.tracing.queries import Reader
from bursar.tracing.tags import BY
from bursar.words.clock import first_id
from bursar.words.records import UNATTRIBUTED
from bursar.words.rows import Facts

_DAY_US: Final = 86_400_000_000
_CIRCLED: Final = """
    SELECT count(DISTINCT t.run) FROM tool_call t JOIN dimension d ON d.id = t.dimension JOIN run r ON r.number = t.run
    WHERE d.workflow = ? AND t.call_id >= ? AND t.repeat_index >= 3 AND t.same_result = 1 AND t.effect IS NOT 'poll'
        AND NOT EXISTS (SELECT 1 FROM verdict v WHERE v.run_id = r.run_id AND v.guard = 'loops')
"""
_GATED: Final = """
    SELECT count(*) FROM verdict v JOIN run r ON r.run_id = v.run_id JOIN dimension d ON d.id = r.dimension
    WHERE v.guard = 'gate' AND d.workflow = ? AND r.run_id >= ?
"""
_UNGATED: Final = """
    SELECT DISTINCT t.tool_name FROM tool_call t JOIN dimension d ON d.id = t.dimension
    WHERE d.workflow = ? AND t.call_id >= ? AND coalesce(t.effect, 'write') = 'write' ORDER BY 1
"""


class ReadinessReader(Reader):
    """Reads the facts of one workflow."""

    def facts(self, workflow: str, since_us: int, now_us: int) -> Facts:
        """Everything since then."""
        since = first_id(since_us)
        (counts,) = self._ask(
            """SELECT count(*), total(c.cost_nusd IS NULL), total(e.usage_source IN ('estimated', 'stream_partial')),
                total(d.prompt_version IS NULL), total(d.attempt_source IS NOT NULL)
            FROM model_call c JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending
            WHERE c.call_id >= ? AND d.workflow = ?""",
            (since, workflow),
        )
        (whole,) = self._ask(
            """SELECT total(d.workflow = ?), count(*) FROM model_call c JOIN dimension d ON d.id = c.dimension
            WHERE c.call_id >= ?""",
            (UNATTRIBUTED, since),
        )
        runs = self._ask(
            """SELECT r.cost_nusd, r.unpriced, r.stop_reason,
                EXISTS (SELECT 1 FROM verdict v WHERE v.run_id = r.run_id AND v.guard = 'loops')
            FROM run r JOIN dimension d ON d.id = r.dimension
            WHERE r.run_id >= ? AND d.workflow = ? AND r.ended_us IS NOT NULL""",
            (since, workflow),
        )
        return Facts(
            *(int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3]), int(counts[4])),
            self._names(BY["model"], workflow, since),
            self._names("d.owner", workflow, since),
            len(runs),
            tuple(cost for cost, unpriced, *_ in runs if cost is not None and not unpriced),
            sum(reason == "loop" or bool(spoken) for _, _, reason, spoken in runs),
            sum(reason == "budget" for _, _, reason, _ in runs),
            int(whole[0]),
            int(whole[1]),
            tuple(self.measured(workflow, now_us).items()),
            self._count(_CIRCLED, workflow, since),
            self._count(_GATED, workflow, since),
            tuple(name for (name,) in self._ask(_UNGATED, (workflow, since))),
        )

    def measured(self, workflow: str, now_us: int) -> dict[str, int]:
        """Means of the last seven days that a condition may speak of, in nano-dollars."""
        week_us = 7 * _DAY_US
        (spent,) = self._ask(
            """SELECT total(c.cost_nusd), count(DISTINCT c.run) FROM model_call c
            JOIN dimension d ON d.id = c.dimension WHERE c.call_id >= ? AND d.workflow = ?""",
            (first_id(now_us - week_us), workflow),
        )
        ((outcomes,),) = self._ask(
            """SELECT total(o.count) FROM outcome o JOIN dimension d ON d.id = o.dimension
            WHERE o.outcome_id >= ? AND d.workflow = ?""",
            (first_id(now_us - week_us), workflow),
        )
        nusd = int(spent[0])
        means = {"usd_per_run": int(spent[1]), "usd_per_outcome": int(outcomes)}
        return {"usd_per_day": nusd // 7} | {name: nusd // count for name, count in means.items() if count}

    def _count(self, query: str, workflow: str, since: str) -> int:
        return int(self._ask(query, (workflow, since))[0][0])

    def _names(self, column: str, workflow: str, since: str) -> tuple[str, ...]:
        rows: list[tuple[Any, ...]] = self._ask(
            f"""SELECT DISTINCT {column} FROM model_call c JOIN dimension d ON d.id = c.dimension
            WHERE c.call_id >= ? AND d.workflow = ? AND {column} IS NOT NULL ORDER BY 1""",
            (since, workflow),
        )
        return tuple(str(name) for (name,) in rows)
