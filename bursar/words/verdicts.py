"""What a guard says to a call. Frozen data; the words a person reads are made from it at the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bursar.words.events import Amounts
    from bursar.words.ports import Room, Scope


class Grant(NamedTuple):
    """Go. `cap` is the output cap to send (None: leave the request alone), `amounts` the hold to take.

    shape: "as_asked", "lowered" (a cap far above what is ever used was lowered; nobody should notice) or
    "clamped" (the cap is what the budget has left; the answer may be cut). bound: "hard" or "practical".
    """

    cap: int | None
    amounts: Amounts
    shape: str
    bound: str


class Queue(NamedTuple):
    """Not now: only the holds of others on this scope are in the way."""

    scope: Scope


class Deny(NamedTuple):
    """No: `needed` of `unit` does not fit. why: "no_room", "would_deadlock", "waited" or "frozen"."""

    room: Room
    unit: str
    needed: int
    why: str


Decision = Grant | Queue | Deny
