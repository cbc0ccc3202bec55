"""The checks before production: each fails or warns by its own planted fault, and none without."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.reports.readiness import FAIL, OK, WARN, Check, Declared, checks, p95, verdict
from bursar.words.rows import Facts

GOOD_TABLE: dict[str, Any] = {
    "owner": "support", "oncall": "support-oncall", "usd_per_run": "0.50", "retries": {"attempts": 3},
    "models": ["gpt-4o", "claude-haiku-5-5"], "eval": "evals/set.jsonl",
}  # fmt: skip
GOOD_FACTS = Facts(
    calls=100, unpriced=0, unmeasured=1, unversioned=0, retries=2, models=("claude-haiku-5-5", "gpt-4o-2024-08-06"),
    owners=(), runs=20, run_nusd=tuple(range(10_000_000, 210_000_000, 10_000_000)), looped=0, overspent=0,
    unattributed=1, everything=1_000, measured=(),
)  # fmt: skip


def states(
    table: dict[str, Any] | None = None,
    found: bool = True,
    limits: tuple[str, ...] = ("env production per day",),
    **facts: Any,
) -> dict[str, str]:
    declared = Declared(GOOD_TABLE if table is None else table, limits, found)
    return {
        check.name: check.state
        for check in checks("triage", declared, GOOD_FACTS._replace(**facts))
        if check.state != OK
    }


def test_nothing_is_wrong_with_a_good_one() -> None:
    """All fourteen, and the verdict."""
    assert states() == {}
    assert len(checks("triage", Declared(GOOD_TABLE, ("x",), eval_found=True), GOOD_FACTS)) == 14
    assert verdict([]) == OK
    assert verdict([Check("a", OK, ""), Check("b", FAIL, ""), Check("c", WARN, "")]) == FAIL


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"unpriced": 1}, {"unpriced": FAIL}),
        ({"unmeasured": 3}, {"unmeasured": WARN}),
        ({"unmeasured": 9}, {"unmeasured": FAIL}),
        ({"unattributed": 20}, {"unattributed": WARN}),
        ({"unattributed": 90}, {"unattributed": FAIL}),
        ({"unversioned": 4}, {"prompt version": WARN}),
        ({"unversioned": 100}, {"prompt version": FAIL}),
        ({"looped": 1}, {"loops": WARN}),
        ({"looped": 5}, {"loops": FAIL}),
        ({"circled": 1}, {"loop guard": FAIL}),
        ({"ungated": ("wire_money",)}, {"gate": WARN}),
        ({"ungated": ("wire_money",), "gated": 1}, {}),
        ({"models": ("gpt-4o-mini", "gpt-4.1")}, {"declared models": FAIL}),
        ({"overspent": 1}, {"budget of a run": FAIL}),
        ({"run_nusd": (450_000_000,) * 20}, {"budget of a run": WARN}),
        ({"run_nusd": (), "runs": 0}, {"budget of a run": WARN, "loops": WARN}),
    ],
)
def test_what_was_seen_is_judged(facts: dict[str, Any], expected: dict[str, str]) -> None:
    """One fault, one finding."""
    assert states(**facts) == expected


@pytest.mark.parametrize(
    ("missing", "state"),
    [("owner", FAIL), ("oncall", WARN), ("usd_per_run", FAIL), ("retries", FAIL), ("models", WARN), ("eval", WARN)],
)
def test_what_is_not_declared_is_named(missing: str, state: str) -> None:
    """With the line that mends it."""
    table = {name: value for name, value in GOOD_TABLE.items() if name != missing}
    assert list(states(table).values()) == [state]
    (check,) = [
        each for each in checks("triage", Declared(table, ("x",), eval_found=True), GOOD_FACTS) if each.state != OK
    ]
    assert check.mend.startswith("bursar.toml: [workflow.triage] ")


def test_an_owner_in_the_code_an_eval_that_is_gone_and_no_limit() -> None:
    """Calls name owners too; a declared file must be there; a limit that several runs share must be."""
    table = {name: value for name, value in GOOD_TABLE.items() if name != "owner"}
    assert states(table, owners=("support",)) == {}
    assert states(found=False) == {"frozen eval": FAIL}
    assert states(limits=()) == {"shared limit": FAIL}


def test_p95_is_of_the_nearest_rank() -> None:
    """Counted from one, rounded up."""
    assert p95([]) is None
    assert [p95(range(1, size + 1)) for size in (1, 19, 20, 21, 100)] == [1, 19, 19, 20, 95]
