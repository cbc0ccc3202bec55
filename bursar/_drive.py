"""The two drivers: they perform what a flow yields, one by waiting, one by awaiting.

Everything that a flow may ask is either quick (a lock, a few integers, one commit) or one of four that can take
time: waiting for one's turn, a throttle, counting tokens at the provider, and a ledger that another process has locked.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from bursar._ports import Held, Join, Limit, Look, Peek, Release, Reserve, Settle, Sleep, Wait, Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from bursar._ports import Effect, Sink, Store

T = TypeVar("T")

_line: contextvars.ContextVar[frozenset[int]] = contextvars.ContextVar("bursar_line", default=frozenset())
"""The tasks and threads that this context came from and that held something: nobody waits for those."""
_STORE_VERBS = frozenset({Peek, Look, Limit, Reserve, Settle, Release})


class Desk(NamedTuple):
    """Who performs what a flow asks: the store for holds, the sink for records."""

    store: Store
    sink: Sink


def drive(flow: Generator[Effect, Any, T], desk: Desk, count: Callable[[], int | None] | None = None) -> T:
    """Run a flow, blocking where it waits. On an event loop's own thread it never waits: that could deadlock."""
    owner = owner_id()
    ticket: ThreadTicket | None = None
    held: str | None = None
    reply: Any = None
    try:
        while True:
            effect = flow.send(reply)
            if effect.__class__ in _STORE_VERBS:
                reply = _perform(effect, desk.store, owner)
                if reply.__class__ is Held:
                    held = reply.call_id
                    _note(owner)
            elif isinstance(effect, Write):
                desk.sink.write(effect.record)
                reply = None
            elif isinstance(effect, Wait):
                assert ticket is not None
                ticket.wait(effect.seconds)
                reply = None
            elif isinstance(effect, Join):
                if _on_event_loop():
                    reply = None
                else:
                    reply = ticket = ticket or ThreadTicket()
                    desk.store.join(effect.scope, ticket, owner)
            elif isinstance(effect, Sleep):
                time.sleep(effect.seconds)
                reply = None
            else:
                reply = count() if count else None
    except StopIteration as end:
        held = None
        value: T = end.value
        return value
    finally:
        _clear(desk, ticket, held)


async def adrive(
    flow: Generator[Effect, Any, T], desk: Desk, count: Callable[[], Awaitable[int | None]] | None = None
) -> T:
    """Run a flow, awaiting where it waits; cancelled, it leaves no hold and no place in a queue behind."""
    owner = owner_id()
    ticket: TaskTicket | None = None
    held: str | None = None
    reply: Any = None
    try:
        while True:
            effect = flow.send(reply)
            if effect.__class__ in _STORE_VERBS:
                reply = _perform(effect, desk.store, owner)
                if reply.__class__ is Held:
                    held = reply.call_id
                    _note(owner)
            elif isinstance(effect, Write):
                if not desk.sink.try_write(effect.record):
                    await asyncio.get_running_loop().run_in_executor(None, desk.sink.write, effect.record)
                reply = None
            elif isinstance(effect, Wait):
                assert ticket is not None
                await ticket.wait(effect.seconds)
                reply = None
            elif isinstance(effect, Join):
                reply = ticket = ticket or TaskTicket()
                desk.store.join(effect.scope, ticket, owner)
            elif isinstance(effect, Sleep):
                await asyncio.sleep(effect.seconds)
                reply = None
            else:
                reply = await count() if count else None
    except StopIteration as end:
        held = None
        value: T = end.value
        return value
    finally:
        _clear(desk, ticket, held)


class ThreadTicket:
    """A thread's place in a queue."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        """Let the waiting thread look again."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Sleep until woken, at most so long."""
        self._event.wait(seconds)
        self._event.clear()


class TaskTicket:
    """A task's place in a queue; woken from any thread."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Let the waiting task look again."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float) -> None:
        """Sleep until woken, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()


def owner_id() -> int:
    """Name the task, or where there is none the thread, that would have to settle what it holds."""
    task = _current_task()
    return threading.get_ident() if task is None else id(task)


def _perform(effect: Effect, store: Store, owner: int) -> Any:
    if isinstance(effect, Peek):
        return store.peek(effect.path, _line.get() | {owner}, effect.ticket)
    if isinstance(effect, Reserve):
        return store.reserve(effect.call_id, effect.path, effect.amounts, owner)
    if isinstance(effect, Settle):
        return store.settle(effect.call_id, effect.path, effect.actual, measured=effect.measured)
    if isinstance(effect, Look):
        return store.balance(effect.scope)
    if isinstance(effect, Limit):
        return store.define(effect.scope, effect.limits)
    assert isinstance(effect, Release)
    return store.release(effect.call_id)


def _note(owner: int) -> None:
    line = _line.get()
    if owner not in line:
        _line.set(line | {owner})


def _clear(desk: Desk, ticket: ThreadTicket | TaskTicket | None, held: str | None) -> None:
    if held is not None:
        desk.store.release(held)
    if ticket is not None:
        desk.store.leave(ticket)


def _on_event_loop() -> bool:
    return asyncio._get_running_loop() is not None  # noqa: SLF001 - the public one raises, at twenty times the price


def _current_task() -> asyncio.Task[Any] | None:
    if asyncio._get_running_loop() is None:  # noqa: SLF001
        return None
    return asyncio.current_task()
