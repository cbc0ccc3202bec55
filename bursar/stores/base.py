"""What every store of holds promises, verb by verb.

A hold is an amount of every unit, reserved over a path of scopes for one attempt, all or none. It is in one of four
states, and ends in one of three:

    verb           no such call      held         committed             released         presumed
    reserve, same  hold or `Denied`  the hold     `Conflict`            `Conflict`       `Conflict`
    reserve, other hold or `Denied`  `Conflict`   `Conflict`            `Conflict`       `Conflict`
    settle         unreserved        settled      again, or `Conflict`  late             late: corrects
    release        unknown           released     `AlreadyCommitted`    again            presumed: stays
    expire         unknown           presumed     again                 again            again

Rules that hold after every verb, whatever came before:

- settled + held <= limit after each `Held`; a `Denied` and an error have changed nothing, and a denial is not kept.
- settled is the sum of what was charged (the actual of the committed, the amount of the presumed, adjustments), held
  the sum of what is held: `audit` recomputes both from the records.
- `settle` is never refused for want of room: what was spent is the truth. Charging more than the limit leaves a debt,
  and nothing more is admitted until it is gone.
- An expired hold is charged at its amount, never freed: its owner may have sent the call before it died. A late
  settle of it puts the truth in its place; a late settle of a released hold charges what was spent after all.
- A verb done twice is a verb done once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from bursar.words.errors import InvalidAmount
from bursar.words.events import UNITS, Amounts
from bursar.words.money import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bursar.words.ports import Balance, Denied, Held, Scope


LONGEST_ID: Final = 200
"""Characters of a call id."""
_UNITS: Final = len(UNITS)


class State(StrEnum):
    """Where a hold stands."""

    HELD = "held"
    COMMITTED = "committed"
    RELEASED = "released"
    PRESUMED = "presumed"


class Settled(StrEnum):
    """What a settle found. unreserved: no hold of that id was known; it counts all the same."""

    SETTLED = "settled"
    AGAIN = "again"
    LATE = "late"
    UNRESERVED = "unreserved"


class Released(StrEnum):
    """What a release found. presumed: it was charged when its owner died, and only `adjust` or `settle` corrects it."""

    RELEASED = "released"
    AGAIN = "again"
    PRESUMED = "presumed"
    UNKNOWN = "unknown"


class Expired(StrEnum):
    """What an expire found."""

    PRESUMED = "presumed"
    AGAIN = "again"
    UNKNOWN = "unknown"


class HoldRecord(NamedTuple):
    """One hold as the store keeps it. `charged` is what settled contains of it, adjustments not included."""

    call_id: str
    path: tuple[Scope, ...]
    state: State
    held: Amounts
    charged: Amounts
    measured: bool


class Drift(NamedTuple):
    """A balance that does not follow from the records."""

    scope: Scope
    what: str
    kept: Amounts
    derived: Amounts


class HoldStore(Protocol):
    """Holds over scopes; see the head of this file for what each verb does in each state.

    Errors, all before any effect: `UnknownScope`, `InvalidAmount`, `Conflict`, `AlreadyCommitted`; a store that
    cannot be reached raises `StoreUnavailable`.
    """

    def define(self, scope: Scope, limits: Mapping[str, int]) -> object:
        """Create the scope, or change its limits; what was settled and is held stays, debts included."""

    def reserve(
        self,
        call_id: str,
        path: tuple[Scope, ...],
        amounts: Amounts,
        owner: int = 0,
        *,
        at_least: Amounts | None = None,
    ) -> Held | Denied:
        """Hold `amounts` on every scope of the path, or on none.

        With `at_least` hold as much of `amounts` as there is room for, if that is at least so much: the answer says
        how much it is. `owner` tells tasks of one process apart.
        """

    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> Settled:
        """Charge `actual` in place of the hold: where it was held; `path` is for a call that is not known."""

    def release(self, call_id: str) -> Released:
        """Free a hold whose call never left."""

    def expire(self, call_id: str) -> Expired:
        """Charge a hold at its amount: its owner is gone, and it may have been sent."""

    def adjust(self, call_id: str, path: tuple[Scope, ...], delta: Amounts, *, seq: int, evidence: str) -> bool:
        """Correct what was charged by `delta` (it may be negative), on evidence such as an invoice.

        Once for each `seq` of a call (False where it was there already, `Conflict` with another delta). Raises
        `InvalidAmount` where settled would fall below zero.
        """

    def balance(self, scope: Scope) -> Balance:
        """The state of one scope."""

    def scan(self) -> Iterator[HoldRecord]:
        """Every hold that is kept."""

    def audit(self) -> list[Drift]:
        """Recompute every balance from the records; what differs."""


def check_hold(call_id: str, path: tuple[Scope, ...], amounts: Amounts) -> None:
    """Raise `InvalidAmount` where one of the three checks below does."""
    if len(path) != 1:
        check_path(path)
    if call_id.__class__ is not str or not 0 < len(call_id) <= LONGEST_ID:
        check_call_id(call_id)
    check_amounts(call_id, amounts)


def check_path(path: tuple[Scope, ...]) -> None:
    """Raise `InvalidAmount` for an empty path and for one that names a scope twice."""
    if not path or (len(path) > 1 and len(set(path)) != len(path)):
        raise InvalidAmount(f"a path names at least one scope and each once, not {[str(s) for s in path]}")


def check_call_id(call_id: str) -> None:
    """Raise `InvalidAmount` for an id that is no text of 1 to 200 characters."""
    if call_id.__class__ is not str or not 0 < len(call_id) <= LONGEST_ID:
        raise InvalidAmount(f"a call id is a text of 1 to {LONGEST_ID} characters, not {call_id!r:.80}")


def check_amounts(call_id: str, amounts: Amounts) -> None:
    """Raise `InvalidAmount` where an amount is no whole number from 0 to 2**53 - 1."""
    if len(amounts) != _UNITS:
        raise InvalidAmount(f"call {call_id}: {len(amounts)} amounts, not {_UNITS}")
    a, b, c, d, e, f, g = amounts
    whole = type(a) is type(b) is type(c) is type(d) is type(e) is type(f) is type(g) is int
    if whole and 0 <= a | b | c | d | e | f | g <= MAX_AMOUNT:
        # The limit is all ones in binary: a number has a higher bit, or a sign, just where one of them has it.
        return
    for part in amounts:
        if part.__class__ is not int or not 0 <= part <= MAX_AMOUNT:
            raise InvalidAmount(f"call {call_id}: {part!r} is not a whole number from 0 to {MAX_AMOUNT}")


def check_limits(scope: Scope, limits: Mapping[str, int]) -> None:
    """Raise `InvalidAmount` for a unit that there is not, and for a limit outside 0..2**53-1."""
    for unit, limit in limits.items():
        if unit not in UNITS:
            raise InvalidAmount(f"{scope} has no unit {unit!r}; the units are {', '.join(UNITS)}")
        if limit.__class__ is not int or not 0 <= limit <= MAX_AMOUNT:
            raise InvalidAmount(f"{scope}: limit {unit}={limit!r} is not a whole number from 0 to {MAX_AMOUNT}")


def lesser(one: Amounts, other: Amounts) -> Amounts:
    """The smaller of two amounts, unit by unit."""
    return Amounts(*map(min, one, other))


def enough(at_least: Amounts, free: Amounts) -> Amounts:
    """What is free, but no less than `at_least` in any unit: a hold that is too small is then refused."""
    return Amounts(*map(max, at_least, free))
