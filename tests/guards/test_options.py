"""What a budget does beside refusing: read, checked, and refused with the value where it cannot be meant."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

import bursar
from bursar import Budget, ConfigError
from bursar.guards.options import parse_reserve, parse_warn_at
from bursar.settings.over import Over, parse_over
from bursar.words.seconds import parse_seconds


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("deny", Over("deny")),
        ("warn", Over("warn")),
        ("throttle:6/min", Over("throttle", 10_000_000)),
        ("throttle:1/h", Over("throttle", 3_600_000_000)),
        ("throttle:3/s", Over("throttle", 333_334)),
    ],
)
def test_what_happens_beyond_a_limit_is_read(text: str, meant: Over) -> None:
    """The interval is rounded up: never faster than the rate."""
    assert parse_over(text) == meant


@pytest.mark.parametrize(
    "text", ["", "Deny", "throttle", "throttle:", "throttle:0/min", "throttle:6/week", "throttle:-1/s", "throttle:6 /s",
             "throttle:1.5/s", "throttle:٣/s", None, 6, ["warn"]],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_its_value(text: Any) -> None:
    """The message names the value and an example."""
    with pytest.raises(ConfigError, match=r"over=.* is none of .*throttle:6/min"):
        parse_over(text)


def test_seconds_are_rounded_up_to_microseconds() -> None:
    """Also the shortest deadline is one."""
    assert [parse_seconds(value) for value in (30, 0.5, 1e-9)] == [30_000_000, 500_000, 1]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**12])
def test_a_deadline_that_cannot_be_meant_is_refused(value: Any) -> None:
    """Zero, negative, NaN, endless."""
    with pytest.raises(ConfigError, match=r"seconds="):
        Budget(seconds=value)


@pytest.mark.parametrize("value", ["30", True, Decimal(3)])
def test_a_deadline_of_another_type_is_refused(value: Any) -> None:
    """A number of seconds, not a text and not a truth value."""
    with pytest.raises(TypeError, match="seconds="):
        Budget(seconds=value)


def test_marks_are_rounded_up() -> None:
    """Eighty per cent of three calls is the third: a mark is never said before it is reached."""
    assert parse_warn_at("80%", {"model_calls": 3, "usd": 10}) == {"model_calls": 3, "usd": 8}
    assert parse_warn_at("0.5%", {"tokens": 1_000}) == {"tokens": 5}
    assert parse_warn_at("0.40", {"usd": 500_000_000, "tokens": 7}) == {"usd": 400_000_000}


@pytest.mark.parametrize("value", ["0%", "101%", "-5%", "%", "1e2%", "80 %", "0", "nan", "2", "1.0000000001"])
def test_a_mark_that_cannot_be_meant_is_refused(value: str) -> None:
    """No share, no amount, or more than the limit."""
    with pytest.raises(ConfigError, match="warn_at="):
        Budget(usd="1", warn_at=value)


def test_dollars_need_a_limit_in_dollars() -> None:
    """Neither a mark nor a reserve in dollars says anything about tokens; a share of a deadline says nothing."""
    for options in ({"warn_at": "1"}, {"reserve_final": "1"}):
        with pytest.raises(ConfigError, match="usd="):
            Budget(tokens=10, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is none that is spent"):
        Budget(seconds=1, warn_at="80%")
    with pytest.raises(ConfigError, match="there is none"):
        Budget(seconds=1, reserve_final="auto")


def test_a_reserve_takes_its_share_of_every_limit() -> None:
    """A tenth of the dollars is a tenth of the tokens, one model call, and no tool call."""
    limits = {"usd": 500_000_000, "tokens": 1_001, "model_calls": 10, "tool_calls": 5}
    assert parse_reserve("0.05", limits) == {"usd": 450_000_000, "tokens": 900, "model_calls": 9, "tool_calls": 5}
    assert parse_reserve("auto", limits) == {**limits, "model_calls": 9}


@pytest.mark.parametrize("value", ["0.5", "0.6", "0", "all", "10%"])
def test_a_reserve_that_cannot_be_meant_is_refused(value: str) -> None:
    """The whole limit or more, nothing, or no amount."""
    with pytest.raises(ConfigError, match="reserve_final="):
        Budget(usd="0.5", reserve_final=value)


@pytest.mark.parametrize("name", ["warn_at", "reserve_final"])
def test_money_is_no_float_here_either(name: str) -> None:
    """0.4 is refused by its type."""
    options: Any = {name: 0.4}
    with pytest.raises(TypeError, match=f"{name}=0.4"):
        Budget(usd="1", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"over": "warn", "seconds": 3}, "seconds=3 with over='warn'"),
        ({"over": "throttle:6/min", "reserve_final": "auto"}, "reserve_final='auto' with over="),
        ({"on_warn": print}, "on_warn without warn_at"),
        ({"model_calls": 1, "reserve_final": "auto"}, "leaves no other"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    """Named where the Budget is made, before any run."""
    with pytest.raises(ConfigError, match=said):
        Budget(usd="1", **options)


def test_the_ear_must_be_a_plain_function() -> None:
    """A coroutine function would never be awaited."""

    async def later(_: object) -> None: ...

    for wrong in (later, "print", 3):
        with pytest.raises(TypeError, match="on_warn="):
            Budget(usd="1", warn_at="80%", on_warn=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"seconds": 3}, {"usd": "1", "reserve_final": "auto"}])
def test_what_ends_is_not_for_a_client(options: dict[str, Any]) -> None:
    """A wrapped client has no end: a deadline and a last call are for runs and budgets."""
    import openai

    with openai.OpenAI(api_key="x") as client, pytest.raises(ConfigError, match="a wrapped client does not"):
        bursar.wrap(client, Budget(**options))
