"""What the loop guard remembers of one conversation: hashes and counts, bounded, plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from posixpath import join, normpath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.guards.results import digest

if TYPE_CHECKING:
    from bursar.guards.calls import ToolFact

MOST_ENTRIES: Final = 4_096
"""Calls that are remembered with what they last brought; the oldest goes first."""
MOST_FAILURES: Final = 1_024
_MOST_CALLS: Final = 64
_LONGEST_PATH: Final = 256


class Spent(NamedTuple):
    """What the run has spent so far and may spend; `nusd` is nano-dollars, None where a price is unknown."""

    tokens: int = 0
    nusd: int | None = 0
    limit_tokens: int | None = None
    limit_nusd: int | None = None


class Sighting(NamedTuple):
    """What a call last brought, and when: its result, also with digits masked, its id, the time, the user's turn."""

    result: str
    masked: str
    call_id: str
    at_us: int | None
    turn: int


@dataclass(slots=True)
class Streak:
    """One signal while it lasts: how often in a row, since which call, and what had been spent before that call.

    `key` is what repeats, `calls` are the calls in it, `said` the rungs that have been used, `last` what came last,
    `turn` the turn of the user in which it began.
    """

    onset: int
    tokens: int
    nusd: int | None
    key: str = ""
    count: int = 0
    calls: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    last: str = ""
    turn: int = 0


@dataclass(slots=True)
class LoopState:
    """The memory of one conversation: constant work a call, some hundred kilobytes at most.

    `seen`: what each call last brought; `near` the same of calls with digits masked. `failures`: calls that have
    failed, each way of failing by itself. `written`: writes since the last message of the user. `places`: where the
    shell of a tool is. `steps` counts completed calls, `turns` messages of the user. `tokens`, `nusd`: what the run
    had spent when last looked at. `blocked_until_us`, `block_us`: until when the calls of the loop are refused, and
    for how long; `tried_us` when one was last refused. `finished`: the last answer has been asked for.
    """

    seen: dict[str, Sighting] = field(default_factory=dict)
    near: dict[str, Sighting] = field(default_factory=dict)
    failures: dict[str, Streak] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    streaks: dict[str, Streak] = field(default_factory=dict)
    steps: int = 0
    turns: int = 0
    tokens: int = 0
    nusd: int | None = 0
    blocked_until_us: int | None = None
    block_us: int = 0
    tried_us: int | None = None
    finished: bool = False

    def dump(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {name: getattr(self, name) for name in self.__slots__}
        for name in ("seen", "near"):
            data[name] = {call: list(sighting) for call, sighting in data[name].items()}
        for name in ("failures", "streaks"):
            data[name] = {key: asdict(streak) for key, streak in data[name].items()}
        return data | {"written": list(self.written), "places": dict(self.places)}

    @classmethod
    def load(cls, data: dict[str, Any]) -> LoopState:
        """The state that `dump` gave, also after JSON has made lists of its tuples."""
        state = cls(**data)
        state.seen = {call: Sighting(*found) for call, found in state.seen.items()}
        state.near = {call: Sighting(*found) for call, found in state.near.items()}
        state.streaks = {name: Streak(**streak) for name, streak in data["streaks"].items()}
        state.failures = {call: Streak(**streak) for call, streak in data["failures"].items()}
        return state

    def spend(self, spent: Spent) -> None:
        """What the run had spent by now."""
        self.tokens, self.nusd = spent.tokens, spent.nusd

    def see(self, fact: ToolFact, at_us: int | None) -> None:
        """Remember what a call brought, as the newest."""
        sighting = Sighting(fact.result, fact.masked, fact.call_id, at_us, self.turns)
        for memory, key in ((self.seen, fact.call), (self.near, fact.near)):
            if key is not None:
                memory.pop(key, None)
                memory[key] = sighting
                if len(memory) > MOST_ENTRIES:
                    del memory[next(iter(memory))]

    def extend(self, name: str, calls: list[str], key: str = "", *, first: int = 1) -> Streak:
        """One more of a signal; with another key than before it begins anew, at `first`."""
        streak = self.streaks.get(name)
        if streak is None or streak.key != key:
            streak = self.streaks[name] = self._begin(key, first)
            if len(self.streaks) > _MOST_CALLS:
                del self.streaks[next(iter(self.streaks))]
        else:
            self._count(streak)
        if len(streak.calls) < _MOST_CALLS:
            streak.calls += [call for call in calls if call not in streak.calls]
        return streak

    def end(self, *names: str) -> None:
        """These signals are broken."""
        for name in names:
            self.streaks.pop(name, None)

    def unblock(self) -> None:
        """Nothing is refused any longer."""
        self.blocked_until_us, self.block_us, self.tried_us, self.finished = None, 0, None, False

    def failed(self, call: str) -> Streak:
        """This call has failed in this way once more."""
        streak = self.failures.pop(call, None)
        if streak is None:
            streak = self._begin(call, 0)
        else:
            self._count(streak)
        self.failures[call] = streak
        if len(self.failures) > MOST_FAILURES:
            del self.failures[next(iter(self.failures))]
        return streak

    def _begin(self, key: str, first: int) -> Streak:
        return Streak(self.steps, self.tokens, self.nusd, key, first, turn=self.turns)

    def _count(self, streak: Streak) -> None:
        if not streak.count:
            # What came first was no repeat: the waste begins here.
            streak.onset, streak.tokens, streak.nusd = self.steps, self.tokens, self.nusd
        streak.count += 1

    def place(self, tool: str, call: str) -> str:
        """The key of a call, where the shell of its tool now is."""
        at = self.places.get(tool)
        return call if at is None else digest(f"{call} {at}".encode())

    def placed(self, fact: ToolFact) -> ToolFact:
        """The fact with its keys where the shell of its tool now is."""
        if fact.tool not in self.places:
            return fact
        near = None if fact.near is None else self.place(fact.tool, fact.near)
        return fact._replace(call=self.place(fact.tool, fact.call), near=near)

    def move(self, tool: str, to: str) -> None:
        """The shell of a tool went to another directory."""
        if tool in self.places or len(self.places) < _MOST_CALLS:
            at = normpath(join(self.places.get(tool, "."), to))
            self.places[tool] = at if len(at) <= _LONGEST_PATH else "~"

    def forget(self, call_ids: set[str]) -> None:
        """Results that the model no longer sees: reading them again is fair."""
        for memory in (self.seen, self.near):
            for call in [call for call, found in memory.items() if found.call_id in call_ids]:
                del memory[call]
