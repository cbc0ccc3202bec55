"""The books of one process: accounts, holds in flight, and how calls ended. Plain integers, no lock, no queue.

`MemoryStore` is these books behind a lock; see `base.py` for what each verb promises.
"""

from __future__ import annotations

import itertools
from collections import deque
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.stores.base import Drift, Expired, HoldRecord, Released, Settled, State, enough, lesser
from bursar.words.errors import AlreadyCommitted, Conflict, InvalidAmount, UnknownScope
from bursar.words.events import NOTHING, UNITS, Amounts, filled
from bursar.words.ports import UNLIMITED, Balance, Denied, Held

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bursar.words.ports import Scope

MOST_ENDED: Final = 100_000
"""Ended calls that a scope remembers by id; of older ones it knows the sum."""
ZERO = tuple(NOTHING)
_STATES = (State.RELEASED, State.COMMITTED, State.PRESUMED)
_RELEASED, _COMMITTED, _PRESUMED = range(3)

_Ended = tuple[int, ...]
"""How a call ended: state, path, whether measured, and what was charged. Nothing but integers: the garbage collector
soon stops looking at such tuples, and a long run has many."""


class Account:
    """One scope: its limits, three integers for each unit, and what is in flight: how many calls, and whose."""

    __slots__ = (
        "calls",
        "forgotten",
        "held",
        "holds",
        "limits",
        "named",
        "next_us",
        "owners",
        "passing",
        "paths",
        "settled",
        "unmeasured",
    )

    def __init__(self) -> None:
        self.limits: tuple[tuple[int, int], ...] = ()  # (index of the unit, limit)
        self.passing = False  # there only while something is in flight: its limits and its books are kept elsewhere
        self.named: Mapping[str, int] = {}
        self.next_us = 0  # when the next turn is, where calls go one after another
        self.settled = self.held = self.unmeasured = ZERO
        self.forgotten = ZERO  # settled by calls whose innermost scope is gone, and their records with it
        self.holds = 0
        self.owners: dict[int, int] = {}  # owner -> its calls in flight
        self.calls: deque[str] = deque()  # ended calls whose innermost scope this is
        self.paths: dict[tuple[Scope, ...], int] = {}  # and the numbers of their paths


class _Hold(NamedTuple):
    """A hold in flight: where, what is held, what was asked, by whom."""

    path: tuple[Scope, ...]
    accounts: tuple[Account, ...]
    amounts: Amounts
    asked: Amounts
    owner: int


class Books:
    """The verbs of a `HoldStore` on plain integers.

    With `passing`, scopes that have a window are kept elsewhere: they are known here while something is in flight.
    """

    def __init__(self, *, passing: bool = False) -> None:
        self.passing = passing
        self.accounts: dict[Scope, Account] = {}
        self.holding: dict[int, int] = {}  # owner -> its calls in flight, in all scopes
        self._held: dict[str, _Hold] = {}
        self._ended: dict[str, _Ended] = {}
        self._path_of: dict[int, tuple[Scope, ...]] = {}
        self._numbers = itertools.count()
        self._adjusted: dict[str, dict[int, tuple[tuple[Scope, ...], Amounts]]] = {}

    def define(self, scope: Scope, limits: Mapping[str, int]) -> None:
        """Create the scope or change its limits."""
        account = self.accounts.setdefault(scope, Account())
        account.passing = False
        account.named = dict(limits)
        account.limits = tuple((UNITS.index(unit), limit) for unit, limit in limits.items())

    def reserve(
        self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, owner: int, at_least: Amounts | None
    ) -> Held | Denied:
        """See `HoldStore`."""
        accounts = self.path(path)
        known = self._held.get(call_id)
        if known is not None or call_id in self._ended:
            return _again(call_id, path, amounts, known)
        granted = amounts if at_least is None else lesser(amounts, enough(at_least, _free(accounts)))
        for scope, account in zip(path, accounts, strict=True):
            settled, held = account.settled, account.held
            for i, limit in account.limits:
                if settled[i] + held[i] + granted[i] > limit:
                    return Denied(scope, UNITS[i], limit, settled[i], held[i], granted[i])
        self._hold(call_id, _Hold(path, accounts, granted, amounts, owner))
        return Held(call_id, path, granted)

    def take(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, times: int, owner: int) -> Held | None:
        """Hold `amounts` where every limit has room for `times` of them, and for one for each call that is there."""
        accounts = self.path(path)
        if call_id in self._held or call_id in self._ended:
            return None
        crowd = 1
        for account in accounts:
            if account.holds >= crowd and account.limits:
                crowd = account.holds + 1
        if crowd > times:
            times = crowd
        for account in accounts:
            settled, held = account.settled, account.held
            for i, limit in account.limits:
                if settled[i] + held[i] + times * amounts[i] > limit:
                    return None
        self._hold(call_id, filled(_Hold, (path, accounts, amounts, amounts, owner)))
        return filled(Held, (call_id, path, amounts, crowd))

    def withdraw(self, call_id: str) -> tuple[Scope, ...]:
        """Undo a hold as if it had not been asked; the scopes that it was on."""
        return self._lift(self._held.pop(call_id)) if call_id in self._held else ()

    def settle(
        self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool
    ) -> tuple[Settled, tuple[Scope, ...]]:
        """See `HoldStore`; also the scopes that it touched."""
        hold = self._held.pop(call_id, None)
        if hold is not None:
            path = self._lift(hold, actual, measured=measured)
            self._end(call_id, path, _COMMITTED, actual, measured=measured)
            return Settled.SETTLED, path
        ended, outcome = self._ended.get(call_id), Settled.UNRESERVED
        if ended is not None:
            path = self._path_of[ended[1]]
            if ended[0] == _COMMITTED:
                if ended[3:] != actual:
                    raise Conflict(f"call {call_id} was settled at {Amounts(*ended[3:])}, now at {actual}")
                return Settled.AGAIN, ()
            outcome = Settled.LATE
            self._charge(path, _negative(ended[3:]), measured=False)
        self._charge(path, actual, measured=measured)
        self._end(call_id, path, _COMMITTED, actual, measured=measured)
        return outcome, path

    def correct(self, call_id: str, path: tuple[Scope, ...], delta: Amounts, doubt: Amounts) -> None:
        """See `MemoryStore`."""
        ended = self._ended.get(call_id)
        if ended is None:
            # Long ago, or its scopes are gone: where they are not, the sum is corrected.
            self._forget(path, delta)
        else:
            path = self._path_of[ended[1]]
            self._ended[call_id] = (*ended[:3], *map(add, ended[3:], delta))
        self._charge(path, delta, measured=True)
        for scope in path:
            account = self.accounts.get(scope)
            if account is not None:
                account.unmeasured = _plus(account.unmeasured, doubt)

    def release(self, call_id: str) -> tuple[Released, tuple[Scope, ...]]:
        """See `HoldStore`; also the scopes that it touched."""
        ended = self._ended.get(call_id)
        if ended is not None:
            if ended[0] == _COMMITTED:
                raise AlreadyCommitted(f"call {call_id} has been charged; correct it with an adjustment")
            return Released.AGAIN if ended[0] == _RELEASED else Released.PRESUMED, ()
        if call_id not in self._held:
            return Released.UNKNOWN, ()
        path = self._lift(self._held.pop(call_id))
        self._end(call_id, path, _RELEASED, NOTHING, measured=True)
        return Released.RELEASED, path

    def expire(self, call_id: str) -> tuple[Expired, tuple[Scope, ...]]:
        """See `HoldStore`; also the scopes that it touched."""
        if call_id not in self._held:
            return Expired.AGAIN if call_id in self._ended else Expired.UNKNOWN, ()
        hold = self._held.pop(call_id)
        amounts, path = hold.amounts, self._lift(hold, hold.amounts, measured=False)
        self._end(call_id, path, _PRESUMED, amounts, measured=False)
        return Expired.PRESUMED, path

    def adjust(self, call_id: str, path: tuple[Scope, ...], delta: Amounts, seq: int) -> tuple[Scope, ...]:
        """See `HoldStore`; the scopes that it touched, none where it was done before."""
        if call_id in self._held:
            raise Conflict(f"call {call_id} is in flight; settle it before it is adjusted")
        ended = self._ended.get(call_id)
        known = self._adjusted.get(call_id, {})
        if seq in known:
            if known[seq][1] != delta:
                raise Conflict(f"call {call_id} was adjusted by {known[seq][1]} as number {seq}, now by {delta}")
            return ()
        where = self._path_of[ended[1]] if ended is not None else next(iter(known.values()))[0] if known else path
        accounts = self.path(where)
        for scope, account in zip(where, accounts, strict=True):
            for unit, left in zip(UNITS, map(add, account.settled, delta), strict=True):
                if left < 0:
                    raise InvalidAmount(f"{scope}: {unit} would fall to {left}")
        self._charge(where, delta, measured=True)
        self._adjusted[call_id] = {**known, seq: (where, delta)}
        if ended is None and not known:
            self.accounts[where[-1]].calls.append(call_id)
        return where

    def drop(self, scope: Scope) -> None:
        """Forget a scope, and the records that it keeps."""
        account = self.accounts.pop(scope, None)
        if account is None:
            return
        for call_id in account.calls:
            self._drop_call(call_id)
        for number in account.paths.values():
            del self._path_of[number]

    def balance(self, scope: Scope) -> Balance:
        """The state of one scope."""
        (account,) = self.path((scope,))
        return Balance(
            {UNITS[i]: limit for i, limit in account.limits},
            Amounts(*account.settled),
            Amounts(*account.held),
            Amounts(*account.unmeasured),
            account.holds,
        )

    def records(self) -> Iterator[HoldRecord]:
        """Every hold in flight and every call that ended."""
        for call_id, hold in self._held.items():
            yield HoldRecord(call_id, hold.path, State.HELD, hold.amounts, NOTHING, measured=False)
        for call_id, end in self._ended.items():
            charged = Amounts(*end[3:])
            yield HoldRecord(call_id, self._path_of[end[1]], _STATES[end[0]], NOTHING, charged, measured=bool(end[2]))

    def audit(self) -> list[Drift]:
        """Recompute every balance from the records; what differs."""
        settled = {scope: account.forgotten for scope, account in self.accounts.items()}
        held = dict.fromkeys(self.accounts, ZERO)
        for record in self.records():
            _add(held, record.path, record.held)
            _add(settled, record.path, record.charged)
        for deltas in self._adjusted.values():
            for where, delta in deltas.values():
                _add(settled, where, delta)
        return [
            Drift(scope, what, Amounts(*kept), Amounts(*derived[scope]))
            for scope, account in self.accounts.items()
            if not account.passing
            for what, kept, derived in (("settled", account.settled, settled), ("held", account.held, held))
            if kept != derived[scope]
        ]

    def path(self, path: tuple[Scope, ...]) -> tuple[Account, ...]:
        """The accounts of a path. Raises `UnknownScope`."""
        try:
            return tuple(map(self.accounts.__getitem__, path))
        except KeyError:
            return tuple([self._account(scope) for scope in path])

    def _account(self, scope: Scope) -> Account:
        account = self.accounts.get(scope)
        if account is None and scope.window and self.passing:
            account = self.accounts[scope] = Account()
            account.passing = True
        if account is None:
            raise UnknownScope(f"{scope} has no account: it was never defined, or its run has ended")
        return account

    def _charge(self, path: tuple[Scope, ...], amounts: tuple[int, ...], *, measured: bool) -> None:
        for scope in path:
            account = self.accounts.get(scope)
            if account is not None:
                account.settled = _plus(account.settled, amounts)
                if not measured:
                    account.unmeasured = _plus(account.unmeasured, amounts)

    def _hold(self, call_id: str, hold: _Hold) -> None:
        _, accounts, amounts, _, owner = self._held[call_id] = hold
        holding = self.holding
        holding[owner] = holding.get(owner, 0) + 1
        for account in accounts:
            account.held = _plus(account.held, amounts)
            account.holds += 1
            owners = account.owners
            owners[owner] = owners.get(owner, 0) + 1

    def _end(self, call_id: str, path: tuple[Scope, ...], state: int, charged: Amounts, *, measured: bool) -> None:
        keeper = self.accounts.get(path[-1])
        if keeper is None or keeper.passing:
            # The call has outlived its innermost scope: the next one keeps its record.
            path = tuple(s for s in path if s in self.accounts and not self.accounts[s].passing)
            if not path:
                return
            keeper = self.accounts[path[-1]]
        number = keeper.paths.get(path)
        if number is None:
            number = keeper.paths[path] = next(self._numbers)
            self._path_of[number] = path
        if call_id not in self._ended:
            keeper.calls.append(call_id)
            if len(keeper.calls) > MOST_ENDED:
                self._drop_call(keeper.calls.popleft())
        self._ended[call_id] = (state, number, int(measured), *charged)

    def _lift(self, hold: _Hold, charged: Amounts = NOTHING, *, measured: bool = True) -> tuple[Scope, ...]:
        """Take a hold away, and charge so much in its place; the scopes that it was on."""
        path, accounts, amounts, _, owner = hold
        _one_less(self.holding, owner)
        for account in accounts:
            # One whose scope is gone by now is charged all the same: nobody looks at it any more.
            account.held = _minus(account.held, amounts)
            account.settled = _plus(account.settled, charged)
            if not measured:
                account.unmeasured = _plus(account.unmeasured, charged)
            account.holds -= 1
            _one_less(account.owners, owner)
            if account.passing and not account.holds:
                self.accounts.pop(path[accounts.index(account)], None)
        return path

    def _drop_call(self, call_id: str) -> None:
        ended = self._ended.pop(call_id, None)
        if ended is not None:
            self._forget(self._path_of[ended[1]], ended[3:])
        for where, delta in self._adjusted.pop(call_id, {}).values():
            self._forget(where, delta)

    def _forget(self, path: tuple[Scope, ...], charged: tuple[int, ...]) -> None:
        for scope in path:
            account = self.accounts.get(scope)
            if account is not None:
                account.forgotten = _plus(account.forgotten, charged)


def _again(call_id: str, path: tuple[Scope, ...], amounts: Amounts, known: _Hold | None) -> Held:
    if known is None:
        raise Conflict(f"call {call_id} has already ended; a new attempt needs an id of its own")
    if known.asked != amounts or known.path != path:
        raise Conflict(f"call {call_id} holds {known.asked} on {known.path}, now {amounts} on {path} was asked")
    return Held(call_id, path, known.amounts)


def _free(accounts: Iterable[Account]) -> Amounts:
    free = list(UNLIMITED)
    for account in accounts:
        for i, limit in account.limits:
            free[i] = min(free[i], max(0, limit - account.settled[i] - account.held[i]))
    return Amounts(*free)


def _add(sums: dict[Scope, tuple[int, ...]], path: Iterable[Scope], amounts: tuple[int, ...]) -> None:
    for scope in path:
        if scope in sums:
            sums[scope] = _plus(sums[scope], amounts)


def _plus(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    # Written out: several times for each call, and `map` takes twice as long.
    a, b, c, d, e, f, g = one
    h, i, j, k, m, n, o = other
    return a + h, b + i, c + j, d + k, e + m, f + n, g + o


def _minus(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    a, b, c, d, e, f, g = one
    h, i, j, k, m, n, o = other
    return a - h, b - i, c - j, d - k, e - m, f - n, g - o


def _negative(amounts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([-part for part in amounts])


def _one_less(counts: dict[int, int], owner: int) -> None:
    left = counts[owner] - 1
    if left:
        counts[owner] = left
    else:
        del counts[owner]
