"""The ledger file: what is written stays, whatever dies, and whatever is in the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bursar import BursarWarning, ConfigError, LedgerError, db, ledger_file
from bursar.ledger_file import default_ledger_path
from bursar.tracing import users
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from bursar.tracing.spool import spools
from bursar.words.clock import first_id, new_id
from bursar.words.events import AttemptSource, CostStatus, RetryReason, Status, Usage, UsageSource
from bursar.words.records import ModelCall, Record, RunRecord, Tags, Verdict, Who

WHO = Who(Tags("triage", "dev", "inbox", "ana", "acme", "near", "r1", "v3", (("team", "red"),)), "u-17", "s-1")


def call(run_id: str | None = "R", **changes: Any) -> ModelCall:
    op_id = new_id()
    fields: dict[str, Any] = {
        "call_id": f"{op_id}/0",
        "op_id": op_id,
        "attempt": 0,
        "ts_us": time.time_ns() // 1_000,
        "who": WHO,
        "provider": "anthropic",
        "request_model": "claude-sonnet-5-5",
        "path": "sync",
        "run_id": run_id,
        "usage": Usage(100, 20, 30, 5, 6, 7, 8, 9, 1),
        "usage_source": UsageSource.PROVIDER,
        "cost_nusd": 1_000,
        "cost_status": CostStatus.LIST_PRICE,
    }
    return ModelCall(**(fields | changes))


def run_record(run_id: str = "R", **changes: Any) -> RunRecord:
    return RunRecord(**({"run_id": run_id, "parent_run_id": None, "who": WHO, "started_us": 1} | changes))


def count(path: Path) -> int:
    # Through apsw as well: two SQLite libraries in one process take away each other's locks.
    reader = db.open_ledger(path, read_only=True)
    try:
        return int(reader.execute("SELECT count(*) FROM model_call")[0][0])
    finally:
        reader.close()


def test_every_field_comes_back(ledger: Path) -> None:
    """What was written is read back, field by field."""
    writer = Ledger(ledger)
    full = call(
        step=3, attempt=1, response_model="claude-sonnet-5-5-x", host="h", tier_requested="flex", tier_served="default",
        speed="fast", latency_us=10, ttft_us=11, queue_us=12, response_id="resp", request_id="req", status=Status.ERROR,
        error_type="overloaded_error", http_status=529, finish_reason="end_turn", retry_reason=RetryReason.OVERLOADED,
        tool_calls=2, messages=4, tools_offered=5, max_tokens=300, sent_max_tokens=200, est_input_tokens=99,
        held_nusd=2_000, held_tokens=400, bound="hard", flags=("clamped", "overrun"), cost_input_nusd=1,
        cost_output_nusd=2, cost_cache_read_nusd=3, cost_cache_write_nusd=4, cost_fees_nusd=990, price_version="v",
        attempt_source=AttemptSource.FALLBACK, fallback_from="claude-opus-4-5", backoff_us=13,
    )  # fmt: skip
    verdict = Verdict(5, "R", full.op_id, "budget", "deny", "no_room", "run R", "usd", 10, 4, 3, 9, acted=False)
    for record in (run_record(limits=(("usd", 10),)), full, verdict):
        writer.write(record)
    writer.write(
        run_record(
            ended_us=9,
            stop_reason="budget",
            steps=1,
            tool_calls=2,
            tokens=3,
            cost_nusd=4,
            unpriced=5,
            unmeasured_nusd=6,
            limits=(("usd", 10),),
        )
    )
    with Reader(ledger) as reader:
        run = reader.run("r")
        assert run[:4] == ("R", None, "triage", users.hash_user("u-17", users.load_user_key(ledger)))
        assert run[4:] == (1, 9, "budget", 1, 2, 3, 4, 5, 6, (("usd", 10),))
        (row,) = reader.calls([run])
        assert row == row._replace(
            call_id=full.call_id, run_id="R", step=3, request_model="claude-sonnet-5-5",
            response_model="claude-sonnet-5-5-x", path="sync", status="error", error_type="overloaded_error",
            http_status=529, finish_reason="end_turn", retry_reason="overloaded", usage_source="provider",
            flags=("clamped", "overrun"), bound="hard", ts_us=full.ts_us, latency_us=10, ttft_us=11, queue_us=12,
            input_tokens=100, cache_read_tokens=30, cache_write_tokens=26, output_tokens=20, reasoning_tokens=9,
            tool_calls=2, max_tokens=300, sent_max_tokens=200, held_nusd=2_000, nusd=1_000, cost_status="list_price",
            response_id="resp", request_id="req", attempt_source="fallback", fallback_from="claude-opus-4-5",
            backoff_us=13,
        )  # fmt: skip
        assert [tuple(row) for row in reader.verdicts([run])] == [
            (full.op_id, "R", 5, "budget", "deny", "no_room", "run R", "usd", 10, 4, 3, 9, False, *[None] * 5)
        ]
        for by in ("env", "feature", "owner", "tenant", "release", "prompt_version", "provider", "session"):
            assert [spend.nusd for spend in reader.spend_by(by)] == [1_000]
    writer.close()


def test_a_call_written_twice_is_one_row(ledger: Path) -> None:
    """The id of an attempt is its key."""
    writer, once = Ledger(ledger), call()
    writer.write(once)
    writer.write(once)
    writer.close()
    assert count(ledger) == 1


def test_tags_are_kept_once(ledger: Path) -> None:
    """A thousand calls of the same tags and endings share one row of each."""
    writer = Ledger(ledger)
    for _ in range(1_500):
        writer.write(call())
    writer.close()
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute("SELECT count(*) FROM dimension").fetchone()[0] == 1
        assert connection.execute("SELECT count(*) FROM ending").fetchone()[0] == 1
    assert count(ledger) == 1_500


def test_the_file_is_nobody_elses(ledger: Path) -> None:
    """Ledger and key are readable by their owner only, in a directory that is as well."""
    path = ledger.parent / "new" / "ledger.db"
    writer = Ledger(path)
    writer.write(call())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((path.parent / "user.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    writer.close()


WRITE = """
import sys
from pathlib import Path
from bursar.tracing.ledger import Ledger
sys.path.insert(0, {here!r})
from test_ledger import call
ledger = Ledger(Path({path!r}))
for n in range({n}):
    ledger.write(call())
    print(n + 1, flush=True)
"""


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@pytest.mark.parametrize("n", [1, 17, 200])
def test_a_killed_process_loses_nothing_that_was_acknowledged(ledger: Path, n: int) -> None:
    """SIGKILL right after n acknowledged writes: n rows (or the one more that was under way)."""
    code = WRITE.format(here=str(Path(__file__).parent), path=str(ledger), n=10**6)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == n:
                child.send_signal(signal.SIGKILL)
                break
        acknowledged = n + sum(1 for _ in child.stdout)
        child.wait()
    assert acknowledged <= count(ledger) <= acknowledged + 1


def _write_many(path: str, n: int) -> None:
    writer = Ledger(Path(path))
    for _ in range(n):
        writer.write(call())
    writer.close()


def test_processes_write_side_by_side(ledger: Path) -> None:
    """Four processes, one file: every row is there."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_many, args=(str(ledger), 300)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert count(ledger) == 1_200


def test_a_busy_file_is_waited_for_or_left(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """try_write gives up at once while another process writes; write waits, then keeps the record aside."""
    monkeypatch.setattr(db, "BUSY_MS", 60_000)
    hurried = Ledger(ledger)
    hurried.write(run_record())
    monkeypatch.setattr(db, "BUSY_MS", 100)
    writer = Ledger(ledger)
    writer.write(run_record())
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    began = time.monotonic()
    assert not hurried.try_write(call())
    assert time.monotonic() - began < 30
    hurried.close()
    with pytest.warns(BursarWarning, match="another process holds it"):
        writer.write(call())
    other.communicate(b"\n")
    assert count(ledger) == 0
    assert writer.try_write(call())
    writer.close()
    again = Ledger(ledger)
    again.write(call())
    again.close()
    assert count(ledger) == 3
    assert list(ledger.parent.glob("*.spool*")) == []


def test_a_ledger_that_cannot_be_written_spools_and_takes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in the way: records go to the side, users hashed, and come back once; torn lines are kept."""
    monkeypatch.setenv("BURSAR_USER_KEY", "0123456789abcdef")
    path = tmp_path / "ledger.db"
    path.mkdir()
    writer = Ledger(path)
    with pytest.warns(BursarWarning, match="not a plain file"):
        writer.write(call())
    verdict = Verdict(5, "R", "op", "budget", "deny", "no_room")
    for record in (call(), run_record(), verdict):
        writer.write(record)
    (spool,) = tmp_path.glob("ledger.db.spool")
    assert b"u-17" not in spool.read_bytes()
    with spool.open("ab") as file:
        file.write(b'\n{"kind": "ModelCall", "rec')
    path.rmdir()
    for _ in range(2):
        again = Ledger(path)
        again.write(call())
        again.close()
    assert count(path) == 4
    with Reader(path) as reader:
        assert len(reader.verdicts(reader.runs())) == 1
        assert len(reader.spend_by("user")) == 2
    assert list(tmp_path.glob("*.spool*")) == []
    assert (tmp_path / "ledger.db.rejected").read_bytes().strip() == b'{"kind": "ModelCall", "rec'


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the ledger nor a spool: a warning, and the caller goes on."""
    monkeypatch.setattr("bursar.tracing.spool.spools", lambda _: [tmp_path])
    with pytest.warns(BursarWarning, match="records are lost"):
        Ledger(tmp_path).write(call())


@pytest.mark.parametrize("kind", ["directory", "text", "foreign", "newer", "link", "missing directory"])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, kind: str) -> None:
    """Not ours, not plain, or newer than this version: an error that names the file, and the file is not touched."""
    path = tmp_path / "x.db"
    if kind == "directory":
        path.mkdir()
    elif kind == "text":
        path.write_text("not a database, but long enough to be looked at as one " * 20)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere.db")
    elif kind == "missing directory":
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "x.db"
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE t (x)")
            if kind == "newer":
                connection.execute(f"PRAGMA application_id={ledger_file.APPLICATION_ID}")
                connection.execute("PRAGMA user_version=99")
    with pytest.raises(LedgerError, match=r"x\.db"):
        db.open_ledger(path)


def test_reading_needs_a_ledger(tmp_path: Path) -> None:
    """No file and an empty one: the error says how to fill it."""
    with pytest.raises(LedgerError, match="bursar demo"):
        Reader(tmp_path / "none.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(LedgerError, match="is empty"):
        Reader(tmp_path / "empty.db")


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "x" * 10_000, "é" * 300, "'; DROP TABLE run;--"])
def test_any_text_can_be_written(ledger: Path, text: str) -> None:
    """Lone surrogates, NULs, long and hostile text: cut and cleaned, never an error."""
    writer = Ledger(ledger)
    who = Who(Tags(text, extra=((text, text),)), text, text)
    writer.write(run_record(who=who, stop_reason=text))
    writer.write(call(who=who, request_model=text, response_id=text, error_type=text, flags=(text,)))
    writer.close()
    with Reader(ledger) as reader:
        (row,) = reader.calls(reader.runs())
        assert len(row.request_model) <= 200


def test_numbers_beyond_the_file_are_bounded(ledger: Path) -> None:
    """Integers of more than 64 bits are kept as the largest there is."""
    writer = Ledger(ledger)
    writer.write(run_record())
    writer.write(call(latency_us=2**70, cost_nusd=2**70))
    writer.close()
    with Reader(ledger) as reader:
        assert reader.calls(reader.runs())[0].nusd == 2**63 - 1


def test_users_are_nowhere_in_the_clear(ledger: Path) -> None:
    """The user's id is in no byte of ledger and log; the same user has the same hash, another key another one."""
    writer = Ledger(ledger)
    writer.write(run_record())
    writer.write(call(who=Who(Tags("w"), "someone@example.org", None)))
    for path in ledger.parent.iterdir():
        assert b"someone" not in path.read_bytes()
    writer.close()
    assert users.hash_user("a", b"k" * 16) == users.hash_user("a", b"k" * 16) != users.hash_user("a", b"l" * 16)
    assert users.hash_user("a", b"k" * 16) != users.hash_user("b", b"k" * 16)


def test_the_key_is_made_once_and_checked(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that make a key one wins; a short one is refused without being shown."""
    key = users.load_user_key(ledger)
    assert users._make(ledger.parent / "user.key") == key == users.load_user_key(ledger)
    assert sorted(path.name for path in ledger.parent.iterdir()) == ["user.key"]
    (ledger.parent / "user.key").write_bytes(b"short")
    with pytest.raises(LedgerError, match="cut short"):
        users.load_user_key(ledger)
    with pytest.raises(LedgerError, match="cannot be used"):
        users.load_user_key(ledger.parent / "user.key" / "x")
    monkeypatch.setenv("BURSAR_USER_KEY", "secret")
    with pytest.raises(ConfigError, match="BURSAR_USER_KEY") as refused:
        users.load_user_key(ledger)
    assert "secret" not in str(refused.value)


def test_what_was_learned_is_kept(ledger: Path) -> None:
    """Calibration survives the process; where there is no ledger there is nothing, and no file is made for it."""
    writer = Ledger(ledger)
    assert writer.load_calibration() == {}
    assert not ledger.exists()
    writer.save_calibration({})
    writer.save_calibration({"a\x1fb": b"[1]"})
    writer.save_calibration({"a\x1fb": b"[2]"})
    writer.close()
    assert Ledger(ledger).load_calibration() == {"a\x1fb": b"[2]"}
    ledger.write_bytes(b"garbage" * 100)
    with pytest.warns(BursarWarning, match="could not be read"):
        assert Ledger(ledger).load_calibration() == {}
    with pytest.warns(BursarWarning, match="could not be kept"):
        Ledger(ledger).save_calibration({"x": b"1"})


def test_spend_is_added_up_by_tag_and_time(ledger: Path) -> None:
    """Totals, retries with their top reason, nearest-rank percentiles, and half-open ranges of time, by hand."""
    writer = Ledger(ledger)
    other = WHO._replace(tags=Tags("other"))
    for latency in range(1, 21):
        writer.write(call(latency_us=latency))
    retried = call(latency_us=999, status=Status.ERROR, retry_reason=RetryReason.TIMEOUT, usage=Usage(), cost_nusd=0)
    writer.write(retried)
    writer.write(call(call_id=f"{retried.op_id}/1", op_id=retried.op_id, latency_us=30))
    writer.write(
        call(
            who=other,
            cost_nusd=None,
            cost_status=CostStatus.UNKNOWN,
            usage_source=UsageSource.ESTIMATED,
            flags=("clamped",),
        )
    )
    writer.close()
    with Reader(ledger) as reader:
        triage, rest = reader.spend_by("workflow")
        assert triage._replace(p50_us=None, p95_us=None)[:20] == (
            "triage", 21, 22, 1, 2_100, 420, 630, 546, 189, 0, 1, "timeout", None, None, 21_000, 0, 0, 0, 0, 0,
        )  # fmt: skip
        assert (triage.p50_us, triage.p95_us) == (11, 20)
        assert (rest.key, rest.nusd, rest.unpriced, rest.unmeasured, rest.clamped) == ("other", 0, 1, 1, 1)
        now_us = time.time_ns() // 1_000
        assert reader.spend_by("model", since_us=now_us + 10**7) == []
        assert reader.spend_by("model", until_us=now_us - 10**9) == []
        assert reader.spend_by("model", since_us=now_us - 10**9)[0].attempts == 23
        with pytest.raises(LedgerError, match="workflow, model"):
            reader.spend_by("colour")


def test_a_run_is_found_by_the_beginning_of_its_id(ledger: Path) -> None:
    """A unique beginning, or the newest; none and several are errors that say what there is."""
    writer = Ledger(ledger)
    for name in ("AB1", "AB2", "AC"):
        writer.write(run_record(name))
    writer.close()
    with Reader(ledger) as reader:
        assert reader.run("ac").run_id == "AC"
        assert reader.run("last").run_id == "AC"
        with pytest.raises(LedgerError, match="AB1, AB2"):
            reader.run("AB")
        with pytest.raises(LedgerError, match="begins with 'Z'"):
            reader.run("Z")


def test_ids_sort_by_time_and_never_repeat() -> None:
    """An id made later is larger, and a moment's first id is below all of that moment's."""
    ids = [new_id() for _ in range(5_000)]
    assert len(set(ids)) == 5_000
    assert {len(one) for one in ids} == {26}
    now_us = time.time_ns() // 1_000
    assert first_id(now_us - 10**6) < new_id() < first_id(now_us + 10**6)
    child = os.fork()
    if child == 0:
        os._exit(0 if new_id()[10:20] != ids[0][10:20] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_default_ledger_lies_in_the_users_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a setting the ledger is where user data belongs."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_ledger_path().name == "ledger.db"


def test_a_spool_is_taken_back_at_the_next_success(ledger: Path) -> None:
    """No new start is needed: the first write that succeeds brings back what was kept aside."""
    writer = Ledger(ledger)
    writer.write(call())
    with pytest.warns(BursarWarning, match="records go to"):
        writer._keep_aside(call(), None, "a test")
    writer.write(call())
    assert count(ledger) == 3
    assert list(ledger.parent.glob("*.spool*")) == []
    writer.close()


def test_a_beginning_that_was_kept_aside_reopens_no_run(ledger: Path) -> None:
    """A run's end is written before its beginning is taken back: the run stays ended."""
    writer = Ledger(ledger)
    with pytest.warns(BursarWarning, match="records go to"):
        writer._keep_aside(run_record(), None, "a test")
    writer._kept_aside = False
    writer.write(run_record(ended_us=9, stop_reason="done"))
    writer.close()
    again = Ledger(ledger)
    again.write(call())
    again.close()
    with Reader(ledger) as reader:
        assert reader.run("R")[5:7] == (9, "done")


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced by a ledger", "replaced by a directory"])
def test_a_file_that_goes_away_under_its_writer_loses_nothing_more(ledger: Path, what: str) -> None:
    """The record in hand and all later ones are where the ledger should be, or in a spool and back from it once."""
    writer = Ledger(ledger)
    for record in (run_record(), call(), call()):
        writer.write(record)
    writer.deliver()
    if what in {"deleted", "moved"}:
        for path in ledger.parent.glob("ledger.db*"):
            path.unlink() if what == "deleted" else path.rename(path.with_name("old-" + path.name))
    else:
        ledger.rename(ledger.with_name("old.db"))
    if what == "replaced by a ledger":
        db.open_ledger(ledger).close()
    if what == "replaced by a directory":
        ledger.mkdir()
        with pytest.warns(BursarWarning, match="not a plain file"):
            writer.write(run_record())
    else:
        writer.write(run_record())
    for _ in range(3):
        writer.write(call())
    if ledger.is_dir():
        assert list(ledger.parent.glob("ledger.db.spool"))
        ledger.rmdir()
    writer.write(call())
    writer.close()
    with Reader(ledger) as reader:
        assert len(reader.calls([reader.run("R")])) == 4
        assert sum(row.attempts for row in reader.spend_by("workflow")) == 4
    assert list(ledger.parent.glob("*.spool*")) == []


READ_ONLY = """
import os, sys, warnings
from pathlib import Path
sys.path.insert(0, {here!r})
from test_ledger import Ledger, call, db
import apsw, platformdirs
warnings.simplefilter("ignore")
path, locked = Path({path!r}), {locked!r}
if os.geteuid() == 0:
    # Nothing is read-only for root.
    for place in (path.parent, *path.parent.iterdir()):
        os.chown(place, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name in locked:
    place = path.parent / name
    place.chmod(0o500 if place.is_dir() else 0o400)
writer = Ledger(path)
for _ in range(3):
    writer.write(call())
writer.close()
for name in locked:
    place = path.parent / name
    place.chmod(0o700 if place.is_dir() else 0o600)
for _ in range(2):
    again = Ledger(path)
    again.write(call())
    again.close()
reader = db.open_ledger(path, read_only=True)
print(reader.execute("SELECT count(*) FROM model_call")[0][0])
"""


@pytest.mark.parametrize(
    ("exists", "locked"),
    [(False, ["."]), (True, ["."]), (True, ["ledger.db"]), (True, [".", "ledger.db"])],
    ids=["new directory", "directory", "file", "both"],
)
def test_a_ledger_that_became_read_onlyspools(exists: bool, locked: list[str]) -> None:
    """Beside the ledger or in the temporary directory: no record is lost, and each comes back once."""
    # A directory that the process may enter once it is nobody; pytest's own are closed to it.
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "ledger.db"
        if exists:
            writer = Ledger(path)
            writer.write(call())
            writer.close()
        code = READ_ONLY.format(here=str(Path(__file__).parent), path=str(path), locked=locked)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
        assert (done.stdout.strip(), done.stderr) == ("6" if exists else "5", "")


def _spool_many(path: str, n: int) -> None:
    writer = Ledger(Path(path))
    writer._warned = True
    for _ in range(n):
        writer._keep_aside(call(), None, "a test")


def test_a_spool_is_taken_back_under_its_writers(ledger: Path) -> None:
    """Two processes keep records aside while two others start again and again: every record is a row once."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_spool_many, args=(str(ledger), 500)) for _ in range(2)]
    takers = [context.Process(target=_start_often, args=(str(ledger), 40)) for _ in range(2)]
    for worker in writers + takers:
        worker.start()
    for worker in writers + takers:
        worker.join()
    assert [worker.exitcode for worker in writers + takers] == [0] * 4
    _start_often(str(ledger), 1)
    assert count(ledger) == 1_000
    assert list(ledger.parent.glob("*.spool*")) == []


def _start_often(path: str, n: int) -> None:
    for _ in range(n):
        writer = Ledger(Path(path))
        writer.write(run_record())
        writer.close()


def test_lines_that_are_no_records_are_passed_over(ledger: Path) -> None:
    """JSON of any other kind, wrong types, binary noise: the good lines between them come back."""
    writer = Ledger(ledger)
    with pytest.warns(BursarWarning, match="records go to"):
        writer._keep_aside(call(), None, "a test")
    spool = ledger.with_name("ledger.db.spool")
    good = spool.read_bytes().strip()
    bad = [b"[]", b"7", b'"x"', b"\xff\xfe", b"{}", b'{"kind": "Verdict", "record": {}}', good[:-9]]
    bad += [good.replace(b'"workflow":"triage"', b'"workflow":[1]'), good.replace(b'"ts_us":', b'"ts_us":[],"x":')]
    bad += [b'{"kind":"Verdict","record":{"ts_us":null,"run_id":"R","op_id":"o","guard":"g","action":"","reason":""}}']
    spool.write_bytes(b"\n".join([*bad, good, *bad]))
    writer.write(call())
    writer.close()
    assert count(ledger) == 2
    assert list(ledger.parent.glob("*.spool*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lay down a file of another user")
def test_a_spool_of_another_user_is_neither_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary directory is everybody's: what somebody else laid there is left alone, and stops nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "ledger.db"
    beside, shared = spools(path)
    beside.mkdir()
    shared.write_bytes(b'{"kind": "RunRecord"}')
    os.chown(shared, 65534, 65534)
    writer = Ledger(path)
    with pytest.warns(BursarWarning, match="records are lost"):
        writer._keep_aside(call(), None, "a test")
    writer.write(call())
    writer.close()
    assert count(path) == 1
    assert shared.read_bytes() == b'{"kind": "RunRecord"}'


def test_no_two_ledgers_share_a_spool() -> None:
    """Places that end alike are told apart."""
    assert spools(Path("/srv/a/project/data/ledger.db"))[1] != spools(Path("/srv/b/project/data/ledger.db"))[1]


def test_a_warning_that_is_an_error_reaches_no_caller(tmp_path: Path) -> None:
    """Where warnings are errors a record is spooled all the same, and the call it is of goes on."""
    path = tmp_path / "ledger.db"
    path.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ledger(path).write(call())
    assert path.with_name("ledger.db.spool").exists()


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "x" * 10_000])
def test_any_record_can_be_written(ledger: Path, text: str) -> None:
    """Ids, units and every other field too, and numbers of any size, straight or by way of the spool."""
    records: list[Record] = [
        run_record(text, parent_run_id=text, limits=((text, 2**70),), started_us=2**70, tokens=-(2**70)),
        call(text, call_id=text, op_id=text, host=text, bound=text, price_version=text, http_status=2**70, step=2**70),
        Verdict(2**70, text, text, text, text, text, text, text, 2**70, 2**70, 2**70, 2**70),
    ]
    writer = Ledger(ledger)
    for record in records:
        writer.write(record)
    with pytest.warns(BursarWarning, match="records go to"):
        writer._keep_aside(records[0], None, "a test")
    for record in records:
        writer._keep_aside(record, None, "a test")
    writer.write(call())
    writer.close()
    assert count(ledger) == 2
    assert list(ledger.parent.glob("*.spool*")) == []
    with Reader(ledger) as reader:
        (row,) = reader.runs()
        assert row.started_us == 2**63 - 1
        assert [limit for _, limit in row.limits] == [2**63 - 1]
        assert len(reader.verdicts([row])) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_writes_its_own_rows(ledger: Path) -> None:
    """Through the process's own ledger, as a run does: parent and child, whoever closes first."""
    from bursar.runs.process import process

    process().ledger.write(call())
    child_ready, parent_done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        process().ledger.write(call())
        os.write(child_ready[1], b"x")
        os.read(parent_done[0], 1)
        for _ in range(3):
            process().ledger.write(call())
        process().ledger.close()
        os._exit(0)
    os.read(child_ready[0], 1)
    process().ledger.write(call())
    process().ledger.close()
    os.write(parent_done[1], b"x")
    assert os.waitpid(child, 0)[1] == 0
    for handle in (*child_ready, *parent_done):
        os.close(handle)
    assert count(ledger) == 6


def test_long_tags_and_limits_stay_whole(ledger: Path) -> None:
    """They are kept as JSON, of which half would be nothing; one run that cannot be read hides no other."""
    extra = tuple((f"name {n}", "é" * 300) for n in range(20))
    limits = tuple((f"unit {n}", n) for n in range(100))
    writer = Ledger(ledger)
    writer.write(run_record("A", limits=limits, who=Who(Tags("w", extra=extra))))
    writer.write(run_record("B", limits=(("usd", 5),)))
    writer.close()
    with Reader(ledger) as reader:
        assert reader.run("A").limits == limits
    database = db.open_ledger(ledger)
    (kept,) = database.execute("SELECT extra FROM dimension WHERE workflow = 'w'")
    assert json.loads(kept[0]) == {name: value[:200] for name, value in extra}
    database.execute("UPDATE run SET limits = '{' WHERE run_id = 'A'")
    database.close()
    with Reader(ledger) as reader:
        assert [(run.run_id, run.limits) for run in reader.runs()] == [("B", (("usd", 5),)), ("A", ())]
