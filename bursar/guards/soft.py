"""A limit that refuses nothing: which call would not have fitted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bursar._events import UNITS
from bursar.guards.budget import amounts, least_output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar._demand import Demand
    from bursar._events import Amounts


class Beyond(NamedTuple):
    """A limit without room for a call at its smallest."""

    unit: str
    limit: int
    settled: int
    held: int
    needed: int


def beyond(demand: Demand, limits: Mapping[str, int], settled: Amounts, held: Amounts, *, hard: bool) -> Beyond | None:
    """The first limit that would refuse the call beside what is settled and held by others; None where all fit."""
    tokens = demand.input_hard if hard else demand.input_practical
    least = amounts(demand, tokens, least_output(demand), hard=hard)
    for unit, limit in limits.items():
        i = UNITS.index(unit)
        if settled[i] + held[i] + least[i] > limit:
            return Beyond(unit, limit, settled[i], held[i], least[i])
    return None
