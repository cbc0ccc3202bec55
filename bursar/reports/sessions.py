"""How the context of a session grows, what that costs, and what beginning anew would have saved.

A turn is a call; its context is its input, cached or not. A reset is a turn whose context is less than half of the one
before it: a summary, or a fresh start. What a reset would save is reckoned in hindsight: had the context gone back to
the session's first one after a turn, every later turn, up to the next reset, would have carried so many tokens less, at
what its own input has cost a token; the first of them would have had to write the first context anew, at its dearest
input. Nobody knows what would then have been read again.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.words.rows import Turn

_RESET: Final = 0.5
"""A context of less than this share of the one before it began anew."""
_LATEST: Final = 5
"""Turns by which the next one is foreseen."""


class Reset(NamedTuple):
    """Beginning anew after a turn (counted from 1): the tokens and nano-dollars that later turns would have saved."""

    after_turn: int
    tokens: int
    nusd: int


class Curve(NamedTuple):
    """A session. growth: the median of tokens that a turn added. next_nusd: what the next turn costs, None if unknown.

    `nusd` is of the turns that have a price. best: the reset that would have saved most, None where none would have.
    """

    turns: int
    first: int
    last: int
    largest: int
    growth: int
    resets: int
    nusd: int
    next_nusd: int | None
    best: Reset | None


def curve(turns: Sequence[Turn]) -> Curve:
    """Sum up a session; its turns in order, at least one."""
    sizes = [turn.input_tokens for turn in turns]
    return Curve(
        len(turns),
        sizes[0],
        sizes[-1],
        max(sizes),
        growth(sizes),
        len(resets(sizes)),
        sum(turn.nusd or 0 for turn in turns),
        next_cost(turns),
        best_reset(turns),
    )


def median(values: Sequence[float]) -> float:
    """The middle of values, at least one. The standard library's own loads three times what the status line needs."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def growth(sizes: Sequence[int]) -> int:
    """The median of what turns added to the context, leaving out those that added nothing."""
    added = [now - before for before, now in pairwise(sizes) if now > before]
    return round(median(added)) if added else 0


def resets(sizes: Sequence[int]) -> list[int]:
    """The turns (from 0) whose context began anew."""
    return [turn for turn in range(1, len(sizes)) if sizes[turn] < _RESET * sizes[turn - 1]]


def next_cost(turns: Sequence[Turn]) -> int | None:
    """What the next turn costs, in nano-dollars: the median of the latest, with the context that it will have."""
    latest = [turn for turn in turns[-_LATEST:] if turn.nusd is not None]
    if not latest:
        return None
    sizes = [turn.input_tokens for turn in turns]
    context = sizes[-1] + growth(sizes)
    rates = [turn.input_nusd / turn.input_tokens for turn in latest if turn.input_tokens]
    rest = median([(turn.nusd or 0) - turn.input_nusd for turn in latest])
    return round(context * (median(rates) if rates else 0) + rest)


def best_reset(turns: Sequence[Turn]) -> Reset | None:
    """The reset that would have saved most."""
    sizes = [turn.input_tokens for turn in turns]
    ends = set(resets(sizes))
    rates = [turn.input_nusd / turn.input_tokens if turn.input_tokens else 0.0 for turn in turns]
    anew, base = max(rates) * sizes[0], sizes[0]
    best: Reset | None = None
    later, later_nusd = 0, 0.0
    for turn in range(len(turns) - 1, 0, -1):
        if turn in ends:
            # What comes from here on begins anew by itself.
            later, later_nusd = 0, 0.0
            continue
        later, later_nusd = later + 1, later_nusd + rates[turn]
        spared = sizes[turn - 1] - base
        saved = round(spared * later_nusd - anew)
        if spared > 0 and saved > (best.nusd if best else 0):
            best = Reset(turn, spared * later, saved)
    return best
