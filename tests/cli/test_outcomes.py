"""What runs brought about: recorded once, shown beside what was spent on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import bursar
from bursar.cli.app import app
from bursar.tracing.ledger import Ledger
from bursar.tracing.log_reader import read_trace
from bursar.tracing.outcomes import OutcomeReader
from bursar.words.clock import new_id
from bursar.words.events import Usage, UsageSource
from bursar.words.records import ModelCall, Outcome, Tags, Who

if TYPE_CHECKING:
    from pathlib import Path

# Their calls are written by hand.
pytestmark = pytest.mark.filterwarnings("ignore:run .* saw no model call")


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def call(workflow: str, nusd: int, run_id: str | None = None) -> ModelCall:
    op_id = new_id()
    return ModelCall(
        f"{op_id}/0", op_id, 0, 1_000_000, Who(Tags(workflow, release="1.5")), "openai", "gpt-4o", "sync",
        run_id=run_id, cost_nusd=nusd, usage=Usage(7, 1), usage_source=UsageSource.PROVIDER,
    )  # fmt: skip


def write(ledger: Path, *records: ModelCall | Outcome) -> None:
    writer = Ledger(ledger)
    for record in records:
        writer.write(record)
    writer.close()


def test_all_that_was_spent_is_divided_by_what_came_of_it(ledger: Path) -> None:
    """Runs that failed included; a workflow without outcomes has none, not a price of zero; by release as well."""
    bursar.configure(ledger=ledger, release="1.5")
    with bursar.run("triage", bursar.Budget.unlimited()) as run:
        write(ledger, call("triage", 3_000_000_000, run.id))
        run.outcome("resolved", 3)
    run.outcome("resolved")
    with bursar.run("triage", bursar.Budget.unlimited()) as failed:
        write(ledger, call("triage", 1_000_000_000, failed.id), call("drafts", 500_000_000))
    shown = cli("report").output
    assert "per outcome" in shown.splitlines()[0]
    assert "$1.000 resolved" in shown
    rows = {row["key"]: row["outcomes"] for row in json.loads(cli("report", "--json").output)["rows"]}
    assert rows == {"triage": {"resolved": 4}, "drafts": {}}
    assert "$1.125 resolved" in cli("report", "--by", "release").output
    assert "per outcome" not in cli("report", "--by", "model").output
    assert cli("report", "--html", str(ledger.with_name("page.html"))).exit_code == 0
    assert "<td>$1.000 resolved</td>" in ledger.with_name("page.html").read_text()
    assert "outcome: 4 resolved" in cli("trace", run.id).output
    assert json.loads(cli("trace", run.id, "--json").output)["outcomes"] == {"resolved": 4}
    assert json.loads(cli("trace", failed.id, "--json").output)["outcomes"] == {}


def test_an_outcome_is_written_once_wherever_it_waits(ledger: Path, tmp_path: Path) -> None:
    """Kept aside while the ledger cannot be written and taken back twice, it is one; the trace log has it too."""
    trace = tmp_path / "trace.jsonl"
    bursar.configure(ledger=ledger, trace=trace)
    with bursar.run("triage", bursar.Budget.unlimited()) as run:
        run.outcome("sk-ant-api03-" + "a" * 90 + "AA")
    (fields,) = [record for record in read_trace(trace).records if record["event"] == "bursar.outcome"]
    assert (fields["run_id"], fields["workflow"], fields["count"]) == (run.id, "triage", 1)
    assert "sk-ant" not in fields["name"]
    record = Outcome(new_id(), run.id, Who(Tags("triage")), 1, "resolved", 2)
    writer = Ledger(ledger)
    with pytest.warns(UserWarning, match="records go to"):
        for _ in range(2):
            writer._keep_aside(record, None, "a test")
    writer.close()
    write(ledger, record)
    with OutcomeReader(ledger) as reader:
        assert reader.outcomes("workflow")["triage"]["resolved"] == 2


@pytest.mark.parametrize(("name", "count"), [("", 1), ("  ", 1), (7, 1), ("a", 0), ("a", -1), ("a", True), ("a", 1.5)])
def test_what_is_no_outcome_is_refused(ledger: Path, name: Any, count: Any) -> None:
    """With the value, and nothing is written."""
    bursar.configure(ledger=ledger)
    with bursar.run("triage", bursar.Budget.unlimited()) as run, pytest.raises(bursar.ConfigError, match="outcome"):
        run.outcome(name, count)
    with OutcomeReader(ledger) as reader:
        assert reader.outcomes("workflow") == {}
