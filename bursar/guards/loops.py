"""The loop guard: staleness with its second signals, and a ladder from a note to a graceful end.

Theory of operation. A call is *stale* when the same tool with the same arguments brings what it brought last time; a
loop is a streak of stale calls. Any fresh call and any message of the user ends it: half of the
repeated calls of successful runs come back with another result or with work done in between (edit, test, edit, test),
so neither "the same call again" nor "seen before" tells a loop, but "nothing fresh since" does. One counter covers
identical repeats and cycles of every length.

Second signals catch what a streak of equal results cannot: results that differ in numbers only, one error with
drifting arguments or spread over turns of the user, calls that differ in numbers only. Most of them only nudge.

Here is what a user declares and what is said; `loop_judge` decides, `loop_state` remembers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.guards.calls import ToolTraits
from bursar.guards.options import parse_share
from bursar.words.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

NEVER: Final = 1 << 30


class Rungs(NamedTuple):
    """At which count a signal nudges, blocks and finishes."""

    nudge: int
    block: int = NEVER
    finish: int = NEVER


SIGNALS: Final[Mapping[str, Rungs]] = {
    "volatile": Rungs(4),
    "error": Rungs(3, finish=9),
    "stubborn": Rungs(3),
    "near": Rungs(5),
    "futile": Rungs(4),
    "same": Rungs(7),
    "empty": Rungs(14),
    "text": Rungs(4, finish=7),
}
"""Counts are of repeats: three repeats of an error are four errors. `stale` has the rungs of the guard itself."""

_SOONER: Final = {"idempotent": Rungs(0, 1, 1), "write": Rungs(1, 2, 2)}
"""How much sooner the rungs of a tool that writes come."""

KINDS: Final = {
    "volatile": "volatile_result",
    "error": "same_error",
    "stubborn": "stubborn_error",
    "near": "near_duplicate",
    "futile": "same_failure",
    "same": "identical_calls",
    "empty": "empty_results",
    "text": "repeated_text",
}


class LoopVerdict(NamedTuple):
    """What the guard says of a loop.

    action: "notice" (recorded only), "nudge" (a note to the model), "ask" (a person decides), "block" (the calls of
    the loop are refused), "finish" (one last answer without tools). kind: identical_result, identical_error, cycle,
    repeated_write, or one of `KINDS`. streak: how often in a row. onset: which call of the conversation was the first
    wasted one, from 0; `step` is the call at hand. `tokens` and `nusd` were spent since the loop began, the model
    calls that asked for the wasted calls included; `nusd` is None where a price is unknown. why: "streak", or "money"
    where the share of the budget decided. `tool` is what was called, `call` its hash.
    """

    action: str
    kind: str
    streak: int
    onset: int
    step: int
    tokens: int
    nusd: int | None
    why: str
    tool: str
    call: str


@dataclass(frozen=True, slots=True)
class LoopGuard:
    """Notices that an agent goes round in circles, tells it, refuses what repeats, and lets it finish.

    `nudge`, `block`, `finish`: at how many stale calls in a row each happens. Declared writes climb faster: an
    idempotent one is blocked and finished a call sooner, any other two. `identical=n` ends a run at n identical calls
    in a row as well, whatever comes back. `budget_share`: once nudged, a loop that has spent more than this share of
    the run's budget is finished. `tools` declares the habits of tools by name or pattern, "search_*".
    `on_loop`: "finish" asks for one last answer without tools and raises `LoopDetected` if the model goes on; "raise"
    raises it at once. `approve` is asked about the second identical call of a tool that writes, with its name and its
    arguments; without it such calls are refused. `cut_streams`: a stream that says one thing again and again, for a
    thousand tokens or more, is closed; the `partial` of its `LoopDetected` is what had come.

    Raises `ConfigError` for rungs that are not positive, whole and in order, an unknown `on_loop` or a share that is
    none; `TypeError` for an `approve` that is no function.
    """

    nudge: int = 2
    block: int = 4
    finish: int = 6
    identical: int | None = None
    budget_share: str = "10%"
    tools: Mapping[str, ToolTraits] = field(default_factory=dict)
    on_loop: str = "finish"
    approve: Callable[[str, object], bool] | None = None
    cut_streams: bool = True

    def __post_init__(self) -> None:
        for name in ("nudge", "block", "finish", "identical"):
            value: object = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"{name}={value!r} is a whole number of calls, at least 1")
        if not self.nudge <= self.block <= self.finish:
            raise ConfigError(
                f"nudge={self.nudge}, block={self.block}, finish={self.finish}: each rung comes after the one before"
            )
        if self.identical == 1:
            raise ConfigError("identical=1 would end every run at its first call: at least 2")
        if self.on_loop not in ("finish", "raise"):
            raise ConfigError(f"on_loop={self.on_loop!r} is neither 'finish' nor 'raise'")
        given: object = self.approve
        if given is not None and not callable(given):
            raise TypeError(f"approve={given!r} is a function of a tool's name and its arguments")
        for name, traits in self.tools.items():
            if not isinstance(traits, ToolTraits):
                raise TypeError(f"tools[{name!r}]={traits!r} is not ToolTraits(effect=..., loop_key=..., exempt=...)")
        self.share()

    def share(self) -> Decimal:
        """The share of a budget that a loop may spend."""
        return parse_share(self.budget_share, "budget_share")

    def rungs(self, effect: str) -> Rungs:
        """The rungs of stale calls of a tool with this effect."""
        sooner = _SOONER.get(effect)
        if sooner is None:
            return Rungs(self.nudge, self.block, self.finish)
        rungs = (self.nudge - sooner.nudge, self.block - sooner.block, self.finish - sooner.finish)
        return Rungs(*(max(1, rung) for rung in rungs))
