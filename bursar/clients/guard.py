"""What a wrapped client carries: its tags and limits, and the doors into the flow.

An adapter makes a `ModelRequest` of what the SDK is about to send, opens an attempt, puts the cap that came back
into the request, and closes the attempt with an `Answer`. The rest happens in `_flow.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar._call import Attempt, Call
from bursar._clock import new_id
from bursar._drive import adrive, drive
from bursar._flow import close, open
from bursar._process import process
from bursar._run import client_frame, current_frame, merged_frame
from bursar.clients.receipts import keep
from bursar.clients.streams import Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bursar._call import Frame
    from bursar._events import Answer, ModelRequest
    from bursar._records import Who
    from bursar.guards.budget import Budget, Unlimited


class Guard:
    """The tags and limits of one wrapped client."""

    def __init__(self, who: Who, budgets: Sequence[Budget | Unlimited]) -> None:
        self._own = client_frame(who, budgets)
        self._merged: tuple[Frame, Frame] | None = None

    def begin(self, request: ModelRequest, *, countable: bool = False) -> Call:
        """Start an operation in the innermost open run, or outside of any."""
        process().adopt()
        frame = self._frame()
        step = frame.run.next_step() if frame.run is not None else 0
        return Call(new_id(), request, frame, step, countable=countable)

    def open(self, call: Call, count: Callable[[], int | None] | None = None) -> Attempt:
        """Admit the next attempt, waiting for its turn; raises `Stopped`."""
        owner = process()
        return drive(open(call, owner.world), owner.desk, count)

    async def aopen(self, call: Call, count: Callable[[], Awaitable[int | None]] | None = None) -> Attempt:
        """Admit the next attempt, awaiting its turn; raises `Stopped`."""
        owner = process()
        return await adrive(open(call, owner.world), owner.desk, count)

    def close(self, call: Call, attempt: Attempt, answer: Answer) -> None:
        """Charge and record an attempt before returning."""
        owner = process()
        keep(drive(close(call, attempt, answer, owner.world), owner.desk))

    async def aclose(self, call: Call, attempt: Attempt, answer: Answer) -> None:
        """Charge and record an attempt before returning, without blocking an event loop."""
        owner = process()
        keep(await adrive(close(call, attempt, answer, owner.world), owner.desk))

    def watch(self, call: Call, attempt: Attempt, request_id: str | None, *, hide_usage: bool = False) -> Watch:
        """Watch the stream that answers an attempt; it closes the attempt when it ends."""
        owner = process()
        return Watch(
            call.request,
            lambda answer: self.close(call, attempt, answer),
            owner.world.clock.monotonic_us,
            request_id=request_id,
            hide_usage=hide_usage,
            orphan=owner.orphans.append,
        )

    def _frame(self) -> Frame:
        inner = current_frame()
        if inner is None:
            return self._own
        merged = self._merged
        if merged is None or merged[0] is not inner:
            # One frame a run, not one a call: a client is mostly used in one run for many calls.
            merged = self._merged = (inner, merged_frame(self._own, inner))
        return merged[1]
