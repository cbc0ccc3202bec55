"""Holds in this process: one lock, plain integers.

Runs and nested budgets live here. Every verb takes the lock once and touches each scope of the path once; the
queue of a scope is first come, first served, and whoever leaves it wakes the next in line.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from bursar._errors import AlreadyCommitted, Conflict, InvalidAmount, UnknownScope
from bursar._events import NOTHING, UNITS, Amounts
from bursar._money import MAX_AMOUNT
from bursar._ports import UNLIMITED, Balance, Denied, Held, Room, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bursar._ports import Ticket

_INDEXES = range(len(NOTHING))


class _Account:
    """One scope: its limits and three integers for each unit."""

    __slots__ = ("done", "held", "holds", "limits", "owners", "queue", "settled", "unmeasured")

    def __init__(self) -> None:
        self.limits: tuple[tuple[int, int], ...] = ()  # (index of the unit, limit)
        self.settled = [0] * len(NOTHING)
        self.held = [0] * len(NOTHING)
        self.unmeasured = [0] * len(NOTHING)
        self.holds: set[str] = set()
        self.owners: dict[int, int] = {}  # owner -> its calls in flight
        self.queue: deque[Ticket] = deque()
        # How the calls ended whose innermost scope this is: what was charged, or None for a release. Plain tuples: the
        # garbage collector soon stops looking at those, and a long run has many.
        self.done: dict[str, tuple[int, ...] | None] = {}


class MemoryStore:
    """A `Store` in this process; see the protocol for what each verb promises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[Scope, _Account] = {}
        self._held: dict[str, Held] = {}
        self._seat: dict[Ticket, _Account] = {}
        self._ended: deque[Scope] = deque()
        self._owner: dict[str, int] = {}  # call id -> who holds it
        self._holding: dict[int, int] = {}  # owner -> its calls in flight, in all scopes
        self._stuck: dict[Ticket, int] = {}  # tickets of owners that hold something while they wait

    def define(self, scope: Scope, limits: Mapping[str, int]) -> None:
        """Create the scope or change its limits. Raises `InvalidAmount` for a limit outside 0..2**53-1."""
        for unit, limit in limits.items():
            if unit not in UNITS:
                raise InvalidAmount(f"{scope} has no unit {unit!r}; the units are {', '.join(UNITS)}")
            if limit.__class__ is not int or not 0 <= limit <= MAX_AMOUNT:
                raise InvalidAmount(f"{scope}: limit {unit}={limit!r} is not a whole number from 0 to {MAX_AMOUNT}")
        with self._lock:
            self._reap()
            account = self._accounts.setdefault(scope, _Account())
            account.limits = tuple((UNITS.index(unit), limit) for unit, limit in limits.items())
            woken = self._heads([account])
        _wake(woken)

    def drop(self, scope: Scope) -> None:
        """Forget a scope that nobody refers to any more, at the next chance.

        Called by the garbage collector, which may run inside our own lock: it takes none and wakes nobody.
        """
        self._ended.append(scope)

    def reserve(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, owner: int) -> Held | Denied:
        """Hold `amounts` on every scope of the path, or on none and say which limit had no room."""
        if not path or (len(path) > 1 and len(set(path)) != len(path)):
            raise InvalidAmount(f"a path names at least one scope and each once, not {[str(s) for s in path]}")
        for amount in amounts:
            if amount.__class__ is not int or not 0 <= amount <= MAX_AMOUNT:
                raise InvalidAmount(f"call {call_id}: {amount!r} is not a whole number from 0 to {MAX_AMOUNT}")
        with self._lock:
            accounts = self._path(path)
            known = self._held.get(call_id)
            if known is not None or call_id in accounts[-1].done:
                return self._again(call_id, path, amounts, known)
            for scope, account in zip(path, accounts, strict=True):
                settled, held = account.settled, account.held
                for i, limit in account.limits:
                    if settled[i] + held[i] + amounts[i] > limit:
                        return Denied(scope, UNITS[i], limit, settled[i], held[i], amounts[i])
            hold = self._held[call_id] = Held(call_id, path, amounts)
            self._owner[call_id] = owner
            self._holding[owner] = self._holding.get(owner, 0) + 1
            for account in accounts:
                held = account.held
                for i in _INDEXES:
                    held[i] += amounts[i]
                account.holds.add(call_id)
                account.owners[owner] = account.owners.get(owner, 0) + 1
            return hold

    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> None:
        """Charge `actual` in place of the hold (or without one: an unreserved charge counts all the same)."""
        for amount in actual:
            if amount.__class__ is not int or not 0 <= amount <= MAX_AMOUNT:
                raise InvalidAmount(f"call {call_id}: {amount!r} is not a whole number from 0 to {MAX_AMOUNT}")
        with self._lock:
            self._reap()
            accounts = [a for scope in path if (a := self._accounts.get(scope)) is not None]
            if not accounts:
                self._held.pop(call_id, None)
                return
            done = accounts[-1].done.get(call_id)
            if done is not None:
                if done != actual:
                    raise Conflict(f"call {call_id} was settled at {done}, now at {actual}")
                return
            self._lift(call_id)
            for account in accounts:
                settled = account.settled
                for i in _INDEXES:
                    settled[i] += actual[i]
                if not measured:
                    for i in _INDEXES:
                        account.unmeasured[i] += actual[i]
            accounts[-1].done[call_id] = tuple(actual)
            woken = self._heads(accounts)
        _wake(woken)

    def release(self, call_id: str) -> None:
        """Free a hold whose call never left; a second release changes nothing."""
        with self._lock:
            hold = self._held.get(call_id)
            if hold is None:
                if any(a.done.get(call_id) is not None for a in list(self._accounts.values())):
                    raise AlreadyCommitted(f"call {call_id} has been charged; correct it with a new charge")
                return
            accounts = [a for scope in hold.path if (a := self._accounts.get(scope)) is not None]
            self._lift(call_id)
            if accounts:
                accounts[-1].done[call_id] = None
            woken = self._heads(accounts)
        _wake(woken)

    def peek(self, path: tuple[Scope, ...], line: frozenset[int], ticket: Ticket | None) -> tuple[Room, ...]:
        """What each limited scope of the path has left now, and who is in the way."""
        rooms = []
        with self._lock:
            useless = line.union(self._stuck.values()) if self._stuck else line
            for scope, account in zip(path, self._path(path), strict=True):
                if not account.limits:
                    continue
                free, idle = list(UNLIMITED), list(UNLIMITED)
                for i, limit in account.limits:
                    left = limit - account.settled[i]
                    idle[i] = left
                    free[i] = left - account.held[i]
                holds, queue = len(account.holds), account.queue
                others = holds - sum([account.owners.get(owner, 0) for owner in useless]) if holds else 0
                behind = bool(queue) and self._next(queue, ticket) is not ticket
                rooms.append(Room(scope, Amounts(*free), Amounts(*idle), others, holds + len(queue), behind))
        return tuple(rooms)

    def balance(self, scope: Scope) -> Balance:
        """The state of one scope. Raises `UnknownScope`."""
        with self._lock:
            (account,) = self._path((scope,))
            return Balance(
                {UNITS[i]: limit for i, limit in account.limits},
                Amounts(*account.settled),
                Amounts(*account.held),
                Amounts(*account.unmeasured),
                len(account.holds),
            )

    def join(self, scope: Scope, ticket: Ticket, owner: int) -> None:
        """Queue the ticket on the scope; a ticket that waits elsewhere moves to the end of this line."""
        with self._lock:
            (account,) = self._path((scope,))
            woken = self._unseat(ticket)
            account.queue.append(ticket)
            self._seat[ticket] = account
            if self._holding.get(owner):
                self._stuck[ticket] = owner
        _wake(woken)

    def leave(self, ticket: Ticket) -> None:
        """Take the ticket out of its queue and wake the next in line."""
        with self._lock:
            woken = self._unseat(ticket)
        _wake(woken)

    def _next(self, queue: Iterable[Ticket], ticket: Ticket | None) -> Ticket | None:
        # Who holds something while he waits is passed: he may be waiting for the very one behind him.
        return next((other for other in queue if other is ticket or other not in self._stuck), ticket)

    def _heads(self, accounts: Iterable[_Account]) -> list[Ticket]:
        woken: list[Ticket] = []
        for account in accounts:
            if account.queue:
                head = account.queue[0]
                woken.append(head)
                behind = self._next(account.queue, None)
                if behind is not None and behind is not head:
                    woken.append(behind)
        return woken

    def _reap(self) -> None:
        while self._ended:
            self._accounts.pop(self._ended.popleft(), None)

    def _path(self, path: tuple[Scope, ...]) -> list[_Account]:
        accounts = []
        for scope in path:
            account = self._accounts.get(scope)
            if account is None:
                raise UnknownScope(f"{scope} has no account: it was never defined, or its run has ended")
            accounts.append(account)
        return accounts

    def _again(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, known: Held | None) -> Held:
        if known is None:
            raise Conflict(f"call {call_id} has already ended; a new attempt needs an id of its own")
        if known.amounts != amounts or known.path != path:
            raise Conflict(f"call {call_id} holds {known.amounts} on {known.path}, now {amounts} on {path} was asked")
        return known

    def _lift(self, call_id: str) -> None:
        hold = self._held.pop(call_id, None)
        if hold is None:
            return
        owner = self._owner.pop(call_id)
        _take_one(self._holding, owner)
        for scope in hold.path:
            account = self._accounts.get(scope)
            if account is not None:
                held = account.held
                for i in _INDEXES:
                    held[i] -= hold.amounts[i]
                account.holds.discard(call_id)
                _take_one(account.owners, owner)

    def _unseat(self, ticket: Ticket) -> list[Ticket]:
        self._stuck.pop(ticket, None)
        account = self._seat.pop(ticket, None)
        if account is None:
            return []
        account.queue.remove(ticket)
        return self._heads([account])


def _take_one(counts: dict[int, int], owner: int) -> None:
    counts[owner] -= 1
    if not counts[owner]:
        del counts[owner]


def _wake(tickets: list[Ticket]) -> None:
    # Outside the lock: a ticket may call into an event loop.
    for ticket in tickets:
        ticket.wake()
