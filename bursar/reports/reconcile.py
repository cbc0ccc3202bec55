"""The provider's bill beside the ledger: where they differ, and what explains how much of it.

A cell is a day and a model. Its difference, the bill less the ledger, is divided in this order; each part takes at most
what is left, so that the parts add up to the difference exactly:

    bounds     the ledger has more, and charged so much of it at bounds: calls that failed or were cut
    unpriced   the ledger has tokens without a price, as dear as the bill's tokens are
    outside    the bill has tokens that the ledger has not: calls that were not made through it
    price      the tokens agree, the dollars do not: negotiated rates, tiers, surcharges, taxes, credits
    unexplained   the rest

What is charged at bounds costs at most that, so the ledger is a range, and a bill that lies in it agrees with it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BOUNDS, UNPRICED, OUTSIDE, PRICE, UNEXPLAINED = "bounds", "unpriced", "outside", "price", "unexplained"
REASONS: Final = (UNEXPLAINED, OUTSIDE, UNPRICED, PRICE, BOUNDS)
"""In the order in which a person should look at them."""
_AGREE: Final = 0.005
"""Token counts that differ by less are the same: exports round, and a day's last calls are counted by one of both."""
_MOVED: Final = 0.5
"""The share of differences that cancel out between days from which on the days are not the same ones."""


class Sums(NamedTuple):
    """What one side has of a cell. `calls` and `tokens` None: it does not say."""

    nusd: int = 0
    tokens: int | None = None
    calls: int | None = None
    unmeasured_nusd: int = 0
    unpriced_tokens: int = 0


class Cell(NamedTuple):
    """A day and a model on both sides; `parts` say why, in nano-dollars, and add up to `bill.nusd - ledger.nusd`."""

    day: str
    model: str
    bill: Sums
    ledger: Sums
    parts: tuple[tuple[str, int], ...]

    @property
    def nusd(self) -> int:
        """The bill less the ledger."""
        return self.bill.nusd - self.ledger.nusd


class Reconciled(NamedTuple):
    """All cells, the largest difference first, and their sums. moved: models whose days are not the same ones."""

    cells: tuple[Cell, ...]
    bill_nusd: int
    ledger_nusd: int
    parts: tuple[tuple[str, int], ...]
    moved: tuple[str, ...]

    @property
    def covered(self) -> float | None:
        """The share of the bill's tokens that the ledger has too; None where the bill has none."""
        told = [cell for cell in self.cells if cell.bill.tokens]
        whole = sum(cell.bill.tokens or 0 for cell in told)
        return sum(min(cell.bill.tokens or 0, cell.ledger.tokens or 0) for cell in told) / whole if whole else None

    def days(self) -> list[tuple[str, int, int]]:
        """Each day with the bill's and the ledger's nano-dollars."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for cell in self.cells:
            found[cell.day][0] += cell.bill.nusd
            found[cell.day][1] += cell.ledger.nusd
        return [(day, bill, ledger) for day, (bill, ledger) in sorted(found.items())]

    @property
    def ledger_least_nusd(self) -> int:
        """What the ledger has if calls that are charged at bounds have cost nothing."""
        return self.ledger_nusd - sum(min(cell.ledger.nusd, cell.ledger.unmeasured_nusd) for cell in self.cells)

    def exceeds(self, tolerance: float) -> bool:
        """Whether the sides differ by more than that share of the dearer one, in all or on any one day.

        What bounds explain is no difference, but none of another model's either.
        """
        gaps: dict[str, int] = defaultdict(int)
        for cell in self.cells:
            gaps[cell.day] += sum(nusd for reason, nusd in cell.parts if reason != BOUNDS)
        sides = [(sum(gaps.values()), self.bill_nusd, self.ledger_nusd)]
        sides += [(gaps[day], bill, ledger) for day, bill, ledger in self.days()]
        return any(abs(gap) > tolerance * max(bill, ledger) for gap, bill, ledger in sides)


def reconcile(
    bill: Mapping[tuple[str, str], Sums], ledger: Mapping[tuple[str, str], Sums], *, counted: bool
) -> Reconciled:
    """Compare both sides by (day, model). `counted`: whether the bill has tokens at all."""
    cells = []
    for key in {*bill, *ledger}:
        ours = ledger.get(key, Sums(0, 0, 0))
        theirs = bill.get(key, Sums(0, 0 if counted else None))
        cells.append(Cell(*key, theirs, ours, _parts(theirs, ours)))
    cells.sort(key=lambda cell: (-abs(cell.nusd), cell.day, cell.model))
    sums: dict[str, int] = defaultdict(int)
    for cell in cells:
        for reason, nusd in cell.parts:
            sums[reason] += nusd
    return Reconciled(
        tuple(cells),
        sum(cell.bill.nusd for cell in cells),
        sum(cell.ledger.nusd for cell in cells),
        tuple((reason, sums[reason]) for reason in REASONS if sums[reason]),
        _moved(cells),
    )


def _parts(bill: Sums, ledger: Sums) -> tuple[tuple[str, int], ...]:
    left = bill.nusd - ledger.nusd
    found: dict[str, int] = {}
    if left < 0:
        found[BOUNDS] = -min(-left, ledger.unmeasured_nusd)
    elif left > 0:
        found[UNPRICED] = min(left, _worth(bill, ledger.unpriced_tokens))
        found[OUTSIDE] = min(left - found[UNPRICED], _outside(bill, ledger))
    left -= sum(found.values())
    found[PRICE if _agree(bill, ledger) else UNEXPLAINED] = left
    return tuple((reason, nusd) for reason, nusd in found.items() if nusd)


def _outside(bill: Sums, ledger: Sums) -> int:
    if not ledger.calls:
        return bill.nusd
    if bill.tokens is None or _agree(bill, ledger):
        return 0
    return _worth(bill, max(0, bill.tokens - (ledger.tokens or 0)))


def _worth(bill: Sums, tokens: int) -> int:
    return bill.nusd * min(tokens, bill.tokens) // bill.tokens if bill.tokens else 0


def _agree(bill: Sums, ledger: Sums) -> bool:
    if bill.tokens is None or ledger.tokens is None:
        return False
    return abs(bill.tokens - ledger.tokens) <= _AGREE * max(bill.tokens, ledger.tokens)


def _moved(cells: Iterable[Cell]) -> tuple[str, ...]:
    by_model: dict[str, list[int]] = defaultdict(list)
    for cell in cells:
        by_model[cell.model].append(cell.nusd)
    return tuple(
        model
        for model, differences in sorted(by_model.items())
        if (each := sum(map(abs, differences))) and 1 - abs(sum(differences)) / each > _MOVED
    )
