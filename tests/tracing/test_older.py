"""Ledgers of other versions: older ones are saved and brought up to date, newer ones are left alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner

from bursar import BursarWarning, LedgerError
from bursar.cli.app import app
from bursar.db import open_ledger
from bursar.ledger_file import APPLICATION_ID
from bursar.leftovers import intakes
from bursar.schema import MIGRATIONS
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from bursar.words.clock import first_id
from bursar.words.records import ModelCall, Who

AT_US = 1_793_491_200_000_000


def older(path: Path, version: int) -> None:
    """The file that a version with so many migrations has left, with a call of each of two workflows."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL")
    for script in MIGRATIONS[:version]:
        connection.execute(script)
    connection.execute(f"PRAGMA user_version={version}; PRAGMA application_id={APPLICATION_ID}")
    connection.execute(
        "INSERT INTO ending (status, usage_source, flags, cost_status) VALUES ('ok', 'provider', '', 'list_price')"
    )
    ((kind,),) = connection.execute("SELECT type FROM sqlite_schema WHERE name = 'model_call'")
    table = "model_call" if kind == "table" else "attempt"
    for number, workflow in enumerate(("triage", "search"), 1):
        connection.execute(
            "INSERT INTO dimension (id, workflow, request_model) VALUES (?, ?, 'gpt-4o')", (number, workflow)
        )
        connection.execute(
            f"INSERT INTO {table} (call_id, dimension, ending, ts_us, latency_us, input_tokens, output_tokens, cost_nusd) "
            "VALUES (?, ?, 1, ?, 5, 100, 10, 7)",
            (f"{first_id(AT_US)[:10]}{number:016}/0", number, AT_US),
        )
    connection.execute("INSERT INTO run (number, run_id, dimension, started_us) VALUES (1, 'R1', 1, 5)")
    connection.close()


def new_call(number: int = 9) -> ModelCall:
    op_id = first_id(AT_US + 1)[:10] + f"{number:016}"
    return ModelCall(f"{op_id}/0", op_id, 0, AT_US, Who(), "openai", "gpt-4o", "sync", run_id="R2")


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_older_file_is_saved_and_brought_up_to_date(ledger: Path, version: int) -> None:
    """Whether it is read or written first: its rows are there, new ones too, and the copy is as it was."""
    older(ledger, version)
    if version % 2:
        with Reader(ledger) as reader:
            assert [(row.key, row.nusd) for row in reader.spend_by("workflow")] == [("search", 7), ("triage", 7)]
    writer = Ledger(ledger)
    writer.write(new_call())
    writer.close()
    with Reader(ledger) as reader:
        assert sum(row.attempts for row in reader.spend_by("day")) == 3
        assert [row.run_id for row in reader.runs()] == ["R1"]
    saved = apsw.Connection(f"{ledger}.v{version}.bak", flags=apsw.SQLITE_OPEN_READONLY)
    assert saved.pragma("user_version") == version
    assert saved.execute("SELECT count(*), sum(cost_nusd) FROM model_call").fetchall() == [(2, 14)]
    assert Path(f"{ledger}.v{version}.bak").stat().st_mode & 0o077 == 0
    saved.close()


WHOLE = {
    "user_hash": "k1:ab", "session_id": "s", "run": 1, "step": 2, "ttft_us": 3, "queue_us": 4, "response_id": "msg_1",
    "request_id": "req_1", "cache_write_12h_tokens": 12, "web_searches": 5, "web_fetches": 6, "image_generations": 0,
    "audio_output_tokens": 7, "side_usage": '[{"kind":"advisor","nusd":null}]', "backoff_us": 8, "requests": 9,
    "trimmed_tokens": 10, "cost_fees_nusd": 11, "prompt": 12,
}  # fmt: skip


def test_a_row_of_one_wide_table_keeps_every_value(ledger: Path) -> None:
    """What moved to tables of its own reads as before, counts that were not kept yet stay unknown, runs find calls."""
    older(ledger, 15)
    connection = apsw.Connection(str(ledger))
    sets = ", ".join(f"{name} = ?" for name in WHOLE)
    connection.execute(f"UPDATE model_call SET {sets} WHERE call_id LIKE '%1/0'", list(WHOLE.values()))
    connection.close()
    database = open_ledger(ledger)
    whole, other = database.execute(f"SELECT {', '.join(WHOLE)} FROM model_call ORDER BY call_id")
    assert dict(zip(WHOLE, whole, strict=True)) == WHOLE
    unknown = dict(zip(WHOLE, other, strict=True))
    assert (unknown["web_fetches"], unknown["audio_output_tokens"], unknown["user_hash"]) == (None, None, None)
    database.close()
    with Reader(ledger) as reader:
        assert [call.response_id for call in reader.calls([reader.run("R1")])] == ["msg_1"]


def test_every_version_ends_with_the_same_tables(tmp_path: Path) -> None:
    """Whichever migrations were made when: a file brought up to date has what a new one has."""
    shapes = set()
    for version in range(1, len(MIGRATIONS) + 1):
        path = tmp_path / f"{version}.db"
        older(path, version)
        database = open_ledger(path)
        rows = database.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE name <> 'sqlite_sequence' ORDER BY name"
        )
        shapes.add(str(rows))
        database.close()
    assert len(shapes) == 1


def test_a_newer_file_is_refused_and_not_touched(ledger: Path) -> None:
    """One line that says what to do, exit code 1, and not a byte of the file has changed; no copy is made."""
    older(ledger, len(MIGRATIONS))
    connection = apsw.Connection(str(ledger))
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    before = hashlib.sha256(ledger.read_bytes()).digest()
    for attempt in (lambda: Reader(ledger), lambda: open_ledger(ledger)):
        with pytest.raises(LedgerError, match=r"newer version .* upgrade bursar"):
            attempt()
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 1
    assert hashlib.sha256(ledger.read_bytes()).digest() == before
    assert not list(ledger.parent.glob("*.bak"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_an_older_file_that_may_not_be_written_says_so(ledger: Path) -> None:
    """It is named, with what is in the way."""
    older(ledger, 3)
    ledger.chmod(0o400)
    with pytest.raises(LedgerError, match=r"older version .* make it writable"):
        Reader(ledger)


def test_a_file_that_becomes_newer_beneath_a_running_process_loses_nothing(ledger: Path) -> None:
    """What it writes after that waits beside the file, until a process of the newer version takes it in."""
    running = Ledger(ledger)
    running.write(new_call())
    newer = apsw.Connection(str(ledger))
    newer.execute("BEGIN IMMEDIATE; DROP TRIGGER attempt_lane; ALTER TABLE attempt RENAME TO attempt_next")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}; COMMIT")
    second = new_call(10)
    with pytest.warns(BursarWarning, match="records wait beside it"):
        running.write(second)
        running.close()
    assert second.call_id.encode() in b"".join(path.read_bytes() for path in intakes(ledger))
    # Here the newer version is this one again.
    newer.execute(
        f"BEGIN IMMEDIATE; ALTER TABLE attempt_next RENAME TO attempt; PRAGMA user_version = {len(MIGRATIONS)}"
    )
    newer.execute("COMMIT")
    again = Ledger(ledger)
    again.write(new_call(11))
    again.close()
    kept = [call_id for (call_id,) in newer.execute("SELECT call_id FROM attempt")]
    newer.close()
    assert second.call_id in kept
    assert len(kept) == 3
    assert not intakes(ledger)
