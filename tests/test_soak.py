"""The judge of the soaks: it passes what balances, and names what does not."""

from __future__ import annotations

import contextlib
import queue
import shutil
from typing import TYPE_CHECKING, Any

import anthropic
import apsw
import pytest

import bursar
from bursar import Budget, CostGate
from bursar.approvals import Question, Reply
from bursar.stores.sqlite import SqliteStore
from scripts.soak.asks import Asks, judge_asks
from scripts.soak.books import read_bill, read_ledger
from scripts.soak.diary import Diary
from scripts.soak.house import USER_NUSD, House
from scripts.soak.judge import Judgement
from scripts.soak.loops import Loops
from scripts.soak.marks import new_mark
from scripts.soak.provider import provider
from tests.soak_house import furnished

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


WRONG_ANSWERS = {
    "UPDATE approval SET state = 'denied' WHERE kind = 'tool'": "made without a yes",
    "UPDATE approval SET edited = NULL": "made without a yes",
    "UPDATE approval SET state = 'asked', asker = NULL, until_us = NULL WHERE kind = 'model'": "is still open",
    "DELETE FROM verdict WHERE action = 'approved'": "has no yes beside it",
    "UPDATE verdict SET nusd = nusd + 1 WHERE action = 'raise'": "which no answer says",
    "DELETE FROM verdict WHERE action = 'raise'": "and that did not happen",
    "DELETE FROM verdict WHERE action = 'ask'": "has no asking beside its call",
    "INSERT INTO verdict (ts_us, run_id, op_id, guard, action, reason, acted) SELECT ts_us + 1, run_id, op_id, guard, "
    "action, reason, acted FROM verdict WHERE action = 'approved'": "was decided as",
}


def test_answers_that_are_wrong_are_named(served: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a yes, one that was decided twice or not at all, a raise that nobody meant: each is found."""
    monkeypatch.setenv("BURSAR_LEDGER", str(tmp_path / "ledger.db"))
    diary = Diary(tmp_path / "diary.jsonl")

    def wire(amount: int) -> None:
        diary.made("wire", amount=amount)

    def person(question: Question) -> Reply:
        more = {"raise_usd": "0.50"} if question.kind == "model" else {"arguments": {"amount": 0}}
        return Reply(yes=True, by="ana", **more)

    ask: Any = {
        "model": "claude-haiku-5-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": str(new_mark())}],
    }
    with bursar.run("w", Budget(usd="1"), CostGate(ask="always", approver=person), feature="gated") as run:
        bursar.tool(usd="0.0003")(wire)(5)
        with anthropic.Anthropic(base_url=served.anthropic_url, api_key="x") as claude:
            bursar.wrap(claude).messages.create(**ask)
    made = diary.read_made()
    assert [each.arguments for each in made] == ['{"amount": 0}']
    assert judge_asks(Asks(tmp_path / "ledger.db"), made, {run.id}) == []
    for number, (change, said) in enumerate(WRONG_ANSWERS.items()):
        spoiled = tmp_path / str(number) / "ledger.db"
        spoiled.parent.mkdir()
        with contextlib.closing(apsw.Connection(str(tmp_path / "ledger.db"))) as whole:
            whole.execute("VACUUM INTO ?", (str(spoiled),))
        with contextlib.closing(apsw.Connection(str(spoiled))) as copy:
            copy.execute(change)
        shutil.copy(tmp_path / "user.key", spoiled.parent)
        faults = judge_asks(Asks(spoiled), made, {run.id})
        assert any(said in fault for fault in faults), (change, faults)


def test_what_balances_passes_and_what_does_not_is_named(
    served: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three agents under faults balance; one nano-dollar, a hold, a balance or an overrun that is wrong is found."""
    house = furnished(served, tmp_path, monkeypatch)
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
