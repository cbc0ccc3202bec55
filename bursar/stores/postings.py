"""What the verbs do inside one transaction of the ledger file; see `base.py` for what they promise."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bursar.schema import amounts as amount_columns
from bursar.stores import rows
from bursar.stores.base import Drift, Expired, HoldRecord, Released, Settled, lesser
from bursar.stores.rows import COMMITTED, HELD, PLACE, PRESUMED, RELEASED
from bursar.words.errors import AlreadyCommitted, Conflict, InvalidAmount
from bursar.words.events import NOTHING, UNITS, Amounts
from bursar.words.ports import UNLIMITED, Denied, Held

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bursar.db import Run
    from bursar.stores.rows import AccountRow
    from bursar.words.ports import Scope


def settle(run: Run, call_id: str, ids: Callable[[], list[int]], actual: Amounts, *, measured: bool) -> Settled:
    """Charge a call; `ids` says where, for one that is not known."""
    known, doubt = rows.hold(run, call_id), NOTHING if measured else actual
    if known is None:
        where = ids()
        rows.add_ended(run, call_id, where, COMMITTED, actual, now_us(), measured=measured)
        rows.move(run, where, settled=actual, unmeasured=doubt)
        return Settled.UNRESERVED
    if known.state == COMMITTED:
        if known.charged != actual:
            raise Conflict(f"call {call_id} was settled at {known.charged}, now at {actual}")
        return Settled.AGAIN
    if known.state == HELD:
        held = rows.negative(known.held)
        rows.move(run, known.path, settled=actual, held=held, unmeasured=doubt, holds=-1)
    else:
        settled = Amounts(*(new - old for new, old in zip(actual, known.charged, strict=True)))
        unmeasured = Amounts(*(new - old for new, old in zip(doubt, known.charged, strict=True)))
        rows.move(run, known.path, settled=settled, unmeasured=unmeasured)
    rows.end_hold(run, call_id, known, COMMITTED, actual, now_us(), measured=measured)
    return Settled.SETTLED if known.state == HELD else Settled.LATE


def correct(run: Run, call_id: str, ids: Callable[[], list[int]], delta: Amounts, doubt: Amounts) -> None:
    """Correct a part of what was charged at a bound: settled by `delta`, unmeasured by `doubt`.

    Whoever calls sees to it that each part is corrected once. `ids` says where, for a call that was forgotten.
    """
    known = rows.hold(run, call_id)
    where = ids() if known is None else known.path
    if known is None or known.state == HELD:
        # Of a call that has not ended nothing is charged yet: what it will be is charged beside this.
        _forgotten(run, where, delta)
    else:
        charged = Amounts(*(old + part for old, part in zip(known.charged, delta, strict=True)))
        rows.end_hold(run, call_id, known, known.state, charged, now_us(), measured=known.measured)
    rows.move(run, where, settled=delta, unmeasured=doubt)


def release(run: Run, call_id: str) -> Released:
    """Free a hold."""
    known = rows.hold(run, call_id)
    if known is None:
        return Released.UNKNOWN
    if known.state == COMMITTED:
        raise AlreadyCommitted(f"call {call_id} has been charged; correct it with an adjustment")
    if known.state != HELD:
        return Released.AGAIN if known.state == RELEASED else Released.PRESUMED
    rows.move(run, known.path, held=rows.negative(known.held), holds=-1)
    rows.end_hold(run, call_id, known, RELEASED, NOTHING, now_us(), measured=True)
    return Released.RELEASED


def expire(run: Run, call_id: str) -> Expired:
    """Charge a hold at its amount."""
    known = rows.hold(run, call_id)
    if known is None:
        return Expired.UNKNOWN
    if known.state != HELD:
        return Expired.AGAIN
    held = known.held
    rows.move(run, known.path, settled=held, held=rows.negative(held), unmeasured=held, holds=-1)
    rows.end_hold(run, call_id, known, PRESUMED, held, now_us(), measured=False)
    return Expired.PRESUMED


def adjust(run: Run, call_id: str, ids: Callable[[], list[int]], delta: Amounts, seq: int, evidence: str) -> bool:
    """Correct what was charged, once for each `seq`; `ids` says where, for a call that is not known."""
    known = rows.hold(run, call_id)
    if known is not None and known.state == HELD:
        raise Conflict(f"call {call_id} is in flight; settle it before it is adjusted")
    columns = amount_columns("delta")
    before = run(f"SELECT seq, path, {', '.join(columns)} FROM adjustment WHERE call_id = ?", (call_id,))
    for row in before:
        if row[0] == seq:
            if row[2:] != delta:
                raise Conflict(f"call {call_id} was adjusted by {row[2:]} as number {seq}, now by {delta}")
            return False
    where = known.path if known is not None else rows.path_of(before[0][1]) if before else tuple(ids())
    for account in rows.accounts(run, where):
        for unit, settled, part in zip(UNITS, account.settled, delta, strict=True):
            if settled + part < 0:
                raise InvalidAmount(f"{account.scope}: {unit} would fall to {settled + part}")
    run(
        f"INSERT INTO adjustment (call_id, seq, path, evidence, made_us, {', '.join(columns)}) "
        f"VALUES ({', '.join('?' * (5 + len(columns)))})",
        (call_id, seq, " ".join(map(str, where)), evidence[:200], now_us(), *delta),
    )
    rows.move(run, where, settled=delta)
    return True


def forget(run: Run, call_id: str) -> None:
    """Delete the records of a call that ended; its accounts keep what it was charged."""
    row = rows.hold(run, call_id)
    assert row is not None
    gone = list(row.charged)
    for delta in run(f"SELECT {', '.join(amount_columns('delta'))} FROM adjustment WHERE call_id = ?", (call_id,)):
        gone = [kept + part for kept, part in zip(gone, delta, strict=True)]
    _forgotten(run, row.path, Amounts(*gone))
    run("DELETE FROM adjustment WHERE call_id = ?", (call_id,))
    run("DELETE FROM ended WHERE call_id = ?", (call_id,))


def again(call_id: str, path: tuple[Scope, ...], ids: list[int], amounts: Amounts, known: rows.HoldRow) -> Held:
    """The hold of a call that is reserved again. Raises `Conflict`."""
    if known.state != HELD:
        raise Conflict(f"call {call_id} has already ended; a new attempt needs an id of its own")
    asked = known.held if known.asked is None else known.asked
    if asked != amounts or known.path != tuple(ids):
        raise Conflict(f"call {call_id} holds {asked}, now {amounts} on {[str(s) for s in path]} was asked")
    return Held(call_id, path, known.held)


def refused(found: list[AccountRow], granted: Amounts) -> Denied | None:
    """The first limit that has no room for so much."""
    for account in found:
        settled, held = account.settled, account.held
        if account.frozen:
            i = PLACE["model_calls"]
            return Denied(account.scope, "model_calls", 0, settled[i], held[i], granted[i])
        for unit, limit in () if account.soft else account.limits.items():
            i = PLACE[unit]
            if settled[i] + held[i] + granted[i] > limit:
                return Denied(account.scope, unit, limit, settled[i], held[i], granted[i])
    return None


def crowd_in_plenty(found: list[AccountRow], amounts: Amounts, times: int) -> int | None:
    """How many calls are in flight with this one, where there is room for `times` of it and one for each of them."""
    crowd = 1 + max([account.holds for account in found])
    times = max(times, crowd)
    for account in found:
        if account.frozen:
            return None
        settled, held = account.settled, account.held
        for unit, limit in () if account.soft else account.limits.items():
            i = PLACE[unit]
            if settled[i] + held[i] + times * amounts[i] > limit:
                return None
    return crowd


def free(found: list[AccountRow]) -> Amounts:
    """What is free in every one of these accounts."""
    least = UNLIMITED
    for account in found:
        least = lesser(least, account.room()[0])
    return Amounts(*(max(0, part) for part in least))


def records(run: Run) -> list[HoldRecord]:
    """Every hold that is kept."""
    scopes = {account.id: account.scope for account in rows.every_account(run)}
    found = []
    for call_id in rows.call_ids(run):
        row = rows.hold(run, call_id)
        assert row is not None
        found.append(row.record(call_id, tuple(scopes[number] for number in row.path if number in scopes)))
    return found


def audit(run: Run) -> list[Drift]:
    """Recompute every balance from the records; what differs."""
    columns = amount_columns("forgotten")
    settled = {row[0]: list(row[1:]) for row in run(f"SELECT id, {', '.join(columns)} FROM account")}
    held = {number: [0] * len(NOTHING) for number in settled}
    for call_id in rows.call_ids(run):
        row = rows.hold(run, call_id)
        assert row is not None
        _add(held, row.path, row.held)
        _add(settled, row.path, row.charged)
    for path, *delta in run(f"SELECT path, {', '.join(amount_columns('delta'))} FROM adjustment"):
        _add(settled, rows.path_of(path), Amounts(*delta))
    return [
        Drift(account.scope, what, kept, Amounts(*derived[account.id]))
        for account in rows.every_account(run)
        for what, kept, derived in (("settled", account.settled, settled), ("held", account.held, held))
        if list(kept) != derived[account.id]
    ]


def _forgotten(run: Run, path: Sequence[int], amounts: Amounts) -> None:
    sets = ", ".join(f"{name} = {name} + ?" for name in amount_columns("forgotten"))
    run(f"UPDATE account SET {sets} WHERE id IN ({', '.join('?' * len(path))})", (*amounts, *path))


def _add(sums: dict[int, list[int]], path: tuple[int, ...], amounts: Amounts) -> None:
    for number in path:
        total = sums.get(number)
        if total is not None:
            for i, part in enumerate(amounts):
                total[i] += part


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000
