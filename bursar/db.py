"""The ledger's database: one SQLite file in WAL mode, opened through apsw, which carries its own SQLite.

The interpreter's SQLite may be older than 3.51.3, whose checkpoints by several processes can corrupt a file.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from bursar.checkpoints import Keeper
from bursar.ledger_file import BUSY_MS, busy, connect, identity
from bursar.leftovers import gather, on_the_way
from bursar.turn import Turn
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

CHECKPOINT_EVERY: Final = 1_000
"""Transactions of this process between two checkpoints."""
_LONG_LOG: Final = 16 << 20
"""Bytes of SQLite's log that whoever opens a ledger does not leave as it is."""
_PATIENCE_S: Final = 0.002
"""How long one who must not wait waits for another thread of this process."""
_CLOSE_WAIT_S: Final = 0.25
"""How long `close` waits for a checkpoint that is under way; it may end after us, on a connection of its own."""
_FORK_WAIT_S: Final = 1.0
"""How long a fork waits for a statement that is under way."""


class Run(Protocol):
    """Runs one statement of a transaction."""

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement."""


class Watcher(Protocol):
    """Is told of the transactions of a connection, and may add to each."""

    def begun(self, run: Run) -> None:
        """One has begun; `run` runs statements in it."""

    def done(self, *, moved: bool) -> None:
        """It was committed; `moved` where the file is no longer where anybody looks for it."""

    def undone(self) -> None:
        """It was undone."""


class Database:
    """One connection to a ledger file, and the lock that its users share.

    The connection is closed before a fork and opened again at the next statement, in the parent and in the child:
    a child of a process with an open connection believes it holds its parent's file locks, and loses rows.
    """

    def __init__(self, path: Path, connection: Any, *, read_only: bool = False, durable: bool = False) -> None:
        self.path = path
        self.lock = threading.Lock()
        self._name = str(path)
        self._read_only, self._durable = read_only, durable
        self._identity = identity(self._name)
        self._busy_ms = BUSY_MS
        self._commits = 0
        self._keeper = Keeper(path)
        self._closing = False
        self.watcher: Watcher | None = None
        """Told, under the lock, of every transaction."""
        self._use(connection)
        _databases.add(self)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement under the lock; apsw's errors go to the caller."""
        with self.lock:
            return (self._run or self._connect())(sql, values)

    def transact(self, work: Callable[[Run], T], *, wait: bool = True) -> T:
        """Do `work` in one write transaction: all of it is committed, or nothing.

        Writers of all processes take turns at a lock file: SQLite's own waiting lets one of them starve for seconds.
        apsw.BusyError where another has it for more than five seconds, or at once where `wait` is False.
        """
        if not (
            self.lock.acquire(blocking=False) or self.lock.acquire(timeout=BUSY_MS / 1_000 if wait else _PATIENCE_S)
        ):
            raise busy(f"another thread has {self.path}")
        try:
            return self._in_turn(work, wait=wait)
        finally:
            self.lock.release()

    def _in_turn(self, work: Callable[[Run], T], *, wait: bool) -> T:
        """Commit something while no other process writes; the lock is ours."""
        run, turn = self._run or self._connect(), self._turn
        assert turn is not None
        if not turn.take(BUSY_MS / 1_000 if wait else 0):
            raise busy(f"another process has {self.path}")
        try:
            self._set_busy(BUSY_MS if wait else 0)
            done = self._transact(run, work)
            self._count()
            return done
        finally:
            turn.give()

    def _count(self) -> None:
        self._commits += 1
        if self._commits >= CHECKPOINT_EVERY:
            self._commits = 0
            # Under the lock: there is one thread for it.
            self._keeper.want()

    def _transact(self, run: Run, work: Callable[[Run], T]) -> T:
        watcher = self.watcher
        run("BEGIN IMMEDIATE")
        try:
            if watcher is not None:
                watcher.begun(run)
            result = work(run)
            run("COMMIT")
        except BaseException:
            # Some failures have undone it already.
            if self._connection.in_transaction:
                run("ROLLBACK")
            if watcher is not None:
                watcher.undone()
            raise
        if watcher is not None:
            watcher.done(moved=self._has_moved())
        return result

    def shorten(self) -> None:
        """Ask for a checkpoint where the log has grown: processes that are killed have never come to theirs."""
        with contextlib.suppress(OSError):
            if os.stat(f"{self._name}-wal").st_size > _LONG_LOG:  # noqa: PTH116 - as in `identity`
                with self.lock:
                    self._keeper.want()

    def displaced(self) -> bool:
        """Whether another file, or none, is now where this one was: its rows are found by nobody who looks there."""
        # SQLite's own look at the file costs half as much as ours. It is not asked while another thread is at it.
        if self.lock.acquire(blocking=False):
            try:
                return self._has_moved()
            finally:
                self.lock.release()
        return identity(self._name) != self._identity

    def _has_moved(self) -> bool:
        if self._moved is not None and not self._moved():
            return False
        return identity(self._name) != self._identity

    def close(self) -> None:
        """Checkpoint and close; a thread that checkpoints just now is waited for a quarter of a second at most."""
        self._closing = True
        self._keeper.end(_CLOSE_WAIT_S)
        with self.lock:
            self._disconnect()

    def _connect(self) -> Run:
        import apsw

        if self._closing:
            raise apsw.ConnectionClosedError(f"{self.path} has been closed")
        if self.displaced():
            raise LedgerError(f"the ledger {self.path} was replaced or deleted while it was in use")
        return self._use(connect(self.path, read_only=self._read_only))

    def _use(self, connection: Any) -> Run:
        self._connection = connection
        if self._durable:
            # Each commit waits for the disk.
            connection.execute("PRAGMA synchronous=FULL")
        self._turn = None if self._read_only else Turn(self.path)
        self._busy_ms = BUSY_MS
        self._moved = _mover(connection)
        self._run: Run | None = _runner(connection)
        return self._run

    def _disconnect(self) -> None:
        connection, self._connection, self._run, self._moved = self._connection, None, None, None
        if connection is not None:
            connection.close()
        self._close_turn()

    def _close_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.close()

    def _leave_to_child(self) -> None:
        # In the child: no thread of the parent's lives here, and what they held stays held for ever.
        if self._connection is not None:
            _inherited.append((self._connection, self._run))
            self._connection = self._run = self._moved = None
        self._close_turn()
        self.lock = threading.Lock()
        self._keeper = Keeper(self.path)

    def _set_busy(self, ms: int) -> None:
        if ms != self._busy_ms:
            self._busy_ms = ms
            self._connection.set_busy_timeout(ms)


def open_ledger(path: Path, *, read_only: bool = False, durable: bool = False) -> Database:
    """Open a ledger file, creating it with its directory where it may be written. `durable`: commits wait for the disk.

    Raises `LedgerError` that names the file and what to do: no plain file, not ours, newer than this version,
    not readable. What processes have on the way into it is in it then.
    """
    path = Path(path)
    database = Database(path, connect(path, read_only=read_only), read_only=read_only, durable=durable)
    try:
        if not read_only:
            gather(database)
            database.shorten()
        elif on_the_way(path):
            _gather_for_a_reader(path)
    except BaseException:
        database.close()
        raise
    return database


def _gather_for_a_reader(path: Path) -> None:
    import apsw

    # Where it may not be written, or is busy for long, it is read as it is.
    with contextlib.suppress(LedgerError, apsw.Error, OSError):
        open_ledger(path).close()


def _runner(connection: Any) -> Run:
    # One cursor for all statements: making one costs as much as a small statement.
    execute = connection.cursor().execute

    def run(sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = execute(sql, values).fetchall()
        return found

    return run


def _mover(connection: Any) -> Callable[[], bool] | None:
    """What tells whether the file that a connection has open is still where it was; None where nothing can."""
    import apsw

    try:
        import ctypes
    except ImportError:
        # Some interpreters are built without it.
        return None

    told = ctypes.c_int()
    control, place = connection.file_control, ctypes.addressof(told)

    def moved() -> bool:
        return not control("main", apsw.SQLITE_FCNTL_HAS_MOVED, place) or told.value != 0

    return moved


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_locked: list[threading.Lock] = []
_inherited: list[Any] = []
"""Connections, each with its cursor, that were in use while another thread forked: neither used nor closed here."""


def _before_fork() -> None:
    # A lock that is not had in time is left: forking late is worse than the small risk that remains.
    for database in list(_databases):
        if database.lock.acquire(timeout=_FORK_WAIT_S):
            _locked.append(database.lock)
            database._disconnect()  # noqa: SLF001 - the class's own fork handler


def _after_fork_in_parent() -> None:
    while _locked:
        _locked.pop().release()


def _after_fork_in_child() -> None:
    _locked.clear()
    for database in list(_databases):
        database._leave_to_child()  # noqa: SLF001 - as above


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
