"""What a wrapped client carries: its tags and limits, and the doors into the flow.

An adapter makes a `ModelRequest` of what the SDK is about to send, opens an attempt, puts the cap that came back
into the request, and closes the attempt with an `Answer`. The rest happens in `flow/model_call.py`.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

from bursar.clients.asked import marked
from bursar.clients.deferred import in_bulk, ordered, presumed
from bursar.clients.doors import go_without, owner_of, prepare
from bursar.clients.echoes import echo_of
from bursar.clients.gates import gate
from bursar.clients.growth import growth_of
from bursar.clients.receipts import keep
from bursar.clients.steering import steered, told, trimmed
from bursar.clients.stored_calls import note_stored
from bursar.clients.watch import Watch
from bursar.clients.windows import take_plan
from bursar.clients.words import Heard, said
from bursar.clients.words import asked as words_of
from bursar.flow.call import Attempt, Call
from bursar.flow.model_call import heed
from bursar.flow.retries import LONG_WAIT_US, retries_left
from bursar.guards.lineage import asked_of
from bursar.runs.drive import adrive, drive
from bursar.runs.frames import client_frame, merged_frame
from bursar.runs.lent import claim
from bursar.runs.scoped import ScopedFrame, scoped_frame
from bursar.runs.usual import aadmit, aconclude, admit, conclude
from bursar.tracing.redact import redact
from bursar.words.clock import new_id
from bursar.words.errors import BursarWarning, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bursar.runs.frames import Spec
    from bursar.runs.loops import Look
    from bursar.runs.process import Process
    from bursar.tracing.content import Contents
    from bursar.words.events import Answer, ModelRequest
    from bursar.words.records import Who

_said: set[str] = set()


class Guard:
    """The tags and limits of one wrapped client."""

    def __init__(self, who: Who, guards: Sequence[Spec], *, strict: bool = False) -> None:
        self._who, self._guards, self.strict = who, guards, strict
        self._inner: Guard | None = None
        self._own = client_frame(who, guards)
        self._merged: tuple[ScopedFrame, ScopedFrame] | None = None

    def over(self, inner: Guard | None) -> Guard:
        """Keep the limits and tags of the guard that the client carried before: wrapping again loosens nothing."""
        if inner is not None:
            self._inner, self._own = inner, merged_frame(inner.frame(), self._own)
            self.strict = self.strict or inner.strict
        return self

    def begin(
        self,
        request: ModelRequest,
        *,
        body: Any = None,
        read: Callable[[Any], ModelRequest] | None = None,
        countable: bool = False,
        retries: int = 0,
        inside: ScopedFrame | None = None,
    ) -> Call:
        """Start an operation in the innermost open run, or outside of any.

        `body` is what the caller gave. A guard may change it where `read` says what the request then is.

        `retries`: how often its SDK sends it again at most. `inside` names the frame where the context does not;
        without it a call that a framework's adapter has lent is taken over: who is nearest the wire charges it.
        """
        if inside is None:
            claim(request.model)
        frame = self._frame(inside)
        owner, run = frame.owner, frame.run
        if owner.orphans:
            owner.adopt()
        looked = changed = None
        if frame.loops is not None or frame.judged is not None or frame.gates is not None:
            looked, changed = steered(request, body, frame, readable=read is not None)
            if changed is not None and read is not None:
                request, body = read(changed), changed
        # Many requests: none of a batch is told apart from others here.
        asked = None if request.deferred == "batch" else asked_of(request)
        step = 0 if run is None else run.next_step()
        # In their order: named, they would be put into a dictionary first.
        call = Call(new_id(), request, frame, step, asked, countable, retries, looked, changed)
        if frame.loops is not None or frame.judged is not None:
            told(call, frame)
        if frame.context is not None:
            trimmed(call, body, read, frame)
        prepare(call, frame)
        if frame.gates is not None:
            gate(call, body)
        if request.deferred == "batch":
            in_bulk(call, body, owner)
        if owner.contents is not None:
            call.words = words_of(request.api, body)
        return call

    def open(
        self,
        call: Call,
        count: Callable[[], int | None] | None = None,
        ask: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Attempt:
        """Admit the next attempt, waiting for its turn; raises `Stopped`.

        `ask` sends a body of its own as a call of its own, and returns the answer: a summary may have to be made first.
        """
        owner = owner_of(call)
        if call.plan is not None:
            take_plan(call).summarise(ask)
        try:
            return admit(call, owner.world, owner.desk, count)
        except StoreUnavailable:
            go_without(call, owner)
            return admit(call, owner.world, owner.desk, count)

    async def aopen(
        self,
        call: Call,
        count: Callable[[], Awaitable[int | None]] | None = None,
        ask: Callable[[dict[str, Any]], Awaitable[Any]] | None = None,
    ) -> Attempt:
        """As `open`, awaiting."""
        owner = owner_of(call)
        if call.plan is not None:
            await take_plan(call).asummarise(ask)
        try:
            return await aadmit(call, owner.world, owner.desk, count)
        except StoreUnavailable:
            go_without(call, owner)
            return await aadmit(call, owner.world, owner.desk, count)

    def close(self, call: Call, attempt: Attempt, answer: Answer, heard: Heard | None = None) -> None:
        """Charge and record an attempt before returning. A defect of ours becomes a warning, not the caller's."""
        owner = owner_of(call)
        if owner.forked:
            # The parent's to conclude: a child that lets go of what it inherited has neither made nor ended a call.
            return
        if call.loops is not None:
            _answered(call, call.loops, answer, owner)
        try:
            if call.request.deferred is not None:
                answer = presumed(answer)
            if answer.asked:
                answer = marked(answer, owner)
            record = conclude(call, attempt, answer, owner.world, owner.desk)
            keep(record)
            if call.request.deferred is not None:
                ordered(call, attempt, answer, record, owner)
            if owner.contents is not None:
                _keep_words(owner.contents, call, attempt, answer, heard)
        except BursarWarning:
            # Said by the budget after all was charged; the caller has asked for warnings to be errors.
            raise
        except Exception as error:  # noqa: BLE001 - the answer is paid for: it must reach the caller
            _say(attempt, error)

    async def aclose(self, call: Call, attempt: Attempt, answer: Answer) -> None:
        """As `close`, without blocking an event loop; cancelled, it charges and records before it is gone."""
        owner = owner_of(call)
        if call.loops is not None:
            _answered(call, call.loops, answer, owner)
        try:
            if call.request.deferred is not None:
                answer = presumed(answer)
            if answer.asked:
                answer = marked(answer, owner)
            record = await aconclude(call, attempt, answer, owner.world, owner.desk)
            keep(record)
            if call.request.deferred is not None:
                await asyncio.to_thread(ordered, call, attempt, answer, record, owner)
            if owner.contents is not None:
                await asyncio.to_thread(_keep_words, owner.contents, call, attempt, answer, None)
        except BursarWarning:
            # Said by the budget after all was charged; the caller has asked for warnings to be errors.
            raise
        except Exception as error:  # noqa: BLE001 - as above
            _say(attempt, error)

    def heed(self, call: Call, answer: Answer, *, obeyed: bool = False) -> None:
        """After a failed attempt was closed: raise `Stopped` where the wait that the provider asks for is too long.

        `obeyed`: the SDK keeps any wait; a long one that nothing ends is warned of.
        """
        if answer.retry_after_us is not None:
            owner = owner_of(call)
            drive(heed(call, answer, owner.world), owner.desk)
            if obeyed:
                _say_long(call, answer)

    async def aheed(self, call: Call, answer: Answer, *, obeyed: bool = False) -> None:
        """As `heed`, on an event loop."""
        if answer.retry_after_us is not None:
            owner = owner_of(call)
            await adrive(heed(call, answer, owner.world), owner.desk)
            if obeyed:
                _say_long(call, answer)

    def watch(self, call: Call, attempt: Attempt, request_id: str | None, *, hide_usage: bool = False) -> Watch:
        """Watch the stream that answers an attempt; it closes the attempt when it ends."""
        owner = owner_of(call)
        heard = None if owner.contents is None else Heard(call.request.api)
        return Watch(
            call.request,
            lambda answer: self.close(call, attempt, answer, heard),
            owner.world.clock.monotonic_us,
            started_us=attempt.started_us,
            request_id=request_id,
            hide_usage=hide_usage,
            orphan=owner.orphans.append,
            hear=None if heard is None else heard.see,
            growth=growth_of(call, attempt),
            echo=echo_of(call),
        )

    def here(self) -> ScopedFrame:
        """Where a call made now would be charged."""
        return self._frame(None)

    def _frame(self, inside: ScopedFrame | None) -> ScopedFrame:
        inner = scoped_frame() if inside is None else inside
        if inner is None:
            return self.frame()
        merged = self._merged
        if merged is None or merged[0] is not inner:
            # One frame a run, not one a call: a client is mostly used in one run for many calls.
            merged = self._merged = (inner, merged_frame(self._own, inner))
        return merged[1]

    def frame(self) -> ScopedFrame:
        """The frame of this client outside of any run."""
        if self._own.owner.ended:
            # Reconfigured, or forked: outside of a run the client goes on in the process as it is now.
            self._own = client_frame(self._who, self._guards)
            self.over(self._inner)
        return self._own


def _keep_words(contents: Contents, call: Call, attempt: Attempt, answer: Answer, heard: Heard | None) -> None:
    # The request is kept with its first attempt; a retry sends the same bytes.
    words, call.words = call.words, None
    answered = ([] if heard is None else heard.parts()) or said(call.request.api, answer.said)
    contents.keep(attempt.call_id, words or (), answered)


def _say_long(call: Call, answer: Answer) -> None:
    wait_us = answer.retry_after_us or 0
    if wait_us > LONG_WAIT_US and answer.retryable and retries_left(call) and "long_wait" not in _said:
        _said.add("long_wait")
        warnings.warn(
            f"the provider asks to wait {wait_us / 1_000_000:,.0f} s before {call.request.model[:80]!r} is asked "
            "again, and the SDK may sleep that long; give the run RetryCap(max_retry_after=60) to be stopped instead.",
            BursarWarning,
            stacklevel=3,
        )


def _say(attempt: Attempt, error: Exception) -> None:
    what = redact(f"{type(error).__name__}: {error}")
    warnings.warn(
        f"the end of call {attempt.call_id} could not be taken in ({what}); what it may cost stays held. "
        "Please report this.",
        BursarWarning,
        stacklevel=3,
    )


def _answered(call: Call, looked: Look, answer: Answer, owner: Process) -> None:
    looked.conversation.answered_us = owner.world.clock.wall_us()
    note_stored(call, answer)
