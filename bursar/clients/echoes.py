"""Cut a stream whose text repeats itself to no end: the rest of it would be paid for and say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bursar.clients.doors import owner_of
from bursar.flow.refusals import refuse_repeats
from bursar.guards.loop_text import TextEcho
from bursar.runs.drive import adrive, drive
from bursar.runs.scoped import ScopedFrame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bursar.flow.call import Call
    from bursar.guards.loop_text import Repeated


class Cutter(Protocol):
    """Ends a stream that repeats itself: takes what it repeats, and who can tell its text."""

    def __call__(self, repeated: Repeated, partial: Callable[[], str], /) -> None:
        """Raises `LoopDetected`, unless guards only observe."""


class AsyncCutter(Protocol):
    """As `Cutter`, for an event loop."""

    def __call__(self, repeated: Repeated, partial: Callable[[], str], /) -> Awaitable[None]:
        """Raises `LoopDetected`, unless guards only observe."""


class Echo:
    """Listens to one stream. `loud`: it repeats itself, and `cut` or `acut` is to be called."""

    __slots__ = ("_acut", "_cut", "_pieces", "_text", "loud")

    def __init__(self, cut: Cutter, acut: AsyncCutter) -> None:
        self._cut, self._acut = cut, acut
        self._text: TextEcho | None = TextEcho()
        self._pieces: list[str] = []
        self.loud = False

    def said(self, text: str) -> None:
        """Take in words of the answer, or of what is thought before it; not the arguments of a tool."""
        if self._text is not None:
            self._pieces.append(text)
            self._text.said(text)
            self.loud = self._text.heard is not None

    def cut(self) -> None:
        """End the stream. Raises `LoopDetected`."""
        heard = self._over()
        if heard is not None:
            self._cut(heard, self._partial)

    async def acut(self) -> None:
        """As `cut`, without blocking an event loop."""
        heard = self._over()
        if heard is not None:
            await self._acut(heard, self._partial)

    def _over(self) -> Repeated | None:
        # Said once: where guards only observe, the stream goes on.
        text, self._text, self.loud = self._text, None, False
        return None if text is None else text.heard

    def _partial(self) -> str:
        return "".join(self._pieces)


def echo_of(call: Call) -> Echo | None:
    """What cuts the stream that answers a call when it repeats itself; None where no loop guard says so."""
    owner, frame = owner_of(call), call.frame
    assert isinstance(frame, ScopedFrame)
    if frame.loops is None or not frame.loops.guard.cut_streams:
        return None

    def sync(repeated: Repeated, partial: Callable[[], str]) -> None:
        drive(refuse_repeats(call, repeated, owner.world, partial), owner.desk)

    async def awaited(repeated: Repeated, partial: Callable[[], str]) -> None:
        await adrive(refuse_repeats(call, repeated, owner.world, partial), owner.desk)

    return Echo(sync, awaited)
