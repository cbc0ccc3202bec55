"""What one call of a chain, an agent or a graph from outside has open: its run, and every part of it by its run id.

Each part knows its parent by id, so a part that runs on a thread without a context still finds its run.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Final

from bursar.callbacks.calls import pop
from bursar.callbacks.tags import tagged
from bursar.runs.lent import Loan
from bursar.runs.scoped import ScopedFrame, opened_frame
from bursar.words.errors import Stopped

if TYPE_CHECKING:
    from uuid import UUID

    from bursar.callbacks.calls import ModelCalling
    from bursar.callbacks.tags import Tags
    from bursar.runs.run import Run

_LEFT: Final[dict[type[BaseException], str]] = {GeneratorExit: "abandoned", asyncio.CancelledError: "cancelled"}

roots: dict[int, Root] = {}
"""The root of every part that is open, by LangChain's run id: shared by all handlers."""


class Root:
    """One invocation from outside. `opened` is the run that was opened for it, None where it joined one."""

    def __init__(self, run_id: UUID, frame: ScopedFrame, opened: Run | None) -> None:
        self.key, self.frame, self.opened = run_id.int, frame, opened
        self.open: dict[int, ModelCalling] = {}
        self.members: set[int] = set()
        self._parts: dict[int, bool] = {self.key: True}
        self._fallbacks: set[int] = set()
        self._stops: dict[int, Stopped] = {}
        self._tagged: dict[Tags, tuple[ScopedFrame, ScopedFrame]] = {}
        self._loans: list[Loan] = []
        roots[self.key] = self
        orphans = frame.owner.orphans
        # As of a call: LangChain has let go of the run, and nobody has ended it.
        self._life: weakref.ref[UUID] | None = weakref.ref(run_id, lambda _: orphans.append(self._abandon))

    def lend(self, frame: ScopedFrame) -> None:
        """Let what runs inside find this frame, until the invocation is over."""
        self.frame = frame
        self._loans.append(Loan(frame, opened_frame()).lend())

    def add(self, key: int, parent: int | None) -> None:
        """Note a part. Raises the stop that a sibling of it met, where they are each other's fallbacks."""
        stop = self._stops.get(parent) if parent is not None else None
        if stop is not None:
            raise stop
        self._parts[key] = True
        roots[key] = self

    def falls_back(self, key: int) -> None:
        """Note that a part tries something else when one thing fails."""
        self._fallbacks.add(key)

    def ended(self, key: int, error: BaseException | None) -> None:
        """Forget a part that is over; with the outermost, all of it."""
        if key == self.key:
            self.finish(error)
            return
        self._parts.pop(key, None)
        roots.pop(key, None)
        if self._fallbacks:
            self._fallbacks.discard(key)
            self._stops.pop(key, None)

    def stopped(self, parent: int | None, error: BaseException) -> None:
        """Note that a part was stopped: what is there to take its place must not be tried."""
        if parent in self._fallbacks and isinstance(error, Stopped):
            self._stops[parent] = error

    def sweep(self, parent: int | None, error: BaseException) -> None:
        """Close the calls that were open in a part, or in all (`parent` None), when it failed."""
        for key, calling in list(self.open.items()):
            if (parent is None or calling.parent == parent) and pop(key) is not None:
                calling.failed(error)

    def finish(self, error: BaseException | None) -> None:
        """End the run that was opened, and forget every part."""
        self.sweep(None, error or GeneratorExit())
        for key in self._parts:
            roots.pop(key, None)
        self._life = None
        for loan in self._loans:
            loan.close()
        run, self.opened = self.opened, None
        if run is None:
            return
        why = next((why for kind, why in _LEFT.items() if isinstance(error, kind)), None)
        run.stop_reason = why or run.stop_reason
        run.end(None if why else error, watched=True)

    def tagged(self, frame: ScopedFrame, tags: Tags) -> ScopedFrame:
        """The frame with the tags of a call; the same one again for the same tags."""
        if not tags:
            return frame
        kept = self._tagged.get(tags)
        if kept is None or kept[0] is not frame:
            kept = self._tagged[tags] = (frame, tagged(frame, tags))
        return kept[1]

    def _abandon(self) -> None:
        if roots.get(self.key) is self:
            self.finish(GeneratorExit())
