"""The loop guard while a run is open: one memory for each conversation in it, and where its notes stand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from bursar.guards.calls import ToolTraits
from bursar.guards.loop_state import LoopState, Spent
from bursar.words.tools import declared

if TYPE_CHECKING:
    from collections.abc import Collection

    from bursar.guards.calls import Effect
    from bursar.guards.loops import LoopGuard, LoopVerdict
    from bursar.runs.run import Run
    from bursar.words.tools import ToolAsk

MOST_KEYS: Final = 256
MOST_ASKED: Final = 4_096
MOST_ALIKE: Final = 64
"""Conversations of one run that are remembered: so many beginnings, and so many of each; the oldest go first."""
MOST_STORED: Final = 1_024
"""Answers that a provider keeps and whose calls are remembered until their results come."""


@dataclass(slots=True, eq=False)
class Conversation:
    """What is known of one conversation.

    `marks`: the messages that were read, as hashes. `notes`: after which result a note stands (the id of its call and
    the how manieth of that id), and its text. `waited_us` is time outside of model calls, `answered_us` when the last
    of them ended, by the clock of the wall: it may go on in another process. `run_id` is the run that is charged for
    it, `base_tokens` and `base_nusd` what those before it were: it may go on in another run, too. `spent_tokens` and
    `spent_nusd` are of all of them, as last seen. `asked_last`: the model was asked for its last answer.
    """

    state: LoopState = field(default_factory=LoopState)
    lock: threading.Lock = field(default_factory=threading.Lock)
    marks: tuple[int, ...] = ()
    judged: dict[str, None] = field(default_factory=dict)
    notes: dict[tuple[str, int], str] = field(default_factory=dict)
    waited_us: int = 0
    answered_us: int | None = None
    run_id: str | None = None
    base_tokens: int = 0
    base_nusd: int | None = 0
    spent_tokens: int = 0
    spent_nusd: int | None = 0
    asked_last: bool = False

    def dump(self) -> dict[str, Any]:
        """Plain data for JSON; not the `marks`, which are hashes of this process."""
        return {
            "state": self.state.dump(),
            "judged": list(self.judged),
            "notes": [[call_id, n, text] for (call_id, n), text in self.notes.items()],
            **{name: getattr(self, name) for name in _PLAIN},
        }

    @classmethod
    def load(cls, data: dict[str, Any]) -> Conversation:
        """The conversation that `dump` gave."""
        notes = {(call_id, n): text for call_id, n, text in data["notes"]}
        plain = {name: data[name] for name in _PLAIN}
        return cls(state=LoopState.load(data["state"]), judged=dict.fromkeys(data["judged"]), notes=notes, **plain)

    def wait_until(self, now_us: int) -> int:
        """The clock that stands still while a model thinks, at this moment; it goes on from there."""
        if self.answered_us is not None:
            self.waited_us += max(0, now_us - self.answered_us)
            self.answered_us = None
        return self.waited_us

    def waited(self, now_us: int) -> int:
        """That clock, without changing anything."""
        since = 0 if self.answered_us is None else max(0, now_us - self.answered_us)
        return self.waited_us + since

    def spent(self, run: Run | None) -> Spent:
        """What has been spent on the conversation's runs, and what the run at hand may spend."""
        if run is None:
            return Spent(self.spent_tokens, self.spent_nusd)
        settled, limits = run.spend.settled, run.limits
        nusd = None if run.unpriced else settled.nusd
        if self.run_id is None:
            self.run_id = run.id
        elif self.run_id != run.id:
            # What a run had spent elsewhere before it came here is none of this conversation's.
            self.run_id, self.base_tokens = run.id, self.spent_tokens - settled.tokens
            self.base_nusd = None if nusd is None or self.spent_nusd is None else self.spent_nusd - nusd
        self.spent_tokens = self.base_tokens + settled.tokens
        self.spent_nusd = None if nusd is None or self.base_nusd is None else self.base_nusd + nusd
        return Spent(self.spent_tokens, self.spent_nusd, limits.get("tokens"), limits.get("usd"))


_PLAIN: Final = (
    "waited_us", "answered_us", "run_id", "base_tokens", "base_nusd", "spent_tokens", "spent_nusd", "asked_last",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """What the loop guard says of a request that is about to be sent; `end` is the verdict that ends the run.

    `acts`: what is said can be done; a callback handler can only end. `thread`: the name under which the provider
    keeps the conversation, None where it keeps none but by the answer's id.
    """

    verdicts: tuple[LoopVerdict, ...]
    last: bool
    end: LoopVerdict | None
    conversation: Conversation
    acts: bool = True
    thread: str | None = None


class Stored(NamedTuple):
    """An answer that the provider keeps: in which conversation it was given, and the calls that it asked for."""

    conversation: Conversation
    asked: tuple[ToolAsk, ...]


class Loops:
    """The loop guard of one run or client."""

    def __init__(self, guard: LoopGuard) -> None:
        self._given = self._guard = guard
        self._declared = 0
        self._lock = threading.Lock()
        self._open: dict[int, list[Conversation]] = {}
        self._asked: OrderedDict[str, Conversation] = OrderedDict()
        self._stored: OrderedDict[str, Stored] = OrderedDict()

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

    def store(self, name: str, stored: Stored) -> None:
        """Note what an answer asked for that the provider keeps under this name."""
        with self._lock:
            self._stored.pop(name, None)
            self._stored[name] = stored
            if len(self._stored) > MOST_STORED:
                self._stored.popitem(last=False)

    def stored(self, name: str) -> Stored | None:
        """What was noted under this name."""
        return self._stored.get(name)

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
