"""A run that goes on, perhaps in another process: what it has spent is read from the rows of its calls.

What was in flight when its process died has no row, and is not in it. Two processes that have one run open at once each
count from what they have found, unless it is shared.
"""

from __future__ import annotations

import re
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.tracing.run_rows import OF_RUNS
from bursar.tracing.spent import spent_by_run
from bursar.words.errors import ConfigError, LedgerError
from bursar.words.events import Amounts, CostStatus

if TYPE_CHECKING:
    from bursar.db import Run as Execute
    from bursar.runs.process import Process

_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)


class Before(NamedTuple):
    """What there is of a run: when it began, its last step, what was measured of it and what charged at a bound."""

    run_id: str
    started_us: int
    steps: int
    measured: Amounts
    unmeasured: Amounts
    unpriced: int
    statuses: frozenset[CostStatus]

    def spent(self) -> Amounts:
        """What was charged for it in all."""
        return Amounts(*map(add, self.measured, self.unmeasured))


def find_before(owner: Process, run_id: object) -> Before:
    """Read a run of the ledger. Raises `ConfigError` for what is no id of a run that it has, `LedgerError`."""
    import apsw

    if not isinstance(run_id, str) or not _ID.fullmatch(run_id):
        raise ConfigError(f"id={run_id!r:.80} is no id of a run: it is the 26 characters of run.id, of a run before")
    try:
        owner.ledger.gather()
        return owner.ledger.transact(lambda execute: _read(execute, run_id))
    except apsw.Error as error:
        raise LedgerError(f"what run {run_id} has spent cannot be read ({error}); nothing was opened") from None


def _read(execute: Execute, run_id: str) -> Before:
    found = execute("SELECT started_us FROM run WHERE run_id = ?", (run_id,))
    if not found:
        raise ConfigError(f"id={run_id!r}: this ledger has no such run; leave id out to open a new one")
    calls = f"FROM {OF_RUNS} JOIN ending e ON e.id = c.ending WHERE r.run_id = ?"
    tools = "SELECT max(t.step) FROM tool_call t JOIN run r ON r.number = t.run WHERE r.run_id = ?"
    sums = f"max(coalesce(max(c.step), 0), coalesce(({tools}), 0)), coalesce(sum(c.cost_nusd IS NULL), 0)"
    ((steps, unpriced),) = execute(f"SELECT {sums} {calls}", (run_id, run_id))
    statuses = execute(f"SELECT DISTINCT e.cost_status {calls}", (run_id,))
    measured, unmeasured = spent_by_run(execute, run_id)
    known = frozenset(CostStatus(status) for (status,) in statuses)
    return Before(run_id, found[0][0], steps, measured, unmeasured, unpriced, known)
