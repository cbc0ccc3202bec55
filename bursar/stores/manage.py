"""What a person does to shared limits by hand: another limit for this window, a stop, a refund with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

from bursar.stores import rows
from bursar.stores.base import State, check_limits
from bursar.stores.owners import estate
from bursar.stores.postings import now_us
from bursar.words.errors import StoreError
from bursar.words.events import UNITS, Amounts

if TYPE_CHECKING:
    from bursar.db import Run
    from bursar.stores.sqlite import SqliteStore
    from bursar.words.ports import Scope


class Holder(NamedTuple):
    """One call in flight on a scope."""

    call_id: str
    owner: str
    alive: bool
    age_us: int
    held: Amounts


def set_limit(store: SqliteStore, scope: Scope, unit: str, limit: int) -> None:
    """Put a limit in force on one scope and window, before what is configured. `UnknownScope`, `InvalidAmount`."""
    check_limits(scope, {unit: limit})

    def work(run: Run) -> None:
        number = rows.account_id(run, scope)
        (kept,) = run("SELECT override FROM account WHERE id = ?", (number,))
        limits = {**orjson.loads(kept[0] or "{}"), unit: limit}
        run("UPDATE account SET override = ? WHERE id = ?", (orjson.dumps(limits).decode(), number))

    store.write(work)


def raise_limit(store: SqliteStore, scope: Scope, unit: str, by: int) -> int:
    """Raise a limit that is in force; the new one. Raises `StoreError` where there is none of this unit."""
    limits = store.balance(scope).limits
    if unit not in limits:
        raise StoreError(f"{scope} has no limit on {unit}; it has {', '.join(limits) or 'none'}")
    set_limit(store, scope, unit, limits[unit] + by)
    return limits[unit] + by


def freeze(store: SqliteStore, scope: Scope, *, frozen: bool) -> None:
    """Refuse every call on a scope, or go on. Raises `UnknownScope`."""

    def work(run: Run) -> None:
        run("UPDATE account SET frozen = ? WHERE id = ?", (int(frozen), rows.account_id(run, scope)))

    store.write(work)


def holders(store: SqliteStore, scope: Scope) -> list[Holder]:
    """The calls in flight on a scope, oldest first, and whether whoever made them lives."""
    now = now_us()

    def work(run: Run) -> list[tuple[str, str, int, Amounts]]:
        number = rows.account_id(run, scope)
        found = []
        for call_id, owner, made_us in run("SELECT call_id, owner, made_us FROM hold ORDER BY made_us"):
            hold = rows.hold(run, call_id)
            if hold is not None and number in hold.path:
                found.append((call_id, owner, made_us, hold.held))
        return found

    kept = store.write(work)
    alive = {owner: owner == store.owner_id or _lives(store, owner) for owner in {owner for _, owner, _, _ in kept}}
    # One that was made while we looked is of no age, and clocks are set back.
    return [Holder(call_id, owner, alive[owner], max(0, now - made_us), held) for call_id, owner, made_us, held in kept]


def refund(store: SqliteStore, call_id: str, evidence: str) -> Amounts:
    """Take back what a call was presumed to cost, on evidence that it cost nothing; what was taken back.

    An open hold of a process that is gone is settled first. Raises `StoreError` for a call that is not known, is in
    flight, or was measured.
    """
    store.recover()
    found = next((record for record in store.scan() if record.call_id == call_id), None)
    if found is None:
        raise StoreError(f"no call {call_id!r} has held anything in the last 48 hours")
    if found.state is State.HELD:
        raise StoreError(f"call {call_id} is in flight: its process lives, and settles it when it ends")
    if found.state is State.RELEASED:
        return found.charged
    if found.measured:
        raise StoreError(
            f"call {call_id} was charged what its provider counted; an invoice may correct it, not a guess"
        )
    back = rows.negative(found.charged)
    store.adjust(call_id, found.path, back, seq=1, evidence=evidence)
    return found.charged


def in_unit(amount: Amounts, unit: str) -> int:
    """The part of an amount that a limit on this unit counts."""
    return amount[UNITS.index(unit)]


def _lives(store: SqliteStore, owner: str) -> bool:
    with estate(store.path, owner) as left:
        return left is None
