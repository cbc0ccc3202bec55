"""The inbox: a question waits in the ledger until `bursar approvals`, or any other process, answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bursar.approvals.rows import Row
    from bursar.approvals.watch import Watcher
    from bursar.words.questions import Question


class Inbox:
    """Asks nobody by itself: it waits for the row to be answered."""

    name = "inbox"
    waits = True

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def ask(self, row: Row, question: Question, most_us: int) -> None:  # noqa: ARG002 - what every approver is given
        """Wait in this thread."""
        self._watcher.wait(row.id, most_us / 1_000_000)

    async def aask(self, row: Row, question: Question, most_us: int) -> None:  # noqa: ARG002 - as above
        """Wait in this task."""
        await self._watcher.awaited(row.id, most_us / 1_000_000)
