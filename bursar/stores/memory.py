"""Holds in this process: the books behind one lock, and the queues of those who wait for room.

Runs and nested budgets live here.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from bursar.stores.base import check_amounts, check_call_id, check_hold, check_limits, check_path
from bursar.stores.books import Account, Books
from bursar.stores.queues import Queues, wake
from bursar.words.errors import InvalidAmount
from bursar.words.events import Amounts
from bursar.words.ports import UNLIMITED, Room

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bursar.stores.base import Drift, Expired, HoldRecord, Released, Settled
    from bursar.words.ports import Balance, Denied, Held, Scope, Ticket


class Crowd(NamedTuple):
    """Who is on one scope: in flight, in the queue, in flight and worth waiting for; whether somebody comes first."""

    holds: int
    queued: int
    others: int
    behind: bool


class MemoryStore:
    """A `HoldStore` in this process, and a `Store` to wait at; for `passing` see `Books`."""

    def __init__(self, *, passing: bool = False) -> None:
        self._lock = threading.Lock()
        self._books = Books(passing=passing)
        self._queues = Queues()
        self._dropped: deque[Scope] = deque()

    def define(self, scope: Scope, limits: Mapping[str, int]) -> None:
        """Create the scope or change its limits. Raises `InvalidAmount` for a limit outside 0..2**53-1."""
        check_limits(scope, limits)
        with self._lock:
            self._reap()
            self._books.define(scope, limits)
            woken = self._queues.heads((scope,))
        wake(woken)

    def drop(self, scope: Scope) -> None:
        """Forget a scope that nobody refers to any more, at the next chance.

        Called by the garbage collector, which may run inside our own lock: it takes none and wakes nobody.
        """
        self._dropped.append(scope)

    def reserve(
        self,
        call_id: str,
        path: tuple[Scope, ...],
        amounts: Amounts,
        owner: int = 0,
        *,
        at_least: Amounts | None = None,
    ) -> Held | Denied:
        """Hold `amounts`, or as much as there is room for but no less than `at_least`, on every scope or on none."""
        check_hold(call_id, path, amounts)
        if at_least is not None:
            check_amounts(call_id, at_least)
        with self._lock:
            return self._books.reserve(call_id, path, amounts, owner, at_least)

    def take(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, times: int, owner: int) -> Held | None:
        """Hold `amounts` where nobody waits and every limit has room for many of them; None changes nothing."""
        check_hold(call_id, path, amounts)
        with self._lock:
            if self._queues.lines and not self._queues.lines.keys().isdisjoint(path):
                return None
            return self._books.take(call_id, path, amounts, times, owner)

    def withdraw(self, call_id: str) -> None:
        """Undo a reserve that another store on the same path has refused: as if it had not been asked."""
        with self._lock:
            woken = self._queues.heads(self._books.withdraw(call_id))
        wake(woken)

    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> Settled:
        """Charge `actual` in place of the hold (or without one: an unreserved charge counts all the same)."""
        check_hold(call_id, path, actual)
        with self._lock:
            if self._dropped:
                self._reap()
            outcome, touched = self._books.settle(call_id, path, actual, measured=measured)
            woken = self._queues.heads(touched) if self._queues.lines else None
        if woken:
            wake(woken)
        return outcome

    def correct(self, call_id: str, path: tuple[Scope, ...], delta: Amounts, doubt: Amounts) -> None:
        """Correct a part of what was charged at a bound: settled by `delta`, unmeasured by `doubt`.

        Whoever calls sees to it that each part is corrected once.
        """
        with self._lock:
            self._reap()
            self._books.correct(call_id, path, delta, doubt)
            woken = self._queues.heads(path)
        wake(woken)

    def release(self, call_id: str) -> Released:
        """Free a hold whose call never left; a second release changes nothing."""
        with self._lock:
            outcome, touched = self._books.release(call_id)
            woken = self._queues.heads(touched)
        wake(woken)
        return outcome

    def expire(self, call_id: str) -> Expired:
        """Charge a hold at its amount."""
        with self._lock:
            outcome, touched = self._books.expire(call_id)
            woken = self._queues.heads(touched)
        wake(woken)
        return outcome

    def adjust(self, call_id: str, path: tuple[Scope, ...], delta: Amounts, *, seq: int, evidence: str) -> bool:
        """Correct what was charged, once for each `seq`. A process keeps no evidence: the ledger's store does."""
        check_path(path)
        check_call_id(call_id)
        check_amounts(call_id, Amounts(*(abs(part) if part.__class__ is int else part for part in delta)))
        if not evidence.strip():
            raise InvalidAmount(f"call {call_id}: an adjustment names its evidence")
        with self._lock:
            touched = self._books.adjust(call_id, path, delta, seq)
            woken = self._queues.heads(touched)
        wake(woken)
        return bool(touched)

    def peek(self, path: tuple[Scope, ...], line: frozenset[int], ticket: Ticket | None) -> tuple[Room, ...]:
        """What each limited scope of the path has left now, and who is in the way."""
        rooms = []
        with self._lock:
            for scope, account in zip(path, self._books.path(path), strict=True):
                if not account.limits:
                    continue
                free, idle = list(UNLIMITED), list(UNLIMITED)
                for i, limit in account.limits:
                    left = limit - account.settled[i]
                    idle[i] = left
                    free[i] = left - account.held[i]
                holds, queued, others, behind = self._crowd(scope, account, line, ticket)
                rooms.append(Room(scope, Amounts(*free), Amounts(*idle), others, holds + queued, behind, account.named))
        return tuple(rooms)

    def crowd(self, scope: Scope, line: frozenset[int], ticket: Ticket | None) -> Crowd:
        """Who is on a scope, in flight and in the queue."""
        with self._lock:
            account = self._books.accounts.get(scope) or Account()
            return self._crowd(scope, account, line, ticket)

    def balance(self, scope: Scope) -> Balance:
        """The state of one scope. Raises `UnknownScope`."""
        with self._lock:
            return self._books.balance(scope)

    def scan(self) -> Iterator[HoldRecord]:
        """Every hold in flight, and every call that ended on a scope that is still there."""
        with self._lock:
            return iter(list(self._books.records()))

    def audit(self) -> list[Drift]:
        """Recompute every balance from the records; what differs."""
        with self._lock:
            self._reap()
            return self._books.audit()

    def join(self, scope: Scope, ticket: Ticket, owner: int) -> None:
        """Queue the ticket on the scope; a ticket that waits elsewhere moves, and keeps its place in time."""
        with self._lock:
            if not (scope.window and self._books.passing):
                self._books.path((scope,))
            woken = self._queues.join(scope, ticket, owner, holding=owner in self._books.holding)
        wake(woken)

    def leave(self, ticket: Ticket) -> None:
        """Take the ticket out of its queue and wake the next in line."""
        with self._lock:
            woken = self._queues.leave(ticket)
        wake(woken)

    def turn(self, scope: Scope, interval_us: int, now_us: int) -> int:
        """Take the turn (0), or say in how many microseconds to ask again; `now_us` is of the monotonic clock."""
        with self._lock:
            (account,) = self._books.path((scope,))
            if now_us < account.next_us:
                return account.next_us - now_us
            account.next_us = now_us + interval_us
            return 0

    def sent(self, call_id: str) -> None:
        """Nothing to note: what this process holds dies with it."""

    def posted(self, call_id: str, path: tuple[Scope, ...]) -> None:
        """Nothing to note: nothing here is shared."""

    def nudge(self, path: tuple[Scope, ...]) -> None:
        """Wake whoever is first in line on these scopes: another store has made room."""
        with self._lock:
            woken = self._queues.heads(path)
        wake(woken)

    def _crowd(self, scope: Scope, account: Account, line: frozenset[int], ticket: Ticket | None) -> Crowd:
        holds = others = account.holds
        if holds:
            others -= sum([account.owners.get(owner, 0) for owner in line.union(self._queues.stuck())])
        return Crowd(holds, self._queues.length(scope), others, self._queues.behind(scope, ticket))

    def _reap(self) -> None:
        while self._dropped:
            self._books.drop(self._dropped.popleft())
