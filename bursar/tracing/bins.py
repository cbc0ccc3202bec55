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
    from collections.abc import Iterable

LANE: Final = 32
_BYTES: Final = LANE // 8
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


def spread(places: Iterable[int]) -> int:
    """How values are spread that fall into these bins."""
    found = Counter(places)
    if not found:
        return 0
    lanes = array("I", bytes((max(found) + 1) * _BYTES))
    for place, count in found.items():
        lanes[place] = count
    return int.from_bytes(lanes.tobytes(), "little")


def counts(spread: int) -> memoryview:
    """How many values each bin of a spread has, from the first."""
    lanes = -(-spread.bit_length() // LANE)
    return memoryview(spread.to_bytes(lanes * _BYTES, "little")).cast("I")


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
    """A spread as it is kept: the number of its first bin that is not empty, and the counts from there on.

    The lowest byte of every count comes first, then the next one of every, as far as any has them: of an hour few have
    a second.
    """
    if not spread:
        return None
    first = ((spread & -spread).bit_length() - 1) // LANE
    lanes = spread >> (first * LANE)
    size = -(-lanes.bit_length() // LANE)
    whole, nothing = lanes.to_bytes(size * _BYTES, "little"), bytes(size)
    planes = [whole[byte::_BYTES] for byte in range(_BYTES)]
    while planes[-1] == nothing:
        planes.pop()
    return b"".join((first.to_bytes(2, "little"), len(planes).to_bytes(1, "little"), *planes))


def unpacked(kept: bytes | None) -> int:
    """A spread from what was kept of it."""
    if kept is None:
        return 0
    planes = kept[2]
    size = (len(kept) - 3) // planes
    whole = bytearray(size * _BYTES)
    for byte in range(planes):
        whole[byte::_BYTES] = kept[3 + byte * size : 3 + (byte + 1) * size]
    return int.from_bytes(whole, "little") << (int.from_bytes(kept[:2], "little") * LANE)
