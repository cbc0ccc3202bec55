"""What the service's endpoints work with: a run with a mark, calls in it, threads and tasks that a stop ends."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import bursar
from bursar import Budget
from scripts.soak import lineage
from scripts.soak.calls import FAILURES, Calls
from scripts.soak.house import House
from scripts.soak.marks import HARD, Mark, new_mark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from bursar import Run

house = House.here()
dice = random.Random()
calls = Calls(house.clients(), dice)


@contextlib.contextmanager
def agent(feature: str, user: str, *guards: Any, limit: Budget | None = None, hard: bool = False) -> Iterator[Any]:
    """Open a run with a mark, and write down its end. `limit` is the one that refuses."""
    mark, stopped = new_mark(user, HARD if hard else ""), None
    run: Run
    try:
        guards = (*((limit,) if limit else ()), *guards)
        with bursar.run(f"soak {feature}", *guards, user=user, feature=feature, **lineage.tags(mark)) as run:
            yield run, mark
            lineage.report(run, mark)
    except bursar.Stopped as stop:
        stopped = type(stop).__name__
    finally:
        limits = {} if limit is None else limit.limits()
        house.diary.note(mark, feature, run.id, limits.get("usd"), run.spend.held.nusd, stopped or run.stop_reason)


def small(**options: Any) -> Budget:
    """Mostly too little for all that an agent wants."""
    return Budget(usd=f"0.{dice.randint(10, 120):03d}", **options)


def several(mark: Mark, count: int = 6, **options: Any) -> None:
    """Call until the budget says no."""
    for _ in range(count):
        try:
            calls.call(mark, **options)
        except FAILURES:
            continue


async def aseveral(mark: Mark, count: int = 4, **options: Any) -> None:
    """As `several`, awaiting."""
    for _ in range(count):
        with contextlib.suppress(*FAILURES, TimeoutError):
            await calls.acall(mark, **options)


def quietly(work: Callable[..., None], *given: Any) -> None:
    """Run it in a thread of its own, which a stop ends."""
    with contextlib.suppress(bursar.Stopped):
        work(*given)


async def aquietly(work: Awaitable[None]) -> None:
    """Run it in a task of its own, which a stop ends."""
    with contextlib.suppress(bursar.Stopped):
        await work
