"""What the ledger has on a tag in a period, where a limit was added in the middle of it; and on a run that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.words.clock import first_id
from bursar.words.errors import LedgerError
from bursar.words.events import Amounts

if TYPE_CHECKING:
    from bursar.db import Run

_COLUMNS: Final = {
    "user": "c.user_hash",
    "session": "c.session_id",
    **{name: f"d.{name}" for name in ("workflow", "env", "feature", "owner", "tenant", "release", "prompt_version")},
    "promise": "d.promise",
}
_EXTRA: Final = "json_extract(d.extra, '$.' || json_quote(?))"
_SUMS: Final = """
    coalesce(sum(c.cost_nusd), 0),
    coalesce(sum(c.input_tokens + c.output_tokens), 0),
    coalesce(sum(c.input_tokens + c.output_tokens - c.cache_read_tokens), 0),
    coalesce(sum(c.input_tokens), 0), coalesce(sum(c.output_tokens), 0),
    count(DISTINCT CASE WHEN c.input_tokens + c.output_tokens > 0 THEN substr(c.call_id, 1, 26) END),
    coalesce(sum(c.tool_calls), 0)
"""
_FAMILY: Final = """
    WITH RECURSIVE family (number, run_id) AS (
        SELECT number, run_id FROM run WHERE run_id = ?
        UNION SELECT r.number, r.run_id FROM run r JOIN family f ON r.parent_run_id = f.run_id
    )
"""
_CALLS_OF_FAMILY: Final = (
    "FROM family f CROSS JOIN run_lane l ON l.run = f.number CROSS JOIN model_call c "
    "ON c.call_id >= l.lane AND c.call_id < l.lane || '~' AND c.run = l.run JOIN ending e ON e.id = c.ending"
)
"""By the half minutes in which they had any, as `run_rows.OF_RUNS`: a ledger of millions is not read for one run."""
_TOOL_SUMS: Final = "coalesce(sum(c.fee_nusd), 0), coalesce(sum(c.requested_by IS NULL), 0)"
"""What an answer asked for is in the answer's row: counted, whether it was made or not."""


def spent_by_run(run: Run, run_id: str) -> tuple[Amounts, Amounts]:
    """Sum all attempts of a run and of those nested in it: what was measured, and what was charged at a bound."""
    sure = "e.usage_source IN ('provider', 'none')"
    measured, unmeasured = (
        Amounts(*run(f"{_FAMILY} SELECT {_SUMS} {_CALLS_OF_FAMILY} WHERE {which}", (run_id,))[0])
        for which in (sure, f"NOT {sure}")
    )
    sql = f"{_FAMILY} SELECT {_TOOL_SUMS} FROM tool_call c WHERE c.run IN (SELECT number FROM family)"
    ((fees, calls),) = run(sql, (run_id,))
    return measured._replace(nusd=measured.nusd + fees, tool_calls=measured.tool_calls + calls), unmeasured


def spent(run: Run, tag: str, values: tuple[str, ...], since_us: int, until_us: int) -> Amounts:
    """Sum all attempts where this tag is one of these, from `since_us` (included) to `until_us`. `LedgerError`."""
    column = _COLUMNS.get(tag)
    if column is None and not tag.isidentifier():
        raise LedgerError(f"{tag!r} is not the name of a tag")
    where = f"{column or _EXTRA} IN ({', '.join('?' * len(values))})"
    bounds = [*(() if column else (tag,)), *values, first_id(since_us), first_id(until_us)]
    source = "c JOIN dimension d ON d.id = c.dimension"
    where += " AND c.call_id >= ? AND c.call_id < ?"
    (row,) = run(f"SELECT {_SUMS} FROM model_call {source} WHERE {where}", bounds)
    ((fees, calls),) = run(f"SELECT {_TOOL_SUMS} FROM tool_call {source} WHERE {where}", bounds)
    spent = Amounts(*row)
    return spent._replace(nusd=spent.nusd + fees, tool_calls=spent.tool_calls + calls)
