"""Where records go while the ledger cannot be written: a file beside it, else one in the temporary directory."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import stat
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.tracing.values import json_safe
from bursar.words.clock import new_id
from bursar.words.events import Amounts, AttemptSource, CostStatus, RetryReason, Status, Usage, UsageSource
from bursar.words.ports import Posting, Scope
from bursar.words.records import Beside, ModelCall, Outcome, RunRecord, Tags, ToolCall, Verdict, Who

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.words.records import Record

HASHED: Final = "\x1fhashed:"
"""Marks a user in a spool file as a hash already."""


class Spool:
    """The spool files of one ledger."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger

    def append(self, line: bytes) -> Path | None:
        """Keep a line in the first file that takes it; which, or None."""
        for path in spools(self._ledger):
            with contextlib.suppress(OSError):
                if _append(path, line):
                    return path
        return None

    def reject(self, line: bytes) -> None:
        """Keep a line that cannot be read, for a person. Raises `OSError`."""
        path = self._ledger.with_name(self._ledger.name + ".rejected")
        if not _append(path, line):
            raise OSError(f"{path} cannot be written")

    def take(self, insert: Callable[[bytes], None], fails: type[Exception]) -> None:
        """Give every line that was kept to `insert`, and delete the files that it has taken whole."""
        for path in spools(self._ledger):
            with contextlib.suppress(OSError):
                if _is_own(path):
                    # Taken from under its writers first; whatever dies before the end is found again by this name.
                    path.rename(path.with_name(f"{path.name}.{new_id()}"))
            for taken in path.parent.glob(f"{glob.escape(path.name)}.*"):
                with contextlib.suppress(OSError, fails):
                    if _is_own(taken):
                        _take_file(taken, insert)


def spooled(record: Record, posting: Posting | None, user: str | None) -> bytes:
    """One line of a spool file. `user` is the hash of the user whom the record names."""
    kept = asdict(record) if isinstance(record, Verdict) else {**asdict(record), "who": None}
    if not isinstance(record, Verdict):
        who = record.who
        marked = None if user is None else HASHED + user
        kept["who"] = {"tags": who.tags._asdict(), "user": marked, "session": who.session}
    line = {"kind": type(record).__name__, "record": json_safe(kept)}
    if posting is not None:
        path = [list(scope) for scope in posting.path]
        line["posting"] = {**posting._asdict(), "path": path, "actual": list(posting.actual)}
    return b"\n" + orjson.dumps(line, default=str) + b"\n"


def from_spool(line: bytes) -> tuple[Record, Posting | None]:
    """Read one line back. ValueError, TypeError or KeyError where it is no record of ours, or only part of one."""
    kept = orjson.loads(line)
    return _record(kept["kind"], kept["record"]), _posting(kept.get("posting"))


def spools(ledger: Path) -> list[Path]:
    """Where the spool of a ledger may lie, the best place first."""
    # Named after the ledger's place, so that two ledgers never share a spool in the temporary directory.
    mark = hashlib.sha256(os.fsencode(ledger.absolute())).hexdigest()[:40]
    return [
        ledger.with_name(ledger.name + ".spool"),
        Path(tempfile.gettempdir()) / f"bursar-{os.getuid()}-{mark}.spool",
    ]


def _record(kind: str, fields: dict[str, Any]) -> Record:
    if kind == "Verdict":
        return Verdict(**fields)
    tags = fields["who"]["tags"]
    tags["extra"] = tuple((name, value) for name, value in tags["extra"])
    fields["who"] = Who(Tags(**tags), fields["who"]["user"], fields["who"]["session"])
    if kind == "Outcome":
        return Outcome(**fields)
    if kind == "RunRecord":
        fields["limits"] = tuple((unit, limit) for unit, limit in fields["limits"])
        return RunRecord(**fields)
    fields["flags"] = tuple(fields["flags"])
    fields["status"] = Status(fields["status"])
    if kind == "ToolCall":
        return ToolCall(**fields)
    fields["usage"] = Usage(*fields["usage"])
    fields["side_usage"] = tuple(
        Beside(kind, model, Usage(*usage), nusd) for kind, model, usage, nusd in fields.get("side_usage", ())
    )
    fields["usage_source"] = UsageSource(fields["usage_source"])
    fields["cost_status"] = CostStatus(fields["cost_status"])
    fields["retry_reason"] = None if fields["retry_reason"] is None else RetryReason(fields["retry_reason"])
    source = fields.get("attempt_source")
    fields["attempt_source"] = None if source is None else AttemptSource(source)
    return ModelCall(**fields)


def _posting(kept: dict[str, Any] | None) -> Posting | None:
    if kept is None:
        return None
    path = tuple(Scope(*scope) for scope in kept["path"])
    return Posting(kept["call_id"], path, Amounts(*kept["actual"]), kept["measured"])


def _append(path: Path, line: bytes) -> bool:
    """Add a line to a spool file; False where it is not ours, or was not written whole."""
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return False
            if found.st_nlink:
                return os.write(handle, line) == len(line)
        finally:
            os.close(handle)
        # It was taken back and deleted between our opening and our lock: a new one is made.


def _take_file(taken: Path, insert: Callable[[bytes], None]) -> None:
    with taken.open("rb") as file:
        # Whoever opened the file before it was renamed still appends to it, under this lock.
        fcntl.flock(file, fcntl.LOCK_EX)
        for line in file:
            insert(line)
        taken.unlink(missing_ok=True)


def _is_own(path: Path) -> bool:
    # The temporary directory is everybody's: what another user laid there is not taken for our records.
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
