"""Records as rows of the ledger's tables. What comes again and again has a row of its own, and its number is kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from bursar.intake import insert_of
from bursar.tracing.events import side_usage
from bursar.tracing.spool import HASHED
from bursar.tracing.users import FORGOTTEN
from bursar.tracing.values import LONGEST, Json, clean, fit, plain, safe, short, to_json
from bursar.words.records import ModelCall, Outcome, RunRecord, ToolCall, Verdict

if TYPE_CHECKING:
    from bursar.db import Run
    from bursar.tracing.users import UserKeys
    from bursar.words.records import Record, Tags

_INSERT_CALL: Final = insert_of(1)
_MOST_KNOWN: Final = 4_096
_HOUR_US: Final = 3_600_000_000
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
    "tokens, nusd, pays_after"
)
_INSERT_VERDICT: Final = f"INSERT OR IGNORE INTO verdict ({_VERDICT}) VALUES ({', '.join('?' * 18)})"
_verdict_row: Final = attrgetter(*(field.name for field in fields(Verdict)))
_EXECUTE_TOOL: Final = "execute_tool"
"""OpenTelemetry's name of what a tool call does."""
_OUTCOME: Final = "outcome_id, run, dimension, ts_us, name, count"
_INSERT_OUTCOME: Final = f"INSERT OR IGNORE INTO outcome ({_OUTCOME}) VALUES ({', '.join('?' * 6)})"
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


_RARE: Final = (
    "cache_write_12h_tokens", "web_searches", "web_fetches", "file_searches", "code_executions", "image_generations",
    "audio_input_tokens", "audio_output_tokens",
)  # fmt: skip
_NOTHING_RARE: Final = (0,) * 7
_NO_PROMPT: Final = (None, None)
_NOBODY: Final = (None, None)
_CALLER_SQL: Final = _shared("caller", ("user_hash", "session_id"))
_PROMPT_SQL: Final = _shared("prompt", ("system_hash", "tools_hash"))
_DIMENSION_SQL: Final = _shared("dimension", _DIMENSION)
_ENDING_SQL: Final = _shared("ending", _ENDING)


_Caller = tuple[str | None, str | None, str | int]
"""A user, a session, and how long the number of both is kept: for a run, or for an hour."""


class Inserts:
    """Puts records into the tables of one file. `keys` are those of its users' hashes.

    Its numbers are those of rows that are committed, or that are being written in the transaction that asks.
    """

    __slots__ = ("_callers", "_dimensions", "_endings", "_open", "_prompts", "_runs", "_undone", "_users", "keys")

    def __init__(self) -> None:
        self.keys: UserKeys | None = None
        self._dimensions: dict[tuple[Any, ...], int] = {}
        self._endings: dict[tuple[Any, ...], int] = {}
        self._prompts: dict[tuple[Any, ...], int | None] = {_NO_PROMPT: None}
        self._callers: dict[_Caller, int | None] = {}
        self._runs: dict[str | None, int | None] = {None: None}
        self._users: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._open, self._undone = False, 0

    def row(self, call: ModelCall) -> tuple[Any, ...] | None:
        """The row of a call, outside of any transaction; None where something of it has no number for good yet."""
        undone = self._undone
        try:
            row = self._call_row(call)
        except KeyError:
            return None
        # A number that another thread has found in a transaction counts when that is committed.
        return None if self._open or undone != self._undone else row

    def put(self, run: Run, record: Record) -> None:
        """Write one record down within a transaction; a call or verdict that is there already stays."""
        if isinstance(record, ModelCall):
            try:
                row = self._call_row(record)
            except KeyError:
                self._number_all(run, record)
                row = self._call_row(record)
            run(_INSERT_CALL, safe(row))
        elif isinstance(record, ToolCall):
            run(_INSERT_TOOL, self._tool_row(run, record))
        elif isinstance(record, Verdict):
            run(_INSERT_VERDICT, safe(_verdict_row(record)))
        elif isinstance(record, Outcome):
            run(_INSERT_OUTCOME, self._outcome_row(run, record))
        else:
            run(_INSERT_RUN, self._run_row(run, record))

    def hash_of(self, user: str | None) -> str | None:
        """The keyed hash that a user is kept as; None where there is no key."""
        if user is None or self.keys is None:
            return None
        known = self._users.get(user)
        return known[0] if known is not None else self.hashes_of(user)[0]

    def hashes_of(self, user: str) -> tuple[str, ...]:
        """All that a user is known as, the newest first; there must be a key."""
        if user.startswith(HASHED):
            return (user.removeprefix(HASHED),)
        known = self._users.get(user)
        if known is None:
            assert self.keys is not None
            known = self._users[user] = self.keys.hashes(user)
            if len(self._users) > _MOST_KNOWN:
                self._users.popitem(last=False)
        return known

    def done(self) -> None:
        """The transaction was committed: what was numbered in it has its number."""
        self._open = False

    def forget_numbers(self) -> None:
        """After a transaction that was undone: what was numbered in it has no number. And for another file."""
        self._undone += 1
        self._open = False
        self._dimensions.clear()
        self._endings.clear()
        self._prompts = {_NO_PROMPT: None}
        self._callers.clear()
        self._runs = {None: None}

    def _call_row(self, call: ModelCall) -> tuple[Any, ...]:
        # KeyError where something has no number. Whole numbers are as they are: one that 64 bits do not hold is refused
        # by the statement, and made to fit then.
        usage, who, response_id, request_id = call.usage, call.who, call.response_id, call.request_id
        return (
            call.call_id, self._runs[call.run_id], call.step, self._dimensions[_dimension(call)],
            self._endings[_ending(call)],
            None if who.user is None and who.session is None else self._callers[_caller(call)],
            self._prompts[call.system_hash, call.tools_hash], call.ts_us, call.latency_us, call.ttft_us, call.queue_us,
            response_id if response_id is None else short(response_id),
            request_id if request_id is None else short(request_id),
            *usage[:6], usage[7], call.tool_calls, call.messages, call.tools_offered,
            call.max_tokens, call.sent_max_tokens, call.est_input_tokens, call.trimmed_tokens, call.held_nusd,
            call.held_tokens, call.cost_nusd, call.cost_input_nusd, call.cost_output_nusd, call.cost_cache_read_nusd,
            call.cost_cache_write_nusd, call.cost_fees_nusd,
            None if usage[8:] == _NOTHING_RARE and not usage[6] and call.backoff_us is None and not call.side_usage
            else _rare(call),
        )  # fmt: skip

    def _number_all(self, run: Run, call: ModelCall) -> None:
        self._run_number(run, call.run_id)
        self._dimension_number(run, _dimension(call))
        self._number(self._endings, run, _ending(call), _ENDING_SQL)
        self._number(self._prompts, run, (call.system_hash, call.tools_hash), _PROMPT_SQL)
        key = _caller(call)
        if key not in self._callers:
            whose = self._whose(run, call)
            # Where there is no key the user is nobody.
            self._keep(self._callers, key, None if whose == _NOBODY else _found(run, whose, _CALLER_SQL))

    def _whose(self, run: Run, record: ModelCall | ToolCall | RunRecord) -> tuple[str | None, str | None]:
        """The user's hash and the session; of a run that was open when its user was forgotten, nobody's.

        What it goes on to write would lead back to what was forgotten of it.
        """
        who = record.who
        if who.user is None and who.session is None:
            return _NOBODY
        around = record.parent_run_id if isinstance(record, RunRecord) else None
        forgotten = run(
            "SELECT 1 FROM run WHERE run_id IN (?, ?) AND user_hash = ?", safe((record.run_id, around, FORGOTTEN))
        )
        return (FORGOTTEN, None) if forgotten else (self.hash_of(who.user), who.session)

    def _dimension_number(self, run: Run, key: tuple[Any, ...]) -> int:
        known = self._dimensions.get(key)
        if known is None:
            tags, *others = key
            known = _found(run, (*_tag_columns(tags), *others), _DIMENSION_SQL)
            self._keep(self._dimensions, key, known)
        return known

    def _tool_row(self, run: Run, call: ToolCall) -> tuple[Any, ...]:
        dimension = self._dimension_number(run, (call.who.tags, _EXECUTE_TOOL, *(None,) * (len(_DIMENSION) - 10)))
        row = (
            call.call_id, self._run_number(run, call.run_id), call.step, dimension, *self._whose(run, call),
            call.ts_us, call.latency_us, call.queue_us, call.tool_name, call.tool_type,
            call.tool_call_id, call.requested_by, call.args_hash, call.result_bytes, call.result_hash,
            call.repeat_index, call.same_result, call.effect,
            call.status.value, call.error_type, call.fee_nusd, call.fee_status, " ".join(call.flags),
        )  # fmt: skip
        return safe(row)

    def _run_row(self, run: Run, record: RunRecord) -> tuple[Any, ...]:
        dimension = self._plain_dimension(run, record.who.tags)
        row = (
            record.run_id, record.parent_run_id, dimension, *self._whose(run, record),
            record.started_us, record.ended_us, record.stop_reason,
            record.steps, record.tool_calls, record.tokens, record.cost_nusd, record.unpriced,
            record.unmeasured_nusd, to_json({fit(unit): fit(limit) for unit, limit in record.limits}),
            record.trace_id, record.span_id,
        )  # fmt: skip
        return safe(row)

    def _outcome_row(self, run: Run, record: Outcome) -> tuple[Any, ...]:
        number, dimension = self._run_number(run, record.run_id), self._plain_dimension(run, record.who.tags)
        return safe((record.outcome_id, number, dimension, record.ts_us, short(record.name), fit(record.count)))

    def _plain_dimension(self, run: Run, tags: Tags) -> int:
        # Of what is no call: tags alone.
        return self._dimension_number(run, (tags, *(None,) * (len(_DIMENSION) - 9)))

    def _run_number(self, run: Run, run_id: str | None) -> int | None:
        if run_id is None:
            return None
        known = self._runs.get(run_id)
        if known is None:
            values = safe((run_id,))
            run("INSERT OR IGNORE INTO run (run_id) VALUES (?)", values)
            known = int(run("SELECT number FROM run WHERE run_id = ?", values)[0][0])
            self._keep(self._runs, run_id, known)
        return known

    def _number(self, known: dict[Any, Any], run: Run, row: tuple[Any, ...], sql: tuple[str, str]) -> None:
        if row not in known:
            self._keep(known, row, _found(run, row, sql))

    def _keep(self, known: dict[Any, Any], key: Any, number: int | None) -> None:
        self._open = True
        if len(known) > _MOST_KNOWN:
            # The oldest but the first, which stands for none where there is such a one.
            first, second, *_ = known
            del known[second if known[first] is None else first]
        known[key] = number


def _caller(call: ModelCall) -> _Caller:
    # Looked up once a run, and outside of runs once an hour: whoever was forgotten meanwhile is somebody new then.
    return call.who.user, call.who.session, call.run_id or call.ts_us // _HOUR_US


def _dimension(call: ModelCall) -> tuple[Any, ...]:
    return (
        call.who.tags, call.operation, call.provider, call.request_model, call.response_model, call.host,
        call.tier_requested, call.tier_served, call.speed, call.path, call.region,
        None if call.attempt_source is None else call.attempt_source.value, call.fallback_from,
    )  # fmt: skip


def _ending(call: ModelCall) -> tuple[Any, ...]:
    # The values of enumerations: theirs are hashed in Python.
    return (
        call.status._value_, call.error_type, call.http_status, call.finish_reason,
        None if call.retry_reason is None else call.retry_reason.value, call.usage_source._value_,
        call.bound, " ".join(call.flags) if call.flags else "", call.cost_status._value_, call.price_version,
    )  # fmt: skip


def _rare(call: ModelCall) -> Json | None:
    usage = call.usage._asdict()
    found: dict[str, Any] = {name: fit(usage[name]) for name in _RARE if usage[name]}
    if call.backoff_us is not None:
        found["backoff_us"] = fit(call.backoff_us)
    if call.side_usage:
        found["side_usage"] = side_usage(call)
    return to_json(found) if found else None


def _found(run: Run, row: tuple[Any, ...], sql: tuple[str, str]) -> int:
    values, (find, add) = safe(tuple(plain(value) for value in row)), sql
    run(add, values)
    return int(run(find, values)[0][0])


def _tag_columns(tags: Tags) -> tuple[str | None, ...]:
    # The tags are in the order of the columns; the extra ones are kept as one text.
    return (*tags[:8], to_json(dict(_pairs(tags))) if tags.extra else None)


def _pairs(tags: Tags) -> list[tuple[str, str]]:
    return [(clean(name, LONGEST), clean(value, LONGEST)) for name, value in tags.extra]
