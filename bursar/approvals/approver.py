"""What every approver is to the desk that asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bursar.approvals.rows import Row
    from bursar.words.questions import Question, Reply


class UnableError(Exception):
    """This approver cannot ask anybody here; the text says why, and what could."""


class Approver(Protocol):
    """Asks for at most `most_us` and returns the answer, or None where there was none.

    Whoever answers the row in the meantime has answered. `waits`: a thread with a running event loop must not ask it.
    """

    name: str
    waits: bool

    def ask(self, row: Row, question: Question, most_us: int) -> Reply | None:
        """Ask in this thread. Raises `UnableError`."""

    async def aask(self, row: Row, question: Question, most_us: int) -> Reply | None:
        """Ask without blocking the event loop. Raises `UnableError`."""
