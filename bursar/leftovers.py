"""What processes have on the way into a ledger, living or dead, and how whoever opens it takes that in."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, NamedTuple

import orjson

from bursar.intake import COLUMNS, ending_of, prefix_of, put_rows

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.db import Database
    from bursar.intake import Row


class _Left(NamedTuple):
    path: Path
    handle: int
    dead: bool


def gather(database: Database) -> None:
    """Put into the table what other processes have on the way, and delete the files of those that have died."""
    paths = intakes(database.path)
    found = _leftovers(database.path, paths, ending_of(database)) if paths else []
    try:
        rows = [row for _, rows in found for row in rows]
        if rows:
            database.transact(lambda run: put_rows(run, rows))
        for left, _ in found:
            if left.dead:
                left.path.unlink(missing_ok=True)
    finally:
        for left, _ in found:
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


def _leftovers(ledger: Path, paths: list[Path], ending: str) -> list[tuple[_Left, list[Row]]]:
    found = []
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        left = _Left(path, handle, _lock(handle))
        ours = path.name.endswith(ending)
        if left.dead and not ours:
            _reject(ledger, handle)
        found.append((left, _read(handle) if ours else []))
    return found


def _reject(ledger: Path, handle: int) -> None:
    # Made for a ledger that lay here before, by numbers that only that one knows: for a person to look at.
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    kept = os.open(ledger.with_name(f"{ledger.name}.rejected"), how, 0o600)
    try:
        with open(handle, "rb", closefd=False) as file:
            os.write(kept, file.read())
    finally:
        os.close(kept)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(handle: int) -> list[Row]:
    rows = []
    with open(handle, "rb", closefd=False) as file:
        for line in file:
            with contextlib.suppress(orjson.JSONDecodeError):
                row = orjson.loads(line)
                if isinstance(row, list) and len(row) == len(COLUMNS):
                    rows.append(tuple(row))
    return rows
