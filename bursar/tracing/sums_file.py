"""The file beside a ledger in which its sums are kept: by facet, hour or day, and value, with who was seen when."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import apsw
import orjson

from bursar.ledger_file import BUSY_MS
from bursar.tracing import bins, lanes, marks
from bursar.tracing.tally import FACETS, Cell, Seen
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MOST_PEOPLE: Final = 262_144
_SHAPE: Final = ",".join((*FACETS, *lanes.LANES, str(bins.WORST), "marks", "planes", "days that are over"))
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
_CELLS: Final = (
    "SELECT key, sums, latency, input FROM rollup WHERE facet = ? AND span = ? AND bucket >= ? AND bucket < ?"
)
_SUMS: Final = "SELECT key, sums FROM rollup WHERE facet = ? AND span = ? AND bucket >= ? AND bucket < ?"
_PUT: Final = "INSERT OR REPLACE INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?)"
_DROP: Final = "DELETE FROM rollup WHERE facet = ? AND span = ? AND bucket = ?"
_SEEN: Final = "SELECT workflow, users, runs FROM seen WHERE span = ? AND bucket >= ? AND bucket < ?"
_PUT_SEEN: Final = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)"
_DROP_SEEN: Final = "DELETE FROM seen WHERE span = ? AND bucket = ?"
_ENROL: Final = (
    "INSERT INTO person (user_hash) SELECT value FROM json_each(?) j "
    "WHERE NOT EXISTS (SELECT 1 FROM person WHERE user_hash = j.value)"
)
_ENROLLED: Final = "SELECT user_hash, number FROM person WHERE user_hash IN (SELECT value FROM json_each(?))"


class State(NamedTuple):
    """How far sums are: of which ledger, after how many folds of it, up to which id, and up to which note."""

    ledger: str
    folds: int
    mark: str
    seq: int


class SumsFile:
    """Sums on disk. Raises `LedgerError` where the file cannot be made, and apsw's errors."""

    def __init__(self, path: Path) -> None:
        self._connection = _open(path)
        self._people: dict[str, int] = {}
        self._writing = False

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See the file as it is at one moment."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep all that is put, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._writing = True
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # Who was numbered in a transaction that was undone has no number.
            self._people.clear()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._writing = False

    def state(self) -> State | None:
        """How far the sums are; None where there are none of this version."""
        rows = list(self._connection.execute("SELECT ledger, folds, mark, seq FROM state WHERE shape = ?", (_SHAPE,)))
        return State._make(rows[0]) if rows else None

    def put_state(self, state: State) -> None:
        """Keep how far the sums are."""
        self._connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?)", (_SHAPE, *state))

    def clear(self) -> None:
        """Forget all sums."""
        self._people.clear()
        self._connection.execute("DELETE FROM rollup; DELETE FROM seen; DELETE FROM person")

    def cells(self, facet: int, span: int, since: int, until: int) -> Iterable[tuple[str, Cell]]:
        """The sums of one facet, of every hour or day (`span` 1 or 24) from one up to another."""
        for key, sums, latency, input_ in self._connection.execute(_CELLS, (facet, span, since, until)):
            yield key, Cell(lanes.unpacked(sums), bins.unpacked(latency), bins.unpacked(input_))

    def sums(self, facet: int, span: int, since: int, until: int) -> Iterable[tuple[str, int]]:
        """As `cells`, without how latencies and inputs are spread, which takes longer to read than the sums."""
        for key, sums in self._connection.execute(_SUMS, (facet, span, since, until)):
            yield key, lanes.unpacked(sums)

    def put(self, span: int, bucket: int, cells: Mapping[tuple[int, str], Cell]) -> None:
        """Keep cells of an hour or day."""
        rows = [
            (facet, span, bucket, key, lanes.packed(cell.sums), bins.packed(cell.latency), bins.packed(cell.input))
            for (facet, key), cell in cells.items()
        ]
        self._connection.executemany(_PUT, rows)

    def drop(self, span: int, bucket: int) -> None:
        """Forget all cells of an hour or day."""
        self._connection.executemany(_DROP, [(facet, span, bucket) for facet in range(len(FACETS))])

    def seen(self, span: int, since: int, until: int) -> Iterable[tuple[str, Seen]]:
        """Who was seen, of every hour or day from one up to another."""
        for workflow, users, runs in self._connection.execute(_SEEN, (span, since, until)):
            yield workflow, Seen(marks.unpacked(users), marks.unpacked(runs))

    def put_seen(self, span: int, bucket: int, seen: Mapping[str, Seen]) -> None:
        """Keep who was seen in an hour or on a day."""
        rows = [
            (span, bucket, workflow, marks.packed(some.users), marks.packed(some.runs))
            for workflow, some in seen.items()
        ]
        self._connection.executemany(_PUT_SEEN, rows)

    def drop_seen(self, span: int, bucket: int) -> None:
        """Forget who was seen in an hour or on a day."""
        self._connection.execute(_DROP_SEEN, (span, bucket))

    def numbers(self, users: set[str]) -> dict[str, int]:
        """The numbers of users; who has none gets one while the sums are written."""
        missing = orjson.dumps([user for user in users if user not in self._people]).decode()
        if len(missing) > len("[]"):
            if len(self._people) >= _MOST_PEOPLE:
                self._people.clear()
                missing = orjson.dumps(list(users)).decode()
            if self._writing:
                self._connection.execute(_ENROL, (missing,))
            self._people.update(self._connection.execute(_ENROLLED, (missing,)))
        return {user: self._people[user] for user in users if user in self._people}


def beside(ledger: Path) -> Path:
    """Where the sums of a ledger lie."""
    return Path(f"{ledger}.rollup")


def discard(ledger: Path) -> None:
    """Delete the sums of a ledger; whoever reads it next makes them again. Raises `OSError`."""
    _unlink(beside(ledger))


def _unlink(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _open(path: Path) -> apsw.Connection:
    try:
        # Made by us, so that nobody else may read it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        return _prepared(path)
    except (apsw.NotADBError, apsw.CorruptError):
        # It holds nothing that the ledger does not.
        _unlink(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return _prepared(path)
    except OSError as error:
        raise LedgerError(f"the sums {path} cannot be kept ({error.strerror}); delete the file") from None


def _prepared(path: Path) -> apsw.Connection:
    found = apsw.Connection(str(path))
    found.set_busy_timeout(BUSY_MS)
    found.execute("PRAGMA journal_mode=WAL")
    found.execute("PRAGMA synchronous=NORMAL")
    found.execute(_TABLES)
    return found
