"""The file of a ledger: where it lies, whose it is, how it is made, opened and brought up to date.

It is 0600 in a directory 0700, and refused where it is not ours, newer than we are, or no plain file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

from bursar.schema import MIGRATIONS
from bursar.turn import Turn
from bursar.words.errors import LedgerError

APPLICATION_ID: Final = 0x62757273
"""Marks the file as ours ("burs")."""
BUSY_MS: Final = 5_000
"""How long one waits for another who writes."""
_WHOSE: Final = """
SELECT application_id, user_version, EXISTS (SELECT 1 FROM sqlite_schema)
FROM pragma_application_id, pragma_user_version
"""


def default_ledger_path() -> Path:
    """Where the ledger lies when nobody says: the user's data directory."""
    import platformdirs

    return Path(platformdirs.user_data_dir("bursar")) / "ledger.db"


def connect(path: Path, *, read_only: bool) -> Any:
    """A connection of apsw to a ledger file, as `open_ledger` says."""
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


def busy(why: str) -> Exception:
    """What is raised where somebody else has the ledger: apsw.BusyError."""
    import apsw

    return apsw.BusyError(why)


def identity(name: str) -> tuple[int, int] | None:
    """Which file lies there; None where there is none."""
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
            raise busy(f"another process has {path}")
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
