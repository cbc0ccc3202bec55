"""The tables of the ledger file, one script for each version of the schema; a file is brought up to the newest."""

from __future__ import annotations

from typing import Final

from bursar.words.events import Amounts


def amounts(prefix: str) -> tuple[str, ...]:
    """The columns that hold one amount of every unit."""
    return tuple(f"{prefix}_{unit}" for unit in Amounts._fields)


def _columns(prefix: str) -> str:
    return ", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in amounts(prefix))


_LEDGER: Final = """
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
-- The call id begins with the time it was made (see words/clock.py), so the primary key is the index by time.
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
"""

_HOLDS: Final = f"""
CREATE TABLE account (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, window TEXT NOT NULL,
    limits TEXT NOT NULL, override TEXT, soft INTEGER NOT NULL DEFAULT 0, frozen INTEGER NOT NULL DEFAULT 0,
    made_us INTEGER NOT NULL, next_us INTEGER NOT NULL DEFAULT 0, holds INTEGER NOT NULL DEFAULT 0,
    {_columns("settled")}, {_columns("held")}, {_columns("unmeasured")}, {_columns("forgotten")},
    UNIQUE (kind, name, window)
);
-- state: 0 held, 1 committed, 2 released, 3 presumed. path: ids of accounts, outermost first.
CREATE TABLE hold (
    call_id TEXT PRIMARY KEY, path TEXT NOT NULL, state INTEGER NOT NULL, owner TEXT, asked TEXT,
    measured INTEGER NOT NULL DEFAULT 0, made_us INTEGER NOT NULL, ended_us INTEGER,
    {_columns("held")}, {_columns("charged")}
) WITHOUT ROWID;
CREATE INDEX account_made ON account (made_us) WHERE holds = 0 AND window <> 'total';
CREATE INDEX hold_open ON hold (owner) WHERE state = 0;
CREATE INDEX hold_ended ON hold (ended_us) WHERE state > 0;
CREATE TABLE adjustment (
    call_id TEXT NOT NULL, seq INTEGER NOT NULL, path TEXT NOT NULL, evidence TEXT NOT NULL, made_us INTEGER NOT NULL,
    {_columns("delta")},
    PRIMARY KEY (call_id, seq)
) WITHOUT ROWID;
"""

_CONTENT: Final = """
-- What was asked and said, where it is kept at all: deleted after a while, and by `bursar forget`.
CREATE TABLE content (
    id INTEGER PRIMARY KEY, call_id TEXT NOT NULL UNIQUE, until_us INTEGER NOT NULL, mode TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX content_until ON content (until_us);
"""

_USAGE: Final = """
-- side_usage: a JSON array of what a call caused beside its answer; the other columns include it.
ALTER TABLE dimension ADD COLUMN region TEXT;
ALTER TABLE model_call ADD COLUMN web_fetches INTEGER;
ALTER TABLE model_call ADD COLUMN file_searches INTEGER;
ALTER TABLE model_call ADD COLUMN code_executions INTEGER;
ALTER TABLE model_call ADD COLUMN image_generations INTEGER;
ALTER TABLE model_call ADD COLUMN audio_input_tokens INTEGER;
ALTER TABLE model_call ADD COLUMN audio_output_tokens INTEGER;
ALTER TABLE model_call ADD COLUMN side_usage TEXT;
"""

_RETRIES: Final = """
ALTER TABLE dimension ADD COLUMN attempt_source TEXT;
ALTER TABLE dimension ADD COLUMN fallback_from TEXT;
ALTER TABLE model_call ADD COLUMN backoff_us INTEGER;
"""

_ORDERS: Final = f"""
-- Batches and background responses: who ordered what, and what of it is charged at a bound until its result is read.
-- unread: items without a result, NULL where they are not known. place: the shared scopes, as JSON.
CREATE TABLE deferred (
    id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, provider TEXT NOT NULL, host TEXT,
    call_id TEXT, tags TEXT NOT NULL, user_hash TEXT, session_id TEXT, run_id TEXT, step INTEGER NOT NULL,
    made_us INTEGER NOT NULL, tier TEXT, region TEXT, place TEXT NOT NULL, unread INTEGER
);
CREATE TABLE deferred_item (
    deferred INTEGER NOT NULL, name TEXT NOT NULL, call_id TEXT NOT NULL, model TEXT NOT NULL, mark TEXT,
    read_us INTEGER,
    {_columns("bound")},
    PRIMARY KEY (deferred, name)
) WITHOUT ROWID;
CREATE INDEX deferred_mark ON deferred_item (mark) WHERE mark IS NOT NULL;
CREATE TABLE deferred_file (file TEXT PRIMARY KEY, ref TEXT NOT NULL) WITHOUT ROWID;
"""

_LOOPS: Final = """
ALTER TABLE verdict ADD COLUMN streak INTEGER;
ALTER TABLE verdict ADD COLUMN onset INTEGER;
ALTER TABLE verdict ADD COLUMN tokens INTEGER;
ALTER TABLE verdict ADD COLUMN nusd INTEGER;
"""

_TOOLS: Final = """
CREATE TABLE tool_call (
    call_id TEXT PRIMARY KEY,
    run INTEGER, step INTEGER, dimension INTEGER NOT NULL, user_hash TEXT, session_id TEXT, ts_us INTEGER NOT NULL,
    latency_us INTEGER, queue_us INTEGER, tool_name TEXT NOT NULL, tool_type TEXT, tool_call_id TEXT,
    requested_by TEXT, args_hash TEXT, result_bytes INTEGER, result_hash TEXT, repeat_index INTEGER,
    same_result INTEGER, effect TEXT, status TEXT NOT NULL, error_type TEXT, fee_nusd INTEGER,
    fee_status TEXT NOT NULL, flags TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX tool_call_run ON tool_call (run) WHERE run IS NOT NULL;
"""

_WINDOWS: Final = """
ALTER TABLE model_call ADD COLUMN trimmed_tokens INTEGER;
"""

_IMPORTS: Final = """
-- requests: how many calls the row is the sum of, NULL for one, as of every call that was made under our eyes.
ALTER TABLE model_call ADD COLUMN requests INTEGER;
-- mark: of the importer and what the provider calls the thing. ref: the row or the run that it became.
CREATE TABLE imported (mark TEXT PRIMARY KEY, ref TEXT NOT NULL) WITHOUT ROWID;
-- Files as they were when they were read to their end: unchanged ones are not read again.
CREATE TABLE import_file (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
"""

_ENDED: Final = f"""
-- Each b-tree that a transaction touches is a page of the log. So calls in flight, which are few, have a table of their
-- own that needs no index, and those that ended are found by their id alone: they are swept in its order.
CREATE TABLE ended (
    call_id TEXT PRIMARY KEY, path TEXT NOT NULL, state INTEGER NOT NULL, measured INTEGER NOT NULL,
    ended_us INTEGER NOT NULL,
    {_columns("charged")}
) WITHOUT ROWID;
INSERT INTO ended
    SELECT call_id, path, state, measured, ended_us, {", ".join(amounts("charged"))} FROM hold WHERE state > 0;
CREATE TABLE in_flight (
    call_id TEXT PRIMARY KEY, path TEXT NOT NULL, owner TEXT, asked TEXT, made_us INTEGER NOT NULL,
    {_columns("held")}
) WITHOUT ROWID;
INSERT INTO in_flight
    SELECT call_id, path, owner, asked, made_us, {", ".join(amounts("held"))} FROM hold WHERE state = 0;
DROP TABLE hold;
ALTER TABLE in_flight RENAME TO hold;
DROP INDEX account_made;
CREATE INDEX account_made ON account (made_us) WHERE window <> 'total';
"""  # noqa: S608 - names of columns of ours

_CUTS: Final = """
ALTER TABLE verdict ADD COLUMN pays_after INTEGER;
"""

_APPROVALS: Final = """
-- What gates asked and what was answered. state: asked, approved, used, denied, timeout, withdrawn. arguments are there
-- while a question is open. place: where in which graph it was asked, skip: answers there that were to other questions.
CREATE TABLE approval (
    id TEXT PRIMARY KEY, made_us INTEGER NOT NULL, until_us INTEGER, state TEXT NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, workflow TEXT NOT NULL, run_id TEXT, op_id TEXT NOT NULL, user_hash TEXT,
    binding TEXT NOT NULL, place TEXT, skip INTEGER NOT NULL DEFAULT 0, arguments TEXT, whole INTEGER NOT NULL,
    likely_nusd INTEGER, bound_nusd INTEGER, ceiling_nusd INTEGER, sure TEXT, spent_nusd INTEGER, left_nusd INTEGER,
    rules TEXT NOT NULL, why TEXT NOT NULL, asking TEXT, decided_us INTEGER, used_us INTEGER, by_whom TEXT, via TEXT,
    reason TEXT, scope TEXT, edited TEXT, grant_id TEXT
) WITHOUT ROWID;
CREATE INDEX approval_open ON approval (made_us) WHERE state = 'asked';
CREATE INDEX approval_made ON approval (made_us);
CREATE INDEX approval_place ON approval (place, made_us) WHERE place IS NOT NULL;
-- each_nusd: what one call may cost (NULL: at a price nobody knows). up_to_nusd: all together, used_nusd: so far.
CREATE TABLE "grant" (
    id TEXT PRIMARY KEY, approval TEXT NOT NULL, made_us INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    scope TEXT NOT NULL, run_id TEXT, workflow TEXT NOT NULL, rules TEXT NOT NULL, each_nusd INTEGER,
    up_to_nusd INTEGER, used_nusd INTEGER NOT NULL DEFAULT 0, uses INTEGER NOT NULL DEFAULT 0, until_us INTEGER,
    by_whom TEXT, why TEXT, revoked_us INTEGER, revoked_by TEXT
) WITHOUT ROWID;
CREATE INDEX grant_of ON "grant" (kind, name) WHERE revoked_us IS NULL;
"""

_ROLLUPS: Final = """
-- How far the sums beside the ledger reach (tracing/rollup.py): attempts whose ids come before the mark are in them.
-- What is written, changed or deleted below the mark is noted, so that the sums follow; an ordinary row is above it.
CREATE TABLE rollup_mark (
    id INTEGER PRIMARY KEY CHECK (id = 1), ledger TEXT NOT NULL, folds INTEGER NOT NULL, mark TEXT NOT NULL
);
INSERT INTO rollup_mark VALUES (1, lower(hex(randomblob(16))), 0, '');
-- changed: 0 the attempt is new, 1 it was counted and is no longer what it was.
CREATE TABLE rollup_change (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, call_id TEXT NOT NULL, changed INTEGER NOT NULL
);
CREATE TRIGGER rollup_late AFTER INSERT ON model_call WHEN NEW.call_id < (SELECT mark FROM rollup_mark)
    BEGIN INSERT INTO rollup_change (call_id, changed) VALUES (NEW.call_id, 0); END;
CREATE TRIGGER rollup_updated AFTER UPDATE ON model_call WHEN OLD.call_id < (SELECT mark FROM rollup_mark)
    BEGIN INSERT INTO rollup_change (call_id, changed) VALUES (OLD.call_id, 1); END;
CREATE TRIGGER rollup_deleted AFTER DELETE ON model_call WHEN OLD.call_id < (SELECT mark FROM rollup_mark)
    BEGIN INSERT INTO rollup_change (call_id, changed) VALUES (OLD.call_id, 1); END;
"""

_LINEAGE: Final = """
-- The OpenTelemetry span that a run was opened in, in lower-case hexadecimal digits.
ALTER TABLE run ADD COLUMN trace_id TEXT;
ALTER TABLE run ADD COLUMN span_id TEXT;
CREATE INDEX run_trace ON run (trace_id) WHERE trace_id IS NOT NULL;
-- Hashes of what a request says with every call: of its system prompt and of its tools.
CREATE TABLE prompt (id INTEGER PRIMARY KEY, system_hash TEXT, tools_hash TEXT);
ALTER TABLE model_call ADD COLUMN prompt INTEGER;
"""

_RAISES: Final = """
-- Of a question: whose limit an answer may raise, what the call lacks there (NULL: it fits), by how much it was raised.
-- asker: the process that waits for the answer, as an owner of holds is known; NULL where none waits.
ALTER TABLE approval ADD COLUMN limit_scope TEXT;
ALTER TABLE approval ADD COLUMN short_nusd INTEGER;
ALTER TABLE approval ADD COLUMN raise_nusd INTEGER;
ALTER TABLE approval ADD COLUMN asker TEXT;
"""

_RARE: Final = (
    "cache_write_12h_tokens", "web_searches", "web_fetches", "file_searches", "code_executions", "image_generations",
    "audio_input_tokens", "audio_output_tokens",
)  # fmt: skip
"""Counts that are zero in nearly every row."""
_WHOSE: Final = ("user_hash", "session_id")
_KEPT: Final = (
    "call_id, run, step, dimension, ending, caller, prompt, ts_us, latency_us, ttft_us, queue_us, response_id, "
    "request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_30m_tokens, "
    "cache_write_1h_tokens, reasoning_tokens, tool_calls, messages, tools_offered, max_tokens, sent_max_tokens, "
    "est_input_tokens, trimmed_tokens, held_nusd, held_tokens, cost_nusd, cost_input_nusd, cost_output_nusd, "
    "cost_cache_read_nusd, cost_cache_write_nusd, cost_fees_nusd, rare"
)


def _before(names: str) -> str:
    # The columns of an attempt, from a row of the version before.
    caller = "(SELECT u.id FROM caller u WHERE u.session_id IS c.session_id AND u.user_hash IS c.user_hash)"
    kept = ", ".join(f"'{name}', nullif(c.{name}, 0)" for name in _RARE)
    # A row from before a count was kept says so: it is not known.
    rare = (
        f"nullif(json_patch('{{}}', json_object({kept}, 'backoff_us', c.backoff_us, 'requests', c.requests, "
        "'side_usage', json(c.side_usage), 'unknown', CASE WHEN c.web_fetches IS NULL THEN 1 END)), '{}')"
    )
    made = {"caller": caller, "rare": rare}
    return ", ".join(made.get(name, f"c.{name}") for name in names.split(", "))


def _shown() -> str:
    counts = (
        f"coalesce(a.rare ->> '$.{name}', iif(a.rare ->> '$.unknown' IS NULL, 0, NULL)) AS {name}" for name in _RARE
    )
    others = (f"a.rare ->> '$.{name}' AS {name}" for name in ("side_usage", "backoff_us", "requests"))
    whose = (f"(SELECT u.{name} FROM caller u WHERE u.id = a.caller) AS {name}" for name in _WHOSE)  # noqa: S608
    return ", ".join((*(f"a.{name}" for name in _KEPT.split(", ")), *counts, *others, *whose))


_ATTEMPTS: Final = f"""
-- Each column and each index is paid for by every call: what repeats from row to row has a table of its own, what is
-- seldom there is one JSON object, and which calls a run has is found by the half minutes in which it had any.
CREATE TABLE caller (id INTEGER PRIMARY KEY, user_hash TEXT, session_id TEXT);
CREATE INDEX caller_of ON caller (session_id, user_hash);
CREATE INDEX caller_user ON caller (user_hash) WHERE user_hash IS NOT NULL;
INSERT INTO caller (user_hash, session_id)
    SELECT DISTINCT user_hash, session_id FROM model_call WHERE user_hash IS NOT NULL OR session_id IS NOT NULL;
-- lane: the first seven characters of ids of attempts, which are 33 seconds.
CREATE TABLE run_lane (run INTEGER NOT NULL, lane TEXT NOT NULL, PRIMARY KEY (run, lane)) WITHOUT ROWID;
INSERT INTO run_lane SELECT DISTINCT run, substr(call_id, 1, 7) FROM model_call WHERE run IS NOT NULL;
CREATE TABLE attempt (
    call_id TEXT PRIMARY KEY, run INTEGER, step INTEGER, dimension INTEGER NOT NULL, ending INTEGER NOT NULL,
    caller INTEGER, prompt INTEGER, ts_us INTEGER NOT NULL, latency_us INTEGER, ttft_us INTEGER, queue_us INTEGER,
    response_id TEXT, request_id TEXT, input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER,
    cache_write_5m_tokens INTEGER, cache_write_30m_tokens INTEGER, cache_write_1h_tokens INTEGER,
    reasoning_tokens INTEGER, tool_calls INTEGER, messages INTEGER, tools_offered INTEGER, max_tokens INTEGER,
    sent_max_tokens INTEGER, est_input_tokens INTEGER, trimmed_tokens INTEGER, held_nusd INTEGER, held_tokens INTEGER,
    cost_nusd INTEGER, cost_input_nusd INTEGER, cost_output_nusd INTEGER, cost_cache_read_nusd INTEGER,
    cost_cache_write_nusd INTEGER, cost_fees_nusd INTEGER, rare TEXT
) WITHOUT ROWID;
INSERT INTO attempt ({_KEPT}) SELECT {_before(_KEPT)} FROM model_call c ORDER BY c.call_id;
DROP TABLE model_call;
CREATE VIEW model_call AS SELECT {_shown()} FROM attempt a;
CREATE TRIGGER attempt_lane AFTER INSERT ON attempt WHEN NEW.run IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM run_lane WHERE run = NEW.run AND lane = substr(NEW.call_id, 1, 7))
    BEGIN INSERT INTO run_lane VALUES (NEW.run, substr(NEW.call_id, 1, 7)); END;
CREATE TRIGGER rollup_late AFTER INSERT ON attempt WHEN NEW.call_id < (SELECT mark FROM rollup_mark)
    BEGIN INSERT INTO rollup_change (call_id, changed) VALUES (NEW.call_id, 0); END;
CREATE TRIGGER rollup_updated AFTER UPDATE ON attempt WHEN OLD.call_id < (SELECT mark FROM rollup_mark)
    BEGIN INSERT INTO rollup_change (call_id, changed) VALUES (OLD.call_id, 1); END;
CREATE TRIGGER rollup_deleted AFTER DELETE ON attempt WHEN OLD.call_id < (SELECT mark FROM rollup_mark)
    BEGIN INSERT INTO rollup_change (call_id, changed) VALUES (OLD.call_id, 1); END;
"""  # noqa: S608 - names of columns of ours

_OUTCOMES: Final = """
-- What runs brought about. The id begins with the time at which it was reported; `run` is the number of the run.
CREATE TABLE outcome (
    outcome_id TEXT PRIMARY KEY, run INTEGER, dimension INTEGER NOT NULL, ts_us INTEGER NOT NULL, name TEXT NOT NULL,
    count INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX outcome_run ON outcome (run);
"""

MIGRATIONS: Final = (
    _LEDGER, _HOLDS, _CONTENT, _USAGE, _RETRIES, _ORDERS, _LOOPS, _TOOLS, _WINDOWS, _IMPORTS, _ENDED, _CUTS, _APPROVALS,
    _ROLLUPS, _LINEAGE, _RAISES, _ATTEMPTS, _OUTCOMES,
)  # fmt: skip
