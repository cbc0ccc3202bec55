"""Three thousand schedules of tasks in every order, with a cancellation at any await: nothing leaks, nothing overspends."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import bursar
from bursar import Budget
from bursar._events import NOTHING
from bursar._process import process
from bursar._records import ModelCall
from tests.test_flow import Bill, guard, one_call

SEEDS_A_CASE = 150
CASES = 20
TASKS = 12
MOST_STEPS = 20_000


class ShuffledLoop(asyncio.SelectorEventLoop):
    """Runs what is ready in a random order, cancels a task at a random step, and sleeps without waiting."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice, self.now, self.steps = dice, 0.0, 0
        self.victims: list[tuple[int, asyncio.Task[Any]]] = []

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        loop: Any = self
        self.steps += 1
        assert self.steps < MOST_STEPS, "it goes on for ever"
        for step, task in self.victims:
            if step == self.steps:
                task.cancel()
        if len(loop._ready) > 1:
            ready = list(loop._ready)
            self.dice.shuffle(ready)
            loop._ready.clear()
            loop._ready.extend(ready)
        if not loop._ready and loop._scheduled:
            self.now = max(self.now, loop._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]  # the loop's own turn


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def write(self, record: Any, posting: Any = None) -> None:
        self.records.append(record)

    def try_write(self, record: Any, posting: Any = None) -> bool:
        self.records.append(record)
        return True


def schedule(seed: int) -> None:
    dice = random.Random(seed)
    door, bill, kept = guard(), Bill(), Kept()
    process().desk = process().desk._replace(sink=kept)

    async def guarded(run: bursar.Run) -> None:
        try:
            await one_call(door, bill, dice, run)
        except bursar.BudgetExceeded:
            return

    async def everything(loop: ShuffledLoop, run: bursar.Run) -> None:
        tasks = [asyncio.create_task(guarded(run)) for _ in range(TASKS)]
        for task in dice.sample(tasks, dice.randint(0, TASKS // 2)):
            loop.victims.append((loop.steps + dice.randint(1, 40), task))
        await asyncio.gather(*tasks, return_exceptions=True)

    loop = ShuffledLoop(dice)
    try:
        with bursar.run("seeded", Budget(tokens=dice.choice([400, 1_500, 4_000]))) as run:
            loop.run_until_complete(everything(loop, run))
    finally:
        loop.close()
    assert bill.limits_broken == [], seed
    assert run.spend.held == NOTHING, seed
    assert process().memory._queues._seat == {}, seed
    assert process().memory._books.holding == {}, seed
    assert bill.tokens <= run.spend.settled.tokens <= run._account.limits["tokens"], seed
    charged = [record.call_id for record in kept.records if isinstance(record, ModelCall)]
    assert len(charged) == len(set(charged)), seed
    assert process().memory.audit() == [], seed


@pytest.mark.parametrize("case", range(CASES))
def test_any_order_with_cancellations(case: int) -> None:
    """The limit holds at every admission; at the end nothing is held, queued, charged twice or free of charge."""
    for seed in range(case * SEEDS_A_CASE, (case + 1) * SEEDS_A_CASE):
        schedule(seed)
