"""The budget's arithmetic, on numbers one can check with a pencil and on all that Hypothesis finds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bursar.guards.budget import alone, amounts, decide, fit
from bursar.words.demand import Demand, Rate
from bursar.words.events import NOTHING, UNITS, Amounts
from bursar.words.money import MAX_AMOUNT
from bursar.words.ports import UNLIMITED, Room, Scope
from bursar.words.verdicts import Deny, Grant, Queue

SCOPE = Scope("run", "r")
# $1 a million tokens in, $10 a million out: 1 and 10 nano-dollars... a thousand and ten thousand pico-dollars.
RATE = Rate(0, 1_000, 10_000)


def room(*, others: int = 0, crowd: int | None = None, behind: bool = False, held: int = 0, **free: int) -> Room:
    left = UNLIMITED._replace(**free)
    idle = UNLIMITED._replace(**{unit: amount + held for unit, amount in free.items()})
    return Room(SCOPE, left, idle, others, others if crowd is None else crowd, behind, {})


def demand(**changes: Any) -> Demand:
    base = Demand(
        input_practical=1_000, input_hard=4_000, cap=2_000, floor=256, least=16, learned=None, choices=1, clampable=True,
        calls=1, price=(RATE, RATE),
    )  # fmt: skip
    return base._replace(**changes)


def test_without_limits_the_request_is_left_alone() -> None:
    """Where nothing is limited nothing is changed."""
    decision = decide(demand(), (), 1, hard=False)
    assert decision == Grant(None, Amounts(24_000, 6_000, 6_000, 4_000, 2_000, 1, 0), "as_asked", "hard")


def test_a_cold_call_holds_its_whole_cap() -> None:
    """Nothing learned: the hold is the input bound and the whole output cap, and the cap is not changed."""
    decision = decide(demand(), [room(nusd=30_000)], 1, hard=False)
    assert decision == Grant(None, Amounts(21_000, 3_000, 3_000, 1_000, 2_000, 1, 0), "as_asked", "practical")


def test_the_hard_bound_is_held_where_it_is_small_beside_the_room() -> None:
    """With room for thirty-two, bytes bound the input: it costs nobody anything and is surer."""
    decision = decide(demand(), [room(nusd=32 * 24_000)], 1, hard=False)
    assert isinstance(decision, Grant)
    assert (decision.bound, decision.amounts.nusd) == ("hard", 24_000)


def test_a_lone_call_is_clamped_to_what_is_left() -> None:
    """Room for 11,000 nano-dollars: 1,000 go in, so 1,000 tokens of output can be paid."""
    decision = decide(demand(), [room(nusd=11_000)], 1, hard=False)
    assert decision == Grant(1_000, Amounts(11_000, 2_000, 2_000, 1_000, 1_000, 1, 0), "clamped", "practical")


def test_below_the_floor_a_call_is_refused() -> None:
    """255 tokens of output are not worth sending: Deny, with what would have been needed at the floor."""
    decision = decide(demand(), [room(nusd=1_000 + 2_550)], 1, hard=False)
    assert isinstance(decision, Deny)
    assert (decision.unit, decision.needed, decision.why) == ("usd", 1_000 + 2_560, "no_room")


def test_a_call_waits_for_the_holds_of_others() -> None:
    """What does not fit beside what others hold, but would without it, queues on that scope."""
    assert decide(demand(), [room(nusd=5_000, held=20_000, others=1)], 1, hard=False) == Queue(SCOPE)


def test_a_call_does_not_wait_for_what_cannot_help() -> None:
    """When even the return of every hold leaves less than the floor, the call is refused at once."""
    decision = decide(demand(), [room(nusd=500, held=1_000, others=1)], 1, hard=False)
    assert isinstance(decision, Deny)


def test_nobody_overtakes_the_queue() -> None:
    """Room or not: whoever is behind somebody queues too."""
    assert decide(demand(), [room(nusd=10**9, behind=True, crowd=3)], 1, hard=False) == Queue(SCOPE)


def test_a_call_never_waits_for_its_own_holds() -> None:
    """Holds of the asking task itself: clamp, and where that is not possible say that it would deadlock."""
    assert isinstance(decide(demand(), [room(nusd=11_000, held=50_000)], 1, hard=False), Grant)
    decision = decide(demand(), [room(nusd=500, held=50_000, crowd=1)], 1, hard=False)
    assert isinstance(decision, Deny)
    assert decision.why == "would_deadlock"


def test_a_far_cap_is_lowered_where_many_come_at_once() -> None:
    """Learned 200 tokens, ten calls at once, room for ten such calls: the cap goes down to 200 and all ten fit."""
    asked = demand(cap=4_000, learned=200, floor=256)
    small = asked._replace(floor=256)
    free = 10 * (1_000 + 2_000)
    for _ in range(10):
        decision = decide(small, [room(nusd=free, crowd=9)], 10, hard=False)
        assert isinstance(decision, Grant)
        assert (decision.cap, decision.shape) == (200, "lowered")
        free -= decision.amounts.nusd
    assert free == 0


def test_a_call_on_its_own_keeps_a_generous_cap() -> None:
    """Where calls come one at a time the cap stays at four times what was learned, or as asked."""
    decision = decide(demand(cap=4_000, learned=400), [room(nusd=60_000)], 1, hard=False)
    assert isinstance(decision, Grant)
    assert decision.cap == 1_600
    assert decide(demand(cap=1_500, learned=400), [room(nusd=60_000)], 1, hard=False).__class__ is Grant


def test_what_may_not_be_clamped_is_never_changed() -> None:
    """Structured output is cut to nothing useful: it fits as it is, waits, or is refused."""
    whole = demand(clampable=False, learned=10)
    assert isinstance(decide(whole, [room(nusd=20_999)], 1, hard=False), Deny)
    granted = decide(whole, [room(nusd=21_000)], 5, hard=False)
    assert isinstance(granted, Grant)
    assert granted.cap is None


def test_more_tool_calls_than_allowed_block_the_next_model_call() -> None:
    """Tool calls are counted after the fact: above their limit nothing more is admitted."""
    decision = decide(demand(), [room(tool_calls=-1)], 1, hard=False)
    assert isinstance(decision, Deny)
    assert decision.unit == "tool_calls"
    assert isinstance(decide(demand(), [room(tool_calls=0)], 1, hard=False), Grant)


rooms = st.builds(
    lambda free, held, others, waiting, behind: Room(
        SCOPE,
        Amounts(*free),
        Amounts(*(min(MAX_AMOUNT, f + h) for f, h in zip(free, held, strict=True))),
        others,
        others + waiting,
        behind and waiting > 0,
        {},
    ),
    st.tuples(*[st.integers(-100, 10**7) | st.just(MAX_AMOUNT)] * len(NOTHING)),
    st.tuples(*[st.integers(0, 10**5)] * len(NOTHING)),
    st.integers(0, 5),
    st.integers(0, 5),
    st.booleans(),
)
demands = st.builds(
    lambda practical, extra, cap, floor, learned, choices, clampable, calls, rates: Demand(
        practical, practical + extra, cap, floor, min(16, floor), learned, choices, clampable, calls, rates
    ),
    st.integers(0, 10**5),
    st.integers(0, 10**5),
    st.integers(1, 10**4),
    st.integers(1, 2_000),
    st.none() | st.integers(1, 10**4),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 1),
    st.none()
    | st.tuples(st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 10**4)).map(
        lambda r: (Rate(r[2], r[0], r[1]), Rate(r[2], 2 * r[0], 2 * r[1]))
    ),
)


@given(demands, st.lists(rooms, min_size=1, max_size=3), st.integers(1, 60), st.booleans())
def test_what_is_granted_fits_and_covers_what_was_granted(
    asked: Demand, where: list[Room], crowd: int, hard: bool
) -> None:
    """A grant fits every scope, holds all that its cap can cost, and never allows more than was asked."""
    decision = decide(asked, where, crowd, hard=hard)
    if not isinstance(decision, Grant):
        return
    cap = asked.cap if decision.cap is None else decision.cap
    tokens = asked.input_hard if decision.bound == "hard" else asked.input_practical
    assert decision.amounts == amounts(asked, tokens, cap, hard=decision.bound == "hard")
    assert all(need <= have for r in where for need, have in zip(decision.amounts, r.free, strict=True))
    assert not any(r.behind for r in where)
    assert 0 < cap <= asked.cap
    assert cap == asked.cap or asked.clampable
    assert cap >= min(asked.cap, asked.floor, asked.learned or asked.cap)


@given(demands, st.lists(rooms, min_size=1, max_size=3), st.integers(1, 60), st.booleans())
def test_a_refusal_is_true(asked: Demand, where: list[Room], crowd: int, hard: bool) -> None:
    """What is denied does not fit at its floor, and what queues has somebody to wait for."""
    decision = decide(asked, where, crowd, hard=hard)
    if isinstance(decision, Deny):
        assert decision.needed > decision.room.free[UNITS.index(decision.unit)]
    elif isinstance(decision, Queue):
        assert any(r.scope == decision.scope and (r.behind or r.others) for r in where)


@given(demands, rooms, st.booleans())
def test_fit_is_the_largest_cap_that_fits(asked: Demand, where: Room, hard: bool) -> None:
    """The cap that fit() names fits, and one more token does not."""
    tokens = asked.input_hard if hard else asked.input_practical
    most = fit(asked, where.free, tokens, hard=hard)

    def fits(cap: int) -> bool:
        need = amounts(asked, tokens, cap, hard=hard)
        return all(n <= f for n, f in zip(need, where.free, strict=True))

    assert most < 0 or fits(most)
    assert most > 10**9 or not fits(max(most, -1) + 1)


@given(demands, rooms)
def test_alone_never_queues(asked: Demand, where: Room) -> None:
    """A call that must not wait is granted or refused."""
    assert isinstance(alone(asked, [where], hard=False), Grant | Deny)
