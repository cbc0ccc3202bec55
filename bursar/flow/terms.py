"""What a scope has beside its limits: a deadline, marks to speak at, a pace beyond the limit, a part set aside.

The specification is a `Budget`; these are its state in one run. Each is shared by every thread and task of the run.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bursar.guards.budget import amounts
from bursar.words.demand import FLOOR_TOKENS
from bursar.words.errors import BursarWarning
from bursar.words.events import UNITS
from bursar.words.money import MAX_AMOUNT, show_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bursar.settings.over import Over
    from bursar.words.demand import Demand
    from bursar.words.events import Amounts
    from bursar.words.ports import Scope

RESERVED: Final = "less its reserve"
"""In the name of the scope that ordinary calls hold on beside the whole: the limit less what is set aside."""
_ANSWER_TOKENS: Final = 1_024
"""How long an answer is taken to be before any was seen."""
_ADDED_FACTOR: Final = 2
"""What is added to a conversation is bounded at this many tokens for one: the dearest cold factor."""


@dataclass(slots=True, eq=False)
class Deadline:
    """When the calls of a scope must have begun, on the monotonic clock; later by the time that it was paused."""

    scope: Scope
    limit_us: int
    ends_us: int
    _pauses: int = 0
    _since_us: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pause(self, now_us: int) -> None:
        """Stop the clock; who stops it while it stands stops it with the others."""
        with self._lock:
            if not self._pauses:
                self._since_us = now_us
            self._pauses += 1

    def resume(self, now_us: int) -> None:
        """Let it run on when the last who stopped it does."""
        with self._lock:
            self._pauses -= 1
            if not self._pauses:
                self.ends_us += now_us - self._since_us


@dataclass(frozen=True, slots=True)
class BudgetNotice:
    """Said to `on_warn`: what is settled on a scope has reached `warn_at`. Amounts in nano-dollars, or the unit."""

    scope: str
    unit: str
    limit: int
    settled: int
    warn_at: int

    def __str__(self) -> str:
        return f"{self.scope}: {shown(self.unit, self.settled)} of {shown(self.unit, self.limit)} is spent"


class Term:
    """What one scope says and does beyond what its holds do."""

    def __init__(
        self,
        scope: Scope,
        limits: Mapping[str, int],
        over: Over,
        marks: Mapping[str, int],
        on_warn: Callable[[BudgetNotice], object] | None,
    ) -> None:
        self.scope, self.limits, self.over, self.on_warn = scope, limits, over, on_warn
        self._lock = threading.Lock()
        self._marks = dict(marks)
        self._said: set[str] = set()

    def crossed(self, settled: Amounts) -> list[BudgetNotice]:
        """The marks that `settled` has reached, each once in the life of the scope."""
        if not self._marks:
            return []
        with self._lock:
            found = [unit for unit, mark in self._marks.items() if settled[UNITS.index(unit)] >= mark]
            return [
                BudgetNotice(
                    str(self.scope), unit, self.limits[unit], settled[UNITS.index(unit)], self._marks.pop(unit)
                )
                for unit in found
            ]

    def tell(self, notice: BudgetNotice) -> None:
        """Give a notice to whoever asked for it; what he raises is his, and never the call's."""
        if self.on_warn is None:
            warnings.warn(f"{notice} (warn_at)", BursarWarning, stacklevel=2)
            return
        try:
            self.on_warn(notice)
        except Exception as error:  # noqa: BLE001 - the answer is paid for: it must reach the caller
            self.once("on_warn", f"on_warn of {self.scope} failed: {type(error).__name__}: {error}")

    def once(self, key: str, text: str) -> None:
        """Warn, once for this scope and key."""
        with self._lock:
            if key in self._said:
                return
            self._said.add(key)
        warnings.warn(text, BursarWarning, stacklevel=3)


class Reserve:
    """A part of a limit set aside for one last call.

    Ordinary calls hold on `inner` as well, a scope with what is left beside the reserve; the last call does not. So
    the whole limit binds both, whatever the size of the reserve.
    """

    def __init__(self, scope: Scope, limits: Mapping[str, int], kept: Mapping[str, int], *, auto: bool) -> None:
        self.scope, self.inner = scope, scope._replace(name=f"{scope.name} {RESERVED}")
        self.limits, self.auto = limits, auto
        self.kept = dict(kept)
        self._lock = threading.Lock()
        self._claim: str | None = None

    def resize(self, demand: Demand, *, hard: bool) -> dict[str, int] | None:
        """Set aside what one more call costs on the context of this one; the new limits of `inner`, None if as before.

        The context: this call's input, its answer, and a closing question. The answer: what such calls were seen to
        stay under, at least the floor of a clamp.
        """
        if not self.auto:
            return None
        answer = min(demand.cap, _ANSWER_TOKENS) if demand.learned is None else demand.learned
        size = demand.input_hard if hard else demand.input_practical
        size += _ADDED_FACTOR * (answer + FLOOR_TOKENS)
        output = max(FLOOR_TOKENS, demand.floor, demand.learned or 0)
        last = amounts(demand._replace(calls=1, choices=1), size, output, hard=hard)
        kept = {unit: max(0, limit - last[UNITS.index(unit)]) for unit, limit in self.limits.items()}
        with self._lock:
            if kept == self.kept:
                return None
            # In place: the frames of the run show these limits in their refusals.
            self.kept.update(kept)
            return kept

    def lift(self, nusd: int) -> dict[str, int]:
        """Let ordinary calls have so much more: the whole limit was raised; the new limits of `inner`."""
        with self._lock:
            self.kept["usd"] = min(MAX_AMOUNT, self.kept["usd"] + nusd)
            return dict(self.kept)

    def claim(self, op_id: str) -> bool:
        """Draw on the reserve for this operation; False when another one has."""
        with self._lock:
            if self._claim is None:
                self._claim = op_id
            return self._claim == op_id

    def give_back(self, op_id: str) -> None:
        """Undo a claim whose call was refused or never left."""
        with self._lock:
            if self._claim == op_id:
                self._claim = None


def shown(unit: str, amount: int) -> str:
    """Write an amount of a unit for a person."""
    if unit == "usd":
        return show_usd(amount)
    return f"{amount / 1_000_000:,.1f} s" if unit == "seconds" else f"{amount:,} {unit}"
