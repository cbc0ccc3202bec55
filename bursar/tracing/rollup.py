"""Sums of the ledger by hour and day, in a file beside it that may be deleted at any time: it is made again.

Whoever reads a large ledger folds what is new into the sums, and then reads these. The ledger keeps a mark: attempts
whose ids come before it are summed. An ordinary row is written above the mark and pays nothing for all this; what is
written, changed or deleted below it is noted by triggers (`schema.py`) in the same transaction. So no attempt is
counted twice or missed:

1. The mark is moved, in a small transaction of the ledger: a minute behind the clock, since calls that are in flight
   write their rows late.
2. A snapshot is taken of the ledger. It shows every row below the mark that is not noted, and what is noted by then.
3. In one transaction of the sums' file the rows between its own mark and the ledger's are added, with those that are
   noted as late; hours in which something was changed or deleted are summed anew; mark and last note are kept.
4. Notes that have been followed are deleted.

Notes of rows above the sums' own mark are passed over: a later step 3 will come to these rows. Whoever dies in between
leaves the sums as they were after the last step 3. Two who fold at once take turns.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import apsw
import orjson

from bursar import db
from bursar.tracing import bins, lanes, marks
from bursar.tracing.tally import FACETS, HOUR_US, ROWS, Cell, Names, Seen, Tally
from bursar.words.clock import first_id, time_of
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LAG_US: Final = 60_000_000
"""How far the mark stays behind the clock."""
_DAY: Final = 24
_LEDGER_STATE: Final = (
    "SELECT ledger, folds, mark, "
    "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'rollup_change'), 0) FROM rollup_mark"
)
"""The last is the number of the last note that was ever made."""
_MOST_PEOPLE: Final = 262_144
_SHAPE: Final = ",".join((*FACETS, *lanes.LANES, str(bins.WORST), "marks"))
"""What the sums consist of: a file of another version's is made again."""
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS state (
    id INTEGER PRIMARY KEY CHECK (id = 1), shape TEXT NOT NULL, ledger TEXT NOT NULL, folds INTEGER NOT NULL,
    mark TEXT NOT NULL, seq INTEGER NOT NULL
);
-- span: 1 or 24 hours; bucket: the number of it since the epoch; facet: a place in FACETS.
CREATE TABLE IF NOT EXISTS rollup (
    facet INTEGER NOT NULL, span INTEGER NOT NULL, bucket INTEGER NOT NULL, key TEXT NOT NULL,
    sums BLOB NOT NULL, latency BLOB, input BLOB, PRIMARY KEY (facet, span, bucket, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
    span INTEGER NOT NULL, bucket INTEGER NOT NULL, workflow TEXT NOT NULL, users BLOB NOT NULL, runs BLOB NOT NULL,
    PRIMARY KEY (span, bucket, workflow)
) WITHOUT ROWID;
-- users, runs: those that were seen, as marks.py packs them.
CREATE TABLE IF NOT EXISTS person (number INTEGER PRIMARY KEY, user_hash TEXT NOT NULL UNIQUE);
"""
_PUT: Final = "INSERT OR REPLACE INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?)"
_DROP: Final = "DELETE FROM rollup WHERE facet = ? AND span = ? AND bucket = ? AND key = ?"
_ENROL: Final = (
    "INSERT INTO person (user_hash) SELECT value FROM json_each(?) j "
    "WHERE NOT EXISTS (SELECT 1 FROM person WHERE user_hash = j.value)"
)
_ENROLLED: Final = "SELECT user_hash, number FROM person WHERE user_hash IN (SELECT value FROM json_each(?))"
_PUT_SEEN: Final = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)"


class _State(NamedTuple):
    ledger: str
    folds: int
    mark: str
    seq: int


class _Change(NamedTuple):
    """What is added to the sums of an hour, or, where it was summed anew, takes their place."""

    hour: int
    tally: Tally
    anew: bool


def beside(ledger: Path) -> Path:
    """Where the sums of a ledger lie."""
    return Path(f"{ledger}.rollup")


def discard(ledger: Path) -> None:
    """Delete the sums of a ledger; whoever reads it next makes them again. Raises `OSError`."""
    for ending in ("", "-wal", "-shm"):
        Path(f"{beside(ledger)}{ending}").unlink(missing_ok=True)


class Rollup:
    """The sums of one ledger. Raises `LedgerError` where they can be neither made nor read, and apsw's errors."""

    def __init__(self, ledger: Path) -> None:
        self._writer = db.open_ledger(ledger)
        try:
            self._ledger = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
            self._ledger.set_busy_timeout(db.BUSY_MS)
            self._file = _open(beside(ledger))
        except BaseException:
            self._writer.close()
            raise
        self._people: dict[str, int] = {}
        self._folding = False
        self._names = Names(self._ask, self._numbers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._file.close()
        self._ledger.close()
        self._writer.close()

    def fold(self, now_us: int, note: Callable[[int], object] | None = None) -> None:
        """Bring the sums up to a minute ago; `note` is told how many attempts were added, a day at a time."""
        self._move_mark(first_id(now_us - LAG_US))
        done = False
        while not done:
            added, seq, done = self._step()
            if seq:
                self._forget_notes(seq)
            if note is not None and added:
                note(added)

    def _forget_notes(self, upto: int) -> None:
        self._writer.transact(lambda run: run("DELETE FROM rollup_change WHERE seq <= ?", (upto,)))

    @contextmanager
    def reading(self) -> Iterator[str]:
        """Read sums and ledger as they are at one moment; gives the mark of the sums."""
        self._file.execute("BEGIN")
        self._ledger.execute("BEGIN")
        try:
            yield self._state(self._ledger_state()).mark
        finally:
            self._ledger.execute("COMMIT")
            self._file.execute("COMMIT")

    def tally(self, first: str, end: str) -> Tally:
        """Sum the attempts from one id up to another, that one not included, as they are in the ledger."""
        found = Tally()
        found.add(self._rows("c.call_id >= ? AND c.call_id < ?", (first, end)), self._names, self._ask)
        return found

    def cells(self, facet: int, span: int, since: int, until: int) -> Iterable[tuple[str, Cell]]:
        """The sums of one facet, of every hour or day (`span` 1 or 24) from one up to another."""
        for key, sums, latency, input_ in self._file.execute(
            "SELECT key, sums, latency, input FROM rollup WHERE facet = ? AND span = ? AND bucket >= ? AND bucket < ?",
            (facet, span, since, until),
        ):
            yield key, Cell(lanes.unpacked(sums), bins.unpacked(latency), bins.unpacked(input_))

    def seen(self, span: int, since: int, until: int) -> Iterable[tuple[str, Seen]]:
        """Who was seen, of every hour or day from one up to another."""
        for workflow, users, runs in self._file.execute(
            "SELECT workflow, users, runs FROM seen WHERE span = ? AND bucket >= ? AND bucket < ?", (span, since, until)
        ):
            yield workflow, Seen(marks.unpacked(users), marks.unpacked(runs))

    def _ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._ledger.execute(sql, values))

    def _rows(self, where: str, values: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        return self._ledger.execute(ROWS + where, values)

    def _ledger_state(self) -> _State:
        return _State._make(self._ask(_LEDGER_STATE)[0])

    def _state(self, ledger: _State) -> _State:
        """How far the sums are; nowhere where they are another ledger's, or of this one before it was set back.

        Nor where notes are gone that they have not followed: beside a copy that is made anew now and then, the sums of
        the copy before would miss what the ledger's own have taken in meanwhile.
        """
        rows = list(self._file.execute("SELECT ledger, folds, mark, seq FROM state WHERE shape = ?", (_SHAPE,)))
        found = _State._make(rows[0]) if rows else None
        if found is None or found.ledger != ledger.ledger or found.folds > ledger.folds:
            return _State(ledger.ledger, ledger.folds, "", 0)
        ((left,),) = self._ask("SELECT count(*) FROM rollup_change WHERE seq > ?", (found.seq,))
        return found if left == ledger.seq - found.seq else _State(ledger.ledger, ledger.folds, "", 0)

    def _move_mark(self, to: str) -> None:
        mark = self._ledger_state().mark
        if to > mark and self._ask("SELECT 1 FROM attempt WHERE call_id >= ? AND call_id < ? LIMIT 1", (mark, to)):
            self._writer.transact(
                lambda run: run("UPDATE rollup_mark SET mark = max(mark, ?), folds = folds + 1", (to,))
            )

    def _step(self) -> tuple[int, int, bool]:
        """Fold a day at most: how many attempts were added, up to which note was followed, and whether that is all."""
        self._file.execute("BEGIN IMMEDIATE")
        self._folding = True
        try:
            self._ledger.execute("BEGIN")
            try:
                found = self._fold()
            finally:
                self._ledger.execute("COMMIT")
            self._file.execute("COMMIT")
        except BaseException:
            # Who was numbered in a transaction that was undone has no number.
            self._people.clear()
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise
        finally:
            self._folding = False
        return found

    def _numbers(self, users: set[str]) -> dict[str, int]:
        """The numbers of users; who has none gets one while the sums are written."""
        missing = orjson.dumps([user for user in users if user not in self._people]).decode()
        if len(missing) > len("[]"):
            if len(self._people) >= _MOST_PEOPLE:
                self._people.clear()
                missing = orjson.dumps(list(users)).decode()
            if self._folding:
                self._file.execute(_ENROL, (missing,))
            self._people.update(self._file.execute(_ENROLLED, (missing,)))
        return {user: self._people[user] for user in users if user in self._people}

    def _fold(self) -> tuple[int, int, bool]:
        ledger = self._ledger_state()
        state = self._state(ledger)
        if not state.mark:
            self._people.clear()
            self._file.execute("DELETE FROM rollup; DELETE FROM seen; DELETE FROM person")
        notes = self._ask("SELECT seq, call_id, changed FROM rollup_change WHERE seq > ? ORDER BY seq", (state.seq,))
        changes = self._noted(notes, state.mark)
        added, mark = self._new(state.mark, ledger.mark, changes)
        if changes:
            self._apply(changes)
        seq = notes[-1][0] if notes else 0
        self._file.execute(
            "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?)",
            (_SHAPE, ledger.ledger, ledger.folds, mark, ledger.seq),
        )
        return added, seq, mark >= ledger.mark

    def _noted(self, notes: Sequence[tuple[Any, ...]], mark: str) -> list[_Change]:
        """What was written late is added; hours in which something changed are summed anew."""
        late: dict[int, list[str]] = {}
        anew: set[int] = set()
        for _, call_id, changed in notes:
            if call_id < mark:
                hour = time_of(call_id) // HOUR_US
                # An attempt that comes after a later one of its operation changes what counts as the first of them.
                if changed or self._ask(
                    "SELECT 1 FROM attempt WHERE call_id > ? AND call_id < ? LIMIT 1", (call_id, call_id[:26] + "~")
                ):
                    anew.add(hour)
                else:
                    late.setdefault(hour, []).append(call_id)
        changes = [
            _Change(hour, self.tally(first_id(hour * HOUR_US), min(mark, first_id((hour + 1) * HOUR_US))), anew=True)
            for hour in anew
        ]
        for hour, ids in late.items():
            if hour not in anew:
                tally = Tally()
                for call_id in ids:
                    tally.add(self._rows("c.call_id = ?", (call_id,)), self._names, self._ask)
                changes.append(_Change(hour, tally, anew=False))
        return changes

    def _new(self, mark: str, upto: str, changes: list[_Change]) -> tuple[int, str]:
        """Add the attempts above the mark, of one day at most; how many, and where the mark is now."""
        found = self._ask("SELECT min(call_id) FROM attempt WHERE call_id >= ? AND call_id < ?", (mark, upto))
        first = found[0][0]
        if first is None:
            return 0, max(mark, upto)
        hour = time_of(first) // HOUR_US
        added, after = 0, (hour // _DAY + 1) * _DAY
        while hour < after and first_id(hour * HOUR_US) < upto:
            tally = Tally()
            begin, end = max(mark, first_id(hour * HOUR_US)), min(upto, first_id((hour + 1) * HOUR_US))
            size = tally.add(self._rows("c.call_id >= ? AND c.call_id < ?", (begin, end)), self._names, self._ask)
            if size:
                changes.append(_Change(hour, tally, anew=False))
                added += size
            hour += 1
        return added, min(upto, first_id(after * HOUR_US))

    def _apply(self, changes: Sequence[_Change]) -> None:
        days: dict[int, Tally] = {}
        for change in changes:
            self._apply_hour(change, days.setdefault(change.hour // _DAY, Tally()))
        anew = {change.hour // _DAY for change in changes if change.anew}
        for number, day in days.items():
            stored = self._stored(_DAY, number)
            for key, cell in day.cells.items():
                if key in stored:
                    cell.add(stored[key])
            self._write(_DAY, number, day)
            if number in anew:
                # Of who is no longer seen in an hour nobody knows whether another hour of the day still has him.
                day.seen.clear()
                for workflow, some in self.seen(1, number * _DAY, (number + 1) * _DAY):
                    day.see(workflow, some)
            self._write_seen(_DAY, number, day, whole=number in anew)

    def _apply_hour(self, change: _Change, day: Tally) -> None:
        """Bring the sums of an hour up to date, and add to a day what that makes for it."""
        hour, tally, whole = change
        stored = self._stored(1, hour)
        if whole:
            for key, cell in stored.items():
                day.merge(key, cell, -1)
                tally.merge(key, Cell())
        for key, cell in tally.cells.items():
            day.merge(key, cell)
            if not whole and key in stored:
                cell.add(stored[key])
        for workflow, some in tally.seen.items():
            day.see(workflow, some)
        self._write(1, hour, tally)
        self._write_seen(1, hour, tally, whole=whole)

    def _stored(self, span: int, bucket: int) -> dict[tuple[int, str], Cell]:
        return {
            (facet, key): cell
            for facet in range(len(FACETS))
            for key, cell in self.cells(facet, span, bucket, bucket + 1)
        }

    def _write(self, span: int, bucket: int, tally: Tally) -> None:
        kept, gone = [], []
        for (facet, key), cell in tally.cells.items():
            if cell.sums:
                packed = lanes.packed(cell.sums), bins.packed(cell.latency), bins.packed(cell.input)
                kept.append((facet, span, bucket, key, *packed))
            else:
                gone.append((facet, span, bucket, key))
        self._file.executemany(_PUT, kept)
        self._file.executemany(_DROP, gone)

    def _write_seen(self, span: int, bucket: int, tally: Tally, *, whole: bool) -> None:
        if whole:
            self._file.execute("DELETE FROM seen WHERE span = ? AND bucket = ?", (span, bucket))
        else:
            for workflow, some in self.seen(span, bucket, bucket + 1):
                if workflow in tally.seen:
                    tally.see(workflow, some)
        rows = [
            (span, bucket, workflow, marks.packed(some.users), marks.packed(some.runs))
            for workflow, some in tally.seen.items()
        ]
        self._file.executemany(_PUT_SEEN, rows)


def _open(path: Path) -> apsw.Connection:
    try:
        # Made by us, so that nobody else may read it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        return _prepared(path)
    except (apsw.NotADBError, apsw.CorruptError):
        # It holds nothing that the ledger does not.
        for ending in ("", "-wal", "-shm"):
            Path(f"{path}{ending}").unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return _prepared(path)
    except OSError as error:
        raise LedgerError(f"the sums {path} cannot be kept ({error.strerror}); delete the file") from None


def _prepared(path: Path) -> apsw.Connection:
    found = apsw.Connection(str(path))
    found.set_busy_timeout(db.BUSY_MS)
    found.execute("PRAGMA journal_mode=WAL")
    found.execute("PRAGMA synchronous=NORMAL")
    found.execute(_TABLES)
    return found
