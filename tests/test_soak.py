"""The judge of the soaks: it passes what balances, and names what does not."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING

import apsw
import pytest

import bursar
from bursar.stores.sqlite import SqliteStore
from scripts.soak.books import read_bill, read_ledger
from scripts.soak.house import USER_NUSD, House
from scripts.soak.judge import Judgement
from scripts.soak.loops import Loops
from scripts.soak.provider import provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bursar.testing import Provider


@pytest.fixture
def served() -> Iterator[Provider]:
    with provider() as served:
        yield served


def judged(house: House, served: Provider) -> Judgement:
    served.wait_idle()
    store = SqliteStore.at(house.ledger)
    store.recover()
    store.close()
    return Judgement(house.diary.read(), read_bill(served), read_ledger(house.ledger), user_limit_nusd=USER_NUSD)


WRONG = {
    "UPDATE attempt SET cost_nusd = cost_nusd - 1 WHERE cost_nusd > 0": "billed at",
    "INSERT INTO hold (call_id, path, made_us) SELECT call_id, path, 0 FROM ended LIMIT 1": "is still held at",
    "UPDATE account SET held_nusd = 1 WHERE kind = 'env'": "still holds 1",
    "UPDATE ending SET flags = 'overrun'": "is hard, and was billed",
}


def test_what_balances_passes_and_what_does_not_is_named(
    served: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three agents under faults balance; one nano-dollar, a hold, a balance or an overrun that is wrong is found."""
    # Set here, so that what the house sets is undone.
    for name in ("BURSAR_SOAK", "BURSAR_SOAK_ANTHROPIC", "BURSAR_SOAK_OPENAI", "BURSAR_CONFIG"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("BURSAR_LEDGER")
    house = House(tmp_path, served.anthropic_url, served.openai_url)
    house.furnish()
    bursar.configure(config=str(tmp_path / "bursar.toml"))
    loops = Loops(house, 1, queue.Queue())
    for work in (loops.finishing, loops.hard_crew, loops.interrupted):
        work()
    found = judged(house, served)
    assert found.faults == []
    assert found.figures()["billed calls"] >= 3
    for change, said in WRONG.items():
        copy = tmp_path / "wrong.db"
        with contextlib.closing(apsw.Connection(str(house.ledger))) as whole:
            whole.execute("VACUUM INTO ?", (str(copy),))
        with contextlib.closing(apsw.Connection(str(copy))) as spoiled:
            spoiled.execute(change)
        kept = read_ledger(copy)
        faults = Judgement(house.diary.read(), read_bill(served), kept, user_limit_nusd=USER_NUSD).faults
        assert any(said in fault for fault in faults), (change, faults)
        copy.unlink()
