"""What an adapter farther from the wire has found in the messages of a call: nobody nearer the wire looks again.

A framework's middleware sees the whole history and can steer what it sends; a client inside of it sees what is left of
both. So the outer one judges, and its frame says so to whoever makes the call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bursar.flow.call import Call
    from bursar.guards.window_state import WindowState
    from bursar.runs.loops import Look
    from bursar.words.records import Verdict


class Trimmed(NamedTuple):
    """What was left out of a request: the memory that cut it and its estimate, tokens, and results out of sight."""

    state: WindowState
    estimate: int
    tokens: int
    forgotten: frozenset[str]


class Judged:
    """What is known of one request before it is made, for all calls that come of it (retries are several).

    `look`: what the loop guard says; `trimmed`: what the window did; None where that guard was not asked. `notes` are
    verdicts to be written with the first call. `quiet`: neither is to be asked, as for a summary.
    """

    __slots__ = ("_look", "_notes", "quiet", "trimmed")

    def __init__(
        self,
        look: Look | None = None,
        trimmed: Trimmed | None = None,
        notes: tuple[Verdict, ...] = (),
        *,
        quiet: bool = False,
    ) -> None:
        self._look, self.trimmed, self._notes, self.quiet = look, trimmed, notes, quiet

    @property
    def looked(self) -> bool:
        """Whether loops are not to be looked for."""
        return self.quiet or self._look is not None

    @property
    def cut(self) -> bool:
        """Whether nothing is to be left out."""
        return self.quiet or self.trimmed is not None

    def take_look(self) -> Look | None:
        """What the loop guard says; its verdicts are told once, to the first call."""
        look = self._look
        if look is not None and look.verdicts:
            self._look = replace(look, verdicts=())
        return look

    def mark(self, call: Call) -> None:
        """Put on a call what was left out of it and what is to be noted."""
        notes, self._notes = self._notes, ()
        for verdict in notes:
            verdict.op_id = call.op_id
        call.notes += notes
        if self.trimmed is not None:
            call.window, call.window_estimate, call.trimmed_tokens, call.forgotten = self.trimmed
