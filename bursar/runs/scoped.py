"""Where a call is made: the innermost open run or budget, and the `with` that puts it there and takes it away.

It is in a context variable; asyncio tasks and `asyncio.to_thread` inherit it, raw threads do not (`Run.bind` carries it
there).
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import os
import threading
import warnings
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from bursar.flow.call import Frame
from bursar.runs.drive import owner_id
from bursar.runs.lent import lent
from bursar.runs.process import Process, process
from bursar.words.errors import BursarWarning, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from bursar.flow.terms import Reserve
    from bursar.runs.accounts import Account
    from bursar.runs.judged import Judged
    from bursar.runs.loops import Loops
    from bursar.runs.run import Run
    from bursar.runs.shares import Shares

P = ParamSpec("P")
R = TypeVar("R")

_frame: contextvars.ContextVar[ScopedFrame | None] = contextvars.ContextVar("bursar_frame", default=None)
_said: set[str] = set()
open_runs: set[str] = set()
"""Ids of the runs that are open in this process, in whatever context. A forked child has none of its parent's."""
os.register_at_fork(after_in_child=open_runs.clear)


@dataclass(slots=True)
class ScopedFrame(Frame):
    """A frame that keeps the accounts on its path alive, and what loops its calls are in.

    `judged` is what an adapter farther from the wire has found in the request at hand already.
    """

    accounts: tuple[Account, ...] = ()
    owner: Process = field(default_factory=process)
    shares: Shares | None = None
    loops: Loops | None = None
    judged: Judged | None = None


_fields_of: Any = attrgetter(*[each.name for each in fields(ScopedFrame)])


def changed(frame: ScopedFrame, **values: Any) -> ScopedFrame:
    """A copy of the frame with other values: what `dataclasses.replace` does, in a fifth of its time."""
    copied = ScopedFrame(*_fields_of(frame))
    for name, value in values.items():
        setattr(copied, name, value)
    return copied


class Opener:
    """A `with`, an `async with` and a decorator; each use opens anew."""

    def __init__(self) -> None:
        # Several threads and tasks may be inside one opener at once: each leaves what it has entered.
        self._open: list[tuple[int, contextvars.Token[ScopedFrame | None], Run | None]] = []

    def _enter(self) -> Any:
        raise NotImplementedError

    def _push(self, frame: ScopedFrame, run: Run | None) -> None:
        self._open.append((owner_id(), _frame.set(frame), run))

    def __enter__(self) -> Any:
        return self._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me = owner_id()
        # What was entered by a task that is over is left by whoever leaves.
        entry = next((entry for entry in reversed(self._open) if entry[0] == me), self._open[-1])
        self._open.remove(entry)
        _, token, run = entry
        with contextlib.suppress(ValueError):
            # Entered in another context, as a test's fixture may be: there is nothing to restore in this one.
            _frame.reset(token)
        if run is not None:
            run.end(error)

    async def __aenter__(self) -> Any:
        return self._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _again(self) -> Opener:
        raise NotImplementedError

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: each call of it opens its own. Raises `TypeError` for a generator."""
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{fn.__qualname__} is a generator: a run opened in it would leak to its caller between two yields; "
                "open the run round the loop that consumes it"
            )
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self._again():
                    return await fn(*args, **kwargs)

            return awaited  # type: ignore[return-value]  # a coroutine function for a coroutine function

        @functools.wraps(fn)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return fn(*args, **kwargs)

        return called


class FinalOpener(Opener):
    """What `Run.final` and `BudgetScope.final` return."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account
        if not account.reserves:
            raise ConfigError(
                f"final() on {account.scope}, where nothing is set aside: open it with Budget(reserve_final='auto')"
            )

    def _enter(self) -> None:
        frame, reserves = scoped_frame(), self._account.reserves
        inner = {reserve.inner for reserve in reserves}
        if frame is None or not inner.issubset(frame.path):
            raise ConfigError(
                f"final() on {self._account.scope} is for inside of it, once: here it is not open, or its final() is"
            )
        self._push(last_frame(frame, reserves), None)

    def _again(self) -> FinalOpener:
        return FinalOpener(self._account)


def last_frame(frame: ScopedFrame, reserves: tuple[Reserve, ...]) -> ScopedFrame:
    """The frame in which one last call may draw on what was set aside."""
    inner = {reserve.inner for reserve in reserves}
    return changed(
        frame,
        path=tuple(scope for scope in frame.path if scope not in inner),
        reserves=tuple(reserve for reserve in frame.reserves if reserve not in reserves),
        final=frame.final + reserves,
    )


def scoped_frame() -> ScopedFrame | None:
    """Where a call made now is charged; None outside of any run, and in a forked child of one."""
    frame = _frame.get()
    loan = lent()
    if loan is not None and loan.beneath is frame:
        # Nothing was opened since the loan was made.
        frame = loan.frame
    return None if frame is None or frame.owner.forked else frame


def opened_frame() -> ScopedFrame | None:
    """The frame of the innermost `with` that is open here, whatever a framework has lent since."""
    return _frame.get()


def has_lost_run(policy: str) -> bool:
    """Whether a call that is outside of any run is so because its thread has lost the context of an open one.

    A guess that names no run: other threads have runs open, and this one, which is not the main one, has none. Where
    the policy lets such calls go, it is said once.
    """
    if not open_runs or threading.current_thread() is threading.main_thread():
        return False
    if policy == "allow" and "lost_context" not in _said:
        _said.add("lost_context")
        warnings.warn(
            "a call on a thread outside of any run while a run is open: it is recorded as unattributed and not limited "
            "by the run. Start the thread as Thread(target=run.bind(work)), or set lost_context='deny'.",
            BursarWarning,
            stacklevel=5,
        )
    return True
