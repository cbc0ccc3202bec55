"""The lock file at which writers take turns."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from bursar import LedgerError
from bursar.turn import _LUCK, Turn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_one_at_a_time(ledger: Path) -> None:
    """Whoever has no patience is told at once, whoever has some gets it when it is given away."""
    one, other = Turn(ledger), Turn(ledger)
    assert one.take(0)
    assert not other.take(0)
    assert not other.take(0.01)
    threading.Timer(0.05, one.give).start()
    assert other.take(5)
    assert not one.take(0)
    one.close()
    other.close()
    other.close()


def test_who_is_lucky_lets_one_that_waits_go_first(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who takes turn after turn, with hardly a moment between, does not keep another out."""
    monkeypatch.setattr("bursar.turn._NAP_S", (0.002, 0.002))
    greedy, ended = Turn(ledger), threading.Event()
    turns = 0

    def greed() -> None:
        nonlocal turns
        while not ended.is_set():
            assert greedy.take(5)
            until = time.monotonic() + 0.001
            while time.monotonic() < until:
                pass
            greedy.give()
            turns += 1

    thread = threading.Thread(target=greed)
    thread.start()
    other, waits = Turn(ledger), []
    for _ in range(20):
        before = turns
        assert other.take(5)
        waits.append(turns - before)
        other.give()
    ended.set()
    thread.join()
    # What is said after 20 turns or so is heard within 32 more.
    assert max(waits) < 300
    greedy.close()
    other.close()


def test_nobody_holds_back_for_long_for_one_who_has_died(ledger: Path) -> None:
    """What it said grows old; one who must not wait at all goes round by another way until then."""
    turn = Turn(ledger)
    turn._say(time.monotonic_ns())
    turn._luck = _LUCK
    assert not turn.take(0)
    turn._say(time.monotonic_ns())
    turn._luck = _LUCK
    began = time.monotonic()
    assert turn.take(60)
    assert time.monotonic() - began < 30
    turn.close()


def test_a_lock_that_cannot_be_made_is_named(ledger: Path) -> None:
    """A link or a directory in its place is not followed."""
    ledger.with_name("ledger.db.lock").symlink_to("elsewhere")
    with pytest.raises(LedgerError, match=r"ledger\.db\.lock"):
        Turn(ledger)
