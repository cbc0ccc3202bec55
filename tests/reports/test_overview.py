"""Where a day will end, from the days before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bursar.reports.overview import mean_day, projected
from bursar.words.rows import DaySpend, Nameless, Overview


def overview(nusd: int, *before: tuple[int, int]) -> Overview:
    return Overview(1, nusd, tuple(DaySpend(*day) for day in before), Nameless(0, 0), ())


def test_a_day_goes_on_as_the_days_before_went_on() -> None:
    """Twice as dear until now, twice as dear for the rest."""
    assert projected(overview(200, (100, 300), (100, 100))) == 200 + 2 * 200
    assert mean_day((DaySpend(100, 300), DaySpend(100, 100))) == 300


def test_without_anything_to_go_by_the_average_is_added() -> None:
    """Nothing until now, today or on any day before."""
    assert projected(overview(0, (100, 300))) == 300
    assert projected(overview(50, (0, 300), (0, 100))) == 50 + 200


def test_days_without_any_spend_do_not_count() -> None:
    """A week that was not worked in says nothing of today."""
    assert projected(overview(200)) is None
    assert projected(overview(200, (0, 0))) is None
    assert mean_day((DaySpend(0, 0),)) is None
    assert projected(overview(100, (0, 0), (100, 100))) == 200


@given(st.integers(0, 10**15), st.lists(st.tuples(st.integers(0, 10**15), st.integers(0, 10**15)), max_size=7))
def test_a_day_never_ends_below_what_is_spent(nusd: int, before: list[tuple[int, int]]) -> None:
    """Whatever came before."""
    ends = projected(overview(nusd, *before))
    assert ends is None or ends >= nusd
