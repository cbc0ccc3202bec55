"""The bill beside the ledger: parts that add up, each planted difference under its own name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from bursar.reports.reconcile import BOUNDS, OUTSIDE, PRICE, UNEXPLAINED, UNPRICED, Sums, reconcile

CELL = ("2026-11-02", "gpt-4o")
AMOUNT = some.integers(0, 10**12)
SUMS = some.builds(
    Sums, AMOUNT, some.none() | some.integers(0, 10**9), some.none() | some.integers(0, 10**6), AMOUNT, AMOUNT
)
SIDE = some.dictionaries(some.tuples(some.sampled_from(["d1", "d2"]), some.sampled_from(["m1", "m2"])), SUMS)


def parts(bill: Sums, ledger: Sums) -> dict[str, int]:
    return dict(reconcile({CELL: bill}, {CELL: ledger}, counted=True).parts)


@given(SIDE, SIDE, some.booleans())
def test_parts_add_up_to_the_difference(
    bill: dict[tuple[str, str], Sums], ledger: dict[tuple[str, str], Sums], counted: bool
) -> None:
    """Of each cell and in all, whatever both sides say, and nothing of either is left out."""
    found = reconcile(bill, ledger, counted=counted)
    for cell in found.cells:
        assert sum(nusd for _, nusd in cell.parts) == cell.bill.nusd - cell.ledger.nusd
    assert found.bill_nusd == sum(sums.nusd for sums in bill.values())
    assert found.ledger_nusd == sum(sums.nusd for sums in ledger.values())
    assert sum(nusd for _, nusd in found.parts) == found.bill_nusd - found.ledger_nusd
    assert sum(day[1] for day in found.days()) == found.bill_nusd


def test_each_reason_is_found() -> None:
    """One planted difference at a time."""
    same = Sums(1_000, 500, 5)
    assert parts(same, same) == {}
    assert parts(Sums(2_000, 1_000, 10), same) == {OUTSIDE: 1_000}
    assert parts(Sums(900, 500, 5), same) == {PRICE: -100}
    assert parts(same, Sums(1_400, 800, 7, unmeasured_nusd=400)) == {BOUNDS: -400}
    assert parts(Sums(2_000, 1_000, 10), Sums(1_000, 1_000, 10, unpriced_tokens=500)) == {UNPRICED: 1_000}
    assert parts(same, Sums(1_500, 900, 5)) == {UNEXPLAINED: -500}
    assert dict(reconcile({CELL: same}, {}, counted=True).parts) == {OUTSIDE: 1_000}
    assert dict(reconcile({}, {CELL: same}, counted=True).parts) == {UNEXPLAINED: -1_000}


def test_costs_alone_cannot_tell_prices_from_calls() -> None:
    """Without tokens a difference stays unexplained, unless the ledger has no call of that model at all."""
    bill = {CELL: Sums(1_000), ("2026-11-02", "o9"): Sums(50)}
    assert dict(reconcile(bill, {CELL: Sums(900, 500, 5)}, counted=False).parts) == {UNEXPLAINED: 100, OUTSIDE: 50}


def test_what_is_charged_at_bounds_is_a_range() -> None:
    """A bill within it is in agreement, one beyond either end is not, and what is outside is not paid for by a bound."""
    ledger = {CELL: Sums(1_000, 500, 5, unmeasured_nusd=400)}
    for billed, exceeds in ((1_000, False), (600, False), (580, True), (1_020, True)):
        found = reconcile({CELL: Sums(billed, 500, 5)}, ledger, counted=True)
        assert found.exceeds(0.01) is exceeds, billed
        assert found.ledger_least_nusd == 600
    other = (CELL[0], "o9")
    found = reconcile({CELL: Sums(600, 500, 5), other: Sums(400, 50, 5)}, ledger, counted=True)
    assert found.bill_nusd == found.ledger_nusd
    assert found.exceeds(0.01)


def test_days_of_another_time_zone_are_suspected() -> None:
    """What one day lacks another has: in all the sides agree."""
    bill = {("d1", "m"): Sums(1_000, 100), ("d2", "m"): Sums(2_000, 200), ("d1", "x"): Sums(50, 5)}
    ledger = {("d1", "m"): Sums(1_500, 150, 1), ("d2", "m"): Sums(1_500, 150, 1)}
    found = reconcile(bill, ledger, counted=True)
    assert found.moved == ("m",)
    assert found.covered is not None
    assert abs(found.covered - 250 / 305) < 1e-9
    assert found.exceeds(0.01)
    assert not reconcile(bill, bill, counted=True).exceeds(0)
