"""Read what each workflow said with every call, and when: hashes of system prompts and tool lists, and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.tracing.changes import sliced
from bursar.tracing.queries import Reader
from bursar.tracing.tags import AGGREGATE
from bursar.words.rows import Setup

if TYPE_CHECKING:
    from bursar.tracing.changes import Slice

_FIRST: Final = (
    "CASE WHEN c.step <= 1 AND c.ending IN (SELECT id FROM ending WHERE status = 'ok') THEN c.input_tokens END"
)
"""Input of the first call of a run, or of one outside of any: later ones carry what was said since."""


class VersionReader(Reader):
    """Reads the setups of a ledger: no content, only what names it."""

    def setups(self, part: Slice) -> list[Setup]:
        """Every combination in a slice; a call of which neither a block nor a version is known is in none."""
        where, values = sliced(part)
        # By numbers first: the names of every attempt would take twice as long as all the rest.
        rows = self._ask(
            f"""SELECT d.workflow, p.system_hash, p.tools_hash, d.prompt_version, d.release, sum(n.calls),
                min(n.first_us), max(n.last_us), sum(n.firsts), CAST(total(n.first_tokens) AS INTEGER)
            FROM (
                SELECT c.dimension, c.prompt, count(*) AS calls, min(c.ts_us) AS first_us, max(c.ts_us) AS last_us,
                    count({_FIRST}) AS firsts, total({_FIRST}) AS first_tokens
                FROM attempt c CROSS JOIN dimension d ON d.id = c.dimension
                WHERE {where} AND c.ending NOT IN (SELECT id FROM ending WHERE instr(flags, '{AGGREGATE}') > 0)
                GROUP BY c.dimension, c.prompt
            ) n JOIN dimension d ON d.id = n.dimension LEFT JOIN prompt p ON p.id = n.prompt
            WHERE coalesce(n.prompt, d.prompt_version, d.release) IS NOT NULL
            GROUP BY d.workflow, n.prompt, d.prompt_version, d.release""",
            values,
        )
        return [Setup._make(row) for row in rows]
