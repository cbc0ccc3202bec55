"""The whole flow under schedules drawn from seeds: virtual time, random order, cancellation at any step."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from bursar import BudgetExceeded
from bursar.flow.call import Attempt, Call, Frame, World
from bursar.flow.model_call import close, open
from bursar.pricing.estimate import Estimator
from bursar.pricing.rates import PriceList
from bursar.runs.drive import Desk, adrive, drive
from bursar.runs.earlier import Earlier
from bursar.stores.base import State
from bursar.stores.memory import MemoryStore
from bursar.words.events import NOTHING, Answer, ModelRequest, Status, Transcript, Usage, UsageSource
from bursar.words.ports import Posting, Scope
from bursar.words.records import ModelCall, Record, Who
from tests.seeded_loop import LoopClock, SeededLoop, run

# What thousands of schedules go through other tests cover: counting it again takes twice as long as they do.
pytestmark = pytest.mark.no_cover
SEEDS_EACH = 1_000
BATCH = 100
RUN, PART = Scope("run", "r"), Scope("budget", "b")
PRICES = PriceList()
UNSURE = Answer(Status.CANCELLED, charge="bound")
NEVER_LEFT = Answer(Status.ERROR, charge="release")


def request(cap: int, *, clampable: bool) -> ModelRequest:
    text = Transcript(tokens=(10,), marks=(1,), utf8_bytes=40, key=1)
    return ModelRequest(
        "openai", "gpt-4o", "chat", stream=False, transcript=text, cap=cap, cap_default=900, clampable=clampable
    )


class Rows:
    """A ledger in memory that another process has locked now and then."""

    def __init__(self, loop: SeededLoop) -> None:
        self.rows: list[Record] = []
        self._dice = loop.dice

    def try_write(self, record: Record, posting: Posting | None = None) -> bool:
        if self._dice.random() < 0.3:
            return False
        self.write(record, posting)
        return True

    def write(self, record: Record, posting: Posting | None = None) -> None:
        self.rows.append(record)


@dataclass
class Scene:
    """One seed: a store, some callers, and what became of them."""

    seed: int
    limit: int
    part: int | None = None
    hard: bool = False
    served: list[str] = field(default_factory=list)
    charged: dict[str, int] = field(default_factory=dict)
    billed: int = 0
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = SeededLoop(self.seed)
        self.dice = self.loop.dice
        self.store, self.rows = MemoryStore(), Rows(self.loop)
        self.desk = Desk(self.store, self.rows, self.store)
        self.world = World(LoopClock(self.loop), PRICES, Estimator(), Earlier())
        self.limits = {RUN: {"tokens": self.limit}} | ({PART: {"tokens": self.part}} if self.part else {})
        for scope, limits in self.limits.items():
            self.store.define(scope, limits)

    def frame(self, path: tuple[Scope, ...]) -> Frame:
        return Frame(Who(), path, hard=self.hard, limits=self.limits)

    async def call(self, name: str, frame: Frame, asked: ModelRequest, used: int | None = None) -> None:
        """One attempt, as a client makes it: an end that is not awaited where the send was cut off."""
        call = Call(name, asked, frame)
        try:
            attempt: Attempt = await adrive(open(call, self.world), self.desk)
        except BudgetExceeded:
            return
        self.served.append(attempt.call_id)
        self.check()
        cap = asked.cap if attempt.cap is None else attempt.cap
        assert cap is not None
        try:
            await asyncio.sleep(self.dice.choice((0, 0, 0.5, 2)))
            output = self.dice.randint(0, cap) if used is None else used
            answer = Answer(Status.OK, usage=Usage(10, output), usage_source=UsageSource.PROVIDER)
            if used is None and self.dice.random() < 0.2:
                answer = NEVER_LEFT
            else:
                self.billed += 10 + output
        except asyncio.CancelledError:
            self.note(attempt, drive(close(call, attempt, UNSURE, self.world), self.desk))
            raise
        await self.end(call, attempt, answer)

    async def end(self, call: Call, attempt: Attempt, answer: Answer) -> None:
        await adrive(close(call, attempt, answer, self.world), self.desk, whole=True)

    def note(self, attempt: Attempt, row: ModelCall) -> None:
        self.charged[attempt.call_id] = row.usage.input_tokens + row.usage.output_tokens

    def check(self) -> None:
        for scope, limits in self.limits.items():
            balance = self.store.balance(scope)
            if balance.settled.tokens + balance.held.tokens > limits["tokens"]:
                self.broken.append(f"{scope}: {balance}")

    def watch(self, step: int) -> None:
        self.check()

    def over(self) -> None:
        """What must be true when all is over, whatever happened."""
        assert self.broken == []
        assert [self.store.balance(scope).held for scope in self.limits] == [NOTHING] * len(self.limits)
        assert (self.store._queues.lines, self.store._queues._seat, self.store._queues._stuck) == ({}, {}, {})
        assert self.store._books.holding == {}
        assert self.store.audit() == []
        rows = Counter(row.call_id for row in self.rows.rows if isinstance(row, ModelCall))
        assert sorted(rows) == sorted(self.served), "every attempt that was admitted has a row"
        assert set(rows.values()) <= {1}, "and no more than one"
        ended = {record.call_id: record for record in self.store.scan()}
        assert State.HELD not in {record.state for record in ended.values()}
        assert self.billed <= self.store.balance(RUN).settled.tokens <= self.limit


def seeds(kind: int) -> list[range]:
    first = kind * 10_000
    return [range(first + start, first + start + BATCH) for start in range(0, SEEDS_EACH, BATCH)]


def play(scene: Scene, main: Any) -> None:
    scene.loop.before_step = scene.watch
    try:
        run(scene.loop, main(scene))
        scene.over()
    except BaseException as error:
        error.add_note(f"the failing seed is {scene.seed}")
        raise


async def crowd(scene: Scene) -> list[asyncio.Task[None]]:
    """A dozen callers under two limits, some of them nested, some with caps that can be lowered."""
    dice, tasks = scene.dice, []
    for number in range(12):
        frame = scene.frame((RUN, PART) if dice.random() < 0.5 else (RUN,))
        asked = request(dice.choice((20, 60, 300)), clampable=dice.random() < 0.7)
        tasks.append(asyncio.create_task(scene.call(f"op{number}", frame, asked)))
        if dice.random() < 0.2:
            await asyncio.sleep(dice.choice((0, 0.3)))
    return tasks


@pytest.mark.parametrize("batch", seeds(1), ids=str)
def test_what_can_be_paid_for_is_served(batch: range) -> None:
    """Without cancellation exactly as many calls are served as the limit has room for, in every order."""

    async def main(scene: Scene) -> None:
        asked, frame = request(30, clampable=False), scene.frame((RUN,))
        await asyncio.gather(*(scene.call(f"op{n}", frame, asked, used=used) for n in range(12)))

    bound = Estimator().estimate(request(30, clampable=False), "", 1, None).demand
    hold = bound.input_hard + bound.cap
    for seed in batch:
        used = seed % 31
        actual = 10 + used
        scene = Scene(seed, limit=hold + seed % 7 * actual + seed % actual, hard=True)
        play(scene, main)
        assert len(scene.served) == (scene.limit - hold) // actual + 1, f"seed {seed}"


@pytest.mark.parametrize("batch", seeds(2), ids=str)
def test_any_order_keeps_the_books(batch: range) -> None:
    """Callers of different sizes, under one limit or two, with ends of every kind: nothing leaks, nothing is double."""

    async def main(scene: Scene) -> None:
        await asyncio.gather(*(await crowd(scene)))

    for seed in batch:
        play(Scene(seed, limit=(150, 400, 1_200)[seed % 3], part=(100, 300)[seed % 2]), main)


@pytest.mark.parametrize("batch", seeds(3), ids=str)
def test_a_task_may_be_cancelled_at_any_step(batch: range) -> None:
    """Whoever is cancelled, wherever he stands, leaves no hold, no place in a queue, no call without a row."""
    cancelled = 0

    async def main(scene: Scene) -> None:
        nonlocal cancelled
        tasks = await crowd(scene)
        steps = sorted(scene.dice.sample(range(1, 60), 8))

        def meddle(step: int) -> None:
            nonlocal cancelled
            scene.check()
            while steps and steps[0] <= step - began:
                steps.pop(0)
                alive = [task for task in tasks if not task.done()]
                if alive:
                    cancelled += scene.dice.choice(alive).cancel()

        began = scene.loop.steps
        scene.loop.before_step = meddle
        await asyncio.gather(*tasks, return_exceptions=True)

    for seed in batch:
        play(Scene(seed, limit=(150, 400, 1_200)[seed % 3], part=(100, 300)[seed % 2]), main)
    assert cancelled > 2 * len(batch)
