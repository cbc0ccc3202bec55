"""`bursar prices`: what a model costs, and how sure that is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app

KINDS = {"input", "output", "cache_read", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h",
         "audio_input", "audio_cache_read", "audio_output"}  # fmt: skip
DAY = ("--day", "2026-11-20")


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["prices", *arguments])


def test_a_model_has_its_rates_by_kind() -> None:
    """Dollars per million tokens, each kind on a line, with the status and the version of the price list."""
    head, _, _, *lines = cli("gpt-4o", *DAY).output.splitlines()
    assert head.startswith("openai gpt-4o · list price · genai-prices ")
    rates = {line[:20].strip(): line.split()[-1] for line in lines}
    assert (rates["input"], rates["cache read"], rates["output"]) == ("2.50", "1.25", "10.00")


def test_json_says_the_same_for_programs() -> None:
    """Every kind as decimal text, in every tier; what is assumed is named; null for what there is none of."""
    done = cli("claude-haiku-5-5", *DAY, "--json")
    assert done.exit_code == 0
    card = json.loads(done.output)
    assert set(card) == {
        "provider", "model", "usd_per_million_tokens", "tiers", "usd_per_web_search", "usd_per_file_search",
        "context_window", "cost_status", "assumed", "missing", "price_version",
    }  # fmt: skip
    assert set(card["usd_per_million_tokens"]) == KINDS
    assert set(card["assumed"]) <= KINDS
    assert card["tiers"]
    for tier in card["tiers"]:
        assert set(tier) == {*KINDS, "above_input_tokens"}
        for kind in KINDS:
            assert Decimal(tier[kind]) >= Decimal(card["usd_per_million_tokens"][kind])


def test_the_provider_is_found_or_named() -> None:
    """By the model's name; another host of the same model has its own card."""
    assert json.loads(cli("claude-haiku-4-5", *DAY, "--json").output)["provider"] == "anthropic"
    assert json.loads(cli("gpt-4o", "--provider", "azure", *DAY, "--json").output)["provider"] == "azure"


def test_a_tier_without_a_price_of_its_own_is_an_upper_bound() -> None:
    """It is said, never passed off as a list price."""
    assert json.loads(cli("gpt-4o", "--tier", "flex", *DAY, "--json").output)["cost_status"] == "upper_bound"


@pytest.mark.parametrize(("model", "near"), [("gpt-4oo", "gpt-4o"), ("claude-haiku-5-4", "claude-haiku")])
def test_a_name_that_is_nearly_one_is_helped(model: str, near: str) -> None:
    """Exit code 1, one line, with the names that are near."""
    done = cli(model)
    assert done.exit_code == 1
    assert done.output.startswith("error: no price is known for ")
    assert near in done.output.partition("near it")[2]
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("gpt-4o", "--day", "tomorrow"), ("gpt-4o", "--colour", "red")])
def test_what_cannot_be_meant_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Exit code 2 for no model, a day that is none, an option that is none."""
    assert cli(*arguments).exit_code == 2
