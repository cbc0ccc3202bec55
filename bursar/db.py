"""The ledger file: one SQLite database in WAL mode, opened through apsw, which carries its own SQLite.

The interpreter's SQLite may be older than 3.51.3, whose checkpoints by several processes can corrupt a file. The
file is 0600 in a directory 0700, and refused where it is not ours, newer than we are, or no plain file.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from bursar.schema import MIGRATIONS
from bursar.turn import Turn
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

APPLICATION_ID: Final = 0x62757273
"""Marks the file as ours ("burs")."""
BUSY_MS: Final = 5_000
CHECKPOINT_EVERY: Final = 1_000
"""Transactions of this process between two checkpoints."""
_WHOSE: Final = """
SELECT application_id, user_version, EXISTS (SELECT 1 FROM sqlite_schema)
FROM pragma_application_id, pragma_user_version
"""
_PATIENCE_S: Final = 0.002
"""How long one who must not wait waits for another thread of this process."""
_RESTART_S: Final = 0.25
"""How long a checkpoint waits for its turn before it leaves the log's end for the next time."""
_READERS_MS: Final = 20
"""How long it then keeps writers waiting for readers."""
_CLOSE_WAIT_S: Final = 0.25
"""How long `close` waits for a checkpoint that is under way; it may end after us, on a connection of its own."""
_FORK_WAIT_S: Final = 1.0
"""How long a fork waits for a statement that is under way."""


class Run(Protocol):
    """Runs one statement of a transaction."""

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement."""


class Database:
    """One connection to a ledger file, and the lock that its users share.

    The connection is closed before a fork and opened again at the next statement, in the parent and in the child:
    a child of a process with an open connection believes it holds its parent's file locks, and loses rows.
    """

    def __init__(self, path: Path, connection: Any, *, read_only: bool = False) -> None:
        self.path = path
        self.lock = threading.Lock()
        self._name = str(path)
        self._read_only = read_only
        self._identity = _identity(self._name)
        self._busy_ms = BUSY_MS
        self._commits = 0
        self._keeper: threading.Thread | None = None
        self._wanted = threading.Event()
        self._closing = False
        self.undone: Callable[[], object] | None = None
        """Told, under the lock, that a transaction was undone."""
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
        self._enter(wait=wait)
        try:
            return self._in_turn(lambda run: self._transact(run, work), wait=wait)
        finally:
            self.lock.release()

    def write(self, ready: Callable[[R], tuple[str, Sequence[Any]] | None], record: R, *, wait: bool = True) -> bool:
        """Do the one statement that `ready` makes of a record, as a transaction of its own; False where it makes none.

        `ready` is asked under the lock: no transaction of another thread is open or being undone. As `transact`.
        """
        self._enter(wait=wait)
        try:
            found = ready(record)
            if found is None:
                return False
            self._in_turn(lambda run: run(*found), wait=wait)
            return True
        finally:
            self.lock.release()

    def _enter(self, *, wait: bool) -> None:
        if not (
            self.lock.acquire(blocking=False) or self.lock.acquire(timeout=BUSY_MS / 1_000 if wait else _PATIENCE_S)
        ):
            raise _busy(f"another thread has {self.path}")

    def _in_turn(self, work: Callable[[Run], T], *, wait: bool) -> T:
        """Commit something while no other process writes; the lock is ours."""
        run, turn = self._run or self._connect(), self._turn
        assert turn is not None
        if not turn.take(BUSY_MS / 1_000 if wait else 0):
            raise _busy(f"another process has {self.path}")
        try:
            self._set_busy(BUSY_MS if wait else 0)
            done = work(run)
            self._count()
            return done
        finally:
            turn.give()

    def _count(self) -> None:
        self._commits += 1
        if self._commits >= CHECKPOINT_EVERY:
            self._commits = 0
            self._shorten_log()

    def _transact(self, run: Run, work: Callable[[Run], T]) -> T:
        run("BEGIN IMMEDIATE")
        try:
            result = work(run)
            run("COMMIT")
        except BaseException:
            # Some failures have undone it already.
            if self._connection.in_transaction:
                run("ROLLBACK")
            if self.undone is not None:
                self.undone()
            raise
        return result

    def displaced(self) -> bool:
        """Whether another file, or none, is now where this one was: its rows are found by nobody who looks there."""
        # SQLite's own look at the file costs half as much as ours. It is not asked while another thread is at it.
        if self.lock.acquire(blocking=False):
            try:
                if self._moved is not None and not self._moved():
                    return False
            finally:
                self.lock.release()
        return _identity(self._name) != self._identity

    def close(self) -> None:
        """Checkpoint and close; a thread that checkpoints just now is waited for a quarter of a second at most."""
        self._closing = True
        self._wanted.set()
        if self._keeper is not None:
            self._keeper.join(timeout=_CLOSE_WAIT_S)
        with self.lock:
            self._disconnect()

    def _shorten_log(self) -> None:
        # By a thread, never by the caller. Under the lock: there is one of it.
        if self._keeper is None:
            keeper = threading.Thread(target=self._keep, name="bursar-checkpoint", daemon=True)
            try:
                keeper.start()
            except RuntimeError:
                # No thread is to be had, as when the interpreter ends: what was committed is so all the same.
                return
            self._keeper = keeper
        self._wanted.set()

    def _keep(self) -> None:
        while not self._closing:
            self._wanted.wait()
            self._wanted.clear()
            if not self._closing:
                with _checkpointing:
                    _checkpoint(self.path)

    def _connect(self) -> Run:
        import apsw

        if self._closing:
            raise apsw.ConnectionClosedError(f"{self.path} has been closed")
        if self.displaced():
            raise LedgerError(f"the ledger {self.path} was replaced or deleted while it was in use")
        return self._use(_connect(self.path, read_only=self._read_only))

    def _use(self, connection: Any) -> Run:
        self._connection = connection
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
        self._wanted = threading.Event()
        self._keeper = None

    def _set_busy(self, ms: int) -> None:
        if ms != self._busy_ms:
            self._busy_ms = ms
            self._connection.set_busy_timeout(ms)


def open_ledger(path: Path, *, read_only: bool = False) -> Database:
    """Open a ledger file, creating it with its directory where it may be written.

    Raises `LedgerError` that names the file and what to do: no plain file, not ours, newer than this version,
    not readable.
    """
    path = Path(path)
    return Database(path, _connect(path, read_only=read_only), read_only=read_only)


def default_ledger_path() -> Path:
    """Where the ledger lies when nobody says: the user's data directory."""
    import platformdirs

    return Path(platformdirs.user_data_dir("bursar")) / "ledger.db"


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


def _busy(why: str) -> Exception:
    import apsw

    return apsw.BusyError(why)


def _connect(path: Path, *, read_only: bool) -> Any:
    import apsw

    _check_file(path, read_only=read_only)
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(BUSY_MS)
        try:
            if read_only:
                _check_schema(path, connection, read_only=True)
            else:
                _prepare(path, connection)
        except BaseException:
            connection.close()
            raise
    except apsw.NotADBError:
        raise LedgerError(f"{path} is not a ledger: it is no SQLite file. Name another with BURSAR_LEDGER.") from None
    except apsw.Error as error:
        raise LedgerError(f"the ledger {path} cannot be opened ({error}); name another with BURSAR_LEDGER") from None
    return connection


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name, follow_symlinks=False)  # noqa: PTH116 - once a row, and a Path costs twice as much
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_file(path: Path, *, read_only: bool) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if read_only:
            raise LedgerError(
                f"there is no ledger at {path} yet; run something under bursar.run(...), or `bursar demo`"
            ) from None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise LedgerError(
                f"the ledger {path} cannot be created ({error.strerror}); name another with BURSAR_LEDGER"
            ) from None
        return
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be reached ({error.strerror})") from None
    if not stat.S_ISREG(found.st_mode):
        raise LedgerError(f"{path} is not a plain file (a link, directory or device); a ledger must be one")
    if not read_only:
        if not os.access(path, os.W_OK):
            raise LedgerError(f"the ledger {path} is read-only; make it writable or name another with BURSAR_LEDGER")
        for companion in (Path(f"{path}-wal"), Path(f"{path}-shm")):
            _make_writable(companion)


def _make_writable(companion: Path) -> None:
    # SQLite gives log and index the ledger's mode: what was read while the ledger was read-only keeps writers out
    # for ever, even when the ledger is writable again.
    try:
        mode = companion.lstat().st_mode
        if stat.S_ISREG(mode) and not mode & stat.S_IWUSR:
            companion.chmod(0o600)
    except OSError:
        # None there, or not ours: SQLite says what is wrong.
        return


def _prepare(path: Path, connection: Any) -> None:
    # Beside a file that is not ours not even a lock is laid.
    _check_schema(path, connection, read_only=False)
    # One at a time: of two that turn a new file to WAL at once SQLite refuses one, without waiting.
    turn = Turn(path)
    try:
        if not turn.take(BUSY_MS / 1_000):
            raise _busy(f"another process has {path}")
        found = _check_schema(path, connection, read_only=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        if found < len(MIGRATIONS):
            if found:
                _back_up(path, connection, found)
            _migrate(connection)
    finally:
        turn.close()


def _check_schema(path: Path, connection: Any, *, read_only: bool) -> int:
    # One statement sees one state of the file: another process may be making it a ledger meanwhile.
    owner, version, filled = next(connection.execute(_WHOSE))
    found, empty = int(version), not filled
    if owner != APPLICATION_ID and not (owner == 0 and empty):
        raise LedgerError(f"{path} is a SQLite file of another program; name another ledger with BURSAR_LEDGER")
    if found > len(MIGRATIONS):
        raise LedgerError(
            f"{path} was written by a newer version (schema {found}, this one knows {len(MIGRATIONS)}); upgrade bursar"
        )
    if read_only and empty:
        raise LedgerError(f"the ledger {path} is empty; run something under bursar.run(...), or `bursar demo`")
    return found


def _back_up(path: Path, connection: Any, version: int) -> None:
    copy = f"{path}.v{version}.bak"
    try:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # A process was at it and died: what it has saved is not written over.
        return
    except OSError as error:
        raise LedgerError(
            f"no backup {copy} can be made before {path} is brought up to date ({error.strerror})"
        ) from None
    connection.execute("VACUUM INTO ?", (copy,))


def _migrate(connection: Any) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Looked at again under the lock: two processes may open a new file at once.
    found = next(connection.execute("PRAGMA user_version"))[0]
    for number, script in enumerate(MIGRATIONS[found:], found + 1):
        connection.execute(script)
        connection.execute(f"PRAGMA user_version={number}")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("COMMIT")


def _checkpoint(path: Path) -> None:
    import apsw

    try:
        turn = Turn(path)
    except LedgerError:
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            # A connection that has read nothing does not know of the log, and would checkpoint nothing.
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            # The bulk is done without keeping a writer out; what came meanwhile is done in our turn, so that the log
            # begins anew: under a steady writer it would only grow.
            if turn.take(_RESTART_S):
                connection.set_busy_timeout(_READERS_MS)
                try:
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
                finally:
                    # Not by closing alone: a child that was forked just now would keep it.
                    turn.give()
        finally:
            connection.close()
    except apsw.Error:
        # The next thousand transactions ask again.
        return
    finally:
        turn.close()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_checkpointing = threading.Lock()
_locked: list[threading.Lock] = []
_inherited: list[Any] = []
"""Connections, each with its cursor, that were in use while another thread forked: neither used nor closed here."""


def _before_fork() -> None:
    # A lock that is not had in time is left: forking late is worse than the small risk that remains.
    if _checkpointing.acquire(timeout=_FORK_WAIT_S):
        _locked.append(_checkpointing)
    for database in list(_databases):
        if database.lock.acquire(timeout=_FORK_WAIT_S):
            _locked.append(database.lock)
            database._disconnect()  # noqa: SLF001 - the class's own fork handler


def _after_fork_in_parent() -> None:
    while _locked:
        _locked.pop().release()


def _after_fork_in_child() -> None:
    global _checkpointing  # noqa: PLW0603
    _locked.clear()
    _checkpointing = threading.Lock()
    for database in list(_databases):
        database._leave_to_child()  # noqa: SLF001 - as above


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
