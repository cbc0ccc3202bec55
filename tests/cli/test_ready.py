"""`bursar ready` and accepted costs, on a ledger of real runs and with a real file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget, ConfigError
from bursar.cli.app import app
from bursar.settings.config import read_settings
from bursar.testing import Provider
from tests.cli.test_explain import History

FILE = """
[env.development]
usd_per_day = "20"
[workflow.triage]
owner = "support"
oncall = "support-oncall"
usd_per_run = "0.50"
models = ["gpt-4o"]
retries = { attempts = 3 }
eval = "set.jsonl"
"""


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bursar.toml"
    path.write_text(FILE)
    (tmp_path / "set.jsonl").write_text("{}\n")
    monkeypatch.setenv("BURSAR_CONFIG", str(path))
    return path


def runs(version: str | None = "v3", outcomes: int = 0) -> None:
    with Provider(latency_s=0.0) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt:
        for _ in range(3):
            with bursar.run("triage", prompt_version=version) as run:
                if outcomes:
                    run.outcome("ticket_resolved", outcomes)
                bursar.wrap(gpt).chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])


def test_a_workflow_that_has_everything_is_ready(config: Path) -> None:
    """Exit code 0, and each check says what it found."""
    runs()
    done = cli("ready", "triage", "--strict")
    assert done.exit_code == 0, done.output
    assert "ok    budget of a run: $0.5000, p95 of 3 runs $" in done.stdout
    assert "ok    shared limit: env development per day" in done.stdout
    assert done.stdout.splitlines()[-1] == "triage is ready"


def test_what_is_missing_has_its_exit_code_and_its_line(config: Path) -> None:
    """A failure is 1; a warning is with --strict; a workflow that nobody has seen is not ready."""
    runs(version=None)
    failed = cli("ready", "triage", "--json")
    assert failed.exit_code == 1
    found = json.loads(failed.stdout)
    assert found["state"] == "fail"
    assert [check["name"] for check in found["checks"] if check["state"] != "ok"] == ["prompt version"]
    config.write_text(FILE.replace('oncall = "support-oncall"\n', ""))
    assert "warn  on call: none" in cli("ready", "triage").stdout
    config.write_text("")
    shown = cli("ready", "unseen").stdout
    assert "FAIL  owner: none\n        bursar.toml: [workflow.unseen] owner" in shown
    assert cli("ready").exit_code == 2


def test_a_loop_without_a_guard_and_a_tool_without_a_gate_are_found(config: Path) -> None:
    """From what tools did in runs: four times the same to no effect, and something that lasts which nobody is asked about."""

    @bursar.tool
    def send(text: str) -> str:
        return f"sent {text}"

    runs()
    with bursar.run("triage", Budget(usd="1", tool_calls=9), prompt_version="v3"):
        for _ in range(4):
            send("hi")
    found = {check["name"]: check for check in json.loads(cli("ready", "triage", "--json").stdout)["checks"]}
    assert (found["loop guard"]["state"], found["gate"]["state"]) == ("fail", "warn")
    assert found["gate"]["found"] == "none seen at work; may change something: send"
    config.write_text(FILE + '[[gate]]\ntool = "send"\nask = "always"\n')
    assert "ok    gate: 1 in bursar.toml" in cli("ready", "triage").stdout


def test_what_an_outcome_may_cost_is_held_against_what_it_did(config: Path) -> None:
    """All spend of the workflow divided by its outcomes; none at all is a warning, and nothing is said unasked."""
    runs()
    assert "cost of an outcome" not in cli("ready", "triage").stdout
    config.write_text(FILE + 'usd_per_outcome = "0.000001"\n')
    assert "warn  cost of an outcome: $0.000001000, and none in seven days" in cli("ready", "triage").stdout
    runs(outcomes=2)
    failed = cli("ready", "triage")
    assert failed.exit_code == 1
    assert "FAIL  cost of an outcome: $0.000001000, seen $" in failed.stdout
    config.write_text(FILE + 'usd_per_outcome = "1"\n')
    assert "ok    cost of an outcome: $1.00" in cli("ready", "triage").stdout


def accept(config: Path, **more: str) -> None:
    fields = {"why": '"people cost more"', "owner": '"ana"'} | more
    table = ", ".join(f"{name} = {value}" for name, value in fields.items())
    config.write_text(f"[workflow.import]\naccepted = {{ {table} }}\n")


def test_an_accepted_cost_is_not_asked_about_until_its_day(config: Path, ledger: Path) -> None:
    """explain says who accepted it instead of what would stop it, today leaves it out; then both are as before."""
    history = History(ledger)
    history.run(10, "u", 3, 600)
    history.run(2, "u", 9, 1_000_000)
    assert "would stop it" in cli("explain").stdout
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    accept(config, revisit=str(tomorrow))
    shown = cli("explain").stdout
    assert f"accepted by ana, until {tomorrow}: people cost more" in shown
    assert "would stop it" not in shown
    assert "+$" not in cli().stdout
    accept(config, revisit=str(datetime.now(UTC).date() - timedelta(days=1)))
    assert "would stop it" in cli("explain").stdout
    assert "+$" in cli().stdout
    assert "LOOK AGAIN: it was to be revisited on" in cli("ready", "import").stdout


def test_a_condition_ends_what_was_accepted(config: Path, ledger: Path) -> None:
    """$22.50 in seven days are more than $3 a day, and less than $4."""
    history = History(ledger)
    history.run(10, "u", 3, 600)
    history.run(2, "u", 9, 1_000_000)
    accept(config, revisit_when='"usd_per_day > 4"')
    assert "accepted by ana: people cost more" in cli("explain").stdout
    accept(config, revisit_when='"usd_per_day > 3"')
    assert "would stop it" in cli("explain").stdout
    assert "usd_per_day is above what was accepted" in cli("ready", "import").stdout
    accept(config, revisit_when='"usd_per_run > 22"')
    assert "would stop it" in cli("explain").stdout


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("accepted = 5", "is a table"),
        ("accepted = { why = 'x' }", "has owner"),
        ("accepted = { why = 'x', owner = 'a' }", "nothing is accepted for ever"),
        ("accepted = { why = 'x', owner = 'a', revisit = 'soon' }", "is no day"),
        ("accepted = { why = 'x', owner = 'a', revisit_when = 'mood > 4' }", "is no condition"),
        ("accepted = { why = 'x', owner = 'a', revisit = 2027-01-01, until = 1 }", "'until' is not a setting"),
        ("models = 'gpt-4o'", "is a list of names"),
        ("oncall = ''", "text that is not empty"),
        ("eval = 5", "text that is not empty"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_line(config: Path, text: str, what: str) -> None:
    """File, line, value."""
    config.write_text(f"[workflow.w]\n{text}\n")
    with pytest.raises(ConfigError, match=what) as wrong:
        read_settings({})
    assert f"{config}:2: " in str(wrong.value)
