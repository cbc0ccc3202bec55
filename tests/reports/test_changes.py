"""Why spend changed: the parts add up exactly, and what was planted is named first."""

from __future__ import annotations

from math import isclose, prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.reports.changes import (
    ALL_CALLS,
    CACHE,
    CALLS,
    FACTORS,
    GONE,
    INPUT,
    MIX,
    NEW,
    OUTPUT,
    PRICE,
    RETRIES,
    RUNS,
    UNCOUNTED,
    USERS,
    explain,
)
from bursar.reports.remedies import remedy
from bursar.words.rows import MixRow

PICO = {"input": 3_000, "cache_read": 300, "cache_write": 3_750, "output": 15_000}
"""Nano-dollars a thousand tokens."""


def mix(
    users: int = 50,
    runs_each: int = 1,
    calls_each: int = 3,
    *,
    retries: float = 0.0,
    tokens: int = 600,
    out: int = 100,
    cached: float = 0.0,
    model: str = "m",
    workflow: str = "import",
    price: float = 1.0,
    share: float = 1.0,
) -> MixRow:
    """One workflow with one model, from its factors."""
    runs = users * runs_each
    operations = round(runs * calls_each * share)
    attempts = round(operations * (1 + retries))
    input_tokens, read = attempts * tokens, round(attempts * tokens * cached)
    costs = {
        "input_nusd": (input_tokens - read) * PICO["input"],
        "cache_read_nusd": read * PICO["cache_read"],
        "cache_write_nusd": 0,
        "output_nusd": attempts * out * PICO["output"],
        "fees_nusd": 0,
    }
    spent = {name: round(nusd * price) for name, nusd in costs.items()}
    return MixRow(workflow, model, users, runs, operations, attempts, 0, input_tokens, read, 0, attempts * out, **spent)


def total(rows: list[MixRow]) -> int:
    return sum(sum(row[11:16]) for row in rows)


def test_the_story_of_a_bill_that_went_from_40_to_32_000() -> None:
    """Users x100, prompt tokens x3, turns 3 to 8: three causes with these factors, and their product is the whole."""
    before, after = [mix(50, 1, 3, tokens=600, out=0)], [mix(5_000, 1, 8, tokens=1_800, out=0)]
    found = explain(before, after)
    assert {cause.factor for cause in found.causes} == {USERS, CALLS, INPUT}
    times = {cause.factor: cause.times for cause in found.causes}
    assert times[USERS] == pytest.approx(100)
    assert times[INPUT] == pytest.approx(3)
    assert times[CALLS] == pytest.approx(8 / 3)
    assert prod(cause.times or 0 for cause in found.causes) == pytest.approx(800) == total(after) / total(before)
    assert sum(cause.nusd for cause in found.causes) == total(after) - total(before)
    assert found.causes[0].factor == USERS
    assert (found.causes[0].before, found.causes[0].after) == (50, 5_000)


PLANTED: dict[str, Any] = {
    USERS: {"users": 500},
    RUNS: {"runs_each": 10},
    CALLS: {"calls_each": 30},
    RETRIES: {"retries": 5.0},
    INPUT: {"tokens": 60_000},
    OUTPUT: {"out": 9_000},
    PRICE: {"price": 10.0},
}


@pytest.mark.parametrize("factor", PLANTED)
def test_a_planted_cause_is_named_first(factor: str) -> None:
    """Where one thing changed, it is the only cause."""
    found = explain([mix()], [mix(**PLANTED[factor])])
    assert [cause.factor for cause in found.causes] == [factor]


def test_a_cache_that_was_lost_is_named() -> None:
    """The same tokens, no longer cached: the cache is the cause, not the tokens."""
    found = explain([mix(cached=0.9, out=0)], [mix(cached=0.0, out=0)])
    assert [cause.factor for cause in found.causes] == [CACHE]
    assert found.causes[0].nusd > 0


def test_calls_that_moved_to_a_dearer_model_are_named() -> None:
    """Half of the calls go to a model of ten times the price: the mix is the cause."""
    before = [mix(1_000, share=1.0, model="cheap")]
    after = [mix(1_000, share=0.5, model="cheap"), mix(1_000, share=0.5, model="dear", price=10.0)]
    found = explain(before, after)
    assert [cause.factor for cause in found.causes] == [MIX]


def test_workflows_that_came_and_went_are_causes_by_themselves() -> None:
    """Their whole cost, under their own name."""
    found = explain([mix(workflow="old")], [mix(workflow="new", users=99)])
    assert {(cause.workflow, cause.factor) for cause in found.causes} == {("new", NEW), ("old", GONE)}
    assert {cause.nusd for cause in found.causes} == {total([mix(users=99)]), -total([mix()])}


def test_users_that_are_known_in_one_period_only_are_no_cause() -> None:
    """A team that has begun to name its users has no more of them than before."""
    found = explain([mix()._replace(users=0)], [mix(100)])
    assert [cause.factor for cause in found.causes] == [RUNS]
    assert isclose(found.causes[0].times or 0, 2)


rows = st.builds(
    MixRow,
    workflow=st.sampled_from("abc"),
    model=st.sampled_from(["m", "n"]),
    users=st.integers(0, 50),
    runs=st.integers(0, 500),
    operations=st.integers(1, 10**6),
    attempts=st.integers(1, 10**6),
    unpriced=st.just(0),
    input_tokens=st.integers(0, 10**9),
    cache_read_tokens=st.integers(0, 10**8),
    cache_write_tokens=st.integers(0, 10**8),
    output_tokens=st.integers(0, 10**8),
    input_nusd=st.integers(0, 10**13),
    cache_read_nusd=st.integers(0, 10**12),
    cache_write_nusd=st.integers(0, 10**12),
    output_nusd=st.integers(0, 10**13),
    fees_nusd=st.integers(0, 10**9),
)
periods = st.lists(rows, max_size=5, unique_by=lambda row: (row.workflow, row.model))


@given(periods, periods)
def test_the_parts_add_up_exactly(before: list[MixRow], after: list[MixRow]) -> None:
    """To the nano-dollar, whatever is zero, missing or contradicts itself; each workflow and factor once."""
    found = explain(before, after)
    assert (found.before_nusd, found.after_nusd) == (total(before), total(after))
    assert sum(cause.nusd for cause in found.causes) == found.after_nusd - found.before_nusd
    assert len({(cause.workflow, cause.factor) for cause in found.causes}) == len(found.causes)
    assert all(
        cause.factor in (*FACTORS, ALL_CALLS, *UNCOUNTED.values(), NEW, GONE) and cause.nusd for cause in found.causes
    )
    assert list(found.causes) == sorted(found.causes, key=lambda cause: -abs(cause.nusd))
    for cause in found.causes:
        line = remedy(cause, 10**9)
        assert (line is None) == (cause.nusd < 0 or cause.factor == GONE)


@given(st.sampled_from(sorted(PLANTED)), st.integers(1, 200), st.integers(1, 5), st.integers(1, 20))
def test_the_planted_cause_ranks_first_whatever_the_rest(factor: str, users: int, runs: int, calls: int) -> None:
    """Everything else changes a little, one thing tenfold."""
    base: dict[str, Any] = {"users": users * 20, "runs_each": runs, "calls_each": calls, "tokens": 1_000, "out": 100}
    grown: dict[str, Any] = base | {"users": users * 21, "tokens": 1_050}
    tenfold: dict[str, dict[str, Any]] = {
        USERS: {"users": users * 200}, RUNS: {"runs_each": runs * 10}, CALLS: {"calls_each": calls * 10},
        RETRIES: {"retries": 9.0}, INPUT: {"tokens": 30_000}, OUTPUT: {"out": 6_000}, PRICE: {"price": 10.0},
    }  # fmt: skip
    found = explain([mix(**base)], [mix(**(grown | tenfold[factor]))])
    assert found.causes[0].factor == factor
