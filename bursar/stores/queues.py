"""Who waits for which scope, first come, first served.

A waiter stands in one line at a time, that of the limit which is in his way, and keeps his place in time when he
moves to another: were he last in line at each move, two of them could move round each other for ever.

Not locked: the store that has the queues has the lock.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bursar.words.ports import Scope, Ticket


class Queues:
    """The queues of all scopes. Whoever holds something while he waits is passed by those behind him."""

    def __init__(self) -> None:
        self.lines: dict[Scope, deque[Ticket]] = {}
        self._seat: dict[Ticket, Scope] = {}
        self._came: dict[Ticket, int] = {}
        self._numbers = itertools.count()
        self._stuck: dict[Ticket, int] = {}  # tickets of owners that hold something while they wait

    def join(self, scope: Scope, ticket: Ticket, owner: int, *, holding: bool) -> list[Ticket]:
        """Queue the ticket on the scope, behind all who came before it; whom to wake in the line that it leaves."""
        woken = self._unseat(ticket)
        came = self._came.setdefault(ticket, next(self._numbers))
        line = self.lines.setdefault(scope, deque())
        place = len(line)
        while place and self._came[line[place - 1]] > came:
            place -= 1
        line.insert(place, ticket)
        self._seat[ticket] = scope
        if holding:
            self._stuck[ticket] = owner
        return woken

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """Take the ticket out of its line for good; whom to wake."""
        self._came.pop(ticket, None)
        return self._unseat(ticket)

    def heads(self, scopes: Iterable[Scope]) -> list[Ticket]:
        """Whose turn it may be now: the first in each line, and the first who is not stuck."""
        if not self.lines:
            return []
        woken: list[Ticket] = []
        for scope in scopes:
            line = self.lines.get(scope)
            if line is not None:
                woken.append(line[0])
                behind = next(self._free(line), None)
                if behind is not None and behind is not line[0]:
                    woken.append(behind)
        return woken

    def length(self, scope: Scope) -> int:
        """How many wait for a scope."""
        line = self.lines.get(scope)
        return 0 if line is None else len(line)

    def behind(self, scope: Scope, ticket: Ticket | None) -> bool:
        """Whether somebody in that line came first, and is not stuck; without a ticket: whether anybody is there."""
        line = self.lines.get(scope)
        if line is None:
            return False
        first = next((other for other in line if other is ticket or other not in self._stuck), None)
        came = None if ticket is None else self._came.get(ticket)
        return first is not None and (came is None or self._came[first] < came)

    def stuck(self) -> Iterable[int]:
        """Owners that hold something while they wait: nobody waits for them."""
        return self._stuck.values()

    def _unseat(self, ticket: Ticket) -> list[Ticket]:
        self._stuck.pop(ticket, None)
        scope = self._seat.pop(ticket, None)
        if scope is None:
            return []
        line = self.lines[scope]
        line.remove(ticket)
        if not line:
            del self.lines[scope]
        return self.heads((scope,))

    def _free(self, line: deque[Ticket]) -> Iterator[Ticket]:
        return (ticket for ticket in line if ticket not in self._stuck)


def wake(tickets: list[Ticket]) -> None:
    """Let them look again; outside of any lock, since a ticket may call into an event loop."""
    for ticket in tickets:
        ticket.wake()
