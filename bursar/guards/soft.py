"""A limit that refuses nothing: which call would not have fitted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bursar.words.events import UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.words.events import Amounts


class Beyond(NamedTuple):
    """A limit without room for a call at its smallest."""

    unit: str
    limit: int
    settled: int
    held: int
    needed: int


def beyond(least: Amounts, limits: Mapping[str, int], settled: Amounts, held: Amounts) -> Beyond | None:
    """The first limit that would refuse a call that takes `least`, beside what is settled and held by others."""
    for unit, limit in limits.items():
        i = UNITS.index(unit)
        if settled[i] + held[i] + least[i] > limit:
            return Beyond(unit, limit, settled[i], held[i], least[i])
    return None
