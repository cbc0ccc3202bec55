"""An event loop whose clock jumps when nothing is ready, and that runs what is ready in the order of a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from datetime import date
from typing import Any, TypeVar

T = TypeVar("T")

MOST_STEPS = 20_000


class SeededLoop(asyncio.BaseEventLoop):
    """One callback at a time, drawn at random; no sockets, no threads, no waiting.

    before_step: called before each callback with its number. A thread of the executor is two moments of the same
    clock: until the first, work can be cancelled, as it can while all threads of a real pool are taken.
    """

    _ready: deque[asyncio.Handle]

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.steps = 0
        self.before_step: Callable[[int], None] = lambda _: None
        self._now = 0.0
        self._selector = self

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """What the base class asks where it would wait for sockets: nothing has come, and the time has passed."""
        if timeout is None:
            raise AssertionError("nothing is ready and nothing is timed: the schedule hangs")
        self._now += timeout
        return []

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        work: Future[T] = Future()

        def begin() -> None:
            if work.set_running_or_notify_cancel():
                self.call_later(self.dice.choice((0, 0.01)), end)

        def end() -> None:
            try:
                work.set_result(func(*args))
            except BaseException as error:  # noqa: BLE001 - it is the waiting task's
                work.set_exception(error)

        self.call_later(self.dice.choice((0, 0.01)), begin)
        return asyncio.wrap_future(work, loop=self)

    def _run_once(self) -> None:
        ready = self._ready
        others: list[asyncio.Handle] = []
        if ready:
            index = self.dice.randrange(len(ready))
            chosen = ready[index]
            del ready[index]
            others = list(ready)
            ready.clear()
            ready.append(chosen)
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise AssertionError("the schedule never comes to rest")
        self.before_step(self.steps)
        super()._run_once()  # type: ignore[misc]  # the stubs do not know it
        ready.extend(others)

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no events."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who could be woken."""


class LoopClock:
    """A `Clock` that goes with a loop."""

    def __init__(self, loop: SeededLoop) -> None:
        self._loop = loop

    def today(self) -> date:
        return date(2026, 11, 24)

    def wall_us(self) -> int:
        return 1_795_000_000_000_000 + self.monotonic_us()

    def monotonic_us(self) -> int:
        return int(self._loop.time() * 1_000_000)


def run(loop: SeededLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, then whatever is still on its way."""
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(main)
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(asyncio.sleep(3_600))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert errors == [], errors
    return result
