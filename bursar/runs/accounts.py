"""What a scope of this process has spent and has left: its account in the store, and the budget that limits it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from bursar.flow.terms import Deadline, Reserve
from bursar.words.clock import CLOCK
from bursar.words.events import UNITS, Amounts
from bursar.words.money import usd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.guards.budget import Budget
    from bursar.runs.process import Process
    from bursar.words.ports import Balance, Scope


@dataclass(frozen=True, slots=True)
class Spend:
    """What a scope has spent. `settled` includes `unmeasured`: what was charged at a bound, not at a usage."""

    settled: Amounts
    held: Amounts
    unmeasured: Amounts

    @property
    def usd(self) -> Decimal:
        """Dollars settled so far, exactly."""
        return self.settled.usd


class Account:
    """A scope in the store, there as long as anything refers to it: a late settle still finds it."""

    def __init__(
        self, scope: Scope, spec: Budget | None, owner: Process, limits: Mapping[str, int] | None = None
    ) -> None:
        self.scope, self._store = scope, owner.memory
        self.limits = dict(limits) if limits is not None else spec.limits() if spec is not None else {}
        # A limit that refuses nothing is not the store's business: the flow looks at what is spent.
        soft = spec is not None and spec.over_limit().soft
        owner.memory.define(scope, {} if soft else self.limits)
        wait_us = spec.deadline_us() if spec is not None else None
        self.deadline = None if wait_us is None else Deadline(scope, wait_us, CLOCK.monotonic_us() + wait_us)
        self.stated = self.limits if wait_us is None else {**self.limits, "seconds": wait_us}
        self.reserves: tuple[Reserve, ...] = ()
        weakref.finalize(self, owner.memory.drop, scope).atexit = False

    def balance(self) -> Balance:
        """What is settled, held and unmeasured now, in every unit."""
        return self._store.balance(self.scope)

    def spend(self) -> Spend:
        """The balance as users see it."""
        balance = self.balance()
        return Spend(balance.settled, balance.held, balance.unmeasured)

    def remaining(self) -> dict[str, Decimal | int]:
        """What is left of each limit: `usd` and `seconds` as `Decimal`, the rest as integers; never below zero."""
        balance = self.balance()
        left: dict[str, Decimal | int] = {}
        for unit, limit in self.limits.items():
            i = UNITS.index(unit)
            amount = limit - balance.settled[i] - balance.held[i]
            left[unit] = usd(amount) if unit == "usd" else amount
        if self.deadline is not None:
            left["seconds"] = Decimal(max(0, self.deadline.ends_us - CLOCK.monotonic_us())).scaleb(-6)
        return left
