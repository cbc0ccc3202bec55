"""The loop guard while a run is open: one memory for each conversation in it, and where its notes stand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from bursar._tools import declared
from bursar.guards.calls import ToolTraits
from bursar.guards.loop_state import LoopState

if TYPE_CHECKING:
    from collections.abc import Collection

    from bursar.guards.calls import Effect
    from bursar.guards.loops import LoopGuard, LoopVerdict

MOST_KEYS: Final = 256
MOST_ASKED: Final = 4_096
MOST_ALIKE: Final = 64
"""Conversations of one run that are remembered: so many beginnings, and so many of each; the oldest go first."""


@dataclass(slots=True, eq=False)
class Conversation:
    """What is known of one conversation.

    `marks`: the messages that were read, as hashes. `notes`: after which result a note stands (the id of its call and
    the how manieth of that id), and its text. `waited_us` is time outside of model calls, `answered_us` when the last
    of them ended.
    """

    state: LoopState = field(default_factory=LoopState)
    lock: threading.Lock = field(default_factory=threading.Lock)
    marks: tuple[int, ...] = ()
    judged: dict[str, None] = field(default_factory=dict)
    notes: dict[tuple[str, int], str] = field(default_factory=dict)
    waited_us: int = 0
    answered_us: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What the loop guard says of a request that is about to be sent; `end` is the verdict that ends the run."""

    verdicts: tuple[LoopVerdict, ...]
    last: bool
    end: LoopVerdict | None
    conversation: Conversation


class Loops:
    """The loop guard of one run or client."""

    def __init__(self, guard: LoopGuard) -> None:
        self._given = self._guard = guard
        self._declared = 0
        self._lock = threading.Lock()
        self._open: dict[int, list[Conversation]] = {}
        self._asked: OrderedDict[str, Conversation] = OrderedDict()

    @property
    def guard(self) -> LoopGuard:
        """The guard, with what decorated tools say of themselves where it says nothing of them."""
        if self._declared != len(declared):
            self._declared = len(declared)
            traits = {
                spec.name: ToolTraits(cast("Effect", spec.effect or "read"), spec.loop_key, spec.exempt)
                for spec in list(declared.values())
            }
            self._guard = replace(self._given, tools={**traits, **self._given.tools})
        return self._guard

    def ask(self, op_id: str, conversation: Conversation) -> None:
        """Note in which conversation a model is called: its answer may ask for tools."""
        with self._lock:
            self._asked[op_id] = conversation
            if len(self._asked) > MOST_ASKED:
                self._asked.popitem(last=False)

    def asked_in(self, op_id: str) -> Conversation | None:
        """The conversation of a model call; None where it is not known."""
        return self._asked.get(op_id)

    def conversation(self, key: int, marks: tuple[int, ...], visible: Collection[str]) -> Conversation:
        """The conversation that a request goes on with; a new one where it goes on with none.

        `key` is its beginning, `marks` its messages; where the history was rewritten, the calls whose results are
        `visible` tell. So ten agents with one prompt are ten conversations.
        """
        with self._lock:
            alike = self._open.pop(key, [])
            found = max(
                (one for one in alike if one.marks == marks[: len(one.marks)]),
                key=lambda one: len(one.marks),
                default=None,
            )
            if found is None:
                found = next((one for one in reversed(alike) if any(call in one.judged for call in visible)), None)
            if found is None:
                found = Conversation()
            else:
                alike.remove(found)
            self._open[key] = [*alike, found][-MOST_ALIKE:]
            if len(self._open) > MOST_KEYS:
                del self._open[next(iter(self._open))]
            return found
