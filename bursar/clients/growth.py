"""See whether a stream stays within what is held for it; where it does not, hold more or cut it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from bursar.clients.doors import owner_of
from bursar.flow.growth import output_room
from bursar.flow.model_call import grow
from bursar.pricing.tokens import COUNTER
from bursar.runs.drive import adrive, drive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bursar.flow.call import Attempt, Call
    from bursar.words.events import Usage


MOST_FOR_ONE: Final = 1.5
"""Tokens of our count for one of a provider's own, at most: nobody who keeps his cap is cut because we count more. The
other way round (Claude counts up to 2.5 for one of ours) a stream grows a little late."""


class Grower(Protocol):
    """Holds more for a stream: takes what is known of its input, its output so far, and who can tell its text."""

    def __call__(self, usage: Usage | None, output_tokens: int, partial: Callable[[], str], /) -> None:
        """Raises `BudgetExceeded` where there is no room."""


class AsyncGrower(Protocol):
    """As `Grower`, for an event loop."""

    def __call__(self, usage: Usage | None, output_tokens: int, partial: Callable[[], str], /) -> Awaitable[None]:
        """Raises `BudgetExceeded` where there is no room."""


class Growth:
    """One stream's look at its hold. Counting is rare: never before there are more characters than tokens held."""

    def __init__(self, attempt: Attempt, grow: Grower, agrow: AsyncGrower) -> None:
        self._attempt, self._grow, self._agrow = attempt, grow, agrow
        self._usage: Usage | None = None
        self._pieces: Sequence[str] = ()
        self._length = self._output = 0
        self.look_at = self._room = output_room(attempt, None)
        self.short = False
        """Whether what has come is more than the hold: then `grow` or `agrow` is to be called."""

    def read(self, usage: Usage) -> None:
        """Take in what the provider says of the input."""
        self._usage = usage
        self._renew()

    def said(self, pieces: Sequence[str], length: int) -> None:
        """Take in what the stream has said, so many characters. It need not be called before they are `look_at`."""
        self._pieces, self._length = pieces, length
        if length > self.look_at:
            self._output = int(COUNTER.measure("".join(pieces)).tokens / MOST_FOR_ONE)
            self._renew()

    def grow(self) -> None:
        """Hold more. Raises `BudgetExceeded`."""
        self._grow(self._usage, self._output, self._text)
        self._renew()

    async def agrow(self) -> None:
        """Hold more, without blocking an event loop. Raises `BudgetExceeded`."""
        await self._agrow(self._usage, self._output, self._text)
        self._renew()

    def _renew(self) -> None:
        left = output_room(self._attempt, self._usage) - self._output
        self.short = left < 0
        # A character is at most a token or so: before as many have come there is nothing to count.
        self.look_at = self._length + max(1, left)

    def _text(self) -> str:
        return "".join(self._pieces)


def growth_of(call: Call, attempt: Attempt) -> Growth | None:
    """What keeps the stream that answers an attempt within its hold; None where nothing is held."""
    if not attempt.reserved:
        return None
    owner = owner_of(call)

    def sync(usage: Usage | None, output_tokens: int, partial: Callable[[], str]) -> None:
        drive(grow(call, attempt, usage, output_tokens, owner.world, partial), owner.desk)

    async def awaited(usage: Usage | None, output_tokens: int, partial: Callable[[], str]) -> None:
        await adrive(grow(call, attempt, usage, output_tokens, owner.world, partial), owner.desk)

    return Growth(attempt, sync, awaited)
