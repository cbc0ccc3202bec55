"""Limits that fit what was spent: the 99th percentile of each, and what it would have stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bursar.words.money import NANO_PER_USD, usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

FEWEST = 20
"""Runs or days below which nothing is suggested: a 99th percentile of a handful is its maximum."""


class Suggestion(NamedTuple):
    """A limit in dollars, from how many runs or days, and how many of them went beyond it."""

    usd: Decimal
    of: int
    beyond: int


def suggest(spent: Mapping[str, Sequence[int]]) -> dict[str, Suggestion | None]:
    """For each key a limit on its costs in nano-dollars; None where there are too few of them."""
    return {key: _suggestion(costs) for key, costs in sorted(spent.items())}


def _suggestion(costs: Sequence[int]) -> Suggestion | None:
    if len(costs) < FEWEST:
        return None
    ordered = sorted(costs)
    # The nearest rank, so that it is a cost that was seen, and then up to a whole cent.
    p99 = ordered[-(-99 * len(ordered) // 100) - 1]
    cent = NANO_PER_USD // 100
    limit = max(cent, -(-p99 // cent) * cent)
    return Suggestion(usd(limit).normalize(), len(ordered), sum(cost > limit for cost in ordered))
