"""How values are spread, as counts in bins that can be added and taken away again.

Bins are as wide as a sixteenth of the power of two that they lie above, and below 32 each value has its own: the
middle of a bin is within 1/32 (3.2 %) of every value in it. The counts of a spread are one integer of 32-bit lanes, so
that two spreads are added by adding two integers.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LANE: Final = 32
_SPLIT: Final = 4
"""Each power of two has 2 ** this many bins."""
_EXACT: Final = 2 << _SPLIT
WORST: Final = 1 / _EXACT
"""How far a quantile may be from the value that has its rank, as a share of that value."""


def bin_of(value: int) -> int:
    """The bin of a value; what is below zero is taken for zero."""
    over = value.bit_length() - _SPLIT - 1
    return (over << _SPLIT) + (value >> over) if over > 0 else max(0, value)


def middle(place: int) -> int:
    """The value in the middle of a bin."""
    if place < _EXACT:
        return place
    over = (place >> _SPLIT) - 1
    return ((place - (over << _SPLIT)) << over) + ((1 << over) - 1) // 2


def spread(places: Sequence[int]) -> int:
    """How values are spread that fall into these bins."""
    if not places:
        return 0
    lanes = array("I", bytes((max(places) + 1) * (LANE // 8)))
    for place, count in Counter(places).items():
        lanes[place] = count
    return int.from_bytes(lanes.tobytes(), "little")


def counts(spread: int) -> memoryview:
    """How many values each bin of a spread has, from the first."""
    lanes = -(-spread.bit_length() // LANE)
    return memoryview(spread.to_bytes(lanes * (LANE // 8), "little")).cast("I")


def quantile(spread: int, of: int, to: int) -> int | None:
    """The value whose rank is `of` / `to` of all, by the nearest-rank rule; None for no values."""
    found = counts(spread)
    size, seen = sum(found), 0
    for place, count in enumerate(found):
        seen += count
        if seen and seen * to >= size * of:
            return middle(place)
    return None


def packed(spread: int) -> bytes | None:
    """A spread as it is kept: the number of its first bin that is not empty, and the lanes from there on."""
    if not spread:
        return None
    first = ((spread & -spread).bit_length() - 1) // LANE
    lanes = spread >> (first * LANE)
    return first.to_bytes(2, "little") + lanes.to_bytes(-(-lanes.bit_length() // 8), "little")


def unpacked(kept: bytes | None) -> int:
    """A spread from what was kept of it."""
    if kept is None:
        return 0
    return int.from_bytes(kept[2:], "little") << (int.from_bytes(kept[:2], "little") * LANE)
