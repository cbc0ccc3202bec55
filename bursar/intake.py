"""Rows on their way into the ledger: each process has files of its own that take them before its callers go on.

A commit of SQLite takes a caller forty microseconds and may wait for other processes; a line at the end of a file that
nobody else writes takes two, and outlives its process just as well. What the files hold is put into the table by the
next transaction of the process, a quarter of a second later at the latest, and by whoever opens the ledger before
that. A row that is put twice is put once: its id is the key.

There are two files, so that one can be emptied while the other takes rows. A process keeps both locked while it lives;
whoever finds one that is not locked takes what is in it and deletes it. The name of a file says which ledger its rows
were made for, since they refer to other rows of that by number.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import weakref
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.words.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bursar.db import Database, Run

DELAY_S: Final = 0.25
"""How long a row waits at most for a transaction to go with."""
MANY: Final = 256
"""So many rows are put into the table by the call that brings the last of them."""
MOST: Final = 4_096
"""So many are kept in memory; the next one goes the long way."""
COLUMNS: Final = (
    "call_id", "run", "step", "dimension", "ending", "caller", "prompt", "ts_us", "latency_us", "ttft_us", "queue_us",
    "response_id", "request_id", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens",
    "cache_write_30m_tokens", "cache_write_1h_tokens", "reasoning_tokens", "tool_calls", "messages", "tools_offered",
    "max_tokens", "sent_max_tokens", "est_input_tokens", "trimmed_tokens", "held_nusd", "held_tokens", "cost_nusd",
    "cost_input_nusd", "cost_output_nusd", "cost_cache_read_nusd", "cost_cache_write_nusd", "cost_fees_nusd", "rare",
)  # fmt: skip
"""Those of a row of `attempt`."""
_AT_ONCE: Final = (32, 8, 1)
"""Rows of one statement: of many in one SQLite makes three microseconds each, and no other thread waits in between."""
_HOW: Final = orjson.OPT_STRICT_INTEGER | orjson.OPT_APPEND_NEWLINE
"""Whole numbers beyond 53 bits are refused: whatever is odd goes the long way, where it is made to fit."""

Row = tuple[Any, ...]


def insert_of(rows: int) -> str:
    """The statement that puts so many rows of attempts into their table; one that is there already stays."""
    marks = f"({', '.join('?' * len(COLUMNS))})"
    return f"INSERT OR IGNORE INTO attempt ({', '.join(COLUMNS)}) VALUES {', '.join([marks] * rows)}"


_INSERTS: Final = {rows: insert_of(rows) for rows in _AT_ONCE}


def put_rows(run: Run, rows: Sequence[Row]) -> None:
    """Put rows into the table, within a transaction."""
    done = 0
    for size in _AT_ONCE:
        while len(rows) - done >= size:
            run(_INSERTS[size], tuple(chain.from_iterable(rows[done : done + size])))
            done += size


class _Side:
    """One of the two files, and its rows, each with what it was made of."""

    __slots__ = ("handle", "path", "rows", "sources")

    def __init__(self) -> None:
        self.path, self.handle = Path(), -1
        self.rows: list[Row] = []
        self.sources: list[Any] = []

    def open(self, ledger: Path, ending: str) -> None:
        """Make the file, locked. Raises `OSError`."""
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            self.path = ledger.with_name(f"{prefix_of(ledger)}{new_id()}{ending}")
            self.handle = os.open(self.path, how, 0o600)
            fcntl.flock(self.handle, fcntl.LOCK_EX)
            if os.fstat(self.handle).st_nlink:
                return
            # Somebody took it for that of a process that has died, between our making and our locking it.
            os.close(self.handle)
            self.handle = -1

    def empty(self) -> None:
        """Let go of the rows: they are in the table."""
        self.rows, self.sources = [], []
        if self.handle >= 0 and os.fstat(self.handle).st_nlink:
            os.ftruncate(self.handle, 0)
        else:
            # Somebody has deleted it: the next row makes another.
            self.close()

    def close(self) -> None:
        """Close the file, and delete it where nothing waits in it."""
        handle, self.handle = self.handle, -1
        if handle >= 0:
            if not self.rows:
                self.path.unlink(missing_ok=True)
            os.close(handle)


class Intake:
    """The rows of one process that are not in the table of a ledger yet. Safe for threads.

    `deliver` is called by a thread of its own while there are any: it makes a transaction, whatever is in it.
    """

    def __init__(self, database: Database, deliver: Callable[[], object]) -> None:
        # Where it is now, wherever the process goes.
        self._ledger, self._ending = database.path.absolute(), ending_of(database)
        self._deliver = deliver
        self._lock = threading.Lock()
        self._now, self._then = _Side(), _Side()
        self._taken = False
        self._wanted = threading.Event()
        self._awake = self._ended = False
        self._thread: threading.Thread | None = None
        _intakes.add(self)

    def waiting(self) -> int:
        """How many rows are not in the table yet."""
        return len(self._now.rows) + len(self._then.rows)

    def add(self, row: Row, source: object) -> bool:
        """Keep a row for good; False where it has to go the long way."""
        try:
            line = orjson.dumps(row, None, _HOW)
        except TypeError:
            return False
        with self._lock:
            side = self._now
            if self._ended or len(side.rows) >= MOST:
                return False
            # In memory first: whoever is interrupted in between has it at least there.
            side.rows.append(row)
            side.sources.append(source)
            try:
                if side.handle < 0:
                    side.open(self._ledger, self._ending)
                written = os.write(side.handle, line)
                whole = written == len(line)
                if not whole:
                    # A full disk: the next line must not go on with what is there of this one.
                    os.ftruncate(side.handle, os.fstat(side.handle).st_size - written)
            except OSError:
                whole = False
            if not whole:
                del side.rows[-1], side.sources[-1]
                return False
            if not self._awake:
                self._wake()
        return True

    def put(self, run: Run) -> None:
        """Put into the table what there is, within a transaction; then `done` or `undone` has to be called."""
        with self._lock:
            if not self._then.rows:
                self._now, self._then = self._then, self._now
            taken = self._then.rows
            self._taken = bool(taken)
        if taken:
            put_rows(run, taken)

    def done(self) -> None:
        """The transaction was committed: what was put is in the table for good."""
        if self._taken:
            self._taken = False
            # Where it cannot be emptied its rows are put again by the next who comes, to no effect.
            with self._lock, contextlib.suppress(OSError):
                self._then.empty()

    def undone(self) -> None:
        """The transaction was undone: what was put waits again."""
        self._taken = False

    def sources(self) -> list[Any]:
        """What the rows that wait were made of, the oldest first."""
        with self._lock:
            return [*self._then.sources, *self._now.sources]

    def drop(self) -> None:
        """Let go of what waits: somebody else has it."""
        with self._lock:
            for side in (self._now, self._then):
                side.rows, side.sources = [], []

    def end(self) -> None:
        """Take no more. What is not in the table stays in the files, for whoever opens the ledger next."""
        with self._lock:
            self._ended = True
            for side in (self._now, self._then):
                with contextlib.suppress(OSError):
                    side.close()
        self._wanted.set()

    def _wake(self) -> None:
        self._awake = True
        if self._thread is None:
            thread = threading.Thread(target=self._carry, name="bursar-intake", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # None is to be had, as when the interpreter ends: the next transaction, or the next start, takes them.
                return
            self._thread = thread
        self._wanted.set()

    def _carry(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._ended:
                return
            time.sleep(DELAY_S)
            self._awake = False
            self._deliver()
            if self.waiting():
                # It could not be done.
                self._wanted.set()

    def _leave_to_child(self) -> None:
        # In the child: the rows and files are the parent's, whose own handles keep them locked.
        self._lock = threading.Lock()
        self._ended, self._thread = True, None
        for side in (self._now, self._then):
            side.rows, side.sources = [], []
            if side.handle >= 0:
                os.close(side.handle)
                side.handle = -1


def prefix_of(ledger: Path) -> str:
    """How the names of the files of a ledger begin."""
    return f"{ledger.name}.intake."


def ending_of(database: Database) -> str:
    """How the names of files end whose rows were made for this ledger: another in its place numbers otherwise."""
    ((ledger,),) = database.execute("SELECT ledger FROM rollup_mark")
    return f".{ledger}"


_intakes: weakref.WeakSet[Intake] = weakref.WeakSet()


def _leave_to_child() -> None:
    for intake in list(_intakes):
        intake._leave_to_child()  # noqa: SLF001 - the class's own fork handler


os.register_at_fork(after_in_child=_leave_to_child)
