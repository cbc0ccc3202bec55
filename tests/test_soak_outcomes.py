"""What the soak of agents looks at beside the money: it passes what has come out right, and names what has not."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING, Any

import anthropic
import apsw
import pytest

import bursar
from bursar import Budget
from scripts.soak.books import read_bill, read_ledger
from scripts.soak.diary import KILLED
from scripts.soak.house import USER_NUSD, House
from scripts.soak.judge import Judgement
from scripts.soak.marks import Mark, new_mark
from scripts.soak.outcomes import Outcomes
from scripts.soak.provider import provider
from scripts.soak.threads import Left, Threads
from scripts.soak.ways import Ways
from tests.soak_house import furnished

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bursar.testing import Provider


@pytest.fixture
def served() -> Iterator[Provider]:
    with provider() as served:
        yield served


@pytest.fixture
def house(served: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = furnished(served, tmp_path, monkeypatch)
    yield house
    bursar.configure(config=None)


def odd() -> None:
    raise ValueError("odd")


def faults(house: House, kept: Any = None) -> list[str]:
    kept = kept or read_ledger(house.ledger)
    return Outcomes(house.place).faults(house.diary.read(), kept, house.ledger)


def test_every_way_comes_out_right(house: House) -> None:
    """Batches, forms, caches, teams, handlers in three places: each is run, ends, and has no fault."""
    ways = Ways(house, 3, queue.Queue())
    outcomes = Outcomes(house.place)
    for way in (ways.batched, ways.cached, ways.formed, ways.neighbours, ways.thrice, ways.instance, ways.embedded):
        with outcomes.caught():
            way()
    assert {each.feature for each in house.diary.read()} == {
        "batched", "cached", "formed", "neighbours", "thrice", "instance", "embedded",
    }  # fmt: skip
    assert faults(house) == []
    idle = Outcomes(house.place).faults([], read_ledger(house.ledger), house.ledger)
    assert idle == ["no run has ended: nothing was tried"]


def test_what_comes_out_wrong_is_named(house: House, served: Provider) -> None:
    """An answer without its row, a stop that nobody heard of, an error nobody expects; a killed call that is not held."""
    threads, outcomes = Threads(house, 1, queue.Queue()), Outcomes(house.place)
    house.place.joinpath("x.thread").write_text("half of a fi")
    left = Left(tuple(new_mark("u1")), 0, "gone")
    house.place.joinpath(f"{left.mark[0]}.thread").write_text(f'[["{left.mark[0]}", "u1", ""], 0, "gone"]')
    while not any(house.place.glob("outcomes.answers")):
        threads.returned()
    ended = house.diary.read()
    assert (ended[0].run_id, ended[0].stopped) == ("gone", KILLED)
    assert faults(house) == []
    outcomes.answered(ended[-1].mark, ["nobody's"])
    with outcomes.caught():
        odd()
    with contextlib.closing(apsw.Connection(str(house.ledger))) as ledger:
        ledger.execute(
            "INSERT INTO verdict (ts_us, run_id, op_id, guard, action, reason, acted) VALUES (1, ?, 'x', 'y', 'deny', 'z', 1)",
            (ended[-1].run_id,),
        )
    said = "\n".join(faults(house))
    for part in ("nobody's of a thread", "ValueError: odd", "was refused a call, and ended as"):
        assert part in said
    kept, bill = read_ledger(house.ledger), read_bill(served)
    bill.by_mark[ended[-1].mark] += 1
    judged = Judgement(ended, bill, kept, user_limit_nusd=USER_NUSD)
    assert any("what was killed is in the books" in fault for fault in judged.faults)


def test_a_thread_whose_next_run_was_killed_is_not_judged_as_if_that_had_not_been(
    house: House, served: Provider
) -> None:
    """What a killed run has in the ledger counts with the others of its mark; what it has not, with the dead."""
    threads, mark = Threads(house, 1, queue.Queue()), Mark("0" * 32, "u1")
    assert mark.spared
    with anthropic.Anthropic(base_url=served.anthropic_url, api_key="x") as claude:
        wrapped = bursar.wrap(claude)
        ask: Any = {
            "model": "claude-haiku-5-5",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": str(mark)}],
        }
        with threads.run("interrupted", Budget(usd="0.01"), mark=mark):
            wrapped.messages.create(**ask)
        # The next process is killed before it has told the end of its run.
        with bursar.run("soak interrupted", Budget(usd="0.01")) as run:
            house.diary.begun(mark, "interrupted", run.id, 10_000_000)
            wrapped.messages.create(**ask)
        first, second = house.diary.read()
        assert (first.stopped, second.run_id, second.stopped) == ("finished", run.id, KILLED)
        books = read_bill(served), read_ledger(house.ledger)
        assert Judgement([first, second], *books, user_limit_nusd=USER_NUSD).faults == []
        assert any("is in the ledger at" in fault for fault in Judgement([first], *books, user_limit_nusd=1).faults)
        claude.messages.create(**ask)
    (fault,) = Judgement(house.diary.read(), read_bill(served), books[1], user_limit_nusd=USER_NUSD).faults
    assert "what was killed is in the books at 0, billed at" in fault


def test_a_diary_that_may_not_grow_is_written_later(house: House) -> None:
    """What is noted where no file may grow is in it afterwards."""
    with house.diary.later():
        house.diary.note(new_mark(), "full", "r", 1, 0, None)
        assert house.diary.read() == []
    assert [each.feature for each in house.diary.read()] == ["full"]
