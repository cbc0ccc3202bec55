"""Holds and accounts as rows of the ledger file: what is done inside one transaction."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.schema import amounts
from bursar.stores.base import HoldRecord, State
from bursar.words.errors import UnknownScope
from bursar.words.events import NOTHING, UNITS, Amounts
from bursar.words.ports import UNLIMITED, Balance, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bursar.db import Run

HELD, COMMITTED, RELEASED, PRESUMED = range(4)
STATES: Final = (State.HELD, State.COMMITTED, State.RELEASED, State.PRESUMED)
PLACE: Final = {unit: place for place, unit in enumerate(UNITS)}
"""Where a unit stands among the amounts."""
_N: Final = len(NOTHING)
_ACCOUNT: Final = ", ".join(
    ("id", "kind", "name", "window", "limits", "override", "soft", "frozen", "holds",
     *amounts("settled"), *amounts("held"), *amounts("unmeasured"))
)  # fmt: skip
# The amounts are what a call in flight holds, and what one that ended was charged.
_FIND: Final = (
    f"SELECT path, 0, asked, 0, {', '.join(amounts('held'))} FROM hold WHERE call_id = ?1 UNION ALL "
    f"SELECT path, state, NULL, measured, {', '.join(amounts('charged'))} FROM ended WHERE call_id = ?1"
)
_HOLD: Final = (
    f"INSERT INTO hold (call_id, path, owner, asked, made_us, {', '.join(amounts('held'))}) "
    f"VALUES ({', '.join('?' * (5 + _N))})"
)
_END: Final = (
    f"INSERT INTO ended (call_id, path, state, measured, ended_us, {', '.join(amounts('charged'))}) "
    f"VALUES ({', '.join('?' * (5 + _N))})"
)
_CORRECT: Final = (
    "UPDATE ended SET state = ?, measured = ?, ended_us = ?, "
    + ", ".join(f"{name} = ?" for name in amounts("charged"))
    + " WHERE call_id = ?"
)


class AccountRow(NamedTuple):
    """One account as it is in the file. `limits` are those in force: what was set by hand goes before the rest."""

    id: int
    scope: Scope
    limits: Mapping[str, int]
    soft: bool
    frozen: bool
    holds: int
    settled: Amounts
    held: Amounts
    unmeasured: Amounts

    def room(self) -> tuple[Amounts, Amounts]:
        """What is free, and what would be free were every hold released."""
        if self.frozen:
            return NOTHING, NOTHING
        free, idle = list(UNLIMITED), list(UNLIMITED)
        if not self.soft:
            for unit, limit in self.limits.items():
                i = PLACE[unit]
                idle[i] = limit - self.settled[i]
                free[i] = idle[i] - self.held[i]
        return Amounts._make(free), Amounts._make(idle)

    def balance(self) -> Balance:
        """As every store says it."""
        return Balance(self.limits, self.settled, self.held, self.unmeasured, self.holds)


class HoldRow(NamedTuple):
    """One call as it is in the file: what it holds, or what it was charged."""

    path: tuple[int, ...]
    state: int
    asked: Amounts | None
    measured: bool
    held: Amounts
    charged: Amounts

    def record(self, call_id: str, path: tuple[Scope, ...]) -> HoldRecord:
        """As every store says it."""
        return HoldRecord(call_id, path, STATES[self.state], self.held, self.charged, measured=self.measured)


def accounts(run: Run, ids: Sequence[int]) -> list[AccountRow]:
    """The accounts with these ids, in that order; those of long ago may be gone."""
    found = [_account(row) for row in run(_select_accounts(len(ids)), ids)]
    if len(ids) > 1:
        found.sort(key=lambda account: ids.index(account.id))
    return found


def every_account(run: Run) -> list[AccountRow]:
    """All accounts, oldest first."""
    return [_account(row) for row in run(f"SELECT {_ACCOUNT} FROM account ORDER BY id")]


def account_id(run: Run, scope: Scope) -> int:
    """The id of a scope's account. Raises `UnknownScope`."""
    found = run("SELECT id FROM account WHERE kind = ? AND name = ? AND window = ?", scope)
    if not found:
        raise UnknownScope(f"{scope} has no account: it was never defined")
    return int(found[0][0])


def hold(run: Run, call_id: str) -> HoldRow | None:
    """A call that holds something, or that ended not long ago."""
    found = run(_FIND, (call_id,))
    return _hold(found[0]) if found else None


def call_ids(run: Run) -> list[str]:
    """Every call that is kept, by its id."""
    return [row[0] for row in run("SELECT call_id FROM hold UNION ALL SELECT call_id FROM ended ORDER BY call_id")]


def open_holds(run: Run, owner: str) -> list[str]:
    """The calls that an owner has in flight."""
    return [row[0] for row in run("SELECT call_id FROM hold WHERE owner = ?", (owner,))]


def add_hold(
    run: Run, call_id: str, ids: Sequence[int], held: Amounts, asked: Amounts | None, owner: str, now_us: int
) -> None:
    """Write a new hold down."""
    text = None if asked is None else orjson.dumps(tuple(asked)).decode()
    run(_HOLD, (call_id, _text(ids), owner, text, now_us, *held))


def end_hold(
    run: Run, call_id: str, known: HoldRow, state: int, charged: Amounts, now_us: int, *, measured: bool
) -> None:
    """Write down how a known call ended, or what is now known of its end."""
    if known.state == HELD:
        run("DELETE FROM hold WHERE call_id = ?", (call_id,))
        add_ended(run, call_id, known.path, state, charged, now_us, measured=measured)
    else:
        run(_CORRECT, (state, int(measured), now_us, *charged, call_id))


def add_ended(
    run: Run, call_id: str, ids: Sequence[int], state: int, charged: Amounts, now_us: int, *, measured: bool
) -> None:
    """Write down the end of a call that holds nothing."""
    run(_END, (call_id, _text(ids), state, int(measured), now_us, *charged))


def move(
    run: Run, ids: Sequence[int], *, settled: Amounts | None = None, held: Amounts | None = None,
    unmeasured: Amounts | None = None, holds: int = 0,
) -> None:  # fmt: skip
    """Add amounts, which may be negative, to the balances of accounts."""
    sql = _move(len(ids), settled is not None, held is not None, unmeasured is not None)
    run(sql, (*(settled or ()), *(held or ()), *(unmeasured or ()), holds, *ids))


def path_of(text: str) -> tuple[int, ...]:
    """Read a path as it is kept."""
    return tuple(map(int, text.split()))


def _text(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def negative(amount: Amounts) -> Amounts:
    """The same, taken away."""
    return Amounts._make([-part for part in amount])


@lru_cache(maxsize=64)
def _move(count: int, *named: bool) -> str:
    columns = [column for column, moves in zip(("settled", "held", "unmeasured"), named, strict=True) if moves]
    sets = [f"{name} = {name} + ?" for column in columns for name in amounts(column)]
    return f"UPDATE account SET {', '.join([*sets, 'holds = holds + ?'])} WHERE id IN ({', '.join('?' * count)})"


@lru_cache(maxsize=64)
def _select_accounts(count: int) -> str:
    return f"SELECT {_ACCOUNT} FROM account WHERE id IN ({', '.join('?' * count)})"


@lru_cache(maxsize=1_024)
def _in_force(limits: str, override: str | None) -> Mapping[str, int]:
    # Read again and again, and shared: nobody may change it.
    return MappingProxyType({**orjson.loads(limits), **orjson.loads(override or "{}")})


def _account(row: tuple[Any, ...]) -> AccountRow:
    number, kind, name, window, limits, override, soft, frozen, holds = row[:9]
    return AccountRow(
        number, Scope(kind, name, window), _in_force(limits, override), bool(soft), bool(frozen), holds,
        Amounts._make(row[9 : 9 + _N]), Amounts._make(row[9 + _N : 9 + 2 * _N]), Amounts._make(row[9 + 2 * _N :]),
    )  # fmt: skip


def _hold(row: tuple[Any, ...]) -> HoldRow:
    path, state, asked, measured = row[:4]
    kept = Amounts._make(row[4:])
    held, charged = (kept, NOTHING) if state == HELD else (NOTHING, kept)
    return HoldRow(
        path_of(path), state, None if asked is None else Amounts(*orjson.loads(asked)), bool(measured), held, charged
    )
