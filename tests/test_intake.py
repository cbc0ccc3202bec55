"""Rows on their way into the ledger: safe at once, in the table soon, there exactly once, whoever dies or looks when."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count as counter
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar import BursarWarning, db
from bursar.intake import COLUMNS, MANY, Intake
from bursar.leftovers import gather, intakes
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from tests.tracing.test_ledger import HOLD, WHO, call, count, run_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bursar.words.records import ModelCall

MORTAL = """
import sys
from pathlib import Path
from tests.tracing.test_ledger import Ledger, call, run_record
ledger = Ledger(Path(sys.argv[1]))
with open(sys.argv[2], "a", buffering=1) as said:
    while True:
        record = call()
        ledger.write(record)
        said.write(record.call_id + "\\n")
"""
NOW = time.time_ns() // 1_000
OTHER = """
import sys
from pathlib import Path
from tests.tracing.test_ledger import Ledger, call
import bursar.intake
bursar.intake.DELAY_S = 1_000
ledger = Ledger(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    ledger.write(call())
print("written", flush=True)
sys.stdin.readline()
ledger.close()
"""


def in_table(path: Path) -> int:
    """What is in the table just now, whatever is on the way."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(next(connection.execute("SELECT count(*) FROM attempt"))[0])
    finally:
        connection.close()


def numbered(ledger: Path) -> tuple[Ledger, ModelCall]:
    """A writer that has numbered what a call refers to, and waits with whatever comes now."""
    writer, first = Ledger(ledger), call()
    writer.write(first)
    assert writer._intake is not None
    writer._intake._wake = lambda: None  # type: ignore[method-assign]
    return writer, first


@contextmanager
def another(ledger: Path, rows: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has written so many rows, and waits for a line."""
    pipe, code = subprocess.PIPE, [sys.executable, "-c", OTHER, str(ledger), str(rows)]
    with subprocess.Popen(code, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        yield child


def left_by_the_dead(ledger: Path, rows: int) -> None:
    """A process writes so many rows, and is killed."""
    with another(ledger, rows) as child:
        child.kill()


def test_a_row_is_in_the_table_before_long(ledger: Path) -> None:
    """Nobody else writes and nobody looks: a moment later it is there for any program that reads the file."""
    writer = Ledger(ledger)
    for _ in range(3):
        writer.write(call())
    assert in_table(ledger) < 3
    until = time.monotonic() + 20
    while in_table(ledger) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    assert in_table(ledger) == 3
    writer.close()


def test_it_goes_with_the_next_transaction_of_any_kind(ledger: Path) -> None:
    """What is written directly never overtakes what came before it."""
    writer, _ = numbered(ledger)
    writer.write(call())
    assert in_table(ledger) == 1
    writer.write(run_record())
    assert in_table(ledger) == 2
    writer.write(call())
    writer.transact(lambda _: None)
    assert in_table(ledger) == 3
    writer.write(call())
    assert writer.database().execute("SELECT count(*) FROM attempt") == [(4,)]
    writer.close()


def test_many_at_once_are_put_by_the_call_that_brings_the_last(ledger: Path) -> None:
    """Without a thread to carry them, no more than that wait in memory."""
    writer, _ = numbered(ledger)
    for _ in range(MANY - 1):
        writer.write(call())
    assert in_table(ledger) == 1
    writer.write(call())
    assert in_table(ledger) == MANY + 1
    writer.close()


def test_a_closed_ledger_leaves_no_file(ledger: Path) -> None:
    """All is in the table, and nothing lies beside it."""
    writer, _ = numbered(ledger)
    writer.write(call())
    assert len(intakes(ledger)) == 1
    writer.close()
    assert intakes(ledger) == []
    assert in_table(ledger) == 2


@pytest.mark.parametrize("how", ["reader", "writer", "run"])
def test_what_a_killed_process_left_is_taken_by_whoever_opens_the_ledger(ledger: Path, how: str) -> None:
    """Once, with its tags, and its files are gone."""
    left_by_the_dead(ledger, 7)
    assert in_table(ledger) == 1
    assert len(intakes(ledger)) == 1
    for _ in range(2):
        if how == "reader":
            with Reader(ledger) as reader:
                assert [(row.key, row.attempts) for row in reader.spend_by("workflow")] == [("triage", 7)]
        elif how == "writer":
            Ledger(ledger).gather()
        else:
            db.open_ledger(ledger).close()
        assert in_table(ledger) == 7
    assert intakes(ledger) == []


def test_a_reader_sees_what_a_living_process_has_on_the_way(ledger: Path) -> None:
    """At once, and it is not written a second time when its own process comes to it."""
    with another(ledger, 7) as child:
        assert in_table(ledger) == 1
        with Reader(ledger) as reader:
            assert reader.spend_by("workflow")[0].attempts == 7
        assert len(intakes(ledger)) == 1
        child.communicate("\n")
    assert count(ledger) == 7
    assert intakes(ledger) == []


def test_whoever_is_killed_and_whoever_looks_every_row_that_was_acknowledged_is_there_once(
    ledger: Path, tmp_path: Path
) -> None:
    """Two writers that are killed again and again, and somebody who opens the ledger all the time."""
    said = [tmp_path / f"said-{n}" for n in range(2)]
    db.open_ledger(ledger).close()
    for _ in range(3):
        writers = [subprocess.Popen([sys.executable, "-c", MORTAL, str(ledger), str(path)]) for path in said]
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until and not all(path.exists() and path.stat().st_size > 9_000 for path in said):
                count(ledger)
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
        count(ledger)
    # The last line may be torn: the process was killed while it wrote it.
    wanted = [line for path in said for line in path.read_text().splitlines() if len(line) == 28]
    reader = db.open_ledger(ledger, read_only=True)
    found = {call_id for (call_id,) in reader.execute("SELECT call_id FROM attempt")}
    reader.close()
    assert len(set(wanted)) == len(wanted) > 600
    assert set(wanted) <= found
    assert len(found) <= len(wanted) + 6
    assert intakes(ledger) == []


def test_a_forked_child_leaves_its_parents_rows_alone(ledger: Path) -> None:
    """The child neither writes nor deletes them, and what it writes itself is there as well."""
    writer, _ = numbered(ledger)
    writer.write(call())
    child = os.fork()
    if child == 0:
        writer.write(call())
        writer.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert in_table(ledger) == 2
    assert count(ledger) == 3
    writer.write(call())
    writer.close()
    assert in_table(ledger) == 4


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced"])
def test_rows_on_the_way_into_a_file_that_is_gone_go_into_the_next(ledger: Path, what: str) -> None:
    """With their tags and users, whatever numbers those have in the new file."""
    writer, _ = numbered(ledger)
    tags = WHO._replace(tags=WHO.tags._replace(workflow="billing"))
    writer.write(call(who=tags))
    waiting = [call(), call(who=tags)]
    for record in waiting:
        writer.write(record)
    for path in ledger.parent.glob("ledger.db*"):
        path.unlink() if what == "deleted" else path.rename(path.with_name("old-" + path.name))
    if what == "replaced":
        stranger = Ledger(ledger)
        stranger.write(call(who=tags))
        stranger.close()
    writer.write(run_record())
    writer.close()
    with Reader(ledger) as reader:
        found = {row.key: row.attempts for row in reader.spend_by("workflow")}
    assert found == {"triage": 1, "billing": 2 if what == "replaced" else 1}


def test_what_was_left_for_a_ledger_that_lay_there_before_is_set_aside(ledger: Path) -> None:
    """Its numbers mean something else by now: nobody's spend is given to others, and a person can look."""
    left_by_the_dead(ledger, 3)
    ledger.unlink()
    writer = Ledger(ledger)
    writer.write(call())
    writer.close()
    assert count(ledger) == 1
    assert (ledger.parent / "ledger.db.rejected").read_bytes().count(b"\n") == 2
    assert intakes(ledger) == []


def test_a_torn_line_and_what_is_no_row_are_passed_over(ledger: Path) -> None:
    """A disk that was full in the middle of a line costs no other row."""
    left_by_the_dead(ledger, 4)
    (left,) = intakes(ledger)
    first, *others = left.read_bytes().splitlines(keepends=True)
    left.write_bytes(b'["torn\n' + first + b"[1,2]\n7\n\n" + b"".join(others) + first[:-20])
    assert count(ledger) == 4


def test_where_no_file_can_be_made_a_row_is_committed_at_once(ledger: Path) -> None:
    """The name of the file would be too long for the file system."""
    long = ledger.with_name("x" * 220)
    writer = Ledger(long)
    for _ in range(3):
        writer.write(call())
    assert in_table(long) == 3
    writer.close()


def test_what_has_to_survive_a_power_cut_goes_no_way_round(ledger: Path) -> None:
    """Each row is a commit, which waits for the disk: before a fork and after it."""
    writer = Ledger(ledger, durable=True)
    for n in range(3):
        writer.write(call())
        assert in_table(ledger) == n + 1
    assert intakes(ledger) == []
    assert writer.database().execute("PRAGMA synchronous") == [(2,)]
    if not (child := os.fork()):
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert writer.database().execute("PRAGMA synchronous") == [(2,)]
    writer.close()


@pytest.mark.parametrize("odd", [{"latency_us": 2**60}, {"cost_nusd": 2**63}])
def test_what_is_odd_is_committed_at_once(ledger: Path, odd: dict[str, Any]) -> None:
    """Numbers that readers of JSON, or the table, may not hold."""
    writer, _ = numbered(ledger)
    writer.write(call(**odd))
    assert in_table(ledger) == 2
    writer.close()


def test_rows_that_are_deleted_under_their_writer_are_not_lost(ledger: Path) -> None:
    """It has them in memory too, and makes another file."""
    writer, _ = numbered(ledger)
    writer.write(call())
    for file in intakes(ledger):
        file.unlink()
    writer.write(run_record())
    assert in_table(ledger) == 2
    writer.write(call())
    assert [file.stat().st_size > 0 for file in intakes(ledger)] == [True]
    writer.close()
    assert in_table(ledger) == 3


def test_a_call_does_not_wait_for_another_process(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is locked: calls go on at once, no warning, and every row is there when it is free."""
    monkeypatch.setattr(db, "BUSY_MS", 60_000)
    writer, _ = numbered(ledger)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    began = time.monotonic()
    for _ in range(20):
        writer.write(call())
    assert time.monotonic() - began < 30
    holder.communicate(b"\n")
    writer.close()
    assert count(ledger) == 21


def test_a_ledger_that_fails_keeps_its_rows_beside_it(ledger: Path) -> None:
    """What cannot be put is said once, and is there when it can."""
    writer, _ = numbered(ledger)
    writer.write(call())
    database = writer.opened()
    database.execute("ALTER TABLE attempt RENAME TO away")
    with pytest.warns(BursarWarning, match="records wait beside it"):
        writer.deliver()
    database.execute("ALTER TABLE away RENAME TO attempt")
    writer.close()
    assert in_table(ledger) == 2


@given(steps=st.lists(st.sampled_from(["add", "put", "undo", "fail", "gather"]), max_size=40))
def test_every_row_is_there_exactly_once(steps: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Rows, transactions that are committed or undone, and others who look: in any order."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    database, numbers, wanted = db.open_ledger(path), counter(), []
    intake = Intake(database, lambda: None)
    intake._wake = lambda: None  # type: ignore[method-assign]
    for step in [*steps, "put", "put"]:
        if step == "add":
            wanted.append(f"{next(numbers):026d}/0")
            row = (wanted[-1], None, 1, 1, 1, None, None, NOW, *[1] * (len(COLUMNS) - 9), None)
            assert intake.add(row, None)
        elif step == "gather":
            gather(database)
        else:
            database.transact(intake.put) if step == "put" else _undone(database, intake)
            intake.done() if step == "put" else intake.undone()
    assert intake.waiting() == 0
    assert [key for (key,) in database.execute("SELECT call_id FROM attempt ORDER BY call_id")] == wanted
    intake.end()
    database.close()


def _undone(database: db.Database, intake: Intake) -> None:
    def work(run: db.Run) -> None:
        intake.put(run)
        raise KeyError

    with pytest.raises(KeyError):
        database.transact(work)
