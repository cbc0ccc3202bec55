"""Clocks that are set while calls are in flight, and copies of a machine: nothing expires early, nothing counts twice."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget
from bursar.reports.steps import run_tree
from bursar.runs.process import process
from bursar.stores.sqlite import SqliteStore
from bursar.testing import Provider, Reply
from bursar.tracing.queries import Reader
from bursar.words.clock import new_id
from bursar.words.events import Amounts
from bursar.words.ports import Scope

DAY_S, HOUR_S = 86_400, 3_600
TOTAL = Scope("env", "production", "total")


class Wall:
    """The wall clock of this process, which somebody sets; the monotonic one goes on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0
        real = time.time_ns
        patch.setattr(time, "time_ns", lambda: real() + self.ahead_s * 1_000_000_000)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


@pytest.fixture
def provider() -> Iterator[Provider]:
    reply = Reply(output_tokens=60, chunk_delay_s=0.002)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        yield provider


@pytest.fixture
def client(provider: Provider) -> Iterator[Any]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        yield bursar.wrap(bare)


def ask(client: Any, *, stream: bool = False) -> Any:
    said: Any = [{"role": "user", "content": "hi"}]
    return client.chat.completions.create(model="gpt-4o", messages=said, max_completion_tokens=100, stream=stream)


@pytest.mark.parametrize(
    "step_s", [DAY_S, 3 * DAY_S, -HOUR_S, -DAY_S], ids=["day on", "3 days on", "hour back", "day back"]
)
def test_a_clock_that_is_set_while_a_stream_is_open(
    tmp_path: Path, ledger: Path, provider: Provider, client: Any, wall: Wall, step_s: int
) -> None:
    """Its hold stays, its charge goes to the day it began in, the next call to the other; both books agree."""
    (tmp_path / "bursar.toml").write_text('[[limit]]\nper = "env"\nwindow = "day"\nusd = "1"\n')
    bursar.configure(config=tmp_path / "bursar.toml")
    # At noon, so that an hour is no other day.
    wall.ahead_s = 12 * HOUR_S - int(time.time()) % DAY_S
    with bursar.run("x", Budget(usd="1", seconds=600)) as run:
        stream = ask(client, stream=True)
        next(iter(stream))
        shared = process().shared
        (first,) = shared.every_account()
        assert first.holds == 1
        wall.ahead_s += step_s
        ask(client)
        shared.sweep()
        assert shared.recover() == 0
        assert [row.holds for row in shared.every_account() if row.scope == first.scope] == [1]
        for _ in stream:
            pass
    same_day = abs(step_s) < DAY_S
    settled = {row.scope.window: row.settled.model_calls for row in shared.every_account()}
    assert settled[first.scope.window] == (2 if same_day else 1)
    assert len(settled) == (1 if same_day else 2)
    assert sum(row.settled.nusd for row in shared.every_account()) == provider.billed_nusd == run.spend.settled.nusd
    assert shared.audit() == []
    with Reader(ledger) as reader:
        (found,) = reader.runs(5)
        assert found.steps == 2
        # In the order in which they were made, whatever the clock said.
        family = reader.family(found.run_id)
        tree = run_tree(family, reader.calls(family), [])
        assert [operation.attempts[0].step for operation in tree.operations] == [1, 2]


def test_no_id_is_made_twice_by_a_clock_that_goes_back(wall: Wall) -> None:
    """The same milliseconds come again, the ids do not."""
    made = set()
    for _ in range(50):
        made |= {new_id() for _ in range(200)}
        wall.ahead_s -= 1
    wall.ahead_s = 0
    made |= {new_id() for _ in range(200)}
    assert len(made) == 51 * 200


def test_a_deadline_is_not_moved_by_the_wall_clock(client: Any, wall: Wall) -> None:
    """A day forward ends no run that has a minute, and a day back gives none more."""
    with bursar.run("x", Budget(usd="1", seconds=60)) as run:
        for ahead_s in (DAY_S, -DAY_S):
            wall.ahead_s = ahead_s
            ask(client)
            assert 50 < run.remaining["seconds"] <= 60


def test_a_copy_of_a_machine_settles_its_own_copy(tmp_path: Path) -> None:
    """What was in flight when a disk was copied is charged in the copy, or freed if unsent; the original goes on."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    store = SqliteStore.at(here / "ledger.db")
    store.define(TOTAL, {"usd": 100})
    store.reserve("sent/0", (TOTAL,), Amounts(nusd=40))
    store.sent("sent/0")
    store.reserve("unsent/0", (TOTAL,), Amounts(nusd=30))
    shutil.copytree(here, there)
    copy = SqliteStore.at(there / "ledger.db")
    assert copy.recover() == 2
    found = copy.balance(TOTAL)
    assert (found.settled.nusd, found.held.nusd, found.unmeasured.nusd) == (40, 0, 40)
    assert copy.audit() == []
    store.settle("sent/0", (TOTAL,), Amounts(nusd=10), measured=True)
    store.release("unsent/0")
    assert store.balance(TOTAL).settled.nusd == 10
    assert store.audit() == []
    # An answer that reaches the copy puts the truth in place of the bound there, too.
    copy.settle("sent/0", (TOTAL,), Amounts(nusd=10), measured=True)
    assert copy.balance(TOTAL).settled.nusd == 10
    for each in (store, copy):
        each.close()
        each._database().close()


def test_processes_of_one_image_never_make_the_same_id(wall: Wall) -> None:
    """A forked child is a copy of its parent at the same moment: its ids have another part of their own."""
    wall.ahead_s = 0
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "".join(new_id() for _ in range(100)).encode())
        os._exit(0)
    os.close(writer)
    mine = {new_id() for _ in range(100)}
    text = os.read(reader, 100 * 26).decode()
    os.close(reader)
    os.waitpid(child, 0)
    theirs = {text[at : at + 26] for at in range(0, len(text), 26)}
    assert len(theirs) == 100
    assert {each[10:20] for each in mine}.isdisjoint({each[10:20] for each in theirs})
