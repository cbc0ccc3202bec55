"""The curve of a session: growth, resets, the next turn, and what beginning anew would have saved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bursar.reports.sessions import best_reset, curve, growth, resets
from bursar.words.rows import Turn

RATE = 1_000
"""Nano-dollars a token of input."""


def turns(*sizes: int, out_nusd: int = 0) -> list[Turn]:
    return [Turn(n, size, 0, 10, size * RATE, size * RATE + out_nusd) for n, size in enumerate(sizes)]


def test_growth_is_what_a_usual_turn_adds() -> None:
    """Resets and turns that add nothing are no growth; one long file is not the usual turn."""
    assert growth([100, 200, 300, 5_300, 400, 500, 500]) == 100
    assert growth([7]) == growth([7, 7]) == 0
    assert resets([100, 200, 90, 300, 151, 75]) == [2, 5]


def test_the_next_turn_carries_the_context_on() -> None:
    """The present context and its growth at what input cost lately, and the rest of a turn."""
    assert curve(turns(100, 200, 300, out_nusd=5_000)).next_nusd == 400 * RATE + 5_000
    unknown = [Turn(0, 100, 0, 1, 0, None)]
    assert curve(unknown).next_nusd is None
    assert curve(unknown).nusd == 0


def saved_by_hand(sizes: list[int], after: int) -> int:
    """What the turns after it carried more than the first context, until the next reset; writing that one anew."""
    end = next((turn for turn in resets(sizes) if turn > after), len(sizes))
    return (sizes[after - 1] - sizes[0]) * RATE * (end - after) - sizes[0] * RATE


@given(some.lists(some.integers(1, 10_000), min_size=1, max_size=12))
def test_the_best_reset_is_the_best_of_all(sizes: list[int]) -> None:
    """Against trying each: no other would have saved more, and none is named that saves nothing."""
    found = best_reset(turns(*sizes))
    tried = [
        saved_by_hand(sizes, after) for after in range(1, len(sizes))
        if after not in resets(sizes) and sizes[after - 1] > sizes[0]
    ]  # fmt: skip
    best = max(tried, default=0)
    if found is None:
        assert best <= 0
    else:
        assert found.nusd == pytest.approx(best, abs=1)
        assert found.nusd == pytest.approx(saved_by_hand(sizes, found.after_turn), abs=1)


def test_a_session_that_only_grows_should_have_begun_anew_in_the_middle() -> None:
    """Twenty turns that add as much each: early resets spare little, late ones few turns."""
    found = best_reset(turns(*range(100, 2_100, 100)))
    assert found is not None
    assert found.after_turn in (10, 11)
    assert found.tokens == (found.after_turn - 1) * 100 * (20 - found.after_turn)
