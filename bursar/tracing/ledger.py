"""Write records into the ledger file, one commit each, before the caller goes on.

A record that cannot be written there goes to a spool file beside it and is taken back at the next start or
success; writing a record never raises into a call.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bursar._errors import BursarWarning, ConfigError, LedgerError, StoreError
from bursar._records import ModelCall, ToolCall, Verdict
from bursar.db import Database, open_ledger
from bursar.tracing.events import side_usage
from bursar.tracing.spool import HASHED, Spool, from_spool, spooled
from bursar.tracing.users import hash_user, load_user_key
from bursar.tracing.values import LONGEST, clean, fit, plain, safe, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bursar._ports import Posting
    from bursar._records import Record, RunRecord, Tags
    from bursar.db import Run

T = TypeVar("T")

_MOST_KNOWN: Final = 4_096
_CALL: Final = (
    "call_id, run, step, dimension, ending, user_hash, session_id, ts_us, latency_us, ttft_us, queue_us, response_id, "
    "request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_30m_tokens, "
    "cache_write_1h_tokens, cache_write_12h_tokens, reasoning_tokens, web_searches, web_fetches, file_searches, "
    "code_executions, image_generations, audio_input_tokens, audio_output_tokens, tool_calls, messages, "
    "tools_offered, max_tokens, sent_max_tokens, est_input_tokens, held_nusd, held_tokens, cost_nusd, "
    "cost_input_nusd, cost_output_nusd, cost_cache_read_nusd, cost_cache_write_nusd, cost_fees_nusd, side_usage, "
    "backoff_us, trimmed_tokens, prompt"
)
_INSERT_CALL: Final = f"INSERT OR IGNORE INTO model_call ({_CALL}) VALUES ({', '.join('?' * 46)})"
_TOOL: Final = (
    "call_id, run, step, dimension, user_hash, session_id, ts_us, latency_us, queue_us, tool_name, tool_type, "
    "tool_call_id, requested_by, args_hash, result_bytes, result_hash, repeat_index, same_result, effect, status, "
    "error_type, fee_nusd, fee_status, flags"
)
_INSERT_TOOL: Final = f"INSERT OR IGNORE INTO tool_call ({_TOOL}) VALUES ({', '.join('?' * 24)})"
_RUN: Final = (
    "run_id, parent_run_id, dimension, user_hash, session_id, started_us, ended_us, stop_reason, steps, tool_calls, "
    "tokens, cost_nusd, unpriced, unmeasured_nusd, limits, trace_id, span_id"
)
_INSERT_RUN: Final = (
    f"INSERT INTO run ({_RUN}) VALUES ({', '.join('?' * 17)}) ON CONFLICT (run_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _RUN.split(", ")[1:])
    # A beginning that was kept aside must not reopen a run that has ended since.
    + " WHERE run.ended_us IS NULL OR excluded.ended_us IS NOT NULL"
)
_VERDICT: Final = (
    'ts_us, run_id, op_id, guard, action, reason, scope, unit, "limit", settled, held, needed, acted, streak, onset, '
    "tokens, nusd"
)
_INSERT_VERDICT: Final = f"INSERT OR IGNORE INTO verdict ({_VERDICT}) VALUES ({', '.join('?' * 17)})"
_EXECUTE_TOOL: Final = "execute_tool"
"""OpenTelemetry's name of what a tool call does."""
_DIMENSION: Final = (
    "workflow", "env", "feature", "owner", "tenant", "promise", "release", "prompt_version", "extra", "operation",
    "provider", "request_model", "response_model", "host", "tier_requested", "tier_served", "speed", "path",
    "region", "attempt_source", "fallback_from",
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


_PROMPT_SQL: Final = _shared("prompt", ("system_hash", "tools_hash"))
_DIMENSION_SQL: Final = _shared("dimension", _DIMENSION)
_ENDING_SQL: Final = _shared("ending", _ENDING)


def default_ledger_path() -> Path:
    """Where the ledger lies when nobody says: the user's data directory."""
    import platformdirs

    return Path(platformdirs.user_data_dir("bursar")) / "ledger.db"


class Ledger:
    """The writer of one ledger file. The file is opened at the first write; safe for threads."""

    def __init__(self, path: Path, post: Callable[[Run, Posting], object] | None = None) -> None:
        self.path = Path(path)
        self._post = post
        self._spool = Spool(self.path)
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._shared: dict[tuple[Any, ...], int] = {}
        self._runs: OrderedDict[str, int] = OrderedDict()
        self._users: OrderedDict[str, str] = OrderedDict()
        self._key: bytes | None = None
        self._kept_aside = False
        self._warned = False

    def write(self, record: Record, posting: Posting | None = None) -> None:
        """Commit a record, and with it what it means for shared limits.

        Never raises: what cannot be written is spooled, and a warning says so once.
        """
        self._write(record, posting, wait=True)

    def try_write(self, record: Record, posting: Posting | None = None) -> bool:
        """As `write`, unless another process has the file just now: False then, and nothing was written."""
        return self._write(record, posting, wait=False)

    def user_hash(self, user: str) -> str:
        """The keyed hash that a user is kept as. Raises `LedgerError`, `ConfigError`."""
        self._open()
        hashed = self._user(user)
        assert hashed is not None
        return hashed

    def key(self) -> bytes | None:
        """The key of this ledger's hashes; None where it cannot be had."""
        with contextlib.suppress(*failures()):
            self._open()
        return self._key

    def save_calibration(self, items: Mapping[str, bytes]) -> None:
        """Keep what was learned, by key."""
        if not items:
            return
        now_us = time.time_ns() // 1_000
        try:
            database = self._open()
            for key, value in items.items():
                database.execute(
                    "INSERT OR REPLACE INTO calibration VALUES (?, ?, ?)", (clean(key, 600), value.decode(), now_us)
                )
        except failures() as error:
            self._say(f"what was learned could not be kept ({error})")

    def load_calibration(self) -> dict[str, bytes]:
        """Take back what was learned; nothing where there is no ledger yet, or none that can be read."""
        if not self.path.exists():
            return {}
        try:
            return {key: value.encode() for key, value in self._open().execute("SELECT key, value FROM calibration")}
        except failures() as error:
            self._say(f"what was learned could not be read ({error})")
            return {}

    def hash_of(self, user: str | None) -> str | None:
        """The keyed hash that stands for a user; None where there is no key (the ledger cannot be written)."""
        return self._user(user)

    def database(self) -> Database:
        """The open file, what was kept aside taken back into it. Raises `LedgerError`, `ConfigError`, apsw's errors."""
        return self._open()

    def transact(self, work: Callable[[Run], T]) -> T:
        """Do several things in one commit, or none of them. Raises `LedgerError`, `ConfigError`, apsw's errors."""
        try:
            return self._open().transact(work)
        except BaseException:
            self._forget_numbers()
            raise

    def insert(self, run: Run, call: ModelCall) -> None:
        """Add the row of an attempt within a transaction; one that is there already stays."""
        run(_INSERT_CALL, self._call_row(run, call))

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.close()

    def _write(self, record: Record, posting: Posting | None, *, wait: bool) -> bool:
        try:
            database = self._open()
            database.transact(lambda run: self._insert(run, record, posting), wait=wait)
            if database.displaced():
                # The file was moved, deleted or replaced: the row is where nobody looks. The same id makes it one row.
                self._forget(database)
                database = self._open()
                database.transact(lambda run: self._insert(run, record, posting), wait=wait)
            database.wrote()
        except _busy():
            if not wait:
                return False
            self._keep_aside(record, posting, "another process holds it")
        except failures() as error:
            self._forget_numbers()
            self._keep_aside(record, posting, str(error))
            current = self._database
            if current is not None and current.displaced():
                self._forget(current)
        else:
            if self._kept_aside:
                self._kept_aside = False
                if wait:
                    self._take_back(database)
                else:
                    # Whoever does not wait is an event loop.
                    threading.Thread(target=self._take_back, args=(database,), daemon=True).start()
        return True

    def _forget(self, database: Database) -> None:
        with self._lock:
            if self._database is database:
                self._database = None
        with contextlib.suppress(*failures()):
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
                self._forget_numbers()
                self._take_back(opened, locked=True)
                self._database = opened
            return self._database

    def _forget_numbers(self) -> None:
        # What was numbered in a transaction that was undone has no number.
        self._shared.clear()
        self._runs.clear()

    def _insert(self, run: Run, record: Record, posting: Posting | None) -> None:
        if isinstance(record, ModelCall):
            run(_INSERT_CALL, self._call_row(run, record))
        elif isinstance(record, ToolCall):
            run(_INSERT_TOOL, self._tool_row(run, record))
        elif isinstance(record, Verdict):
            run(_INSERT_VERDICT, safe(tuple(asdict(record).values())))
        else:
            run(_INSERT_RUN, self._run_row(run, record))
        if posting is not None and self._post is not None:
            try:
                self._post(run, posting)
            except StoreError as error:
                self._say(f"what call {posting.call_id} cost was not posted to shared limits ({error})")

    def _call_row(self, run: Any, call: ModelCall) -> tuple[Any, ...]:
        tags, usage = call.who.tags, call.usage
        dimension = (
            *_tag_columns(tags), call.operation, call.provider, call.request_model, call.response_model, call.host,
            call.tier_requested, call.tier_served, call.speed, call.path,
            call.region, call.attempt_source, call.fallback_from,
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
            to_json(side_usage(call)) if call.side_usage else None, call.backoff_us, call.trimmed_tokens,
            self._prompt(run, call),
        )  # fmt: skip
        return safe(row)

    def _tool_row(self, run: Any, call: ToolCall) -> tuple[Any, ...]:
        dimension = (*_tag_columns(call.who.tags), _EXECUTE_TOOL, *(None,) * (len(_DIMENSION) - 10))
        row = (
            call.call_id, None if call.run_id is None else self._run_number(run, call.run_id), call.step,
            self._number(run, dimension, _DIMENSION_SQL), self._user(call.who.user), call.who.session, call.ts_us,
            call.latency_us, call.queue_us, call.tool_name, call.tool_type, call.tool_call_id, call.requested_by,
            call.args_hash, call.result_bytes, call.result_hash, call.repeat_index, call.same_result, call.effect,
            call.status.value, call.error_type, call.fee_nusd, call.fee_status, " ".join(call.flags),
        )  # fmt: skip
        return safe(row)

    def _run_row(self, run: Any, record: RunRecord) -> tuple[Any, ...]:
        dimension = (*_tag_columns(record.who.tags), *(None,) * (len(_DIMENSION) - 9))
        row = (
            record.run_id, record.parent_run_id, self._number(run, dimension, _DIMENSION_SQL),
            self._user(record.who.user), record.who.session, record.started_us, record.ended_us, record.stop_reason,
            record.steps, record.tool_calls, record.tokens, record.cost_nusd, record.unpriced,
            record.unmeasured_nusd, to_json({fit(unit): fit(limit) for unit, limit in record.limits}),
            record.trace_id, record.span_id,
        )  # fmt: skip
        return safe(row)

    def _prompt(self, run: Any, call: ModelCall) -> int | None:
        blocks = call.system_hash, call.tools_hash
        return None if blocks == (None, None) else self._number(run, blocks, _PROMPT_SQL)

    def _number(self, run: Any, row: tuple[Any, ...], sql: tuple[str, str]) -> int:
        known = self._shared.get(row)
        if known is None:
            values, (find, add) = safe(tuple(plain(value) for value in row)), sql
            run(add, values)
            known = int(run(find, values)[0][0])
            if len(self._shared) >= _MOST_KNOWN:
                self._shared.clear()
            self._shared[row] = known
        return known

    def _run_number(self, run: Any, run_id: str) -> int:
        known = self._runs.get(run_id)
        if known is None:
            values = safe((run_id,))
            run("INSERT OR IGNORE INTO run (run_id) VALUES (?)", values)
            known = self._runs[run_id] = int(run("SELECT number FROM run WHERE run_id = ?", values)[0][0])
            if len(self._runs) > _MOST_KNOWN:
                self._runs.popitem(last=False)
        return known

    def _user(self, user: str | None) -> str | None:
        if user is None or self._key is None:
            return None
        if user.startswith(HASHED):
            return user.removeprefix(HASHED)
        known = self._users.get(user)
        if known is None:
            known = self._users[user] = hash_user(user, self._key)
            if len(self._users) > _MOST_KNOWN:
                self._users.popitem(last=False)
        return known

    def _keep_aside(self, record: Record, posting: Posting | None, why: str) -> None:
        # Never the user himself: where there is no key yet, nobody.
        user = None if isinstance(record, Verdict) else self._user(record.who.user)
        kept = self._spool.append(spooled(record, posting, user))
        if kept is None:
            self._say(f"and neither can a spool file beside it or in the temporary directory: records are lost ({why})")
        else:
            self._kept_aside = True
            self._say(f"records go to {kept} until it can ({why})")

    def _take_back(self, database: Database, *, locked: bool = False) -> None:
        def insert(line: bytes) -> None:
            if not line.strip():
                return
            try:
                record, posting = from_spool(line)
                database.transact(lambda run: self._insert(run, record, posting))
            except _unfit():
                # Torn by the death of its writer, or no record of ours: for a person to look at.
                self._forget_numbers()
                self._spool.reject(line)
            except _apsw_error():
                self._forget_numbers()
                raise

        # What goes wrong here is left for the next start: it is no reason not to write what comes now.
        with contextlib.nullcontext() if locked else self._lock:
            self._spool.take(insert, _apsw_error())

    def _say(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            # Where warnings are errors the record is safe all the same, and a paid answer is not thrown away for it.
            with contextlib.suppress(BursarWarning):
                warnings.warn(f"the ledger {self.path} cannot be written: {what}", BursarWarning, stacklevel=2)


def _tag_columns(tags: Tags) -> tuple[str | None, ...]:
    # The tags are in the order of the columns; the extra ones are kept as one text.
    return (*tags[:8], to_json(dict(_pairs(tags))) if tags.extra else None)


def _pairs(tags: Tags) -> list[tuple[str, str]]:
    return [(clean(name, LONGEST), clean(value, LONGEST)) for name, value in tags.extra]


def _busy() -> tuple[type[Exception], ...]:
    import apsw

    return (apsw.BusyError,)


def _apsw_error() -> type[Exception]:
    import apsw

    return apsw.Error


def _unfit() -> tuple[type[Exception], ...]:
    import apsw

    return (apsw.ConstraintError, TypeError, ValueError, KeyError, OverflowError, AttributeError)


def failures() -> tuple[type[Exception], ...]:
    """What may go wrong with a ledger."""
    import apsw

    # The last three are of values that neither SQLite nor JSON can hold; the spool holds them made to fit.
    return (apsw.Error, LedgerError, ConfigError, OSError, TypeError, ValueError, OverflowError)
