"""Many sums as one wide integer, one lane each: two sets of sums are added by adding two integers."""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - a class
from typing import TYPE_CHECKING, Final

from bursar.words.events import CostStatus, RetryReason

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTED: Final = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "tool_calls",
    "trimmed_tokens", "nusd", "unpriced", "input_nusd", "output_nusd", "cache_read_nusd", "cache_write_nusd",
    "fees_nusd", "more", "counted",
)  # fmt: skip
"""What an attempt itself has of each sum. A row that stands for several calls is `counted`, and has `more`
of them; `unpriced` are calls."""
REASONS: Final = tuple(RetryReason)
STATUSES: Final = tuple(CostStatus)
LANES: Final = (
    *COUNTED, "attempts", "repeats", "errors", "harness", "unmeasured", "clamped", "batch", "resent_tokens",
    "aggregates", *(f"reason {reason}" for reason in REASONS), *(f"cost {status}" for status in STATUSES),
)  # fmt: skip
"""All sums. `repeats`: attempts at an operation that has an earlier one in the same group; `aggregates`: rows that are
sums of calls."""
WIDTH: Final = 64
PLACE: Final = {name: number * WIDTH for number, name in enumerate(LANES)}
"""By how much a number is shifted to stand in its lane."""

MOST: Final = (1 << 48) - 1
"""No provider can mean more by one attempt ($281,474 in nano-dollars): it counts as this, and fills no lane."""

_ROW: Final = Struct(f"<{len(COUNTED)}Q")
_ALL: Final = Struct(f"<{len(LANES)}Q")
_BEYOND: Final = sum(((1 << WIDTH) - 1 - MOST) << (lane * WIDTH) for lane in range(len(COUNTED)))
"""The bits of each lane in which sums of few attempts have nothing."""
_HALF: Final = 1 << (WIDTH - 1)
_RAISED: Final = sum(_HALF << place for place in PLACE.values())
"""Lanes are read with this added, so that one below zero borrows nothing from the next."""


def wide(attempts: Sequence[Sequence[int]]) -> int:
    """What attempts have together, each as numbers in the order of `COUNTED`."""
    try:
        numbers = attempts[0] if len(attempts) == 1 else map(sum, zip(*attempts, strict=True))
        found = int.from_bytes(_ROW.pack(*numbers), "little")
    except StructError:
        # Something is below zero, or above what any lane holds.
        found = _BEYOND
    if found & _BEYOND:
        return sum(_held(numbers) for numbers in attempts)
    return found


def lane(name: str, number: int = 1) -> int:
    """A number in the lane of this name."""
    return number << PLACE[name]


def numbers(sums: int) -> dict[str, int]:
    """Each sum by its name."""
    found = _ALL.unpack((sums + _RAISED).to_bytes(_ALL.size, "little"))
    return {name: value - _HALF for name, value in zip(LANES, found, strict=True)}


def packed(sums: int) -> bytes:
    """Sums as they are kept, without the lanes at the end in which nothing stands."""
    return sums.to_bytes(sums.bit_length() // 8 + 1, "little", signed=True)


def unpacked(kept: bytes) -> int:
    """Sums from what was kept of them."""
    return int.from_bytes(kept, "little", signed=True)


def _held(numbers: Sequence[int]) -> int:
    return sum(max(-MOST, min(MOST, number)) << (lane * WIDTH) for lane, number in enumerate(numbers))
