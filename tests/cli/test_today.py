"""`bursar` alone: the first screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget
from bursar.cli.app import app
from bursar.testing import Provider
from bursar.tracing.ledger import Ledger
from tests.cli.test_explain import History

if TYPE_CHECKING:
    from pathlib import Path

HI: Any = [{"role": "user", "content": "hi"}]


def screen() -> str:
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0, done.output
    assert max(len(line) for line in done.output.splitlines()) <= 100
    return str(done.output)


def test_today_stands_beside_the_days_before(ledger: Path) -> None:
    """What was spent, where the day will end, what an ordinary day costs, and what changed since last week."""
    history = History(ledger)
    history.run(9, "u", 2, 1_000_000)
    history.run(3, "u", 4, 1_000_000)
    history.run(0, "u", 1, 1_000_000)
    shown = screen()
    assert "today (UTC): $2.500, 1 calls" in shown
    assert "by midnight about $" in shown
    assert "an ordinary day of the last seven $10.00" in shown
    assert "last 7 days: $12.50, the 7 before: $5.00" in shown
    assert "+$" in shown
    assert "import: " in shown
    assert shown.splitlines()[-1].startswith("next: bursar explain · bursar trace last · ")


def test_limits_and_doubts_are_shown(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the environment, calls without a workflow, models without a price."""
    config = tmp_path / "bursar.toml"
    config.write_text('[env.development]\nusd_per_day = "2"\n')
    monkeypatch.setenv("BURSAR_CONFIG", str(config))
    with Provider(latency_s=0.0) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt:
        bursar.wrap(gpt).chat.completions.create(model="gpt-4o", messages=HI)
    shown = screen()
    assert "limit of development today: $" in shown
    assert " of $2.000 (0%)" in shown
    assert "unattributed today: 1 calls" in shown
    assert "bursar report --by release" in shown


def test_what_is_unattributed_comes_first_and_the_next_commands_fit(ledger: Path) -> None:
    """Before anything else, on every screen that has workflows: here, in a report, in what explains and asks what if."""
    history = History(ledger)
    for days in (9, 0):
        history.run(days, "u", 9, 90_000)
        history.run(days, "u", 2 + 3 * (days == 0), 1_000, workflow="unattributed", feature="inbox")
    assert screen().splitlines()[0].startswith("unattributed today: 5 calls, $0.01250; ")
    report = CliRunner().invoke(app, ["report", "--by", "workflow,day"]).output.splitlines()
    assert [line.split()[0] for line in report[2:6]] == ["unattributed", "unattributed", "import", "import"]
    features = CliRunner().invoke(app, ["report", "--by", "feature"]).output.splitlines()
    assert features[2].startswith("(none)")
    assert "unattributed: $0.01250 of it" in CliRunner().invoke(app, ["explain"]).output.splitlines()[1]
    whatif = CliRunner().invoke(app, ["whatif", "--tier", "batch", "--since", "30d"]).output.splitlines()
    assert whatif[3].startswith("unattributed")


def test_an_empty_ledger_says_how_to_begin(ledger: Path) -> None:
    """There is no last run to trace and nothing to explain."""
    Ledger(ledger).database()
    shown = screen()
    assert "begin with: bursar demo · bursar import · " in shown
    assert "trace last" not in shown
    ledger.unlink()
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 1
    assert "there is no ledger yet\nbegin with: bursar demo" in done.stderr


def test_a_ledger_is_named_as_a_file_or_as_an_address(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As BURSAR_LEDGER is read everywhere else; what is no file is refused by name."""
    History(ledger).run(0, "u", 1, 1_000)
    monkeypatch.setenv("BURSAR_LEDGER", f"sqlite:///{ledger}")
    assert "1 calls" in screen()
    done = CliRunner().invoke(app, ["report", "--ledger", f"sqlite:///{ledger}"])
    assert done.exit_code == 0
    refused = CliRunner().invoke(app, ["report", "--ledger", "postgres://somewhere/x"])
    assert refused.exit_code == 2
    assert "postgres" in refused.stderr


def test_models_without_a_price_are_named(ledger: Path) -> None:
    """With how many calls."""
    from bursar.testing.billing import ModelPrice, rates

    models = {"our-own": ModelPrice("openai", rates("1", "2"))}
    with Provider(latency_s=0.0, models=models) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt, bursar.run("w", Budget(tokens=10_000)):
            bursar.wrap(gpt).chat.completions.create(model="our-own", messages=HI)
    assert "without a price today: our-own (1 calls)" in screen()
