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

from bursar.words.ports import (
    Ask,
    Busy,
    Held,
    Join,
    Limit,
    Look,
    Peek,
    Posted,
    Raise,
    Release,
    Reserve,
    Sent,
    Settle,
    Sleep,
    Take,
    Turn,
    Wait,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from bursar.words.ports import Effect, Sink, Store

T = TypeVar("T")

_line: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar("bursar_line", default=())
"""The tasks and threads that this context came from and that held something: nobody waits for those."""
_VERBS: dict[type[Any], Callable[[Store, Any, int], Any]] = {
    Take: lambda store, effect, owner: store.take(effect.call_id, effect.path, effect.amounts, effect.times, owner),
    Peek: lambda store, effect, owner: store.peek(effect.path, frozenset((*_line.get(), owner)), effect.ticket),
    Reserve: lambda store, effect, owner: store.reserve(effect.call_id, effect.path, effect.amounts, owner),
    Settle: lambda store, effect, _: store.settle(effect.call_id, effect.path, effect.actual, measured=effect.measured),
    Release: lambda store, effect, _: store.release(effect.call_id),
    Sent: lambda store, effect, _: store.sent(effect.call_id),
    Posted: lambda store, effect, _: store.posted(effect.call_id, effect.path),
    Look: lambda store, effect, _: store.balance(effect.scope),
    Limit: lambda store, effect, _: store.define(effect.scope, effect.limits),
    Raise: lambda _, effect, __: effect.purse.lift(effect.nusd),
    Turn: lambda store, effect, _: store.turn(effect.scope, effect.interval_us, effect.now_us),
}
"""What the store does, by effect."""


class Desk(NamedTuple):
    """Who performs what a flow asks: the store for holds, the sink for records.

    hurried: the store for one who must not wait for other processes: it raises `Busy` instead.
    """

    store: Store
    sink: Sink
    hurried: Store


def drive(  # noqa: C901, PLR0912 - a branch for each kind of effect
    flow: Generator[Effect, Any, T], desk: Desk, count: Callable[[], int | None] | None = None
) -> T:
    """Run a flow, blocking where it waits. On an event loop's own thread it never waits: that could deadlock."""
    owner = owner_id()
    ticket: ThreadTicket | None = None
    held: str | None = None
    reply: Any = None
    try:
        while True:
            effect = flow.send(reply)
            verb = _VERBS.get(effect.__class__)
            if verb is not None:
                reply = verb(desk.store, effect, owner)
                if reply.__class__ is Held:
                    held = reply.call_id
                    note_holder(owner)
            elif isinstance(effect, Write):
                desk.sink.write(effect.record, effect.posting)
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
            elif isinstance(effect, Ask):
                reply = effect.asker.ask(effect.question, may_wait=not _on_event_loop())
            else:
                reply = count() if count else None
    except StopIteration as end:
        held = None
        value: T = end.value
        return value
    finally:
        if held is not None or ticket is not None:
            _clear(desk, ticket, held)


async def adrive(  # noqa: C901, PLR0912, PLR0915 - a branch for each kind of effect
    flow: Generator[Effect, Any, T],
    desk: Desk,
    count: Callable[[], Awaitable[int | None]] | None = None,
    *,
    whole: bool = False,
) -> T:
    """Run a flow, awaiting where it waits; cancelled, it leaves no hold and no place in a queue behind.

    whole: what has begun is done to its end before a cancellation takes effect. So ends a call that is paid for.
    """
    owner = owner_id()
    cut: asyncio.CancelledError | None = None
    ticket: TaskTicket | None = None
    held: str | None = None
    reply: Any = None
    try:
        while True:
            effect = flow.send(reply)
            verb = _VERBS.get(effect.__class__)
            if verb is not None:
                try:
                    reply = verb(desk.hurried, effect, owner)
                except Busy:
                    work = _in_a_thread(verb, desk.store, effect, owner)
                    if whole:
                        cut = await _done(work) or cut
                        reply = work.result()
                    else:
                        reply = await _patiently(effect, desk.store, work)
                if reply.__class__ is Held:
                    held = reply.call_id
                    note_holder(owner)
            elif isinstance(effect, Write):
                if not desk.sink.try_write(effect.record, effect.posting):
                    work = _in_a_thread(desk.sink.write, effect.record, effect.posting)
                    cut = await _done(work) or cut
                    work.result()
                    if cut is not None and not whole:
                        raise cut
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
            elif isinstance(effect, Ask):
                reply = await effect.asker.aask(effect.question)
            else:
                reply = await count() if count else None
    except StopIteration as end:
        held = None
        value: T = end.value
        if cut is not None:
            raise cut from None
        return value
    finally:
        if held is not None or ticket is not None:
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
    if asyncio._get_running_loop() is None:  # noqa: SLF001 - as in `_on_event_loop`, and without another call
        return threading.get_ident()
    task = asyncio.current_task()
    return threading.get_ident() if task is None else id(task)


def _in_a_thread(work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
    # In this context: it knows the line of those who hold something.
    return asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, work, *args)


async def _done(work: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    # A thread's work outlives the cancellation of whoever waits for it: the cancellation is returned, for later.
    cut = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cut = error
    return cut


async def _patiently(effect: Effect, store: Store, work: asyncio.Future[Any]) -> Any:
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if isinstance(effect, Take | Reserve):
            # The thread goes on without us: what it gets is given back.
            work.add_done_callback(lambda _: store.release(effect.call_id))
        raise


def note_holder(owner: int) -> None:
    """Note for whatever this context calls from here on that this task or thread holds something."""
    line = _line.get()
    if owner not in line:
        _line.set((*line, owner))


def _clear(desk: Desk, ticket: ThreadTicket | TaskTicket | None, held: str | None) -> None:
    if held is not None:
        desk.store.release(held)
    if ticket is not None:
        desk.store.leave(ticket)


def _on_event_loop() -> bool:
    return asyncio._get_running_loop() is not None  # noqa: SLF001 - the public one raises, at twenty times the price
