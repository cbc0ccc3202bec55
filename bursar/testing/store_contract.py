"""A conformance kit: what every store of holds must pass. Needs hypothesis.

    from bursar.testing.store_contract import check_bad_input, check_last_cent, check_random, check_threads

    def test_my_store():
        check_random(MyStore, examples=500)
        check_bad_input(MyStore())
        check_last_cent(MyStore())
        check_threads(MyStore())
        check_processes(MyStore)     # for a store that processes share

Each takes a `HoldStore` (`bursar.stores.base`) or what makes a new, empty one, and raises AssertionError.
"""

from __future__ import annotations

import random
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from bursar.stores.base import Released, Settled, State
from bursar.testing.store_model import Model
from bursar.words.errors import AlreadyCommitted, Conflict, InvalidAmount, StoreError, UnknownScope
from bursar.words.events import NOTHING, Amounts
from bursar.words.money import MAX_AMOUNT
from bursar.words.ports import Denied, Held, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.stores.base import HoldStore

SCOPES = tuple(Scope(kind, "x", "day:2026-11-24") for kind in ("env", "workflow", "user", "run"))
_SMALL = st.integers(0, 12) | st.sampled_from([MAX_AMOUNT, MAX_AMOUNT - 5])
_AMOUNTS = st.tuples(_SMALL, _SMALL, st.integers(0, 1)).map(
    lambda parts: Amounts(nusd=parts[0], tokens=parts[1], model_calls=parts[2])
)
_PATHS = st.lists(st.sampled_from(range(len(SCOPES))), min_size=1, max_size=4, unique=True).map(
    lambda numbers: tuple(SCOPES[number] for number in sorted(numbers))
)
_LIMITS = st.dictionaries(
    st.sampled_from(["usd", "tokens", "model_calls"]), st.integers(0, 40) | st.just(MAX_AMOUNT), max_size=3
)
_IDS = st.integers(0, 8).map(lambda number: f"call-{number}/0")


class Contract(RuleBasedStateMachine):
    """Does every verb in every state, and compares with `Model` after each; `make_store` is set by a subclass."""

    make_store: Callable[[], HoldStore]

    @initialize(limits=st.tuples(*[_LIMITS] * len(SCOPES)))
    def begin(self, limits: tuple[dict[str, int], ...]) -> None:
        """Start with a new store."""
        self.store, self.model = type(self).make_store(), Model()
        for scope, each in zip(SCOPES, limits, strict=True):
            self.define(scope, each)

    @rule(scope=st.sampled_from(SCOPES), limits=_LIMITS)
    def define(self, scope: Scope, limits: dict[str, int]) -> None:
        """Create a scope or change its limits."""
        self.store.define(scope, limits)
        self.model.limits[scope] = limits

    @rule(call_id=_IDS, path=_PATHS, amounts=_AMOUNTS, at_least=st.none() | _AMOUNTS)
    def reserve(self, call_id: str, path: tuple[Scope, ...], amounts: Amounts, at_least: Amounts | None) -> None:
        """Reserve, for a call that is new or known."""
        known = self.model.calls.get(call_id)
        if known is None:
            expected = self.model.reserve(call_id, path, amounts, at_least)
            assert self.store.reserve(call_id, path, amounts, at_least=at_least) == expected
        elif known.state is State.HELD and (known.asked, known.path) == (amounts, path):
            again = self.store.reserve(call_id, path, amounts, at_least=at_least)
            assert again == Held(call_id, path, known.held)
        else:
            self.refuses(Conflict, lambda: self.store.reserve(call_id, path, amounts, at_least=at_least))

    @rule(call_id=_IDS)
    def reserve_again(self, call_id: str) -> None:
        """Reserve once more what is held."""
        known = self.model.calls.get(call_id)
        if known is not None and known.state is State.HELD:
            again = self.store.reserve(call_id, known.path, known.asked)
            assert again == Held(call_id, known.path, known.held)

    @rule(call_id=_IDS, path=_PATHS, actual=_AMOUNTS, measured=st.booleans())
    def settle(self, call_id: str, path: tuple[Scope, ...], actual: Amounts, *, measured: bool) -> None:
        """Charge, in every state."""
        known = self.model.calls.get(call_id)
        if known is None or known.state is not State.COMMITTED:
            expected = self.model.settle(call_id, path, actual, measured=measured)
            assert self.store.settle(call_id, path, actual, measured=measured) == expected
        elif known.charged == actual:
            assert self.store.settle(call_id, path, actual, measured=measured) is Settled.AGAIN
        else:
            self.refuses(Conflict, lambda: self.store.settle(call_id, path, actual, measured=measured))

    @rule(call_id=_IDS)
    def settle_as_held(self, call_id: str) -> None:
        """Charge what is held."""
        known = self.model.calls.get(call_id)
        if known is not None and known.state is State.HELD:
            self.settle(call_id=call_id, path=known.path, actual=known.held, measured=True)

    @rule(call_id=_IDS)
    def release(self, call_id: str) -> None:
        """Free, in every state."""
        known = self.model.calls.get(call_id)
        if known is not None and known.state is State.COMMITTED:
            self.refuses(AlreadyCommitted, lambda: self.store.release(call_id))
        else:
            assert self.store.release(call_id) == self.model.release(call_id)

    @rule(call_id=_IDS)
    def expire(self, call_id: str) -> None:
        """Charge what is held."""
        assert self.store.expire(call_id) == self.model.expire(call_id)

    @rule(call_id=_IDS, path=_PATHS, nusd=st.integers(-10, 10), seq=st.integers(1, 3))
    def adjust(self, call_id: str, path: tuple[Scope, ...], nusd: int, seq: int) -> None:
        """Correct what was charged."""
        known, before = self.model.calls.get(call_id), self.model.adjusted.get(call_id, {})
        delta = Amounts(nusd=nusd)
        adjust: Any = lambda: self.store.adjust(call_id, path, delta, seq=seq, evidence="invoice")  # noqa: E731
        where = known.path if known is not None else next(iter(before.values()))[0] if before else path
        if (known is not None and known.state is State.HELD) or (seq in before and before[seq][1] != delta):
            self.refuses(Conflict, adjust)
        elif seq in before:
            assert adjust() is False
        elif any(self.model.settled(scope).nusd + nusd < 0 for scope in where):
            self.refuses(InvalidAmount, adjust)
        else:
            assert adjust() is True
            self.model.adjusted.setdefault(call_id, {})[seq] = (where, delta)

    @invariant()
    def books_agree(self) -> None:
        """Balances are those of the model."""
        for scope in SCOPES if hasattr(self, "model") else ():
            balance = self.store.balance(scope)
            assert balance.limits == self.model.limits[scope]
            assert balance.settled == self.model.settled(scope)
            assert balance.held == self.model.held(scope)
            assert balance.unmeasured == self.model.unmeasured(scope)

    @invariant()
    def records_agree(self) -> None:
        """Balances follow from the records, and these are those of the model."""
        if hasattr(self, "model"):
            assert self.store.audit() == []
            kept = {record.call_id: (record.state, record.path) for record in self.store.scan()}
            assert kept == {call_id: (call.state, call.path) for call_id, call in self.model.calls.items()}

    def refuses(self, error: type[StoreError], verb: Callable[[], object]) -> None:
        """Expect an error."""
        try:
            verb()
        except error:
            return
        raise AssertionError(f"it should have raised {error.__name__}")


def contract_machine(make_store: Callable[[], HoldStore]) -> type[Contract]:
    """The state machine for one kind of store, for those who run it by pytest."""
    return type("StoreContract", (Contract,), {"make_store": staticmethod(make_store)})


def check_random(make_store: Callable[[], HoldStore], *, examples: int = 500, steps: int = 30) -> None:
    """Run so many random histories against new stores."""
    run_state_machine_as_test(
        contract_machine(make_store),
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def check_bad_input(store: HoldStore) -> None:
    """Refuse by name what cannot be meant, and change nothing by it; keep apart what only looks alike."""
    scope, other = SCOPES[:2]
    store.define(scope, {"usd": 100})
    store.define(other, {"usd": 100})
    bad: list[Any] = [-1, True, 1.0, float("nan"), float("inf"), "1", None, MAX_AMOUNT + 1, 2**63]
    for value in bad:
        _refused(InvalidAmount, partial(store.reserve, "a/0", (scope,), Amounts(nusd=value)))
        _refused(InvalidAmount, partial(store.settle, "a/0", (scope,), Amounts(nusd=value), measured=True))
        _refused(InvalidAmount, partial(store.define, scope, {"usd": value}))
    _refused(InvalidAmount, lambda: store.define(scope, {"euro": 1}))
    paths: list[tuple[Scope, ...]] = [(), (scope, scope), (other, scope, other)]
    for path in paths:
        _refused(InvalidAmount, partial(store.reserve, "a/0", path, NOTHING))
    unknown = Scope("env", "nobody", "day:2026-11-24")
    _refused(UnknownScope, lambda: store.reserve("a/0", (scope, unknown), Amounts(nusd=1)))
    _refused(UnknownScope, lambda: store.balance(unknown))
    ids: list[Any] = ["", "x" * 1_000_000, None, 7]
    for call_id in ids:
        _refused(InvalidAmount, partial(store.reserve, call_id, (scope,), NOTHING))
    assert store.balance(scope) == store.balance(other)
    assert store.balance(scope).held == store.balance(scope).settled == NOTHING
    names = [
        "a",
        "A",
        "a\n",
        "a\0b",
        "{}",
        ":",
        "é",
        "e\u0301",
        "\N{PARTY POPPER}",
        "x'); DROP TABLE hold",
        "n" * 10_000,
    ]
    for number, name in enumerate(names):
        store.define(Scope("tag", name, "total"), {"usd": number + 1})
        store.reserve(f"n{number}/0", (Scope("tag", name, "total"),), Amounts(nusd=number + 1))
    for number, name in enumerate(names):
        assert store.balance(Scope("tag", name, "total")).held.nusd == number + 1, name
    store.reserve("zero/0", (scope,), NOTHING)
    assert store.expire("zero/0") == "presumed"
    assert store.release("zero/0") is Released.PRESUMED
    assert store.audit() == []


def check_last_cent(store: HoldStore, *, calls: int = 10_000, workers: int = 16) -> None:
    """Of so many concurrent reserves exactly as many succeed as there is room for."""
    scope = SCOPES[0]
    room = calls // 10
    store.define(scope, {"usd": 7 * room + 6})
    with _switching_fast(), ThreadPoolExecutor(workers) as pool:
        answers = pool.map(lambda n: store.reserve(f"{n}/0", (scope,), Amounts(nusd=7)), range(calls))
        granted = sum(not isinstance(answer, Denied) for answer in answers)
    assert granted == room, f"{granted} of {room}"
    assert store.balance(scope).held.nusd == 7 * room
    assert store.audit() == []


def check_threads(store: HoldStore, *, calls: int = 2_000, workers: int = 8) -> None:
    """Many threads, two scopes, every ending: at the end the sums are right and the limit was never passed."""
    path, limit = SCOPES[:2], 5_000
    for scope in path:
        store.define(scope, {"usd": limit})

    def work(number: int) -> int:
        dice, call_id, amount = random.Random(number), f"{number}/0", number % 9  # noqa: S311 - a seeded test
        if isinstance(store.reserve(call_id, path, Amounts(nusd=amount)), Denied):
            return 0
        balance = store.balance(path[number % 2])
        assert balance.settled.nusd + balance.held.nusd <= limit
        ending = dice.choice(["settle", "settle", "settle", "release", "expire"])
        if ending == "settle":
            spent = dice.randint(0, amount)
            store.settle(call_id, path, Amounts(nusd=spent), measured=True)
            store.settle(call_id, path, Amounts(nusd=spent), measured=True)
            return spent
        if ending == "release":
            store.release(call_id)
            return 0
        store.expire(call_id)
        return amount

    with _switching_fast(), ThreadPoolExecutor(workers) as pool:
        spent = sum(pool.map(work, range(calls)))
    for scope in path:
        balance = store.balance(scope)
        assert (balance.settled.nusd, balance.held.nusd, balance.holds) == (spent, 0, 0)
    assert store.audit() == []


def check_processes(make_store: Callable[[], HoldStore], *, calls: int = 300, workers: int = 4) -> None:
    """For a store that processes share: `make_store` opens the same one in each, and can be pickled."""
    store, path, limit = make_store(), SCOPES[:2], 2 * calls
    for scope in path:
        store.define(scope, {"usd": limit})
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        work = partial(_share, make_store, calls)
        spent = sum(pool.map(work, range(workers)))
    for scope in path:
        balance = store.balance(scope)
        assert (balance.settled.nusd, balance.held.nusd, balance.holds) == (spent, 0, 0)
        assert limit - 5 < balance.settled.nusd <= limit
    assert store.audit() == []


def _share(make_store: Callable[[], HoldStore], calls: int, worker: int) -> int:
    store, spent = make_store(), 0
    for number in range(calls):
        call_id, amount = f"{worker}-{number}/0", 1 + number % 5
        if not isinstance(store.reserve(call_id, SCOPES[:2], Amounts(nusd=amount)), Denied):
            store.settle(call_id, SCOPES[:2], Amounts(nusd=amount), measured=True)
            spent += amount
    return spent


class _switching_fast:  # noqa: N801 - used as a function
    def __enter__(self) -> None:
        self._kept = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)

    def __exit__(self, *exc: object) -> None:
        sys.setswitchinterval(self._kept)


def _refused(error: type[StoreError], verb: Callable[[], object]) -> None:
    try:
        verb()
    except error:
        return
    raise AssertionError(f"it should have raised {error.__name__}")
