from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

import bursar
from bursar import ConfigError, RetryCap
from bursar.guards.lineage import NEW, WINDOW_US, Asked, Failure, Lineage, lineage, told
from bursar.guards.retries import RetryLimits, judge
from bursar.words.events import AttemptSource

NOW_US = 10_000_000_000
ASKED = Asked("small", 1, 4, (5, 2, 4))


def failure(asked: Asked = ASKED, **changes: Any) -> Failure:
    fields: dict[str, Any] = {
        "op_id": "a", "asked": asked, "told": told(asked.marks), "run_id": "R", "attempts": 2, "nusd": 5, "reason": "timeout",
        "ended_us": NOW_US - 1, "ready_us": NOW_US - 1,
    }  # fmt: skip
    return Failure(**(fields | changes))


def follows(*failures: Failure, asked: Asked = ASKED, run_id: str | None = "R", begun: tuple[int, ...] = ()) -> Lineage:
    return lineage(asked, run_id, NOW_US, failures, begun, None)


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"attempts": 0}, ConfigError, "attempts=0"),
        ({"attempts": -1}, ConfigError, "attempts=-1"),
        ({"attempts": 2.5}, TypeError, "attempts=2.5"),
        ({"attempts": True}, TypeError, "attempts=True"),
        ({"usd": 0.2}, TypeError, "never a float"),
        ({"usd": "0"}, ConfigError, "usd='0'"),
        ({"usd": "-1"}, ConfigError, "usd='-1'"),
        ({"max_retry_after": 0}, ConfigError, "max_retry_after=0"),
        ({"max_retry_after": -1.0}, ConfigError, "max_retry_after=-1.0"),
        ({"max_retry_after": float("nan")}, ConfigError, "max_retry_after=nan"),
        ({"max_retry_after": "60"}, TypeError, "max_retry_after='60'"),
    ],
)
def test_a_cap_that_cannot_be_meant_is_refused(values: Any, error: type[Exception], said: str) -> None:
    """Named with its value, where it is written."""
    with pytest.raises(error, match=said):
        RetryCap(**values)


def test_of_several_caps_the_strictest_of_each_counts() -> None:
    """Three attempts of one, the dollars of the only one that has any, the shorter wait."""
    one, other = RetryCap(3, max_retry_after=60).limits(), RetryCap(5, usd=Decimal("0.2"), max_retry_after=5).limits()
    assert one.strictest(other) == other.strictest(one) == RetryLimits(3, 200_000_000, 5_000_000)
    assert one.strictest(None) is one


@pytest.mark.parametrize(
    ("sent", "spent", "bound", "why"),
    [
        (0, 0, 10**9, None),  # the first attempt is the budget's business
        (0, 0, None, None),
        (1, 0, 100, None),
        (2, 40, 60, None),
        (2, 40, 61, "usd"),
        (1, 0, None, "price_unknown"),
        (3, 0, 1, "attempts"),
    ],
)
def test_a_retry_is_judged_by_count_and_by_cost(sent: int, spent: int, bound: int | None, why: str | None) -> None:
    """Three sends in all, and what failed plus what the next may cost is within 100 nano-dollars."""
    many = judge(RetryLimits(3, 100, 1), sent, spent, bound)
    assert (many.why if many else None) == why


def test_the_same_after_a_failure_is_sent_again_by_the_caller() -> None:
    """The newest failure of it is what it follows."""
    old, new = failure(op_id="old"), failure(op_id="new")
    assert follows(old, new) == Lineage(AttemptSource.HARNESS, new)


@pytest.mark.parametrize(
    "case",
    [
        {"ended_us": NOW_US - WINDOW_US - 1},
        {"asked": ASKED._replace(same=9, marks=(8, 7))},
        {"ready_us": NOW_US + 1},
    ],
    ids=["long ago", "something else", "the SDK may still retry it"],
)
def test_what_is_no_failure_of_the_same_is_not_followed(case: dict[str, Any]) -> None:
    """Too old, another question, not over yet."""
    assert follows(failure(**case)) == NEW


def test_a_sample_beside_others_is_no_retry() -> None:
    """While one that says the same is in flight, one more of them follows nothing, failures or not."""
    assert follows(failure(), begun=(NOW_US - 5,)) == NEW
    assert follows(failure(), begun=(NOW_US - WINDOW_US - 1,)).source is AttemptSource.HARNESS


@pytest.mark.parametrize(
    "marks", [(5, 2, 4), (2, 4), (1, 5, 2, 4)], ids=["the same", "without a system message", "with one"]
)
def test_another_model_after_a_failure_in_the_run_is_a_fallback(marks: tuple[int, ...]) -> None:
    """Tools and a system message in front may differ; a failure of another run is nobody's fallback."""
    asked = Asked("large", 100, 4, marks)
    assert follows(failure(), asked=asked).fallback_from == "small"
    assert follows(failure(run_id="S"), asked=asked) == NEW
    assert follows(failure(run_id=None), asked=asked, run_id=None) == NEW


def test_the_names_are_public() -> None:
    """The cap describes, the error stops."""
    assert issubclass(bursar.RetriesExhausted, bursar.Stopped)
