"""`bursar prices set`, `update`, `unpriced`: prices of your own, newer lists, and what has no price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget
from bursar.cli.app import app
from bursar.testing import ModelPrice, Provider, rates
from tests.clients.books import rows_of
from tests.pricing.test_data import data

NASTY = "m\x1b[31m"


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["prices", *arguments])


def ask(model: str) -> bursar.Run:
    """One call to a model that only this provider knows, in a run whose limit is no money."""
    mine = {model: ModelPrice("openai", rates("2", "10"))} if model != "gpt-4o" else None
    _end_process()
    with Provider(latency_s=0.0, models=mine) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            with bursar.run("priced", Budget(model_calls=3)) as run:
                bursar.wrap(bare).chat.completions.create(
                    model=model, max_completion_tokens=300, messages=[{"role": "user", "content": "hi"}]
                )
        if run.spend.settled.nusd:
            assert run.spend.settled.nusd == provider.billed_nusd
    return run


def _end_process() -> None:
    # Prices are read when a process starts.
    if bursar.runs.process._process is not None:
        bursar.runs.process._process.close()
    bursar.runs.process._process = None


def test_a_model_without_a_price_gets_one(ledger: Path) -> None:
    """Called, found unpriced with the line that sets it, set, and from then on billed as the provider bills it."""
    (row,) = rows_of(ask("our-model"))
    assert (row.nusd, row.cost_status, row.price_version) == (None, "unknown", None)
    found = cli("unpriced")
    assert found.exit_code == 0
    line = found.output.splitlines()[-1]
    assert line == "bursar prices set our-model --provider openai --input DOLLARS --output DOLLARS"
    (listed,) = json.loads(cli("unpriced", "--json").output)
    assert (listed["request_model"], listed["calls"], listed["output_tokens"]) == ("our-model", 1, row.output_tokens)
    done = cli("set", "our-model", "--provider", "openai", "--input", "2", "--output", "10")
    assert done.exit_code == 0
    assert "10.00" in done.output
    (row,) = rows_of(ask("our-model"))
    assert row.cost_status == "list_price"
    assert (row.price_version or "").startswith("prices.toml:3 ")


def test_nothing_unpriced_is_said(ledger: Path) -> None:
    """A ledger whose calls all have a price."""
    ask("gpt-4o")
    assert "has a price" in cli("unpriced").output
    assert json.loads(cli("unpriced", "--json").output) == []


def test_a_price_from_a_day_on(ledger: Path) -> None:
    """Shown for that day, and the list until then."""
    assert cli("set", "gpt-4o", "--input", "1.5", "--output", "6", "--from", "2030-01-01").exit_code == 0
    after = json.loads(cli("gpt-4o", "--day", "2030-01-01", "--json").output)
    assert after["usd_per_million_tokens"]["input"] == "1.50"
    assert after["price_version"].startswith("prices.toml:3 from 2030-01-01 over genai-prices ")
    before = json.loads(cli("gpt-4o", "--day", "2029-12-31", "--json").output)
    assert before["usd_per_million_tokens"]["input"] == "2.50"


def test_a_discount_on_a_vendor(ledger: Path) -> None:
    """Twelve percent off everything of one provider."""
    assert cli("set", "*", "--provider", "anthropic", "--discount", "12 %").exit_code == 0
    found = json.loads(cli("claude-opus-5-5", "--day", "2026-11-20", "--json").output)
    assert found["usd_per_million_tokens"]["input"] == "3.52"


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "gpt-4o"),
        ("set", "gpt-4o", "--input", "-1"),
        ("set", "gpt-4o", "--input", "nan"),
        ("set", "gpt-4o", "--input", "0"),
        ("set", "gpt-4o", "--input", "1", "--from", "soon"),
        ("set", "gpt-4o", "--colour", "1"),
        ("set",),
    ],
)
def test_what_cannot_be_a_price_is_refused(ledger: Path, arguments: tuple[str, ...]) -> None:
    """No file is written for it."""
    assert cli(*arguments).exit_code != 0
    assert not (ledger.parent / "prices.toml").exists() or not (ledger.parent / "prices.toml").read_text().strip()


def test_half_a_price_says_what_is_missing(ledger: Path) -> None:
    """A model that no list knows needs both rates: exit code 1, and which."""
    done = cli("set", "our-model", "--input", "2")
    assert done.exit_code == 1
    assert "--output" in done.output


def test_an_update_from_a_file_and_back(ledger: Path, tmp_path: Path) -> None:
    """Taken from a file, listed, in force for the next process, undone; undone twice is nothing to do."""
    path = tmp_path / "new.json"
    path.write_bytes(orjson.dumps(data(3)))
    done = cli("update", str(path), "--force")
    assert done.exit_code == 0
    assert "anthropic claude-sonnet-5-5" in done.output
    assert json.loads(cli("claude-sonnet-5-5", "--json").output)["price_version"].startswith("genai-prices data 20")
    assert cli("update", "--undo").exit_code == 0
    assert "genai-prices data" not in json.loads(cli("claude-sonnet-5-5", "--json").output)["price_version"]
    assert isinstance(cli("update", "--undo").exception, bursar.PriceDataError)


def test_an_update_that_cannot_be_read_changes_nothing(ledger: Path) -> None:
    """Offline: what to do instead, and no copy is left."""
    failed = cli("update", "http://127.0.0.1:9/data.json")
    assert isinstance(failed.exception, bursar.PriceDataError)
    assert "bursar prices update FILE" in str(failed.exception)
    assert not (ledger.parent / "price-data").exists()


def test_names_from_the_ledger_are_shown_inert(ledger: Path) -> None:
    """A model's name that is a terminal command is escaped in the table and in the line."""
    ask(NASTY)
    found = cli("unpriced").output
    assert "\x1b" not in found
    assert "\\u{1b}" in found


def test_help_is_the_group_s(ledger: Path) -> None:
    """The commands are listed; no word at all is wrong usage."""
    done = cli("--help")
    assert done.exit_code == 0
    for name in ("set", "update", "unpriced", "bursar prices claude-sonnet-5-5"):
        assert name in done.output
    assert cli().exit_code == 2
