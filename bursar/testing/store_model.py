"""A store of holds in plain Python, slow and obvious: what the conformance kit compares every other store with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bursar.stores.base import Expired, Released, Settled, State
from bursar.words.events import NOTHING, UNITS, Amounts
from bursar.words.ports import Denied, Held

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bursar.words.ports import Scope

ZERO = (0,) * len(NOTHING)


@dataclass
class Call:
    """One call as the contract sees it."""

    path: tuple[Scope, ...]
    state: State
    held: Amounts
    asked: Amounts
    charged: Amounts = NOTHING
    measured: bool = False


@dataclass
class Model:
    """All calls and all limits; balances are summed up anew each time."""

    limits: dict[Scope, Mapping[str, int]] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    adjusted: dict[str, dict[int, tuple[tuple[Scope, ...], Amounts]]] = field(default_factory=dict)

    def held(self, scope: Scope) -> Amounts:
        """What is held on a scope."""
        return total(c.held for c in self.calls.values() if c.state is State.HELD and scope in c.path)

    def settled(self, scope: Scope) -> Amounts:
        """What is charged to a scope."""
        deltas = [d for each in self.adjusted.values() for path, d in each.values() if scope in path]
        return total([*(c.charged for c in self.calls.values() if scope in c.path), *deltas])

    def unmeasured(self, scope: Scope) -> Amounts:
        """What of it nobody has counted."""
        return total(c.charged for c in self.calls.values() if scope in c.path and not c.measured)

    def reserve(self, call_id: str, path: tuple[Scope, ...], asked: Amounts, at_least: Amounts | None) -> Held | Denied:
        """Hold all of it, or as much as fits but at least so much."""
        granted = asked
        if at_least is not None:
            granted = Amounts(*map(min, asked, map(max, at_least, self._free(path))))
        for scope in path:
            for unit, limit in self.limits[scope].items():
                i = UNITS.index(unit)
                settled, held = self.settled(scope)[i], self.held(scope)[i]
                if settled + held + granted[i] > limit:
                    return Denied(scope, unit, limit, settled, held, granted[i])
        self.calls[call_id] = Call(path, State.HELD, granted, asked)
        return Held(call_id, path, granted)

    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> Settled:
        """Charge what was spent."""
        call = self.calls.get(call_id)
        if call is None:
            self.calls[call_id] = Call(path, State.COMMITTED, NOTHING, NOTHING, actual, measured)
            return Settled.UNRESERVED
        outcome = Settled.SETTLED if call.state is State.HELD else Settled.LATE
        call.state, call.charged, call.measured = State.COMMITTED, actual, measured
        return outcome

    def release(self, call_id: str) -> Released:
        """Free what was never sent."""
        call = self.calls.get(call_id)
        if call is None:
            return Released.UNKNOWN
        if call.state is not State.HELD:
            return Released.AGAIN if call.state is State.RELEASED else Released.PRESUMED
        call.state, call.measured = State.RELEASED, True
        return Released.RELEASED

    def expire(self, call_id: str) -> Expired:
        """Charge what a dead owner held."""
        call = self.calls.get(call_id)
        if call is None:
            return Expired.UNKNOWN
        if call.state is not State.HELD:
            return Expired.AGAIN
        call.state, call.charged = State.PRESUMED, call.held
        return Expired.PRESUMED

    def _free(self, path: tuple[Scope, ...]) -> Amounts:
        free = [2**53 - 1] * len(NOTHING)
        for scope in path:
            for unit, limit in self.limits[scope].items():
                i = UNITS.index(unit)
                free[i] = min(free[i], max(0, limit - self.settled(scope)[i] - self.held(scope)[i]))
        return Amounts(*free)


def total(parts: Iterable[Amounts]) -> Amounts:
    """The sum of some amounts, unit by unit."""
    columns = zip(ZERO, *parts, strict=True)
    return Amounts(*(sum(column) for column in columns))
