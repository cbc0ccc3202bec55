"""The flow under every interleaving that a seed can find: cancellation, failures, waits, nested limits."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

import bursar
from bursar import Budget
from bursar.clients.guard import Guard
from bursar.clients.requests import read
from bursar.flow.call import Attempt, Call
from bursar.flow.model_call import close, open
from bursar.runs.drive import Desk, adrive, drive
from bursar.runs.process import process
from bursar.runs.scoped import scoped_frame
from bursar.words.events import NOTHING, Answer, Status, Usage, UsageSource
from bursar.words.records import ModelCall, RunRecord

SEEDS = range(150)


def guard() -> Guard:
    from bursar.runs.frames import make_who

    return Guard(make_who("flow"), [])


def request(cap: int) -> Any:
    return read(
        "chat",
        {"model": "gpt-4o", "max_completion_tokens": cap, "messages": [{"role": "user", "content": "x" * 40}]},
        None,
    )


def said(tokens: int) -> Answer:
    usage = Usage(12, tokens)
    return Answer(Status.OK, usage=usage, usage_source=UsageSource.PROVIDER, charge="usage")


@dataclass
class Bill:
    """What an honest provider charges: the output, but never more than the cap that was sent."""

    tokens: int = 0
    limits_broken: list[str] = field(default_factory=list)


async def one_call(door: Guard, bill: Bill, dice: random.Random, run: bursar.Run) -> None:
    cap = dice.choice([50, 200, 900])
    call = door.begin(request(cap))
    attempt = await door.aopen(call)
    try:
        balance = run._account.balance()
        if balance.settled.tokens + balance.held.tokens > run._account.limits["tokens"]:
            bill.limits_broken.append(f"{balance}")
        sent = cap if attempt.cap is None else attempt.cap
        await asyncio.sleep(dice.choice([0, 0, 0.001]))
        answer = dice.choice(["ok", "ok", "ok", "late", "refused"])
        if answer == "refused":
            await door.aclose(call, attempt, Answer(Status.ERROR, charge="release"))
            return
        used = dice.randint(0, sent)
        bill.tokens += 12 + used
        await asyncio.sleep(dice.choice([0, 0.001]))
    except BaseException:
        door.close(call, attempt, Answer(Status.CANCELLED, charge="bound"))
        raise
    await door.aclose(call, attempt, said(used))


# What so many repetitions go through is covered without them: counting it each time takes longer than they do.
@pytest.mark.no_cover
@pytest.mark.parametrize("seed", SEEDS)
def test_no_schedule_overspends_or_leaks(seed: int) -> None:
    """Forty tasks with random caps, ends and cancellations: the limit holds at every admission, nothing stays held."""
    dice = random.Random(seed)
    door, bill = guard(), Bill()

    async def everything(run: bursar.Run) -> None:
        async def guarded() -> None:
            try:
                await one_call(door, bill, dice, run)
            except bursar.BudgetExceeded:
                return

        tasks = [asyncio.create_task(guarded()) for _ in range(40)]
        for task in dice.sample(tasks, 10):
            await asyncio.sleep(dice.choice([0, 0.0005]))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with bursar.run("seeded", Budget(tokens=dice.choice([400, 2_000, 6_000]))) as run:
        asyncio.run(everything(run))
    assert bill.limits_broken == []
    assert run.spend.held == NOTHING
    assert run.spend.settled.tokens >= bill.tokens
    assert bill.tokens <= run._account.limits["tokens"]
    assert process().memory._queues._seat == {}


def test_first_come_first_served() -> None:
    """Whoever waits longest goes first, also when a later and smaller call would fit."""
    door, order = guard(), []

    async def late(name: str, cap: int) -> None:
        call = door.begin(request(cap))
        attempt = await door.aopen(call)
        order.append(name)
        await door.aclose(call, attempt, said(cap))

    async def everything() -> None:
        # Held by another task: nobody waits for what the task has open that he comes from.
        first = door.begin(request(1_100))
        attempt = await asyncio.create_task(door.aopen(first))
        waiting = []
        for name, cap in (("big", 500), ("small", 300), ("other", 300)):
            waiting.append(asyncio.create_task(late(name, cap)))
            await asyncio.sleep(0)
        assert order == []
        await door.aclose(first, attempt, said(1))
        await asyncio.gather(*waiting)

    with bursar.run("fifo", Budget(tokens=1_600, bound="hard")):
        asyncio.run(everything())
    assert order == ["big", "small", "other"]


def test_an_attempt_ends_once() -> None:
    """A second close is a defect of the adapter, and charges nothing."""
    door = guard()
    with bursar.run("once", Budget(tokens=1_000)) as run:
        call = door.begin(request(100))
        attempt = door.open(call)
        door.close(call, attempt, said(10))
        owner = process()
        with pytest.raises(RuntimeError, match="closed twice"):
            drive(close(call, attempt, said(10), owner.world), owner.desk)
        with pytest.warns(bursar.BursarWarning, match="could not be taken in"):
            door.close(call, attempt, said(10))

        async def again() -> None:
            with pytest.warns(bursar.BursarWarning, match="could not be taken in"):
                await door.aclose(call, attempt, said(10))

        asyncio.run(again())
    assert run.spend.settled.tokens == 22


class BusySink:
    """A ledger that another process has locked."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    def try_write(self, record: Any, posting: Any = None) -> bool:
        return False

    def write(self, record: Any, posting: Any = None) -> None:
        self.written.append(record)


def test_a_locked_ledger_is_waited_for_beside_the_loop() -> None:
    """On an event loop a busy file is a thread's to wait for; the record is there when the call returns."""
    door, sink = guard(), BusySink()

    async def everything() -> None:
        owner = process()
        desk = Desk(owner.store, sink, owner.store)
        frame = scoped_frame()
        assert frame is not None
        call = Call("OP", request(100), frame, 1)
        attempt: Attempt = await adrive(open(call, owner.world), desk)
        await adrive(close(call, attempt, said(10), owner.world), desk)

    with bursar.run("busy", Budget(tokens=1_000)) as run:
        asyncio.run(everything())
        door.close(door.begin(request(1)), door.open(door.begin(request(1))), said(1))
    assert [type(record) for record in sink.written] == [ModelCall]
    assert run.spend.held == NOTHING


def test_who_is_cancelled_while_his_row_waits_for_the_file_is_recorded_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A paid call whose task is cancelled at its very end is charged and has its row; the cancellation comes after."""
    door, began, go_on = guard(), threading.Event(), threading.Event()

    class Slow(BusySink):
        def write(self, record: Any, posting: Any = None) -> None:
            began.set()
            assert go_on.wait(30)
            super().write(record, posting)

    async def everything() -> None:
        owner = process()
        call = door.begin(request(100))
        attempt = await door.aopen(call)
        monkeypatch.setattr(owner, "desk", Desk(owner.store, sink, owner.store))
        task = asyncio.create_task(door.aclose(call, attempt, said(10)))
        await asyncio.to_thread(began.wait, 5)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    sink = Slow()
    with bursar.run("cut", Budget(tokens=1_000)) as run:
        asyncio.run(everything())
    assert [type(record) for record in sink.written] == [ModelCall, RunRecord]
    assert (run.spend.held, run.spend.settled.output_tokens) == (NOTHING, 10)


def test_a_failure_while_being_admitted_leaves_nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks between the hold and the send gives the hold back."""
    door = guard()

    class Broken(BusySink):
        def write(self, record: Any, posting: Any = None) -> None:
            raise KeyboardInterrupt

    with bursar.run("broken", Budget(tokens=400)) as run:
        owner = process()
        frame = scoped_frame()
        assert frame is not None
        for n in range(2):
            # The second is clamped, and the verdict about it is what fails to be written.
            call = Call(f"OP{n}", request(900), frame, n)
            desk = Desk(owner.store, Broken(), owner.store)
            with pytest.raises(KeyboardInterrupt):
                drive(open(call, owner.world), desk)
        assert run.spend.held == NOTHING
        door.close(call := door.begin(request(10)), door.open(call), said(1))


@pytest.mark.parametrize("how", ["two tasks", "child task"])
def test_nobody_waits_for_who_waits_for_him(how: str) -> None:
    """Tasks that hold something and wait for each other, and a child for its parent, are told so at once."""
    door = guard()

    async def second() -> str:
        try:
            await door.aopen(door.begin(request(350)))
        except bursar.BudgetExceeded as error:
            return error.why
        return "admitted"

    async def one(both: asyncio.Barrier) -> str:
        call = door.begin(request(300))
        attempt = await door.aopen(call)
        await both.wait()
        why = await second() if how == "two tasks" else await asyncio.create_task(second())
        await door.aclose(call, attempt, said(300))
        return why

    async def everything() -> list[str]:
        tasks = 2 if how == "two tasks" else 1
        both = asyncio.Barrier(tasks)
        return await asyncio.gather(*(one(both) for _ in range(tasks)))

    with bursar.run("circle", Budget(tokens=800 if how == "two tasks" else 500, max_wait=60, bound="hard")):
        assert "would_deadlock" in asyncio.run(asyncio.wait_for(everything(), 30))
