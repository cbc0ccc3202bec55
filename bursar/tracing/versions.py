"""Read what each workflow said with every call, and when: hashes of system prompts and tool lists, and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.tracing.changes import sliced
from bursar.tracing.queries import AGGREGATE, Reader
from bursar.words.rows import Setup

if TYPE_CHECKING:
    from bursar.tracing.changes import Slice

_FIRST: Final = "CASE WHEN c.step <= 1 AND e.status = 'ok' THEN c.input_tokens END"
"""Input of the first call of a run, or of one outside of any: later ones carry what was said since."""


class VersionReader(Reader):
    """Reads the setups of a ledger: no content, only what names it."""

    def setups(self, part: Slice) -> list[Setup]:
        """Every combination in a slice; a call of which neither a block nor a version is known is in none."""
        where, values = sliced(part)
        rows = self._ask(
            f"""SELECT d.workflow, p.system_hash, p.tools_hash, d.prompt_version, d.release, count(*), min(c.ts_us),
                max(c.ts_us), count({_FIRST}), CAST(total({_FIRST}) AS INTEGER)
            FROM model_call c JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending
                LEFT JOIN prompt p ON p.id = c.prompt
            WHERE {where} AND instr(e.flags, '{AGGREGATE}') = 0
                AND coalesce(c.prompt, d.prompt_version, d.release) IS NOT NULL
            GROUP BY d.workflow, c.prompt, d.prompt_version, d.release""",
            values,
        )
        return [Setup._make(row) for row in rows]
