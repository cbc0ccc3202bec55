"""What the store of one process promises, verb by verb, and under threads."""

from __future__ import annotations

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bursar import AlreadyCommitted, Conflict, InvalidAmount, StoreError, UnknownScope
from bursar.stores.memory import MemoryStore
from bursar.words.events import NOTHING, Amounts
from bursar.words.money import MAX_AMOUNT
from bursar.words.ports import Denied, Held, Scope

RUN, BUDGET = Scope("run", "r"), Scope("budget", "b")
PATH = (RUN, BUDGET)


def usd(nano: int) -> Amounts:
    return Amounts(nusd=nano, model_calls=1)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.define(RUN, {"usd": 100, "model_calls": 3})
    store.define(BUDGET, {"usd": 50})
    return store


def test_a_refusal_changes_nothing(store: MemoryStore) -> None:
    """A denied reservation leaves every scope as it was, and names the limit that had no room."""
    before = [store.balance(scope) for scope in PATH]
    answer = store.reserve("c/0", PATH, usd(51), 1)
    assert answer == Denied(BUDGET, "usd", 50, 0, 0, 51)
    assert [store.balance(scope) for scope in PATH] == before


def test_a_hold_is_on_every_scope_of_the_path(store: MemoryStore) -> None:
    """A granted reservation holds all its units on all scopes, and a settle replaces it by the actual amount."""
    assert isinstance(store.reserve("c/0", PATH, usd(50), 1), Held)
    assert [store.balance(scope).held.nusd for scope in PATH] == [50, 50]
    store.settle("c/0", PATH, usd(20), measured=True)
    for scope in PATH:
        balance = store.balance(scope)
        assert (balance.settled, balance.held, balance.holds) == (usd(20), NOTHING, 0)


def test_spent_is_the_truth(store: MemoryStore) -> None:
    """A settle above hold and limit is charged in full; nothing more is admitted until it recovers."""
    store.reserve("c/0", PATH, usd(50), 1)
    store.settle("c/0", PATH, usd(70), measured=False)
    assert store.balance(BUDGET).settled.nusd == 70
    assert store.balance(BUDGET).unmeasured.nusd == 70
    assert isinstance(store.reserve("c/1", PATH, usd(1), 1), Denied)
    assert isinstance(store.reserve("c/2", PATH, usd(0), 1), Denied)


def test_each_verb_happens_once(store: MemoryStore) -> None:
    """Reserving, settling and releasing again with the same numbers changes nothing; other numbers are a conflict."""
    held = store.reserve("c/0", PATH, usd(10), 1)
    assert store.reserve("c/0", PATH, usd(10), 1) == held
    with pytest.raises(Conflict):
        store.reserve("c/0", PATH, usd(11), 1)
    store.settle("c/0", PATH, usd(5), measured=True)
    store.settle("c/0", PATH, usd(5), measured=True)
    assert store.balance(RUN).settled == usd(5)
    with pytest.raises(Conflict):
        store.settle("c/0", PATH, usd(6), measured=True)
    with pytest.raises(Conflict):
        store.reserve("c/0", PATH, usd(10), 1)
    with pytest.raises(AlreadyCommitted):
        store.release("c/0")


def test_a_release_gives_everything_back(store: MemoryStore) -> None:
    """A released hold leaves no trace in the balances; a late settle still charges what was spent."""
    store.reserve("c/0", PATH, usd(50), 1)
    store.release("c/0")
    store.release("c/0")
    assert store.balance(RUN).held == NOTHING
    store.settle("c/0", PATH, usd(7), measured=True)
    assert store.balance(RUN).settled == usd(7)


def test_a_charge_without_a_hold_counts(store: MemoryStore) -> None:
    """What was spent unreserved is charged all the same."""
    store.settle("c/9", PATH, usd(8), measured=True)
    assert store.balance(BUDGET).settled == usd(8)


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT + 1, 1.0, True, "1", None])
def test_amounts_are_whole_and_not_negative(store: MemoryStore, amount: object) -> None:
    """A negative, too large or wrongly typed amount is refused before any effect."""
    before = store.balance(RUN)
    with pytest.raises(InvalidAmount):
        store.reserve("c/0", PATH, Amounts(nusd=amount), 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidAmount):
        store.settle("c/0", PATH, Amounts(nusd=amount), measured=True)  # type: ignore[arg-type]
    assert store.balance(RUN) == before


@pytest.mark.parametrize("path", [(), (RUN, RUN)])
def test_a_path_names_each_scope_once(store: MemoryStore, path: tuple[Scope, ...]) -> None:
    """An empty path and a scope named twice are refused."""
    with pytest.raises(InvalidAmount):
        store.reserve("c/0", path, usd(1), 1)


def test_an_undefined_scope_is_an_error() -> None:
    """A scope that nobody defined is never unlimited."""
    store = MemoryStore()
    with pytest.raises(UnknownScope):
        store.reserve("c/0", (RUN,), usd(1), 1)
    with pytest.raises(UnknownScope):
        store.balance(RUN)


@pytest.mark.parametrize("limits", [{"usd": -1}, {"usd": True}, {"usd": 2.0}, {"usd": MAX_AMOUNT + 1}, {"euro": 1}])
def test_limits_are_checked_when_they_are_defined(limits: dict[str, int]) -> None:
    """A limit that is negative, too large, of a wrong type or of an unknown unit is refused."""
    with pytest.raises(InvalidAmount):
        MemoryStore().define(RUN, limits)


def test_a_limit_of_zero_admits_nothing_that_costs() -> None:
    """Zero is a limit like any other for the store."""
    store = MemoryStore()
    store.define(RUN, {"usd": 0})
    assert isinstance(store.reserve("c/0", (RUN,), usd(1), 1), Denied)
    assert isinstance(store.reserve("c/1", (RUN,), usd(0), 1), Held)


def test_a_lowered_limit_forgives_nothing(store: MemoryStore) -> None:
    """A limit may be lowered below what is spent: the debt stays, and calls are refused until it is raised."""
    store.settle("c/0", (RUN,), usd(40), measured=True)
    store.define(RUN, {"usd": 30})
    assert store.balance(RUN).settled == usd(40)
    assert isinstance(store.reserve("c/1", (RUN,), usd(0), 1), Denied)


def test_a_dropped_scope_takes_no_more_charges(store: MemoryStore) -> None:
    """A call that outlives its scope is settled on what is left of its path, and on nothing at all quietly."""
    store.reserve("c/0", PATH, usd(10), 1)
    store.drop(BUDGET)
    store.settle("c/0", PATH, usd(10), measured=True)
    assert store.balance(RUN) == store.balance(RUN)._replace(settled=usd(10), held=NOTHING)
    store.drop(RUN)
    store.settle("c/1", PATH, usd(10), measured=True)


def test_the_garbage_collector_may_drop_a_scope_at_any_moment(store: MemoryStore) -> None:
    """Dropping takes no lock: the collector can run while this very thread holds it."""
    with store._lock:
        store.drop(BUDGET)
    store.define(Scope("run", "next"), {})
    with pytest.raises(UnknownScope):
        store.balance(BUDGET)


def test_a_hold_is_taken_at_once_where_there_is_plenty(store: MemoryStore) -> None:
    """Room for so many of them on every limit: held, and the crowd is counted; one nano-dollar less: nothing changed."""
    taken = store.take("c/0", PATH, Amounts(nusd=5), 10, 1)
    assert taken == Held("c/0", PATH, Amounts(nusd=5), 1)
    before = [store.balance(scope) for scope in PATH]
    assert store.take("c/1", PATH, Amounts(nusd=5), 10, 1) is None
    assert [store.balance(scope) for scope in PATH] == before
    second = store.take("c/1", PATH, Amounts(nusd=5), 9, 1)
    assert second is not None
    assert second.crowd == 2
    store.settle("c/0", PATH, usd(5), measured=True)
    assert store.balance(BUDGET).held == Amounts(nusd=5)
    assert store.audit() == []


def test_what_is_taken_leaves_room_for_each_call_that_is_there(store: MemoryStore) -> None:
    """However few the call asks to leave room for: with nine in flight there must be room for ten."""
    for n in range(9):
        store.reserve(f"c/{n}", PATH, Amounts(nusd=1), 1)
    assert store.take("c/9", PATH, Amounts(nusd=5), 1, 1) is None
    assert store.take("c/9", PATH, Amounts(nusd=4), 1, 1) is not None


def test_nobody_takes_before_who_waits(store: MemoryStore) -> None:
    """Where there is a line on any scope of the path, and for a call that is known, nothing is taken."""
    one = Ticket()
    store.join(BUDGET, one, 9)
    assert store.take("c/0", PATH, Amounts(nusd=1), 1, 1) is None
    assert store.take("c/0", (RUN,), Amounts(nusd=1), 1, 1) is not None
    store.leave(one)
    assert store.take("c/0", PATH, Amounts(nusd=1), 1, 1) is None
    store.release("c/0")
    assert store.take("c/0", PATH, Amounts(nusd=1), 1, 1) is None


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT + 1, 1.0, True])
def test_what_is_taken_is_whole_and_not_negative(store: MemoryStore, amount: Any) -> None:
    """As for a reserve: refused before any effect."""
    with pytest.raises(InvalidAmount):
        store.take("c/0", PATH, Amounts(nusd=amount), 1, 1)


class Ticket:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_the_head_of_the_queue_is_woken_when_room_may_have_come(store: MemoryStore) -> None:
    """A settle wakes the first in line; whoever leaves the line wakes the next."""
    store.reserve("c/0", PATH, usd(50), 1)
    one, two = Ticket(), Ticket()
    store.join(RUN, one, 9)
    store.join(RUN, two, 9)
    assert [room.behind for room in store.peek(PATH, frozenset({2}), None)] == [True, False]
    assert [room.behind for room in store.peek(PATH, frozenset({2}), one)] == [False, False]
    store.settle("c/0", PATH, usd(1), measured=True)
    assert (one.woken, two.woken) == (1, 0)
    store.leave(one)
    assert (one.woken, two.woken) == (1, 1)
    store.leave(one)
    store.join(BUDGET, two, 9)
    assert [room.crowd for room in store.peek(PATH, frozenset({2}), None)] == [0, 1]


def test_who_moves_to_another_line_keeps_his_place_in_time(store: MemoryStore) -> None:
    """Whoever came first is behind nobody, in whichever line he stands: two waiters cannot send each other round."""
    one, two, nobody = Ticket(), Ticket(), frozenset[int]()
    store.join(RUN, one, 1)
    store.join(RUN, two, 2)
    store.join(BUDGET, one, 1)
    assert two.woken == 1
    assert [room.behind for room in store.peek(PATH, nobody, one)] == [False, False]
    assert [room.behind for room in store.peek(PATH, nobody, two)] == [False, True]
    store.join(BUDGET, two, 2)
    store.join(RUN, one, 1)
    store.join(BUDGET, one, 1)
    assert [room.behind for room in store.peek(PATH, nobody, one)] == [False, False]
    assert [room.behind for room in store.peek(PATH, nobody, None)] == [False, True]
    store.leave(one)
    assert [room.behind for room in store.peek(PATH, nobody, two)] == [False, False]


def test_the_owner_of_a_hold_is_told_apart(store: MemoryStore) -> None:
    """Room counts only the holds of others as worth waiting for."""
    store.reserve("c/0", PATH, usd(10), 1)
    store.reserve("c/1", PATH, usd(10), 2)
    assert [room.others for room in store.peek(PATH, frozenset({1}), None)] == [1, 1]
    assert [room.others for room in store.peek(PATH, frozenset({3}), None)] == [2, 2]


def test_threads_never_admit_more_than_the_limit() -> None:
    """A hundred threads after the last cents: exactly as many calls as fit, and all balances add up."""
    store = MemoryStore()
    store.define(RUN, {"usd": 1_000})
    granted, lock = [0], threading.Lock()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(n: int) -> None:
        dice = random.Random(n)
        for i in range(40):
            if isinstance(store.reserve(f"{n}.{i}/0", (RUN,), usd(10), n), Held):
                if dice.random() < 0.5:
                    store.settle(f"{n}.{i}/0", (RUN,), usd(10), measured=True)
                    with lock:
                        granted[0] += 1
                else:
                    store.release(f"{n}.{i}/0")

    try:
        with ThreadPoolExecutor(100) as pool:
            list(pool.map(work, range(100)))
    finally:
        sys.setswitchinterval(interval)
    balance = store.balance(RUN)
    assert (granted[0], balance.settled.nusd, balance.held) == (100, 1_000, NOTHING)


class StoreMachine(RuleBasedStateMachine):
    """Random verbs against a model that is two dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.holds: dict[str, tuple[int, int]] = {}
        self.ended: dict[str, int | None] = {}
        self.limits = (0, 0)

    @initialize(outer=st.integers(0, 60), inner=st.integers(0, 60))
    def define(self, outer: int, inner: int) -> None:
        self.limits = (outer, inner)
        self.store.define(RUN, {"usd": outer})
        self.store.define(BUDGET, {"usd": inner})

    def spent(self) -> int:
        return sum(charge or 0 for charge in self.ended.values())

    def held(self) -> int:
        return sum(nano for nano, _ in self.holds.values())

    @rule(call=st.sampled_from("abcdef"), nano=st.integers(0, 30), owner=st.integers(1, 3))
    def reserve(self, call: str, nano: int, owner: int) -> None:
        if call in self.ended or (call in self.holds and self.holds[call][0] != nano):
            with pytest.raises(StoreError):
                self.store.reserve(call, PATH, Amounts(nusd=nano), owner)
            return
        answer = self.store.reserve(call, PATH, Amounts(nusd=nano), owner)
        fits = call in self.holds or self.spent() + self.held() + nano <= min(self.limits)
        assert isinstance(answer, Held) == fits
        if fits:
            self.holds.setdefault(call, (nano, owner))

    @rule(call=st.sampled_from("abcdef"), nano=st.integers(0, 40))
    def settle(self, call: str, nano: int) -> None:
        before = self.ended.get(call)
        if before is not None and before != nano:
            with pytest.raises(Conflict):
                self.store.settle(call, PATH, Amounts(nusd=nano), measured=True)
            return
        self.store.settle(call, PATH, Amounts(nusd=nano), measured=True)
        self.holds.pop(call, None)
        self.ended[call] = nano

    @rule(call=st.sampled_from("abcdef"))
    def release(self, call: str) -> None:
        if self.ended.get(call) is not None:
            with pytest.raises(AlreadyCommitted):
                self.store.release(call)
            return
        self.store.release(call)
        if self.holds.pop(call, None) is not None:
            self.ended[call] = None

    @invariant()
    def balances_follow_from_the_records(self) -> None:
        for scope in PATH:
            if scope in self.store._books.accounts:
                balance = self.store.balance(scope)
                assert balance.settled.nusd == self.spent()
                assert balance.held.nusd == self.held()
                assert balance.holds == len(self.holds)


# The contract's histories are of this store as well: these are for what it takes beyond, the owners' numbers.
StoreMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
test_any_order_of_verbs_keeps_the_books = StoreMachine.TestCase
