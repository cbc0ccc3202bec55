"""What processes have on the way into a ledger, living or dead, and how whoever opens it takes that in."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from bursar.intake import COLUMNS, ending_of, prefix_of, put_rows

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.db import Database, Run
    from bursar.intake import Row


_REFERS: Final = tuple(
    (COLUMNS.index(table), table, "number" if table == "run" else "id")
    for table in ("run", "dimension", "ending", "caller", "prompt")
)
"""Columns of an attempt that are numbers of other rows: their places, the tables, and the keys of those."""
_NEEDED: Final = tuple(COLUMNS.index(name) for name in ("call_id", "dimension", "ending", "ts_us"))
_MOST: Final = 1 << 63


class _Left(NamedTuple):
    """One file: whether its writer has died, its rows, and what is in it and is none."""

    path: Path
    handle: int
    dead: bool
    rows: list[Row]
    odd: bytes


def gather(database: Database) -> None:
    """Put into the table what other processes have on the way, and delete the files of those that have died.

    What of the dead is no row of this ledger is set aside, for a person to look at.
    """
    paths = intakes(database.path)
    found = _leftovers(paths, ending_of(database)) if paths else []
    try:
        for left in found:
            odd = left.odd + _put(database, left.rows)
            if left.dead and _set_aside(database.path, odd):
                left.path.unlink(missing_ok=True)
    finally:
        for left in found:
            os.close(left.handle)


def on_the_way(ledger: Path) -> bool:
    """Whether there may be rows that are not in the table yet."""
    for path in intakes(ledger):
        # Somebody may delete it just now.
        with contextlib.suppress(OSError):
            if path.stat().st_size:
                return True
    return False


def intakes(ledger: Path) -> list[Path]:
    """The files of all processes that write to a ledger, and of those that have died."""
    prefix = prefix_of(ledger)
    try:
        with os.scandir(ledger.parent) as found:
            return [ledger.with_name(file.name) for file in found if file.name.startswith(prefix)]
    except OSError:
        return []


def _leftovers(paths: list[Path], ending: str) -> list[_Left]:
    found = []
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        dead = _lock(handle)
        with open(handle, "rb", closefd=False) as file:
            lines = list(file)
        # Rows for a ledger that lay here before have numbers that only that one knows.
        rows = [_row(line) if path.name.endswith(ending) else None for line in lines]
        odd = b"".join(line for line, row in zip(lines, rows, strict=True) if row is None)
        found.append(_Left(path, handle, dead, [row for row in rows if row is not None], odd))
    return found


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _row(line: bytes) -> Row | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, list) or len(row) != len(COLUMNS):
        return None
    if any(row[place] is None for place in _NEEDED) or not all(map(_fits, row)):
        return None
    return tuple(row)


def _fits(value: object) -> bool:
    return value is None or isinstance(value, str) or (type(value) is int and -_MOST <= value < _MOST)


def _put(database: Database, rows: list[Row]) -> bytes:
    """Put rows into the table; as lines, those that refer to what this ledger does not have."""

    def put(run: Run) -> list[Row]:
        strange = _strange(run, rows)
        known = set(rows).difference(strange)
        put_rows(run, [row for row in rows if row in known])
        return strange

    return b"".join(map(_line, database.transact(put))) if rows else b""


def _strange(run: Run, rows: list[Row]) -> list[Row]:
    # A ledger that was restored from an older copy has not all that was numbered since.
    missing = []
    for place, table, key in _REFERS:
        wanted = {row[place] for row in rows if row[place] is not None}
        named = orjson.dumps(list(wanted)).decode()
        sql = f"SELECT {key} FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))"  # noqa: S608 - names of ours
        missing.append((place, wanted.difference(number for (number,) in run(sql, (named,)))))
    return [row for row in rows if any(row[place] in lost for place, lost in missing)]


def _line(row: Row) -> bytes:
    return orjson.dumps(row, None, orjson.OPT_APPEND_NEWLINE)


def _set_aside(ledger: Path, lines: bytes) -> bool:
    if not lines:
        return True
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(ledger.with_name(f"{ledger.name}.rejected"), how, 0o600), "ab") as kept:
            kept.write(lines)
    except OSError:
        return False
    return True
