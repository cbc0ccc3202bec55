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
from typing import TYPE_CHECKING, Any, Final

from bursar._errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Sequence

APPLICATION_ID: Final = 0x62757273
"""Marks the file as ours ("burs")."""
BUSY_MS: Final = 5_000
CHECKPOINT_ROWS: Final = 1_000
_RESTART_MS: Final = 20
"""How long a checkpoint waits for readers and writers before it leaves the log's end for the next time."""
_CLOSE_WAIT_S: Final = 0.25
"""How long `close` waits for a checkpoint that is under way; it may end after us, on a connection of its own."""
_FORK_WAIT_S: Final = 1.0
"""How long a fork waits for a statement that is under way."""

_MIGRATIONS: Final = (
    """
    CREATE TABLE dimension (
        id INTEGER PRIMARY KEY,
        workflow TEXT NOT NULL, env TEXT, feature TEXT, owner TEXT, tenant TEXT, promise TEXT, release TEXT,
        prompt_version TEXT, extra TEXT, operation TEXT, provider TEXT, request_model TEXT, response_model TEXT,
        host TEXT, tier_requested TEXT, tier_served TEXT, speed TEXT, path TEXT
    );
    CREATE TABLE ending (
        id INTEGER PRIMARY KEY,
        status TEXT NOT NULL, error_type TEXT, http_status INTEGER, finish_reason TEXT, retry_reason TEXT,
        usage_source TEXT NOT NULL, bound TEXT, flags TEXT NOT NULL, cost_status TEXT NOT NULL, price_version TEXT
    );
    -- The call id begins with the time it was made (see _clock.py), so the primary key is the index by time.
    CREATE TABLE model_call (
        call_id TEXT PRIMARY KEY,
        run INTEGER, step INTEGER, dimension INTEGER NOT NULL, ending INTEGER NOT NULL, user_hash TEXT,
        session_id TEXT, ts_us INTEGER NOT NULL, latency_us INTEGER, ttft_us INTEGER, queue_us INTEGER,
        response_id TEXT, request_id TEXT,
        input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER, cache_write_5m_tokens INTEGER,
        cache_write_30m_tokens INTEGER, cache_write_1h_tokens INTEGER, cache_write_12h_tokens INTEGER,
        reasoning_tokens INTEGER, web_searches INTEGER,
        tool_calls INTEGER, messages INTEGER, tools_offered INTEGER, max_tokens INTEGER, sent_max_tokens INTEGER,
        est_input_tokens INTEGER, held_nusd INTEGER, held_tokens INTEGER,
        cost_nusd INTEGER, cost_input_nusd INTEGER, cost_output_nusd INTEGER, cost_cache_read_nusd INTEGER,
        cost_cache_write_nusd INTEGER, cost_fees_nusd INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX model_call_run ON model_call (run) WHERE run IS NOT NULL;
    CREATE TABLE run (
        number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, parent_run_id TEXT, dimension INTEGER,
        user_hash TEXT, session_id TEXT, started_us INTEGER, ended_us INTEGER, stop_reason TEXT, steps INTEGER,
        tool_calls INTEGER, tokens INTEGER, cost_nusd INTEGER, unpriced INTEGER, unmeasured_nusd INTEGER, limits TEXT
    );
    CREATE INDEX run_parent ON run (parent_run_id) WHERE parent_run_id IS NOT NULL;
    CREATE TABLE verdict (
        id INTEGER PRIMARY KEY, ts_us INTEGER NOT NULL, run_id TEXT, op_id TEXT, guard TEXT, action TEXT,
        reason TEXT, scope TEXT, unit TEXT, "limit" INTEGER, settled INTEGER, held INTEGER, needed INTEGER,
        acted INTEGER
    );
    CREATE UNIQUE INDEX verdict_once ON verdict (op_id, ts_us, action);
    CREATE INDEX verdict_run ON verdict (run_id) WHERE run_id IS NOT NULL;
    CREATE TABLE calibration (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_us INTEGER NOT NULL) WITHOUT ROWID;
    """,
)


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
        self._connection = connection
        self._busy_ms = BUSY_MS
        self._rows = 0
        self._keeper: threading.Thread | None = None
        self._wanted = threading.Event()
        self._closing = False
        _databases.add(self)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement under the lock; apsw's errors go to the caller."""
        with self.lock:
            return list((self._connection or self._connect()).execute(sql, values))

    def execute_now(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As `execute`, but do not wait for another process: apsw.BusyError at once."""
        with self.lock:
            connection = self._connection or self._connect()
            self._set_busy(0)
            try:
                return list(connection.execute(sql, values))
            finally:
                self._set_busy(BUSY_MS)

    def displaced(self) -> bool:
        """Whether another file, or none, is now where this one was: its rows are found by nobody who looks there."""
        return _identity(self._name) != self._identity

    def wrote(self) -> None:
        """Count a committed row; every thousand, the file is checkpointed by a thread, never by the caller."""
        self._rows += 1
        if self._rows >= CHECKPOINT_ROWS:
            self._rows = 0
            with self.lock:
                if self._keeper is None:
                    self._keeper = threading.Thread(target=self._keep, name="bursar-checkpoint", daemon=True)
                    self._keeper.start()
            self._wanted.set()

    def close(self) -> None:
        """Checkpoint and close; a thread that checkpoints just now is waited for a quarter of a second at most."""
        self._closing = True
        self._wanted.set()
        if self._keeper is not None:
            self._keeper.join(timeout=_CLOSE_WAIT_S)
        with self.lock:
            self._disconnect()

    def _keep(self) -> None:
        while not self._closing:
            self._wanted.wait()
            self._wanted.clear()
            if not self._closing:
                with _checkpointing:
                    _checkpoint(self.path)

    def _connect(self) -> Any:
        import apsw

        if self._closing:
            raise apsw.ConnectionClosedError(f"{self.path} has been closed")
        if self.displaced():
            raise LedgerError(f"the ledger {self.path} was replaced or deleted while it was in use")
        self._connection = _connect(self.path, read_only=self._read_only)
        self._busy_ms = BUSY_MS
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _leave_to_child(self) -> None:
        # In the child: no thread of the parent's lives here, and what they held stays held for ever.
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None
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


def _connect(path: Path, *, read_only: bool) -> Any:
    import apsw

    _check_file(path, read_only=read_only)
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(BUSY_MS)
        try:
            _prepare(path, connection, read_only=read_only)
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


def _prepare(path: Path, connection: Any, *, read_only: bool) -> None:
    run = connection.execute
    owner = next(run("PRAGMA application_id"))[0]
    found = next(run("PRAGMA user_version"))[0]
    empty = not list(run("SELECT 1 FROM sqlite_schema LIMIT 1"))
    if owner != APPLICATION_ID and not (owner == 0 and empty):
        raise LedgerError(f"{path} is a SQLite file of another program; name another ledger with BURSAR_LEDGER")
    if found > len(_MIGRATIONS):
        raise LedgerError(
            f"{path} was written by a newer version (schema {found}, this one knows {len(_MIGRATIONS)}); upgrade bursar"
        )
    if read_only:
        if empty:
            raise LedgerError(f"the ledger {path} is empty; run something under bursar.run(...), or `bursar demo`")
        return
    run("PRAGMA journal_mode=WAL")
    run("PRAGMA synchronous=NORMAL")
    run("PRAGMA wal_autocheckpoint=0")
    if found < len(_MIGRATIONS):
        _migrate(connection)


def _migrate(connection: Any) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Looked at again under the lock: two processes may open a new file at once.
    found = next(connection.execute("PRAGMA user_version"))[0]
    for number, script in enumerate(_MIGRATIONS[found:], found + 1):
        connection.execute(script)
        connection.execute(f"PRAGMA user_version={number}")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("COMMIT")


def _checkpoint(path: Path) -> None:
    import apsw

    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            # A connection that has read nothing does not know of the log, and would checkpoint nothing.
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            # The bulk is done without keeping a writer out; what came meanwhile is done with, so that the log begins
            # anew: under a steady writer it would only grow.
            connection.set_busy_timeout(_RESTART_MS)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            connection.close()
    except apsw.Error:
        # The next thousand rows ask again.
        return


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_checkpointing = threading.Lock()
_locked: list[threading.Lock] = []
_inherited: list[Any] = []
"""Connections that were in use while another thread forked: neither used nor closed here."""


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
