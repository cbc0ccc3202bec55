"""Holds in the ledger file: limits that all processes of one machine share.

Each verb is one transaction; writers of all processes take turns (`Database.transact`). What an attempt cost is
posted in the same transaction as its row, so that balance and record never differ. Holds of processes that died are
settled by whoever next finds no room, and at every start: see `owners.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from bursar.db import open_ledger
from bursar.schema import amounts as amount_columns
from bursar.stores import postings, rows
from bursar.stores.base import check_amounts, check_call_id, check_hold, check_limits, check_path, enough, lesser
from bursar.stores.owners import Estate, Owner, estate
from bursar.stores.postings import now_us
from bursar.stores.sweeping import Broom
from bursar.words.errors import InvalidAmount, LedgerError, StoreUnavailable
from bursar.words.events import NOTHING, Amounts
from bursar.words.ports import Busy, Denied, Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bursar.db import Database, Run
    from bursar.stores.base import Drift, Expired, HoldRecord, Released, Settled
    from bursar.stores.rows import AccountRow
    from bursar.words.ports import Balance, Posting, Scope

T = TypeVar("T")

_RECOVER_EVERY_S: Final = 0.25
"""Between two looks for dead owners, where calls are refused."""
SWEEP_EVERY: Final = 64
"""Reserves after which old holds are looked for."""


class SqliteStore:
    """A `HoldStore` in a ledger file. `database` gives the open file: the ledger's own, so that both write together.

    Where it is `durable`, what is about to be sent is on the disk before.
    """

    def __init__(self, path: Path, database: Callable[[], Database], *, durable: bool = False) -> None:
        self.path, self._durable = path, durable
        self._database = database
        self._lock = threading.Lock()
        self._of: Database | None = None
        self._ids: dict[Scope, int] = {}
        self._owner: Owner | None = None
        self._recovered_s = float("-inf")
        self._broom = Broom()
        self._reserves = itertools.count(1)

    @classmethod
    def at(cls, path: Path) -> SqliteStore:
        """Open a store of its own on a ledger file. Raises `LedgerError`."""
        opened = open_ledger(path)
        return cls(path, lambda: opened)

    def define(
        self,
        scope: Scope,
        limits: Mapping[str, int],
        *,
        soft: bool = False,
        seed: Callable[[Run], Amounts] | None = None,
    ) -> bool:
        """Create the scope, with what `seed` finds spent already, or change its limits; whether it is new.

        A soft scope counts and refuses nothing. Limits that were set by hand stay in force.
        """
        check_limits(scope, limits)
        text = orjson.dumps(dict(limits)).decode()

        def work(run: Run) -> bool:
            found = run("SELECT id, limits, soft FROM account WHERE kind = ? AND name = ? AND window = ?", scope)
            if found:
                if found[0][1:] != (text, int(soft)):
                    run("UPDATE account SET limits = ?, soft = ? WHERE id = ?", (text, int(soft), found[0][0]))
                return False
            before = NOTHING if seed is None else seed(run)
            columns = (*amount_columns("settled"), *amount_columns("forgotten"))
            run(
                f"INSERT INTO account (kind, name, window, limits, soft, made_us, {', '.join(columns)}) "
                f"VALUES ({', '.join('?' * (6 + len(columns)))})",
                (*scope, text, int(soft), now_us(), *before, *before),
            )
            return True

        return self.write(work)

    def reserve(
        self,
        call_id: str,
        path: tuple[Scope, ...],
        amounts: Amounts,
        owner: int = 0,  # noqa: ARG002 - tasks are told apart by the store of their process
        *,
        at_least: Amounts | None = None,
        wait: bool = True,
    ) -> Held | Denied:
        """Hold `amounts`, or as much as there is room for but no less than `at_least`, on every scope or on none."""
        check_hold(call_id, path, amounts)
        if at_least is not None:
            check_amounts(call_id, at_least)
        me = self._me()

        def work(run: Run) -> Held | Denied:
            ids = self._numbers(run, path)
            known = rows.hold(run, call_id)
            if known is not None:
                return postings.again(call_id, path, ids, amounts, known)
            found = rows.accounts(run, ids)
            granted = amounts if at_least is None else lesser(amounts, enough(at_least, postings.free(found)))
            denied = postings.refused(found, granted)
            if denied is not None:
                return denied
            asked = None if at_least is None else amounts
            rows.add_hold(run, call_id, ids, granted, asked, me, now_us())
            rows.move(run, ids, held=granted, holds=1)
            return Held(call_id, path, granted)

        answer = self.write(work, wait=wait)
        if isinstance(answer, Denied) and self.recovery_is_due() and self.recover(wait=wait):
            answer = self.write(work, wait=wait)
        self._tidy()
        return answer

    def take(
        self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, times: int, *, wait: bool = True
    ) -> Held | None:
        """Hold `amounts` where every limit has room for many of them, as `Store.take`; None changes nothing."""
        check_hold(call_id, path, amounts)
        me = self._me()

        def work(run: Run) -> Held | None:
            ids = self._numbers(run, path)
            if rows.hold(run, call_id) is not None:
                return None
            found = rows.accounts(run, ids)
            crowd = postings.crowd_in_plenty(found, amounts, times) if len(found) == len(ids) else None
            if crowd is None:
                return None
            rows.add_hold(run, call_id, ids, amounts, None, me, now_us())
            rows.move(run, ids, held=amounts, holds=1)
            return Held(call_id, path, amounts, crowd)

        answer = self.write(work, wait=wait)
        self._tidy()
        return answer

    @property
    def owner_id(self) -> str | None:
        """Who this process is to others; None while it has held nothing."""
        return None if self._owner is None else self._owner.id

    def sent(self, call_id: str) -> None:
        """Note that a held call is about to leave: should this process die, it is charged. `StoreUnavailable`."""
        assert self._owner is not None
        self._owner.sent(call_id)

    def done(self, call_id: str) -> None:
        """Say that a call that was sent has been charged or freed."""
        if self._owner is not None:
            self._owner.done(call_id)

    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> Settled:
        """Charge `actual` in place of the hold (or without one: an unreserved charge counts all the same)."""
        check_hold(call_id, path, actual)
        return self.write(
            lambda run: postings.settle(run, call_id, lambda: self._numbers(run, path), actual, measured=measured)
        )

    def post(self, run: Run, posting: Posting) -> None:
        """Settle within a transaction of the ledger's: the row of the attempt and its charge are one."""
        call_id, path, actual, measured = posting
        check_amounts(call_id, actual)
        postings.settle(run, call_id, lambda: self._numbers(run, path), actual, measured=measured)

    def correct(self, run: Run, call_id: str, path: tuple[Scope, ...], delta: Amounts, doubt: Amounts) -> None:
        """Within a transaction of the ledger's: correct a part of what was charged; see `postings.correct`."""
        postings.correct(run, call_id, lambda: self._numbers(run, path), delta, doubt)

    def release(self, call_id: str, *, wait: bool = True) -> Released:
        """Free a hold whose call never left; a second release changes nothing."""
        return self.write(lambda run: postings.release(run, call_id), wait=wait)

    def expire(self, call_id: str) -> Expired:
        """Charge a hold at its amount."""
        return self.write(lambda run: postings.expire(run, call_id))

    def recover(self, *, wait: bool = True) -> int:
        """Settle what dead owners held: never sent is free, perhaps sent is charged. How many holds there were."""
        self._recovered_s = time.monotonic()
        me = None if self._owner is None else self._owner.id
        ended = 0
        for (owner,) in self.read("SELECT DISTINCT owner FROM hold"):
            if owner == me:
                continue
            with estate(self.path, owner) as left:
                if left is not None:
                    ended += self.write(partial(_inherit, owner=owner, left=left), wait=wait)
                    left.clear()
        return ended

    def recovery_is_due(self) -> bool:
        """Whether it is long enough ago that dead owners were looked for."""
        return time.monotonic() - self._recovered_s > _RECOVER_EVERY_S

    def adjust(self, call_id: str, path: tuple[Scope, ...], delta: Amounts, *, seq: int, evidence: str) -> bool:
        """Correct what was charged, once for each `seq`, and keep the evidence."""
        check_path(path)
        check_call_id(call_id)
        check_amounts(call_id, Amounts(*(abs(part) if part.__class__ is int else part for part in delta)))
        if not evidence.strip():
            raise InvalidAmount(f"call {call_id}: an adjustment names its evidence")
        return self.write(
            lambda run: postings.adjust(run, call_id, lambda: self._numbers(run, path), delta, seq, evidence)
        )

    def turn(self, scope: Scope, interval_us: int, *, wait: bool = True) -> int:
        """Take the next turn of a scope where calls go `interval_us` apart: 0, or microseconds until one may ask."""

        def work(run: Run) -> int:
            (number,) = self._numbers(run, (scope,))
            now = now_us()
            left_us = int(run("SELECT next_us FROM account WHERE id = ?", (number,))[0][0]) - now
            # The clock may have been set back: nobody waits for longer than an interval.
            if 0 < left_us <= interval_us:
                return left_us
            run("UPDATE account SET next_us = ? WHERE id = ?", (now + interval_us, number))
            return 0

        return self.write(work, wait=wait)

    def accounts(self, path: tuple[Scope, ...]) -> list[AccountRow]:
        """The accounts of a path as they are now."""
        return self._look(lambda run: rows.accounts(run, self._numbers(run, path)))

    def every_account(self) -> list[AccountRow]:
        """All accounts, oldest first."""
        return self._look(rows.every_account)

    def balance(self, scope: Scope) -> Balance:
        """The state of one scope. Raises `UnknownScope`."""
        return self.accounts((scope,))[0].balance()

    def scan(self) -> Iterator[HoldRecord]:
        """Every hold in flight, and every call that ended in the last 48 hours."""
        return iter(self.write(postings.records))

    def audit(self) -> list[Drift]:
        """Recompute every balance from the records; what differs."""
        return self.write(postings.audit)

    def sweep(self, most: int = 1_000_000, *, wait: bool = True) -> None:
        """Look at so many ended holds, from where the last sweep came to, and forget what is old; see `sweeping.py`."""
        if self._broom.sweep(self, most, wait=wait):
            self._ids.clear()

    def close(self) -> None:
        """Let go of what proves that this process is alive."""
        owner, self._owner = self._owner, None
        if owner is not None:
            held = True
            with contextlib.suppress(StoreUnavailable):
                held = bool(self.read("SELECT 1 FROM hold WHERE owner = ? LIMIT 1", (owner.id,)))
            owner.close(empty=not held)

    def _tidy(self) -> None:
        if next(self._reserves) % SWEEP_EVERY == 0:
            # A little now and then, so that it is never much. Whoever has no time leaves it to the next one.
            with contextlib.suppress(Busy, StoreUnavailable):
                self.sweep(2 * SWEEP_EVERY, wait=False)

    def _me(self) -> str:
        owner = self._owner
        if owner is None:
            with self._lock:
                owner = self._owner = self._owner or Owner(self.path, durable=self._durable)
        return owner.id

    def _numbers(self, run: Run, path: tuple[Scope, ...]) -> list[int]:
        found = []
        for scope in path:
            number = self._ids.get(scope)
            if number is None:
                number = self._ids[scope] = rows.account_id(run, scope)
            found.append(number)
        return found

    def _opened(self) -> Database:
        database = self._database()
        if database is not self._of:
            # Another file lies here than before: what was numbered in that one has other numbers in this one.
            self._of = database
            self._ids.clear()
        return database

    def write(self, work: Callable[[Run], T], *, wait: bool = True) -> T:
        """Do something in one transaction of the ledger file. `StoreUnavailable`; `Busy` where `wait` is False."""
        try:
            return self._opened().transact(work, wait=wait)
        except _failures() as error:
            if not wait and _is_busy(error):
                raise Busy from None
            raise self._unavailable(error) from None

    def _look(self, work: Callable[[Run], T]) -> T:
        try:
            return work(self._opened().execute)
        except _failures() as error:
            raise self._unavailable(error) from None

    def read(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement, outside of any transaction. `StoreUnavailable`."""
        return self._look(lambda run: run(sql, values))

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"shared limits cannot be kept: {self.path} cannot be used ({error}). Nothing was sent. To go on: mend it "
            "(`bursar doctor` says what is wrong), or configure on_store_error='allow'."
        )


def _failures() -> tuple[type[Exception], ...]:
    import apsw

    return (apsw.Error, LedgerError, OSError)


def _is_busy(error: Exception) -> bool:
    import apsw

    return isinstance(error, apsw.BusyError)


def _inherit(run: Run, owner: str, left: Estate) -> int:
    calls = rows.open_holds(run, owner)
    for call_id in calls:
        if left.may_have_sent(call_id):
            postings.expire(run, call_id)
        else:
            postings.release(run, call_id)
    return len(calls)
