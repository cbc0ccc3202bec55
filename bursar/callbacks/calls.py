"""One model call between its callbacks: opened before it is sent, closed exactly once, by whoever sees its end.

Calls are known by LangChain's run id, to all handlers together: however many are attached, the first opens and the
first closes. What nobody ends is found in three ways: by an error of the chain that it is in, by the end of its run,
and by the collection of the run id, which lives as long as LangChain has the call.
"""

from __future__ import annotations

import contextlib
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from bursar.callbacks.answers import CACHED, abandoned, of_failure
from bursar.callbacks.handler_guards import watched
from bursar.callbacks.pieces import Pieces
from bursar.clients.echoes import echo_of
from bursar.clients.growth import growth_of
from bursar.clients.guard import Guard
from bursar.runs.drive import drive
from bursar.runs.frames import make_who, narrow
from bursar.runs.lent import Loan
from bursar.runs.scoped import ScopedFrame, changed, opened_frame
from bursar.words.errors import BursarWarning
from bursar.words.ports import Release

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from uuid import UUID

    from bursar.callbacks.requests import Asking
    from bursar.callbacks.roots import Root
    from bursar.clients.echoes import Echo
    from bursar.clients.growth import Growth
    from bursar.flow.call import Attempt, Call
    from bursar.guards.budget import Budget
    from bursar.runs.accounts import Account
    from bursar.words.events import Answer

UNGATED = "ungated"
"""The flag of a call that a wrapped client was to admit and that went past it: charged when it was over."""

calls: dict[int, ModelCalling] = {}
"""The model calls that are open, by LangChain's run id."""
_guards: list[Guard] = []


def guard() -> Guard:
    """The guard of calls that no client and no middleware carries one for: no tags and no limits of its own."""
    if not _guards:
        _guards.append(Guard(make_who(None), []))
    return _guards[0]


class ModelCalling:
    """A model call that LangChain has begun. `attempt` is None where somebody nearer the wire is to admit it."""

    # What most calls never set stands with the class.
    call: Call | None = None
    attempt: Attempt | None = None
    loan: Loan | None = None
    _growth: Growth | None = None
    _echo: Echo | None = None
    _pieces: Pieces | None = None
    life: weakref.ref[UUID] | None = None

    def __init__(
        self,
        asking: Asking,
        frame: ScopedFrame,
        root: Root | None,
        parent: int | None,
        open_ended: bool | None,  # noqa: FBT001 - by position, as `Call`
    ) -> None:
        self._asking, self.frame, self.root, self.parent, self._open_ended = asking, frame, root, parent, open_ended
        self._guard = guard()

    def open(self) -> None:
        """Admit it here. Raises `Stopped`."""
        self._begin(self.frame)
        self._admit()

    def take(self, admitted: Guard, call: Call, attempt: Attempt) -> None:
        """Go on with what a middleware has admitted."""
        self._guard, self.call, self.attempt = admitted, call, attempt

    def tighten(self, added: Sequence[tuple[Budget | None, Account]]) -> None:
        """Admit it anew under further limits. Raises `Stopped`; then it is over."""
        self.frame = narrow(self.frame, added)
        if self.loan is not None:
            self.loan.frame = self.frame
        if self.attempt is not None and self.call is not None:
            self._give_way()
            self.call.frame = narrow(self._scoped(), added)
            self._admit()

    def lend(self, model: str) -> None:
        """Let a client that is nearer the wire take it over."""
        self.loan = Loan(self.frame, opened_frame(), model, self._give_way).lend()

    def said(self, text: str, *, words: bool = True) -> None:
        """Take in what a stream has said; without `words` it is arguments of a tool.

        Raises `BudgetExceeded` where it outgrows its hold and there is no room, `LoopDetected` where it repeats itself.
        """
        if self.loan is not None:
            # Words have come: whoever sends a request from here on sends another.
            self.loan.claimed = True
        call, attempt = self.call, self.attempt
        if attempt is None or call is None or not text:
            return
        if self._pieces is None:
            call.request = call.request._replace(stream=True)
            self._pieces = Pieces(self.frame.owner.world.clock.monotonic_us)
            self._growth, self._echo = growth_of(call, attempt), echo_of(call)
        self._pieces.append(text)
        if self._echo is not None and words:
            self._echo.said(text)
            if self._echo.loud:
                self._echo.cut()
        if self._growth is not None:
            self._growth.said(self._pieces, self._pieces.length)
            if self._growth.short:
                self._growth.grow()

    def failed(self, error: BaseException) -> None:
        """Close it after an exception."""
        self.end(of_failure(error, output_seen=self._seen())._replace(output_read=self._read()))

    def abandoned(self) -> None:
        """Close it though nobody has said how it ended."""
        self.end(abandoned(output_seen=self._seen()))

    def withdraw(self) -> None:
        """Free it, of which nothing was sent and nothing will be."""
        loan, self.loan = self.loan, None
        if loan is not None:
            loan.close()
        self._give_way()

    def is_asked_with(self, params: Mapping[str, Any]) -> bool:
        """Whether it was begun with these parameters, the very same object: by one call of LangChain's."""
        return self._asking.params is params

    def end(self, answer: Answer) -> None:
        """Charge and record it, unless somebody nearer the wire has. Never raises: its answer may be paid for."""
        loan, self.loan = self.loan, None
        claimed = loan is not None and loan.claimed and self.attempt is None
        if loan is not None:
            loan.close()
        if self.attempt is None and not claimed and answer.usage is not None and CACHED not in answer.flags:
            self._admit_late()
        call, attempt = self.call, self.attempt
        if call is None or attempt is None or attempt.closed:
            return
        try:
            self._guard.close(call, attempt, answer)
        except BursarWarning:
            return

    def _begin(self, frame: ScopedFrame, *, watch_it: bool = True) -> None:
        asking = self._asking
        request = asking.request(open_ended=self._open_ended)
        if watch_it and asking.messages and (frame.loops is not None or frame.context is not None):
            frame = watched(frame, request, asking.messages)
        owner = frame.owner
        # Few look at the words: they are put together for those who do.
        looks = frame.gates is not None or owner.rules or owner.contents is not None
        self.call = self._guard.begin(request, body=asking.body() if looks else None, inside=frame)
        if request.open_ended and request.cap is not None:
            self.call.flags += ("uncapped",)

    def _admit(self) -> None:
        assert self.call is not None
        self.attempt = self._guard.open(self.call)

    def _admit_late(self) -> None:
        with contextlib.suppress(Exception):
            self._begin(changed(self.frame, observe=True), watch_it=False)
            assert self.call is not None
            self.call.flags += (UNGATED,)
            self.attempt = self._guard.open(self.call)

    def _give_way(self) -> None:
        attempt, call, self.attempt = self.attempt, self.call, None
        if attempt is None or call is None:
            return
        give_up(call, attempt)

    def _scoped(self) -> ScopedFrame:
        assert self.call is not None
        frame = self.call.frame
        assert isinstance(frame, ScopedFrame)
        return frame

    def _read(self) -> int:
        return 0 if self._pieces is None else self._pieces.read()

    def _seen(self) -> int | None:
        # Hidden thinking is billed and never seen: only the bound is sure to cover it.
        if self._pieces is None or self.call is None or self.call.request.reasoning:
            return None
        return self._pieces.tokens(self.call.request.provider)


def give_up(call: Call, attempt: Attempt) -> None:
    """Free an attempt that was never sent and leaves no row: it is made anew, or by somebody nearer the wire."""
    attempt.closed = True
    frame = call.frame
    assert isinstance(frame, ScopedFrame)
    if attempt.reserved:
        drive(_released(attempt.call_id), frame.owner.desk)


def begin(run_id: UUID, calling: ModelCalling) -> None:
    """Keep an open call until somebody ends it."""
    key = run_id.int
    calls[key] = calling
    frame, forgotten = calling.frame, partial(abandon, key)
    orphans, run = frame.owner.orphans, frame.run
    # Called back inside any lock, by the collector; not at all where somebody has ended the call before.
    calling.life = weakref.ref(run_id, lambda _: orphans.append(forgotten))
    if run is not None:
        run.seen = True
        run.unfinished[key] = forgotten
    if calling.root is not None:
        calling.root.open[key] = calling


def pop(key: int) -> ModelCalling | None:
    """Take an open call for ending it: whoever gets it is the only one."""
    calling = calls.pop(key, None)
    if calling is not None:
        calling.life = None
        run, root = calling.frame.run, calling.root
        if root is not None:
            root.open.pop(key, None)
        if run is not None:
            run.unfinished.pop(key, None)
    return calling


def withdraw_batch(params: Mapping[str, Any]) -> None:
    """One of several calls that were to be made together is refused: none is sent before all have begun."""
    for key, each in list(calls.items()):
        if each.is_asked_with(params) and pop(key) is not None:
            each.withdraw()
            if each.root is not None:
                each.root.ended(key, None)


def abandon(key: int) -> None:
    """Close a call whose end nobody has told, if it is still open."""
    calling = pop(key)
    if calling is None:
        return
    calling.abandoned()
    if calling.root is not None:
        calling.root.ended(key, GeneratorExit())


def _released(call_id: str) -> Generator[Any, Any, None]:
    yield Release(call_id)
