"""The file under the ledger: forks, files that go away, other programs, and processes that die."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import apsw
import pytest

from bursar import LedgerError, checkpoints, db, ledger_file
from bursar.schema import MIGRATIONS

if TYPE_CHECKING:
    from pathlib import Path

ADD = "INSERT INTO calibration VALUES (?, 'v', 1)"
COUNT = "SELECT count(*) FROM calibration"

FORKED = """
import os, sys
from pathlib import Path
from bursar import db

path = Path(sys.argv[1])
database = db.open_ledger(path)
database.execute("INSERT INTO calibration VALUES ('parent', 'v', 1)")
to_child, to_parent = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    database.execute("INSERT INTO calibration VALUES ('before', 'v', 1)")
    os.write(to_parent[1], b"x")
    os.read(to_child[0], 1)
    database.execute("INSERT INTO calibration VALUES ('after', 'v', 1)")
    database.close()
    os._exit(0)
os.read(to_parent[0], 1)
if sys.argv[2] == "writes":
    database.execute("INSERT INTO calibration VALUES ('parent again', 'v', 1)")
database.close()
os.write(to_child[1], b"x")
assert os.waitpid(child, 0)[1] == 0
with_all = db.open_ledger(path)
print(sorted(row[0] for row in with_all.execute("SELECT key FROM calibration")))
"""

KEEPER = """
import sys, time
from pathlib import Path
from bursar import db

db.CHECKPOINT_EVERY = 1
database = db.open_ledger(Path(sys.argv[1]))
database.transact(lambda run: run("INSERT INTO calibration VALUES ('k', 'v', 1)"))
print("thread", database._keeper._thread.is_alive(), flush=True)
"""


def add(key: str, run: db.Run) -> None:
    run(ADD, (key,))


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("parent", "more"), [("closes", []), ("writes", ["parent again"])])
def test_a_forked_child_keeps_its_rows_when_its_parent_closes(ledger: Path, parent: str, more: list[str]) -> None:
    """A connection that was open at the fork costs neither side a row, whoever closes first."""
    assert python(FORKED, str(ledger), parent) == str(sorted(["parent", "before", "after", *more]))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_for_a_statement_that_is_under_way(ledger: Path) -> None:
    """Other threads write through a fork; every row is there, and the locks are free on both sides."""
    database = db.open_ledger(ledger)
    written, done = [0], threading.Event()

    def write() -> None:
        while not done.is_set():
            database.execute(ADD, (f"p{written[0]}",))
            written[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            child = os.fork()
            if child == 0:
                database.execute(ADD, (f"c{number}",))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()
    assert database.execute(COUNT) == [(written[0] + 5,)]
    database.close()


def test_the_thread_that_checkpoints_keeps_no_process_alive(ledger: Path) -> None:
    """A process that never closes ends at once, with the thread running."""
    began = time.monotonic()
    assert python(KEEPER, str(ledger)) == "thread True"
    assert time.monotonic() - began < 5


def test_every_so_many_rows_the_log_is_checkpointed(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log's pages reach the file by the thread's work, while the connection stays open."""
    monkeypatch.setattr(db, "CHECKPOINT_EVERY", 10)
    database = db.open_ledger(ledger)
    before = ledger.stat().st_size
    for number in range(200):
        database.transact(partial(add, f"{number:0100}"))
    deadline = time.monotonic() + 5
    while ledger.stat().st_size == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ledger.stat().st_size > before
    database.close()


def test_a_long_log_of_processes_that_were_killed_is_shortened_by_the_next(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody of them lived long enough to come to a checkpoint."""
    monkeypatch.setattr(db, "_LONG_LOG", 1 << 20)
    code = (
        "import os, sys; from bursar import db; d = db.open_ledger(__import__('pathlib').Path(sys.argv[1])); "
        "d.transact(lambda run: [run('INSERT OR REPLACE INTO calibration VALUES (?, ?, 1)', (n, 'v' * 3000)) "
        "for n in range(600)]); os.kill(os.getpid(), 9)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(ledger)], check=False)
    log = ledger.with_name("ledger.db-wal")
    assert log.stat().st_size > 1 << 20
    database = db.open_ledger(ledger)
    until = time.monotonic() + 10
    while ledger.stat().st_size < 1 << 20 and time.monotonic() < until:
        time.sleep(0.01)
    assert ledger.stat().st_size > 1 << 20
    database.close()


def test_close_does_not_wait_for_a_checkpoint(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that takes long goes on by itself; close does not wait for its end."""
    began, release = threading.Event(), threading.Event()

    def slow(path: Path) -> None:
        began.set()
        release.wait(30)

    monkeypatch.setattr(db, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(checkpoints, "checkpoint", slow)
    database = db.open_ledger(ledger)
    database.transact(partial(add, "k"))
    assert began.wait(30)
    start = time.monotonic()
    database.close()
    assert time.monotonic() - start < 15
    release.set()


def test_a_checkpoint_that_cannot_be_made_is_left_for_later(tmp_path: Path) -> None:
    """No file, no ledger: the thread goes on."""
    checkpoints.checkpoint(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database, but as long as the header of one would be " * 10)
    checkpoints.checkpoint(tmp_path / "text.db")


def test_a_closed_database_stays_closed(ledger: Path) -> None:
    """Closing twice is fine, a statement afterwards is an error, not a new connection."""
    database = db.open_ledger(ledger)
    database.close()
    database.close()
    with pytest.raises(apsw.ConnectionClosedError):
        database.execute(COUNT)


@pytest.mark.parametrize("what", ["deleted", "replaced"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_database_knows_that_its_file_went_away(ledger: Path, what: str) -> None:
    """Deleted or replaced is seen while it is open; after a fork it is not opened again as if nothing had been."""
    database = db.open_ledger(ledger)
    assert not database.displaced()
    ledger.rename(ledger.with_name("moved.db"))
    if what == "replaced":
        db.open_ledger(ledger).close()
    assert database.displaced()
    child = os.fork()
    if child == 0:
        try:
            database.execute(COUNT)
        except LedgerError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    database.close()


def test_two_processes_may_make_a_new_file_at_once(ledger: Path) -> None:
    """The tables are made once, whoever comes first."""
    code = "import sys; from pathlib import Path; from bursar import db; db.open_ledger(Path(sys.argv[1])).close()"
    workers = [subprocess.Popen([sys.executable, "-c", code, str(ledger)]) for _ in range(4)]
    assert [worker.wait(20) for worker in workers] == [0, 0, 0, 0]
    database = db.open_ledger(ledger, read_only=True)
    assert database.execute("PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert database.execute("PRAGMA application_id") == [(ledger_file.APPLICATION_ID,)]
    database.close()


def test_a_reader_writes_nothing(ledger: Path) -> None:
    """A database that was opened to be read refuses every change."""
    db.open_ledger(ledger).close()
    reader = db.open_ledger(ledger, read_only=True)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute(ADD, ("x",))
    reader.close()


def test_a_foreign_file_is_left_as_it_was(tmp_path: Path) -> None:
    """What is refused has not been touched: same bytes, no log beside it."""
    text, foreign = tmp_path / "text.db", tmp_path / "foreign.db"
    text.write_text("plain text, long enough to be looked at as a database file " * 10)
    connection = apsw.Connection(str(foreign))
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = {path: path.read_bytes() for path in (text, foreign)}
    for path in before:
        for read_only in (False, True):
            with pytest.raises(LedgerError, match=path.name):
                db.open_ledger(path, read_only=read_only)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_older_file_is_backed_up_and_brought_up_to_date(tmp_path: Path) -> None:
    """Its rows are there afterwards, in the file and in the copy of what it was."""
    path = tmp_path / "ledger.db"
    old = apsw.Connection(str(path))
    old.execute("PRAGMA journal_mode=WAL")
    old.execute(MIGRATIONS[0])
    old.execute(f"PRAGMA user_version=1; PRAGMA application_id={ledger_file.APPLICATION_ID}")
    old.execute(ADD, ("kept",))
    old.close()
    database = db.open_ledger(path)
    assert database.execute("PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert database.execute("SELECT key FROM calibration") == [("kept",)]
    assert database.execute("SELECT count(*) FROM account") == [(0,)]
    database.close()
    copy = tmp_path / "ledger.db.v1.bak"
    assert copy.stat().st_mode & 0o777 == 0o600
    saved = apsw.Connection(str(copy))
    assert list(saved.execute("PRAGMA user_version")) == [(1,)]
    assert list(saved.execute("SELECT key FROM calibration")) == [("kept",)]
    saved.close()
    db.open_ledger(path).close()


def test_transactions_are_all_or_nothing(tmp_path: Path) -> None:
    """What raises in the middle leaves no row, and the next one goes."""
    database = db.open_ledger(tmp_path / "ledger.db")

    def half(run: db.Run) -> None:
        run(ADD, ("half",))
        raise KeyError

    with pytest.raises(KeyError):
        database.transact(half)
    assert database.execute(COUNT) == [(0,)]
    database.transact(lambda run: run(ADD, ("whole",)))
    assert database.execute(COUNT) == [(1,)]
    database.close()


def test_writers_take_turns(tmp_path: Path) -> None:
    """While another process has its turn, one who must not wait is told so at once, and one who may waits."""
    path = tmp_path / "ledger.db"
    one, other = db.open_ledger(path), db.open_ledger(path)
    inside, go = threading.Event(), threading.Event()

    def slow(run: db.Run) -> None:
        inside.set()
        go.wait(30)
        run(ADD, ("slow",))

    thread = threading.Thread(target=lambda: one.transact(slow))
    thread.start()
    assert inside.wait(30)
    with pytest.raises(apsw.BusyError):
        other.transact(lambda run: run(ADD, ("hurried",)), wait=False)
    threading.Timer(0.1, go.set).start()
    other.transact(lambda run: run(ADD, ("patient",)))
    thread.join()
    assert other.execute("SELECT key FROM calibration ORDER BY key") == [("patient",), ("slow",)]
    one.close()
    other.close()
