"""Sets of numbers as bits, in pieces: what stands together is kept together, and stretches without any take no room."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Marks = dict[int, int]
"""Pieces by their place; each is an integer with a bit for every number that is in the set."""
_PIECE: Final = 1 << 12
"""Bits of a piece."""
_PLACE: Final = 4
"""Bytes of a piece's place where it is kept."""
_SIZE: Final = _PLACE + _PIECE // 8


def marks(numbers: Iterable[int]) -> Marks:
    """The set of these numbers."""
    pieces: dict[int, bytearray] = {}
    for number in numbers:
        place, bit = divmod(number, _PIECE)
        piece = pieces.get(place)
        if piece is None:
            piece = pieces[place] = bytearray(_PIECE // 8)
        piece[bit >> 3] |= 1 << (bit & 7)
    return {place: int.from_bytes(piece, "little") for place, piece in pieces.items()}


def unite(one: Marks, other: Marks) -> None:
    """Add the numbers of another set to one."""
    for place, piece in other.items():
        one[place] = one.get(place, 0) | piece


def size(some: Marks) -> int:
    """How many numbers a set has."""
    return sum(piece.bit_count() for piece in some.values())


def packed(some: Marks) -> bytes:
    """A set as it is kept."""
    pieces = (place.to_bytes(_PLACE, "little") + piece.to_bytes(_PIECE // 8, "little") for place, piece in some.items())
    return zlib.compress(b"".join(pieces), 1)


def unpacked(kept: bytes) -> Marks:
    """A set from what was kept of it."""
    whole = zlib.decompress(kept)
    return {
        int.from_bytes(whole[at : at + _PLACE], "little"): int.from_bytes(whole[at + _PLACE : at + _SIZE], "little")
        for at in range(0, len(whole), _SIZE)
    }
