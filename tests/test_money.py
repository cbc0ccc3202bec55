from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar import Budget, ConfigError
from bursar.settings.config import read_settings
from bursar.words.money import MAX_AMOUNT, parse_count, parse_usd, show_usd, usd


@pytest.mark.parametrize(
    ("value", "nano"), [("0.50", 500_000_000), (1, 10**9), (Decimal("0.000000001"), 1), (".5", 5 * 10**8)]
)
def test_dollars_are_read_exactly(value: object, nano: int) -> None:
    """Text, whole numbers and Decimals become nano-dollars without a rounding error."""
    assert parse_usd(value, "usd") == nano


@pytest.mark.parametrize("value", [0.5, float("nan"), True, None, b"1", [1]])
def test_money_of_a_wrong_type_is_refused(value: object) -> None:
    """A float is never money, and neither is a bool; the message names the argument and the value."""
    with pytest.raises(TypeError, match="usd="):
        parse_usd(value, "usd")


@pytest.mark.parametrize(
    "value",
    [
        "1,000",
        " 10 ",
        "0x10",
        "",
        "nan",
        "inf",
        "1_000",
        "١٢",
        "-1",
        "0",
        0,
        -3,
        Decimal("NaN"),
        Decimal("Infinity"),
        "1e3",
        "9007199.254740992",
        "0.0000000001",
        Decimal("-0.01"),
    ],
)
def test_amounts_that_cannot_be_meant_are_refused(value: object) -> None:
    """What is not a positive, finite amount of whole nano-dollars within 2**53 - 1 is a ConfigError with its value."""
    with pytest.raises(ConfigError, match="usd="):
        parse_usd(value, "usd")


@pytest.mark.parametrize("value", ["10", 1.0, True, None])
def test_counts_are_whole_numbers(value: object) -> None:
    """A limit in tokens or calls is an int, not something that looks like one."""
    with pytest.raises(TypeError, match="tokens="):
        parse_count(value, "tokens")


@pytest.mark.parametrize("value", [0, -1, MAX_AMOUNT + 1])
def test_counts_outside_their_range_are_refused(value: int) -> None:
    """A limit lies between 1 and 2**53 - 1."""
    with pytest.raises(ConfigError, match="tokens="):
        parse_count(value, "tokens")


@given(st.integers(0, MAX_AMOUNT))
def test_dollars_come_back_as_they_went_in(nano: int) -> None:
    """Nano-dollars to Decimal and back is the identity."""
    assert int(usd(nano) * 10**9) == nano


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (118_400_000, "$0.1184"),
        (500_000_000, "$0.5000"),
        (12_345_678_900, "$12.35"),
        (None, "unknown"),
        (1_234_567 * 10**9, "$1,234,567.00"),
    ],
)
def test_dollars_are_shown_rounded_up(nano: int | None, shown: str) -> None:
    """Nothing that cost money is shown as free."""
    assert show_usd(nano) == shown


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ConfigError),
        ({"usd": 0.5}, TypeError),
        ({"usd": "0"}, ConfigError),
        ({"usd": "-1"}, ConfigError),
        ({"tokens": True}, TypeError),
        ({"tokens": 10, "input_tokens": 11}, ConfigError),
        ({"model_calls": "3"}, TypeError),
        ({"usd": "1", "max_wait": -1}, ConfigError),
        ({"usd": "1", "max_wait": float("nan")}, ConfigError),
        ({"usd": "1", "max_wait": "60"}, TypeError),
        ({"usd": "1", "bound": "soft"}, ConfigError),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused_when_it_is_made(
    arguments: dict[str, object], error: type[Exception]
) -> None:
    """Limits that are zero, negative, NaN, of a wrong type or contradict each other never reach a call."""
    with pytest.raises(error):
        Budget(**arguments)  # type: ignore[arg-type]


def test_a_budget_is_not_a_context_manager() -> None:
    """`with Budget(...)` says which line was meant."""
    with pytest.raises(TypeError, match=r"bursar\.budget"), Budget(usd="1"):
        pass


@pytest.mark.parametrize("text", ["1,000", " 10 ", "0x10", "", "nan", "-5"])
@pytest.mark.parametrize("variable", ["BURSAR_DEFAULT_USD", "BURSAR_DEFAULT_MODEL_CALLS"])
def test_environment_numbers_are_read_strictly(variable: str, text: str) -> None:
    """A number in the environment that is not plain digits is refused with the variable's name."""
    with pytest.raises(ConfigError, match=variable):
        read_settings({}, {variable: text})


def test_settings_come_from_arguments_then_environment_then_defaults() -> None:
    """What configure() is told wins over the environment, which wins over the defaults."""
    environ = {"BURSAR_MODE": "observe", "BURSAR_ENV": "staging", "BURSAR_DEFAULT_MODEL_CALLS": "7"}
    settings = read_settings({"mode": "enforce"}, environ)
    assert (settings.mode, settings.env, settings.default_model_calls) == ("enforce", "staging", 7)


@pytest.mark.parametrize(
    ("given_settings", "match"),
    [
        ({"mode": "strict"}, "mode='strict'"),
        ({"colour": "red"}, "colour"),
        ({"ledger": "redis://x/0"}, "redis"),
        ({"env": " "}, "env="),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given_settings: dict[str, object], match: str) -> None:
    """An unknown setting, mode or kind of ledger is named in the error."""
    with pytest.raises(ConfigError, match=match):
        read_settings(given_settings, {})
