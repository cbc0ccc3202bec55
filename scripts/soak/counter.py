"""What must hold of `surface.py` when it is over, besides what `judge.py` says of any books.

Each row that the provider counted is what he billed, or no less where it calls itself an upper bound. Every door was
gone through, and has rows that are measured. Every row of the ledger is a line of the trace log, through all its
rotations, or an event of structlog; only what a killed worker was writing at that moment may be missing of either.
"""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from bursar.db import open_ledger
from bursar.stores.sqlite import SqliteStore
from bursar.tracing.log_reader import read_trace
from scripts.soak.books import Kept, answer_of, read_bill, read_ledger
from scripts.soak.diary import Diary
from scripts.soak.doors import ROUTES
from scripts.soak.judge import Judgement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bursar.testing import Provider

DOORS: Final = tuple(door.__name__ for door in ROUTES)
_CALL: Final = "bursar.model_call"
_BOUNDED: Final = frozenset({"upper_bound"})
_ENOUGH: Final = 2
"""Runs for each door, after which every door has to have been gone through."""
_SPECIAL: Final = {
    "advice": ("advised", "c.side_usage LIKE '%advisor_message%'"),
    "a model that declined": ("declined", "e.flags LIKE '%declined_hop%'"),
    "a summary": ("compacted", "c.side_usage LIKE '%compaction%'"),
    "writes for half a day": ("written", "c.cache_write_12h_tokens > 0"),
    "a cost that was said": ("router", "e.cost_status = 'provider'"),
}
"""What it is, the door behind which it is found, and its sign in the ledger."""
_TRIES: Final = 12
"""Runs through a door, after which one of its calls has been measured, whatever fails and does not fit."""
_SURELY: Final = 20
"""The same for what only some answers say."""
_NO_LIMIT: Final = 2**62


class Counter:
    """The books of the surface, and what is wrong with them."""

    def __init__(self, place: Path, served: Provider, doors: Iterable[str] = DOORS) -> None:
        self._through = frozenset(doors)
        self.place, ledger = place, place / "ledger.db"
        store = SqliteStore.at(ledger)
        store.recover()
        drift = [str(each) for each in store.audit()]
        store.close()
        kept, self._ended = read_ledger(ledger), Diary(place / "diary.jsonl").read()
        # In a short time, or on a slow machine, not every door is gone through.
        self._long = len(self._ended) >= _ENOUGH * len(self._through)
        self.judgement = Judgement(self._ended, read_bill(served), kept, user_limit_nusd=_NO_LIMIT)
        self.counted: Tally[str] = Tally()
        self.special: dict[str, int] = {}
        found = (drift, self._billed(kept), self._doors(kept), self._specials(), self._logs())
        self.faults = [*self.judgement.faults, *(fault for each in found for fault in each)]

    def figures(self) -> dict[str, Any]:
        """What to show."""
        counted = {"rows as billed by door": dict(sorted(self.counted.items())), "special rows": self.special}
        return {**self.judgement.figures(), **counted, **self.logs}

    def _billed(self, kept: Kept) -> list[str]:
        faults = []
        for row in kept.all_rows:
            charge = self.judgement.bill.answers.get(answer_of(row))
            if charge is None or row.source != "provider":
                continue
            if row.nusd < charge.nusd or (row.nusd > charge.nusd and row.cost_status not in _BOUNDED):
                faults.append(f"{row.call_id} ({row.cost_status}) is {row.nusd}, billed at {charge.nusd} as {charge}")
        return faults

    def _doors(self, kept: Kept) -> list[str]:
        for each in self._ended:
            self.counted[each.feature] += sum(row.measured for row in kept.rows.get(each.run_id, ()))
        absent = [door for door in sorted(self._through) if not self.counted[door] and self._tried(door, _TRIES)]
        return [f"no call through {', '.join(absent)} was measured"] if absent else []

    def _tried(self, door: str, often: int) -> bool:
        """Whether what is behind a door had to be seen: so many runs went through it, or none did in a long time."""
        runs = sum(each.feature == door for each in self._ended)
        return runs >= often or (self._long and not runs)

    def _specials(self) -> list[str]:
        """Count rows with what only some answers say, through the doors behind which it is said."""
        database = open_ledger(self.place / "ledger.db", read_only=True)
        for name, (_, sign) in _SPECIAL.items():
            counted = database.execute(
                f"SELECT count(*) FROM model_call c JOIN ending e ON e.id = c.ending "
                f"WHERE e.usage_source = 'provider' AND {sign}"
            )
            self.special[name] = counted[0][0]
        database.close()
        doors = {name: door for name, (door, _) in _SPECIAL.items() if door in self._through}
        absent = [name for name, door in doors.items() if not self.special[name] and self._tried(door, _SURELY)]
        return [f"no row has {', '.join(absent)}"] if absent else []

    def _logs(self) -> list[str]:
        """Lay the two logs beside the ledger's rows, by worker."""
        database = open_ledger(self.place / "ledger.db", read_only=True)
        rows: dict[str, set[str]] = defaultdict(set)
        for worker, call_id in database.execute(
            "SELECT json_extract(d.extra, '$.worker'), c.call_id "
            "FROM model_call c JOIN dimension d ON d.id = c.dimension"
        ):
            rows[str(worker)].add(call_id)
        database.close()
        parts = sorted(self.place.glob("trace-*.jsonl")) + sorted(self.place.glob("trace.jsonl"))
        trace = read_trace(*parts)
        written = {str(line["call_id"]) for line in trace.records if line.get("event") == _CALL}
        sent: dict[str, set[str]] = {
            path.stem.removeprefix("events-"): {
                str(event["call_id"])
                for line in path.read_text().splitlines()
                if (event := json.loads(line)).get("event") == _CALL
            }
            for path in self.place.glob("events-*.jsonl")
        }
        faults = [f"the trace log lacks {gap}" for gap in trace.gaps] + [f"it is torn: {torn}" for torn in trace.torn]
        for worker, calls in rows.items():
            missing = calls - sent.get(worker, written)
            # Each has one thread: at most one record is between the ledger and the log when it is killed.
            if len(missing) > 1:
                faults.append(f"of worker {worker}'s {len(calls)} rows {len(missing)} are in no log")
        if self._long and (len(parts) < 2 or not written or not any(sent.values())):
            faults.append(f"{len(parts)} files of a trace log, {len(written)} lines, {len(sent)} logs of structlog")
        lines, events = len(written), sum(map(len, sent.values()))
        self.logs = {"trace files": len(parts), "their calls": lines, "structlog's calls": events}
        return faults
