"""What a scope of this process has spent and has left: its account in the store, and the budget that limits it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from bursar.flow.terms import Deadline, Reserve
from bursar.stores.manage import raise_limit
from bursar.words.clock import CLOCK
from bursar.words.errors import StoreError
from bursar.words.events import UNITS, Amounts
from bursar.words.money import MAX_AMOUNT, usd

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
    """A scope in the store, there as long as anything refers to it: a late settle still finds it.

    `of_file`: its limit is set by the configuration. `closed`: somebody was asked to raise it, and said no. `together`:
    where what all processes spend of it is kept.
    """

    def __init__(
        self,
        scope: Scope,
        spec: Budget | None,
        owner: Process,
        limits: Mapping[str, int] | None = None,
        *,
        of_file: bool = False,
    ) -> None:
        self.scope, self._store, self.of_file = scope, owner.memory, of_file
        self.together: Scope | None = None
        self._shared = owner.shared
        self.closed = False
        self._raising = threading.Lock()
        self.limits = dict(limits) if limits is not None else spec.limits() if spec is not None else {}
        # A limit that refuses nothing is not the store's business: the flow looks at what is spent.
        soft = spec is not None and spec.over_limit().soft
        owner.memory.define(scope, {} if soft else self.limits)
        wait_us = spec.deadline_us() if spec is not None else None
        self.deadline = None if wait_us is None else Deadline(scope, wait_us, CLOCK.monotonic_us() + wait_us)
        self.stated: dict[str, int] = self.limits if wait_us is None else {**self.limits, "seconds": wait_us}
        self.reserves: tuple[Reserve, ...] = ()
        weakref.finalize(self, owner.memory.drop, scope).atexit = False

    def share(self, scope: Scope) -> None:
        """Leave the limit to a scope that other processes spend of as well."""
        self.together = scope
        self._store.define(self.scope, {})

    def covers(self, scope: Scope) -> bool:
        """Whether a limit on this scope is one of its own: the whole, or what ordinary calls have of it."""
        return scope in (self.scope, self.together) or any(reserve.inner == scope for reserve in self._own_reserves())

    def lift(self, nusd: int) -> int:
        """Raise the limit in dollars by so much: the whole, and what ordinary calls have of it; the new one.

        What was settled and is held stays, and whoever waits for room looks again.
        """
        with self._raising:
            self.limits["usd"] = self.stated["usd"] = min(MAX_AMOUNT, self.limits["usd"] + nusd)
            if self.together is None:
                self._store.define(self.scope, self.limits)
            else:
                self.limits["usd"] = self.stated["usd"] = raise_limit(self._shared, self.together, "usd", nusd)
            for reserve in self._own_reserves():
                self._store.define(reserve.inner, reserve.lift(nusd))
            return self.limits["usd"]

    def _own_reserves(self) -> list[Reserve]:
        # A run's last call draws on what other budgets of it have set aside, too.
        return [reserve for reserve in self.reserves if reserve.scope == self.scope]

    def balance(self) -> Balance:
        """What is settled, held and unmeasured now, in every unit, by all who share it."""
        if self.together is not None:
            with contextlib.suppress(StoreError):
                return self._shared.balance(self.together)
        return self._store.balance(self.scope)

    def spend(self) -> Spend:
        """The balance as users see it."""
        balance = self.balance()
        return Spend(balance.settled, balance.held, balance.unmeasured)

    def remaining(self) -> dict[str, Decimal | int]:
        """What is left of each limit: `usd` and `seconds` as `Decimal`, the rest as integers; never below zero."""
        balance = self.balance()
        left: dict[str, Decimal | int] = {}
        for unit, limit in (self.limits if self.together is None else balance.limits).items():
            i = UNITS.index(unit)
            amount = limit - balance.settled[i] - balance.held[i]
            left[unit] = usd(amount) if unit == "usd" else amount
        if self.deadline is not None:
            left["seconds"] = Decimal(max(0, self.deadline.ends_us - CLOCK.monotonic_us())).scaleb(-6)
        return left
