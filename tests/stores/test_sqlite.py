"""Holds in the ledger file: owners that die, journals, sweeping, and several connections at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from bursar import LedgerError, StoreUnavailable
from bursar.ledger_file import APPLICATION_ID
from bursar.schema import MIGRATIONS
from bursar.stores import owners, sweeping
from bursar.stores.base import State
from bursar.stores.manage import freeze
from bursar.stores.memory import MemoryStore
from bursar.stores.sqlite import SqliteStore
from bursar.stores.tiers import Tiers
from bursar.words.events import NOTHING, Amounts
from bursar.words.ports import Denied, Held, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.db import Run

DAY = Scope("env", "production", "day:2026-11-24")
PATH = (DAY,)


def usd(nano: int) -> Amounts:
    return Amounts(nusd=nano, model_calls=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    store = SqliteStore.at(path)
    store.define(DAY, {"usd": 100})
    store.close()
    return path


def in_child(path: Path, work: str) -> None:
    """Do something with a store in a process of its own, which then dies without a word."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom bursar.stores.sqlite import SqliteStore\n"
        "from bursar.words.events import Amounts\nfrom bursar.words.ports import Scope\n"
        "DAY = Scope('env', 'production', 'day:2026-11-24')\nstore = SqliteStore.at(Path(sys.argv[1]))\n"
        f"{work}\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr


def test_what_a_dead_owner_never_sent_is_free_and_the_rest_is_charged(path: Path) -> None:
    """The journal tells them apart, and the file of the dead is removed."""
    in_child(
        path,
        "store.reserve('unsent/0', (DAY,), Amounts(nusd=30))\n"
        "store.reserve('sent/0', (DAY,), Amounts(nusd=40))\nstore.sent('sent/0')",
    )
    store = SqliteStore.at(path)
    assert store.balance(DAY).held.nusd == 70
    assert store.recover() == 2
    assert {r.call_id: r.state for r in store.scan()} == {"unsent/0": State.RELEASED, "sent/0": State.PRESUMED}
    balance = store.balance(DAY)
    assert (balance.settled.nusd, balance.unmeasured.nusd, balance.held.nusd, balance.holds) == (40, 40, 0, 0)
    assert store.recover() == 0
    assert list((path.parent / "ledger.db.owners").iterdir()) == []
    assert store.audit() == []


def test_whoever_is_refused_looks_for_the_dead(path: Path) -> None:
    """A reserve that finds no room settles what dead owners held, and then fits."""
    in_child(path, "store.reserve('unsent/0', (DAY,), Amounts(nusd=90))")
    assert isinstance(SqliteStore.at(path).reserve("mine/0", PATH, usd(50)), Held)


def test_the_truth_comes_late(path: Path) -> None:
    """What was presumed of a dead owner's call is corrected by what it really cost."""
    in_child(path, "store.reserve('sent/0', (DAY,), Amounts(nusd=40))\nstore.sent('sent/0')")
    store = SqliteStore.at(path)
    store.recover()
    assert store.settle("sent/0", PATH, usd(25), measured=True) == "late"
    balance = store.balance(DAY)
    assert (balance.settled.nusd, balance.unmeasured.nusd) == (25, 0)
    assert store.audit() == []


def test_without_its_journal_all_of_an_owners_holds_are_charged(path: Path) -> None:
    """Nobody can say what was sent: all of it, then."""
    in_child(path, "store.reserve('unsent/0', (DAY,), Amounts(nusd=30))")
    for journal in (path.parent / "ledger.db.owners").iterdir():
        journal.unlink()
    store = SqliteStore.at(path)
    store.recover()
    assert store.balance(DAY).settled.nusd == 30


def test_the_living_are_left_alone(path: Path) -> None:
    """Another store of a process that lives keeps its holds."""
    one, other = SqliteStore.at(path), SqliteStore.at(path)
    one.reserve("one/0", PATH, usd(90))
    assert other.recover() == 0
    assert isinstance(other.reserve("other/0", PATH, usd(20)), Denied)
    one.release("one/0")
    assert isinstance(other.reserve("other/0", PATH, usd(20)), Held)
    one.close()
    other.close()


def test_a_child_does_not_keep_its_parent_alive(path: Path) -> None:
    """A child that outlives its parent has let go of the parent's lock."""
    code = "if os.fork() == 0:\n    import time\n    time.sleep(3)\n    os._exit(0)"
    in_child(path, f"store.reserve('unsent/0', (DAY,), Amounts(nusd=30))\n{code}")
    store = SqliteStore.at(path)
    assert store.recover() == 1
    assert store.balance(DAY).held == NOTHING


def test_a_clean_end_leaves_no_file(path: Path) -> None:
    """With nothing held an owner removes its journal; with something held it leaves it."""
    place = path.parent / "ledger.db.owners"
    store = SqliteStore.at(path)
    store.reserve("a/0", PATH, usd(1))
    store.settle("a/0", PATH, usd(1), measured=True)
    store.close()
    assert list(place.iterdir()) == []
    store.reserve("b/0", PATH, usd(1))
    store.close()
    assert len(list(place.iterdir())) == 1


def test_a_long_journal_is_begun_anew_when_nothing_is_in_flight(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not grow without end, and nothing that is in flight is ever taken out of it."""
    monkeypatch.setattr(owners, "_LONG", 100)
    store = SqliteStore.at(path)

    def size() -> int:
        (journal,) = (path.parent / "ledger.db.owners").iterdir()
        return journal.stat().st_size

    for number in range(10):
        store.reserve(f"{number:020}/0", PATH, usd(1))
        store.sent(f"{number:020}/0")
    for number in range(9):
        store.settle(f"{number:020}/0", PATH, usd(1), measured=True)
        store.done(f"{number:020}/0")
    assert size() > 200
    store.done("9".zfill(20) + "/0")
    assert size() == 0
    store.close()


def test_a_journal_that_cannot_be_written_refuses(path: Path) -> None:
    """Nothing leaves that could not be noted before."""
    store = SqliteStore.at(path)
    store.reserve("a/0", PATH, usd(1))
    assert store._owner is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, store._owner._handle)
    with pytest.raises(StoreUnavailable, match="nothing was sent"):
        store.sent("a/0")
    os.close(full)


def test_old_holds_are_swept_and_the_books_still_agree(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended holds are forgotten after two days, what they cost is not; holds in flight stay."""
    store = SqliteStore.at(path)
    store.reserve("open/0", PATH, usd(0))
    for number in range(700):
        store.settle(f"{number}/0", PATH, Amounts(nusd=number % 3), measured=True)
    store.adjust("1/0", PATH, Amounts(nusd=-1), seq=1, evidence="invoice")
    before = store.balance(DAY)
    store.sweep()
    assert len(list(store.scan())) == 701
    monkeypatch.setattr(sweeping, "_KEEP_US", -1_000_000)
    store.sweep()
    assert [record.call_id for record in store.scan()] == ["open/0"]
    assert store.balance(DAY) == before
    assert store.audit() == []
    store.close()


def test_a_sweep_comes_round_to_every_hold(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few at a time, from where the last one ended, and over again from the beginning."""
    store = SqliteStore.at(path)
    for number in range(10):
        store.settle(f"{number}/0", PATH, usd(1), measured=True)
    store.sweep(4)
    monkeypatch.setattr(sweeping, "_KEEP_US", -1_000_000)
    left = []
    for _ in range(4):
        store.sweep(4)
        left.append([record.call_id[0] for record in store.scan()])
    assert ["".join(ids) for ids in left] == ["012389", "0123", "", ""]
    store.close()


def test_two_may_sweep_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has forgotten between the other's look and its deletion is forgotten once."""
    store, other = SqliteStore.at(path), SqliteStore.at(path)
    for number in range(3):
        store.settle(f"{number}/0", PATH, usd(7), measured=True)
    monkeypatch.setattr(sweeping, "_KEEP_US", -1_000_000)
    write = store.write

    def late(work: Callable[[Run], None], *, wait: bool = True) -> None:
        other.sweep()
        write(work, wait=wait)

    monkeypatch.setattr(store, "write", late)
    store.sweep()
    monkeypatch.undo()
    assert list(store.scan()) == []
    assert (store.balance(DAY).settled.nusd, store.audit()) == (21, [])
    store.close()
    other.close()


def test_a_file_of_before_keeps_its_holds(tmp_path: Path) -> None:
    """Holds of the older tables are there in every state, can be ended, and agree with the balances."""
    path, version = tmp_path / "ledger.db", next(n for n, each in enumerate(MIGRATIONS) if "TABLE ended" in each)
    old = apsw.Connection(str(path))
    for script in MIGRATIONS[:version]:
        old.execute(script)
    old.execute(f"PRAGMA user_version={version}; PRAGMA application_id={APPLICATION_ID}")
    old.execute(
        "INSERT INTO account (kind, name, window, limits, made_us, holds, settled_nusd, held_nusd, unmeasured_nusd) "
        "VALUES ('env', 'production', 'day:2026-11-24', '{\"usd\":100}', 1, 2, 30, 30, 20)"
    )
    hold = (
        "INSERT INTO hold (call_id, path, state, owner, measured, made_us, ended_us, held_nusd, charged_nusd) VALUES "
    )
    for row in ("('a/0', '1', 0, 'x', 0, 1, NULL, 13, 0)", "('b/0', '1', 0, 'x', 0, 1, NULL, 17, 0)",
                "('c/0', '1', 1, NULL, 1, 1, 2, 0, 10)", "('d/0', '1', 2, 'x', 1, 1, 2, 9, 0)",
                "('e/0', '1', 3, 'x', 0, 1, 2, 20, 20)"):  # fmt: skip
        old.execute(hold + row)
    old.close()
    store = SqliteStore.at(path)
    assert store.audit() == []
    assert {record.call_id[0]: (record.state, record.held.nusd, record.charged.nusd) for record in store.scan()} == {
        "a": (State.HELD, 13, 0), "b": (State.HELD, 17, 0), "c": (State.COMMITTED, 0, 10), "d": (State.RELEASED, 0, 0),
        "e": (State.PRESUMED, 0, 20),
    }  # fmt: skip
    assert store.settle("a/0", PATH, Amounts(nusd=5), measured=True) == "settled"
    assert store.settle("e/0", PATH, Amounts(nusd=4), measured=True) == "late"
    assert store.recover() == 1
    balance = store.balance(DAY)
    assert (balance.settled.nusd, balance.unmeasured.nusd, balance.held, balance.holds) == (36, 17, NOTHING, 0)
    assert store.audit() == []
    store.close()


def test_accounts_of_long_ago_are_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of windows are, when nothing is in flight there; a total is kept for ever."""
    store = SqliteStore.at(path)
    total = Scope("env", "production", "total")
    store.define(total, {"usd": 5})
    monkeypatch.setattr(sweeping, "_KEEP_ACCOUNTS_US", -1_000_000)
    store.sweep()
    assert [row.scope for row in store.every_account()] == [total]
    assert store.define(DAY, {"usd": 100})
    assert isinstance(store.reserve("a/0", PATH, usd(1)), Held)
    store.close()


def test_where_there_is_plenty_a_hold_takes_no_look(path: Path) -> None:
    """Room for so many like it, and for one for each call in flight; else nothing is changed."""
    store = SqliteStore.at(path)
    assert store.take("a/0", PATH, usd(10), 10) == Held("a/0", PATH, usd(10), 1)
    assert store.take("a/0", PATH, usd(1), 1) is None
    assert store.take("b/0", PATH, usd(10), 10) is None
    assert store.take("b/0", PATH, usd(10), 9) == Held("b/0", PATH, usd(10), 2)
    for number in range(10):
        store.reserve(f"{number}/0", PATH, usd(1))
    before = store.balance(DAY)
    assert store.take("c/0", PATH, usd(6), 1) is None
    freeze(store, DAY, frozen=True)
    assert store.take("c/0", PATH, usd(1), 1) is None
    freeze(store, DAY, frozen=False)
    assert store.balance(DAY) == before
    assert store.take("c/0", PATH, usd(5), 1) == Held("c/0", PATH, usd(5), 13)
    assert store.audit() == []
    store.close()


def test_what_the_file_has_no_plenty_of_is_not_held_in_memory(path: Path) -> None:
    """A hold in both, or in neither, and no record of it is left."""
    store, local = SqliteStore.at(path), MemoryStore(passing=True)
    tiers, run = Tiers(local, store), Scope("run", "r")
    tiers.define(run, {"usd": 1_000})
    both = (DAY, run)
    assert tiers.take("a/0", both, usd(60), 2, 1) is None
    assert local.balance(run).holds == 0
    assert tiers.take("a/0", both, usd(50), 2, 1) == Held("a/0", both, usd(50), 1)
    assert (local.balance(run).held, store.balance(DAY).held) == (usd(50), usd(50))
    broken = Tiers(local, SqliteStore(path, lambda: 1 // 0))  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        broken.take("b/0", both, usd(1), 1, 1)
    assert local.balance(run).holds == 1
    store.close()


def test_a_throttled_scope_gives_out_places_one_after_another(path: Path) -> None:
    """Each turn is an interval after the last, whoever asks."""
    one, other = SqliteStore.at(path), SqliteStore.at(path)
    assert one.turn(DAY, 300_000) == 0
    assert 0 < other.turn(DAY, 300_000) <= 300_000
    time.sleep(0.31)
    assert other.turn(DAY, 300_000) == 0
    assert one.turn(DAY, 300_000) > 0


def test_two_define_at_once(tmp_path: Path) -> None:
    """Several processes that define the same scope make one account."""
    path = tmp_path / "new.db"
    code = (
        "import sys\nfrom pathlib import Path\nfrom bursar.stores.sqlite import SqliteStore\n"
        "from bursar.words.ports import Scope\nstore = SqliteStore.at(Path(sys.argv[1]))\n"
        "for n in range(20): store.define(Scope('user', str(n), 'total'), {'usd': 5})\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(4)]
    assert [worker.wait(30) for worker in workers] == [0] * 4
    assert len(SqliteStore.at(path).every_account()) == 20


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A store is opened on a ledger, and on nothing else."""
    (tmp_path / "ledger.db").write_text("no")
    with pytest.raises(LedgerError):
        SqliteStore.at(tmp_path / "ledger.db")


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Six processes over one limit under a storm of SIGKILLs: billed within the limit, and every book agrees."""
    script = Path(__file__).parents[2] / "scripts" / "chaos.py"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), "--calls", "1500", "--seconds", "100", "--no-progress", "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"faults": []' in done.stdout
    assert time.monotonic() - began < 100
