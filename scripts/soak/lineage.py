"""Where a run comes from and what came of it: said by the program, derived from its mark, looked up in the ledger.

Every row of a run that ended has the tags that its mark says, nested runs included; its outcomes are as many as its
program reported, once each, whatever the ledger went through meanwhile. Only a forgotten user's rows have no session.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import apsw

from bursar.tracing.users import FORGOTTEN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bursar import Run
    from scripts.soak.diary import Ended
    from scripts.soak.marks import Mark

RELEASES: Final = ("1.4.0", "1.5.0")
PROMPTS: Final = ("v1", "v2", "v3")
OUTCOME: Final = "answered"
SILENT: Final = frozenset({
    "watched", "decorated", "lost", "declared", "hourly", "soft", "timed", "finished", "revived", "child", "forked",
    "ahead", "full", "required", "embedded", "instance",
})  # fmt: skip
"""Features whose runs say nothing of all this: those of tenants, of handlers alone, and of processes of their own."""
_SOURCES: Final = ("orders", "orders,invoices")
_MOST: Final = 5
_ENOUGH: Final = 20
"""Runs of which some have outcomes."""
_ROWS: Final = """
    WITH RECURSIVE inner (number, run_id, of) AS (
        SELECT number, run_id, run_id FROM run WHERE run_id IN (SELECT value FROM json_each(?))
        UNION SELECT r.number, r.run_id, i.of FROM run r JOIN inner i ON r.parent_run_id = i.run_id)
    SELECT DISTINCT i.of, d.release, d.prompt_version, d.extra, c.session_id, c.user_hash
    FROM inner i JOIN model_call c ON c.run = i.number JOIN dimension d ON d.id = c.dimension
"""
_OUTCOMES: Final = "SELECT r.run_id, o.name, sum(o.count) FROM outcome o JOIN run r ON r.number = o.run GROUP BY 1, 2"


def tags(mark: Mark) -> dict[str, Any]:
    """What a run with this mark says of itself."""
    number = int(mark.name[8:16], 16)
    return {
        "session": f"s-{mark.name[:12]}",
        "release": RELEASES[number % 2],
        "prompt_version": PROMPTS[number % 3],
        "data_sources": _SOURCES[number % 5 % 2],
    }


def outcomes(mark: Mark) -> int:
    """How many a run with this mark brings about, if nothing ends it before."""
    return int(mark.name[16:20], 16) % 3


def report(run: Run, mark: Mark) -> None:
    """Record what came of it: several at once, or none."""
    if outcomes(mark):
        run.outcome(OUTCOME, outcomes(mark))


def faults(ledger: Path, ended: Sequence[Ended]) -> list[str]:
    """What of this the ledger has otherwise."""
    ended = [each for each in ended if each.feature not in SILENT]
    database = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = list(database.execute(_ROWS, (json.dumps([each.run_id for each in ended]),)))
        counts = {(run_id, name): count for run_id, name, count in database.execute(_OUTCOMES)}
    finally:
        database.close()
    return [*_strangers(rows, ended), *_miscounted(counts, ended)][:_MOST]


def _strangers(rows: Sequence[tuple[Any, ...]], ended: Sequence[Ended]) -> list[str]:
    expected = {each.run_id: tags(_mark(each)) for each in ended}
    features = {each.run_id: each.feature for each in ended}
    found = []
    for run_id, release, prompt, extra, session, user in rows:
        said = {
            "release": release,
            "prompt_version": prompt,
            "data_sources": json.loads(extra or "{}").get("data_sources"),
        }
        if user != FORGOTTEN:
            said["session"] = session
        wanted = {name: value for name, value in expected[run_id].items() if name in said}
        if said != wanted:
            found.append(f"a row of run {run_id} ({features[run_id]}) is of {said}, its run of {wanted}")
    return found or ([] if rows else ["no row of any run says where it comes from"])


def _miscounted(counts: dict[tuple[str, str], int], ended: Sequence[Ended]) -> list[str]:
    wanted = {(each.run_id, OUTCOME): outcomes(_mark(each)) for each in ended if each.stopped == "finished"}
    found = [
        f"run {run_id} has {counts.get((run_id, name), 0)} outcomes, and reported {count}"
        for (run_id, name), count in wanted.items()
        if counts.get((run_id, name), 0) != count
    ]
    if len(wanted) >= _ENOUGH and not any(wanted.values()):
        found.append("no run that finished brought anything about")
    return found


def _mark(each: Ended) -> Mark:
    from scripts.soak.marks import Mark

    return Mark(each.mark, each.user)
