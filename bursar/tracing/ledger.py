"""Write records into the ledger file, one commit each, before the caller goes on.

A record that cannot be written there goes to a spool file beside it and is taken back at the next start or
success; writing a record never raises into a call.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import stat
import tempfile
import threading
import time
import warnings
from collections import OrderedDict
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar._clock import new_id
from bursar._errors import BursarWarning, ConfigError, LedgerError
from bursar._events import CostStatus, RetryReason, Status, Usage, UsageSource
from bursar._records import ModelCall, RunRecord, Tags, Verdict, Who
from bursar.db import Database, open_ledger
from bursar.tracing.users import hash_user, load_user_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar._records import Record

LONGEST: Final = 200
"""Characters kept of any text of a record: names, ids and reasons, never content."""
_MOST_KNOWN: Final = 4_096
_SPOOLED: Final = "\x1fhashed:"
"""Marks a user in a spool file as a hash already."""
_INT_MAX: Final = 2**63 - 1
_CALL: Final = (
    "call_id, run, step, dimension, ending, user_hash, session_id, ts_us, latency_us, ttft_us, queue_us, response_id, "
    "request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_30m_tokens, "
    "cache_write_1h_tokens, cache_write_12h_tokens, reasoning_tokens, web_searches, tool_calls, messages, "
    "tools_offered, max_tokens, sent_max_tokens, est_input_tokens, held_nusd, held_tokens, cost_nusd, "
    "cost_input_nusd, cost_output_nusd, cost_cache_read_nusd, cost_cache_write_nusd, cost_fees_nusd"
)
_INSERT_CALL: Final = f"INSERT OR IGNORE INTO model_call ({_CALL}) VALUES ({', '.join('?' * 36)})"
_RUN: Final = (
    "run_id, parent_run_id, dimension, user_hash, session_id, started_us, ended_us, stop_reason, steps, tool_calls, "
    "tokens, cost_nusd, unpriced, unmeasured_nusd, limits"
)
_INSERT_RUN: Final = (
    f"INSERT INTO run ({_RUN}) VALUES ({', '.join('?' * 15)}) ON CONFLICT (run_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _RUN.split(", ")[1:])
    # A beginning that was kept aside must not reopen a run that has ended since.
    + " WHERE run.ended_us IS NULL OR excluded.ended_us IS NOT NULL"
)
_VERDICT: Final = 'ts_us, run_id, op_id, guard, action, reason, scope, unit, "limit", settled, held, needed, acted'
_INSERT_VERDICT: Final = f"INSERT OR IGNORE INTO verdict ({_VERDICT}) VALUES ({', '.join('?' * 13)})"
_DIMENSION: Final = (
    "workflow", "env", "feature", "owner", "tenant", "promise", "release", "prompt_version", "extra", "operation",
    "provider", "request_model", "response_model", "host", "tier_requested", "tier_served", "speed", "path",
)  # fmt: skip
_ENDING: Final = (
    "status", "error_type", "http_status", "finish_reason", "retry_reason", "usage_source", "bound", "flags",
    "cost_status", "price_version",
)  # fmt: skip


def _shared(table: str, columns: tuple[str, ...]) -> tuple[str, str]:
    find = f"SELECT id FROM {table} WHERE " + " AND ".join(f"{name} IS ?" for name in columns)
    # One statement, so that two processes cannot both find nothing and both insert.
    values = ", ".join(f"?{n}" for n in range(1, len(columns) + 1))
    same = " AND ".join(f"{name} IS ?{n}" for n, name in enumerate(columns, 1))
    add = (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} "
        f"WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})"
    )
    return find, add


_DIMENSION_SQL: Final = _shared("dimension", _DIMENSION)
_ENDING_SQL: Final = _shared("ending", _ENDING)


def default_ledger_path() -> Path:
    """Where the ledger lies when nobody says: the user's data directory."""
    import platformdirs

    return Path(platformdirs.user_data_dir("bursar")) / "ledger.db"


class Ledger:
    """The writer of one ledger file. The file is opened at the first write; safe for threads."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._shared: dict[tuple[Any, ...], int] = {}
        self._runs: OrderedDict[str, int] = OrderedDict()
        self._users: OrderedDict[str, str] = OrderedDict()
        self._key: bytes | None = None
        self._spooled = False
        self._warned = False

    def write(self, record: Record) -> None:
        """Commit a record. Never raises: what cannot be written is spooled, and a warning says so once."""
        self._write(record, wait=True)

    def try_write(self, record: Record) -> bool:
        """Commit a record unless another process has the file just now; False then, and nothing was written."""
        return self._write(record, wait=False)

    def save_calibration(self, items: Mapping[str, bytes]) -> None:
        """Keep what was learned, by key."""
        if not items:
            return
        now_us = time.time_ns() // 1_000
        try:
            database = self._open()
            for key, value in items.items():
                database.execute(
                    "INSERT OR REPLACE INTO calibration VALUES (?, ?, ?)", (_clean(key, 600), value.decode(), now_us)
                )
        except _failures() as error:
            self._say(f"what was learned could not be kept ({error})")

    def load_calibration(self) -> dict[str, bytes]:
        """Take back what was learned; nothing where there is no ledger yet, or none that can be read."""
        if not self.path.exists():
            return {}
        try:
            return {key: value.encode() for key, value in self._open().execute("SELECT key, value FROM calibration")}
        except _failures() as error:
            self._say(f"what was learned could not be read ({error})")
            return {}

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.close()

    def _write(self, record: Record, *, wait: bool) -> bool:
        try:
            database = self._open()
            self._insert(database.execute if wait else database.execute_now, record)
            if database.displaced():
                # The file was moved, deleted or replaced: the row is where nobody looks. The same id makes it one row.
                self._forget(database)
                database = self._open()
                self._insert(database.execute if wait else database.execute_now, record)
            database.wrote()
        except _busy():
            if not wait:
                return False
            self._keep_aside(record, "another process holds it")
        except _failures() as error:
            self._keep_aside(record, str(error))
            current = self._database
            if current is not None and current.displaced():
                self._forget(current)
        else:
            if self._spooled and wait:
                self._spooled = False
                with self._lock:
                    self._take_back(database)
        return True

    def _forget(self, database: Database) -> None:
        with self._lock:
            if self._database is database:
                self._database = None
        with contextlib.suppress(*_failures()):
            database.close()

    def _open(self) -> Database:
        database = self._database
        if database is not None:
            return database
        with self._lock:
            if self._database is None:
                opened = open_ledger(self.path)
                try:
                    self._key = load_user_key(self.path)
                except BaseException:
                    opened.close()
                    raise
                # Another file may lie here by now: the numbers of the last one's rows are not this one's.
                self._shared.clear()
                self._runs.clear()
                self._take_back(opened)
                self._database = opened
            return self._database

    def _insert(self, run: Any, record: Record) -> None:
        if isinstance(record, ModelCall):
            run(_INSERT_CALL, self._call_row(run, record))
        elif isinstance(record, Verdict):
            run(_INSERT_VERDICT, _safe(tuple(asdict(record).values())))
        else:
            run(_INSERT_RUN, self._run_row(run, record))

    def _call_row(self, run: Any, call: ModelCall) -> tuple[Any, ...]:
        tags, usage = call.who.tags, call.usage
        dimension = (
            *_tag_columns(tags), call.operation, call.provider, call.request_model, call.response_model, call.host,
            call.tier_requested, call.tier_served, call.speed, call.path,
        )  # fmt: skip
        ending = (
            call.status, call.error_type, call.http_status, call.finish_reason, call.retry_reason, call.usage_source,
            call.bound, " ".join(call.flags) if call.flags else "", call.cost_status, call.price_version,
        )  # fmt: skip
        row = (
            call.call_id, None if call.run_id is None else self._run_number(run, call.run_id), call.step,
            self._number(run, dimension, _DIMENSION_SQL), self._number(run, ending, _ENDING_SQL),
            self._user(call.who.user), call.who.session, call.ts_us, call.latency_us, call.ttft_us, call.queue_us,
            call.response_id, call.request_id, *usage, call.tool_calls, call.messages, call.tools_offered,
            call.max_tokens, call.sent_max_tokens, call.est_input_tokens, call.held_nusd, call.held_tokens,
            call.cost_nusd, call.cost_input_nusd, call.cost_output_nusd, call.cost_cache_read_nusd,
            call.cost_cache_write_nusd, call.cost_fees_nusd,
        )  # fmt: skip
        return _safe(row)

    def _run_row(self, run: Any, record: RunRecord) -> tuple[Any, ...]:
        dimension = (*_tag_columns(record.who.tags), *(None,) * 9)
        row = (
            record.run_id, record.parent_run_id, self._number(run, dimension, _DIMENSION_SQL),
            self._user(record.who.user), record.who.session, record.started_us, record.ended_us, record.stop_reason,
            record.steps, record.tool_calls, record.tokens, record.cost_nusd, record.unpriced,
            record.unmeasured_nusd, _json({_fit(unit): _fit(limit) for unit, limit in record.limits}),
        )  # fmt: skip
        return _safe(row)

    def _number(self, run: Any, row: tuple[Any, ...], sql: tuple[str, str]) -> int:
        known = self._shared.get(row)
        if known is None:
            values, (find, add) = _safe(tuple(_plain(value) for value in row)), sql
            run(add, values)
            known = int(run(find, values)[0][0])
            if len(self._shared) >= _MOST_KNOWN:
                self._shared.clear()
            self._shared[row] = known
        return known

    def _run_number(self, run: Any, run_id: str) -> int:
        known = self._runs.get(run_id)
        if known is None:
            values = _safe((run_id,))
            run("INSERT OR IGNORE INTO run (run_id) VALUES (?)", values)
            known = self._runs[run_id] = int(run("SELECT number FROM run WHERE run_id = ?", values)[0][0])
            if len(self._runs) > _MOST_KNOWN:
                self._runs.popitem(last=False)
        return known

    def _user(self, user: str | None) -> str | None:
        if user is None or self._key is None:
            return None
        if user.startswith(_SPOOLED):
            return user.removeprefix(_SPOOLED)
        known = self._users.get(user)
        if known is None:
            known = self._users[user] = hash_user(user, self._key)
            if len(self._users) > _MOST_KNOWN:
                self._users.popitem(last=False)
        return known

    def _keep_aside(self, record: Record, why: str) -> None:
        line = b"\n" + orjson.dumps(self._as_json(record), default=str) + b"\n"
        for path in _spools(self.path):
            try:
                kept = _append(path, line)
            except OSError:
                continue
            if kept:
                self._spooled = True
                self._say(f"records go to {path} until it can ({why})")
                return
        self._say(f"and neither can a spool file beside it or in the temporary directory: records are lost ({why})")

    def _as_json(self, record: Record) -> dict[str, Any]:
        kept = asdict(record) if isinstance(record, Verdict) else {**asdict(record), "who": None}
        if not isinstance(record, Verdict):
            # Never the user himself: where there is no key yet, nobody.
            who = record.who
            user = self._user(who.user)
            marked = None if user is None else _SPOOLED + user
            kept["who"] = {"tags": who.tags._asdict(), "user": marked, "session": who.session}
        return {"kind": type(record).__name__, "record": _json_safe(kept)}

    def _take_back(self, database: Database) -> None:
        # What goes wrong here is left for the next start: it is no reason not to write what comes now.
        for path in _spools(self.path):
            with contextlib.suppress(OSError):
                if _is_own(path):
                    # Taken from under its writers first; whatever dies before the end is found again by this name.
                    path.rename(path.with_name(f"{path.name}.{new_id()}"))
            for taken in path.parent.glob(f"{glob.escape(path.name)}.*"):
                with contextlib.suppress(OSError, _apsw_error()):
                    if _is_own(taken):
                        self._take_file(database, taken)

    def _take_file(self, database: Database, taken: Path) -> None:
        with taken.open("rb") as file:
            # Whoever opened the file before it was renamed still appends to it, under this lock.
            fcntl.flock(file, fcntl.LOCK_EX)
            for line in file:
                record = _from_spool(line)
                if record is not None:
                    # A line that is JSON but no record of ours is passed over like a torn one.
                    with contextlib.suppress(*_unfit()):
                        self._insert(database.execute, record)
            taken.unlink(missing_ok=True)

    def _say(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            # Where warnings are errors the record is safe all the same, and a paid answer is not thrown away for it.
            with contextlib.suppress(BursarWarning):
                warnings.warn(f"the ledger {self.path} cannot be written: {what}", BursarWarning, stacklevel=2)


class _Json(str):
    """Text that is cut nowhere, since half of it could not be read; what is in it was made to fit."""

    __slots__ = ()


def _json(items: dict[str, Any]) -> _Json:
    return _Json(orjson.dumps(items).decode())


def _tag_columns(tags: Tags) -> tuple[str | None, ...]:
    # The tags are in the order of the columns; the extra ones are kept as one text.
    return (*tags[:8], _json(dict(_pairs(tags))) if tags.extra else None)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value


def _spools(ledger: Path) -> list[Path]:
    # Named after the ledger's place, so that two ledgers never share a spool in the temporary directory.
    mark = hashlib.sha256(os.fsencode(ledger.absolute())).hexdigest()[:40]
    return [
        ledger.with_name(ledger.name + ".spool"),
        Path(tempfile.gettempdir()) / f"bursar-{os.getuid()}-{mark}.spool",
    ]


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


def _is_own(path: Path) -> bool:
    # The temporary directory is everybody's: what another user laid there is not taken for our records.
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _from_spool(line: bytes) -> ModelCall | RunRecord | Verdict | None:
    try:
        kept = orjson.loads(line)
        fields = kept["record"]
        if kept["kind"] == "Verdict":
            return Verdict(**fields)
        tags = fields["who"]["tags"]
        tags["extra"] = tuple((name, value) for name, value in tags["extra"])
        fields["who"] = Who(Tags(**tags), fields["who"]["user"], fields["who"]["session"])
        if kept["kind"] == "RunRecord":
            fields["limits"] = tuple((unit, limit) for unit, limit in fields["limits"])
            return RunRecord(**fields)
        fields["usage"] = Usage(*fields["usage"])
        fields["flags"] = tuple(fields["flags"])
        fields["status"] = Status(fields["status"])
        fields["usage_source"] = UsageSource(fields["usage_source"])
        fields["cost_status"] = CostStatus(fields["cost_status"])
        fields["retry_reason"] = None if fields["retry_reason"] is None else RetryReason(fields["retry_reason"])
        return ModelCall(**fields)
    except (ValueError, TypeError, KeyError):
        # A blank line, or one torn by the death of its writer.
        return None


def _safe(row: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in row:
        kind = value.__class__
        if (kind is str and (len(value) > LONGEST or not value.isascii() or "\0" in value)) or (
            kind is int and not -_INT_MAX <= value <= _INT_MAX
        ):
            return tuple(_fit(value) for value in row)
    return row


def _fit(value: Any) -> Any:
    if isinstance(value, _Json):
        return value
    if isinstance(value, str):
        return _clean(value, LONGEST)
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_INT_MAX, min(_INT_MAX, value))
    return value


def _clean(text: str, longest: int) -> str:
    return text[:longest].replace("\0", "").encode("utf-8", "replace").decode()


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_safe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    return _fit(value)


def _pairs(tags: Tags) -> list[tuple[str, str]]:
    return [(_clean(name, LONGEST), _clean(value, LONGEST)) for name, value in tags.extra]


def _busy() -> tuple[type[Exception], ...]:
    import apsw

    return (apsw.BusyError,)


def _apsw_error() -> type[Exception]:
    import apsw

    return apsw.Error


def _unfit() -> tuple[type[Exception], ...]:
    import apsw

    return (apsw.ConstraintError, TypeError, ValueError, OverflowError, AttributeError)


def _failures() -> tuple[type[Exception], ...]:
    import apsw

    # The last three are of values that neither SQLite nor JSON can hold; the spool holds them made to fit.
    return (apsw.Error, LedgerError, ConfigError, OSError, TypeError, ValueError, OverflowError)
