"""Bring rows of other people's logs into the ledger: each thing once, however often it is read, and at its own time.

What a provider calls a thing makes its mark; the mark says which row it became. A thing that has grown since (an
answer whose last line was not written yet, a day that was not over) takes the place of its row.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from bursar.tracing.queries import Reader
from bursar.tracing.run_rows import OF_RUNS
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError
from bursar.words.records import RunRecord, Tags, Who

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from bursar.db import Run
    from bursar.tracing.ledger import Ledger
    from bursar.words.records import ModelCall

T = TypeVar("T")

SOURCE: Final = "source"
"""The tag that names the importer of a row."""
IMPORTED: Final = "imported"
"""The path of calls of which nobody says how they were made, nor how long they took; why their runs ended, too."""
_ROWS_AT_ONCE: Final = 500
_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_GROWN: Final = "SELECT input_tokens + output_tokens, cost_nusd FROM model_call WHERE call_id = ?"
_STANDS_FOR: Final = "UPDATE attempt SET rare = json_set(coalesce(rare, '{}'), '$.requests', ?) WHERE call_id = ?"
_SUMS: Final = f"""
    SELECT min(c.ts_us), max(c.ts_us), count(*), total(c.tool_calls), total(c.input_tokens + c.output_tokens),
        total(c.cost_nusd), sum(c.cost_nusd IS NULL)
    FROM {OF_RUNS} WHERE r.run_id = ?
"""


class Entry(NamedTuple):
    """One thing that an importer found. `key` is the provider's own name of it, or a hash of what it stands in.

    `call` has neither its id nor its run's: they are made here. requests: how many calls it is the sum of, None for
    one. session: the conversation that it belongs to, which becomes a run.
    """

    source: str
    key: str
    call: ModelCall
    requests: int | None = None
    session: str | None = None


class Tally(NamedTuple):
    """What became of entries: rows that are new, rows that have grown, and things that were there already."""

    new: int = 0
    grown: int = 0
    known: int = 0


class Imports:
    """The ledger as importers see it. Raises `LedgerError`; what was committed by then stays."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def take(self, entries: Sequence[Entry]) -> Iterator[Tally]:
        """Write entries down, some hundreds in a commit; what became of each lot."""
        touched: dict[str, Who] = {}
        for begin in range(0, len(entries), _ROWS_AT_ONCE):
            lot = entries[begin : begin + _ROWS_AT_ONCE]
            yield self._transact(partial(self._lot, lot, touched))
        for run_id, who in touched.items():
            self._sum_up(run_id, who)

    def is_known(self, path: Path) -> bool:
        """Whether a file is as it was when it was last read to its end."""
        name, size, mtime_ns = _file(path)
        found = self._ledger.database().execute("SELECT size, mtime_ns FROM import_file WHERE path = ?", (name,))
        return found == [(size, mtime_ns)]

    def note(self, stamp: tuple[str, int, int]) -> None:
        """Remember a file as it was when its reading began."""
        self._transact(lambda run: run("INSERT OR REPLACE INTO import_file VALUES (?, ?, ?)", stamp))

    def _transact(self, work: Callable[[Run], T]) -> T:
        import apsw

        try:
            return self._ledger.transact(work)
        except apsw.Error as error:
            raise LedgerError(
                f"the ledger {self._ledger.path} cannot be written ({error}); import again: what is there is known"
            ) from None

    def _lot(self, lot: Sequence[Entry], touched: dict[str, Who], run: Run) -> Tally:
        counts = [0, 0, 0]
        for entry in lot:
            call = entry.call
            state, ref = _judge(run, entry)
            counts[state] += 1
            if state == 2:
                continue
            call.call_id, call.op_id = ref, ref.partition("/")[0]
            if entry.session is not None:
                call.run_id = self._run_of(run, entry, call)
                touched[call.run_id] = call.who
            if state == 1:
                run("DELETE FROM attempt WHERE call_id = ?", (ref,))
            self._ledger.insert(run, call)
            if entry.requests is not None:
                run(_STANDS_FOR, (entry.requests, ref))
            run("INSERT OR REPLACE INTO imported VALUES (?, ?)", (_mark(entry.source, entry.key), ref))
        return Tally(*counts)

    def _run_of(self, run: Run, entry: Entry, call: ModelCall) -> str:
        mark = _mark(entry.source, f"session\0{entry.session}")
        found = run("SELECT ref FROM imported WHERE mark = ?", (mark,))
        if found:
            return str(found[0][0])
        run_id = first_id(call.ts_us) + mark
        run("INSERT INTO imported VALUES (?, ?)", (mark, run_id))
        return run_id

    def _sum_up(self, run_id: str, who: Who) -> None:
        (row,) = self._ledger.database().execute(_SUMS, (run_id,))
        begin, end, steps, tools, tokens, nusd, unpriced = (int(number or 0) for number in row)
        # What sub-agents did is the session's; they are not who it is for.
        extra = tuple(pair for pair in who.tags.extra if pair[0] == SOURCE)
        self._ledger.write(
            RunRecord(
                run_id, None, Who(who.tags._replace(extra=extra), who.user, who.session), begin, end, IMPORTED,
                steps, tools, tokens, nusd, unpriced,
            )
        )  # fmt: skip


class ImportReader(Reader):
    """Looks at what a ledger has without changing it."""

    def judge(self, entries: Iterable[Entry]) -> Tally:
        """What would become of entries."""
        if not self._ask("SELECT 1 FROM sqlite_master WHERE name = 'imported'", ()):
            return Tally(new=len(list(entries)))
        counts, seen = [0, 0, 0], set[str]()
        for entry in entries:
            state, ref = _judge(self._ask, entry)
            counts[2 if ref in seen else state] += 1
            seen.add(ref)
        return Tally(*counts)

    def others(self, provider: str, entries: Sequence[Entry], since_us: int, until_us: int) -> int:
        """How many rows of a provider there are in that time that are not these entries."""
        found = self._ask(
            """SELECT count(*) FROM model_call c JOIN dimension d ON d.id = c.dimension
            WHERE c.call_id >= ? AND c.call_id < ? AND d.provider = ?""",
            (first_id(since_us), first_id(until_us), provider),
        )
        known = self.judge(entries)
        return int(found[0][0]) - known.known - known.grown


def tags(source: str, workflow: str, **more: Any) -> Tags:
    """Tags of a row of this importer; what is None is left out, what has no column of its own is kept beside."""
    known = {name: value for name, value in more.items() if name in Tags._fields}
    extra = {SOURCE: source} | {name: value for name, value in more.items() if name not in Tags._fields and value}
    return Tags(workflow=workflow, **known)._replace(extra=tuple(sorted(extra.items())))


def stamp_of(path: Path) -> tuple[str, int, int]:
    """A file as it is now: to be read before its content is. Raises `LedgerError`."""
    return _file(path)


def open_reader(path: Path) -> ImportReader | None:
    """The ledger as it is; None where there is none yet. Raises `LedgerError` for a file that is none."""
    if not path.exists():
        return None
    return ImportReader(path)


def _judge(run: Any, entry: Entry) -> tuple[int, str]:
    mark = _mark(entry.source, entry.key)
    found = run("SELECT ref FROM imported WHERE mark = ?", (mark,))
    if not found:
        return 0, f"{first_id(entry.call.ts_us)}{mark}/0"
    ref = str(found[0][0])
    row = run(_GROWN, (ref,))
    if not row:
        # Somebody has deleted it.
        return 2, ref
    (tokens, nusd), usage = row[0], entry.call.usage
    grown = usage.input_tokens + usage.output_tokens > tokens or (entry.call.cost_nusd or 0) > (nusd or 0)
    return (1 if grown else 2), ref


def _mark(source: str, key: str) -> str:
    # Eighty bits, in the digits of an id, of which it is the second part.
    number = int.from_bytes(hashlib.sha256(f"{source}\0{key}".encode("utf-8", "replace")).digest()[:10])
    return "".join(_DIGITS[number >> shift & 31] for shift in range(75, -1, -5))


def _file(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise LedgerError(f"{path} cannot be read ({error.strerror})") from None
    return str(path.resolve()), found.st_size, found.st_mtime_ns
