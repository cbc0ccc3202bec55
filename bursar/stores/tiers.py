"""Two stores as one: what limits a run lives in memory, what limits all processes in the ledger file.

A hold is taken in memory first, then in the file; where the file refuses, memory forgets that it was asked. Memory
also knows the shared scopes, without their limits: there the calls of this process wait in line for them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bursar.words.ports import Busy, Denied, Room

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.stores.memory import MemoryStore
    from bursar.stores.rows import AccountRow
    from bursar.stores.sqlite import SqliteStore
    from bursar.words.events import Amounts
    from bursar.words.ports import Balance, Held, Scope, Ticket


class Tiers:
    """A `Store` over both. With `wait=False` it raises `Busy` where another process has the file just now."""

    def __init__(self, local: MemoryStore, shared: SqliteStore, *, wait: bool = True) -> None:
        self._local, self._shared, self._wait = local, shared, wait

    def define(self, scope: Scope, limits: Mapping[str, int]) -> None:
        """Create a scope of this process, or change its limits."""
        self._local.define(scope, limits)

    def drop(self, scope: Scope) -> None:
        """Forget a scope of this process."""
        self._local.drop(scope)

    def peek(self, path: tuple[Scope, ...], line: frozenset[int], ticket: Ticket | None) -> tuple[Room, ...]:
        """What each limited scope of the path has left now, and who is in the way."""
        shared = _shared(path)
        if not shared:
            return self._local.peek(path, line, ticket)
        if ticket is not None and self._shared.recovery_is_due():
            # Whoever waits may be waiting for the dead.
            with contextlib.suppress(Busy):
                self._shared.recover(wait=False)
        rooms = [self._room(row, line, ticket) for row in self._shared.accounts(shared)]
        own = tuple([scope for scope in path if not scope.window])
        return (*rooms, *self._local.peek(own, line, ticket))

    def reserve(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, owner: int) -> Held | Denied:
        """Hold `amounts` on every scope of the path, or on none."""
        answer = self._local.reserve(call_id, path, amounts, owner)
        shared = _shared(path)
        if isinstance(answer, Denied) or not shared:
            return answer
        try:
            other = self._shared.reserve(call_id, shared, amounts, wait=self._wait)
        except BaseException:
            self._local.withdraw(call_id)
            raise
        if isinstance(other, Denied):
            self._local.withdraw(call_id)
            return other
        return answer

    def take(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, times: int, owner: int) -> Held | None:
        """Hold `amounts` where there is plenty, in this process and in the file: no look is needed before."""
        mine = self._local.take(call_id, path, amounts, times, owner)
        shared = _shared(path)
        if mine is None or not shared:
            return mine
        try:
            other = self._shared.take(call_id, shared, amounts, times, wait=self._wait)
        except BaseException:
            self._local.withdraw(call_id)
            raise
        if other is None:
            self._local.withdraw(call_id)
            return None
        return mine._replace(crowd=max(mine.crowd, other.crowd))

    def turn(self, scope: Scope, interval_us: int, now_us: int) -> int:
        """Take the turn (0), or say in how many microseconds to ask again."""
        if scope.window:
            return self._shared.turn(scope, interval_us, wait=self._wait)
        return self._local.turn(scope, interval_us, now_us)

    def sent(self, call_id: str) -> None:
        """Note that a call is about to leave: should this process die, its hold is charged."""
        self._shared.sent(call_id)

    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> object:
        """Charge `actual` in this process; what all share is charged with the attempt's row."""
        return self._local.settle(call_id, path, actual, measured=measured)

    def posted(self, call_id: str, path: tuple[Scope, ...]) -> None:
        """The row of an attempt is written: whoever waits for what it held may look again."""
        self._shared.done(call_id)
        self._local.nudge(path)

    def release(self, call_id: str) -> object:
        """Free a hold whose call never left."""
        self._shared.release(call_id, wait=self._wait)
        self._shared.done(call_id)
        return self._local.release(call_id)

    def balance(self, scope: Scope) -> Balance:
        """The state of one scope."""
        return self._shared.balance(scope) if scope.window else self._local.balance(scope)

    def join(self, scope: Scope, ticket: Ticket, owner: int) -> None:
        """Queue the ticket on the scope, behind the others of this process."""
        self._local.join(scope, ticket, owner)

    def leave(self, ticket: Ticket) -> None:
        """Take the ticket out of its queue and wake the next one."""
        self._local.leave(ticket)

    def _room(self, row: AccountRow, line: frozenset[int], ticket: Ticket | None) -> Room:
        here = self._local.crowd(row.scope, line, ticket)
        free, idle = row.room()
        others = max(0, row.holds - (here.holds - here.others))
        return Room(row.scope, free, idle, others, row.holds + here.queued, here.behind, row.limits)


def _shared(path: tuple[Scope, ...]) -> tuple[Scope, ...]:
    return tuple([scope for scope in path if scope.window])
