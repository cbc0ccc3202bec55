"""`bursar trace`: one run step by step, found by its id."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.tracing.ledger import Ledger
from bursar.words.clock import new_id
from bursar.words.events import CostStatus, Status, Usage, UsageSource
from bursar.words.records import ModelCall, RunRecord, Tags, Verdict, Who

if TYPE_CHECKING:
    from pathlib import Path

BURSAR = [sys.executable, "-c", "import sys; from bursar.cli import main; sys.argv[0] = 'bursar'; main()"]
EVIL = "[red]\x1b]0;title\x07\x1b[2J"


@pytest.fixture
def filled(ledger: Path) -> Path:
    """Run AB1 with a call that waited and was clamped, a refused one and a nested run AB2; and run AC."""
    writer = Ledger(ledger)
    who = Who(Tags(EVIL))
    writer.write(RunRecord("AB1", None, who, 1, limits=(("usd", 10**9), ("tokens", 5_000))))
    writer.write(RunRecord("AB2", "AB1", Who(Tags("inner")), 2))
    writer.write(RunRecord("AC", None, Who(Tags("other")), 3))
    call("AB1", writer, who, 10, queue_us=2_500_000, flags=("clamped",), max_tokens=None, sent_max_tokens=70)
    writer.write(Verdict(20, "AB1", new_id(), "budget", "deny", "no_room", "run AB1", "tokens", 5_000, 4_000, 0, 2_000))
    call("AB1", writer, who, 30, cost_nusd=None, cost_status=CostStatus.UNKNOWN, status=Status.ERROR, error_type=EVIL)
    call("AB2", writer, who, 15)
    writer.close()
    return ledger


def call(run_id: str, writer: Ledger, who: Who, ts_us: int, **changes: Any) -> None:
    op_id = new_id()
    fields: dict[str, Any] = {
        "provider": "openai", "request_model": "gpt-4o", "run_id": run_id, "usage": Usage(1_000, 20, 300),
        "usage_source": UsageSource.PROVIDER, "cost_nusd": 10_000_000, "cost_status": CostStatus.LIST_PRICE,
        "latency_us": 1_250_000,
    }  # fmt: skip
    writer.write(ModelCall(f"{op_id}/0", op_id, 0, ts_us, who, path="sync", **(fields | changes)))


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["trace", *arguments])


def spawn(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BURSAR, "trace", *arguments], capture_output=True, text=True, check=False)


def test_a_step_has_its_tokens_cost_time_and_flags(filled: Path) -> None:
    """In the order of time: what was sent, what was refused between them, and the nested run below."""
    root, *lines = cli("ab1").output.splitlines()
    assert "of $1.000, 5,000 tokens" in root
    for part in ("gpt-4o", "in 1,000 (cache 300)", "out 20", "$0.01", "1.25 s", "waited 2.50 s", "(cap none to 70)"):
        assert part in lines[0]
    assert "refused · budget: deny no_room, needed 2,000 tokens, left 1,000 tokens of 5,000 tokens" in lines[1]
    assert "unknown" in lines[2]
    assert "inner AB2" in lines[3]
    assert "gpt-4o" in lines[4]
    assert len(lines) == 5


def test_text_from_records_is_text(filled: Path) -> None:
    """Names and errors reach no terminal as commands, and are no markup."""
    shown = cli("ab1").output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)
    assert shown.count("[red]\\u{1b}]0;title\\u{7}") == 2


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("ab", "several runs begin with 'ab': AB1, AB2"),
        ("Z", "no run's id begins with 'Z'"),
        ("", "no run's id begins with ''"),
        ("\udcff", "no run's id begins with"),
    ],
)
def test_a_run_that_is_none_or_several_is_said(filled: Path, prefix: str, message: str) -> None:
    """One line on standard error, exit code 1, nothing on standard output."""
    done = spawn(prefix)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_last_is_the_newest(filled: Path) -> None:
    """By the time that is in its id; lower case is as good as upper."""
    assert cli("last").output.startswith("other AC")
    assert cli("ac").output == cli("last").output == cli("AC").output


def test_without_a_run_it_says_how_to_make_one(ledger: Path) -> None:
    """No ledger, and a ledger without a run: exit code 1 and `bursar demo`."""
    for _ in range(2):
        done = spawn("last")
        assert done.returncode == 1
        assert "bursar demo" in done.stderr
        writer = Ledger(ledger)
        call("R", writer, Who(), 1)
        writer.close()


def test_json_is_the_whole_tree(filled: Path) -> None:
    """Runs, operations, attempts and verdicts under stable names; null where the cost is not known."""
    tree = json.loads(cli("ab1", "--json").output)
    assert (tree["run_id"], tree["workflow"], tree["limits"]) == ("AB1", EVIL, {"usd": 10**9, "tokens": 5_000})
    first, refused, failed = tree["operations"]
    assert (first["attempts"][0]["usd"], first["attempts"][0]["queue_us"]) == ("0.010000000", 2_500_000)
    assert (refused["attempts"], refused["verdicts"][0]["needed"]) == ([], 2_000)
    assert (failed["attempts"][0]["usd"], failed["attempts"][0]["nusd"]) == (None, None)
    assert [child["run_id"] for child in tree["runs"]] == ["AB2"]


def test_a_run_is_wanted() -> None:
    """Without one it is wrong usage."""
    assert cli().exit_code == 2


def test_two_hundred_nested_runs_are_shown(ledger: Path) -> None:
    """However deep they are nested, as a tree and as JSON."""
    writer = Ledger(ledger)
    for number in range(200):
        writer.write(RunRecord(f"R{number:03}", f"R{number - 1:03}" if number else None, Who(), number))
    writer.close()
    assert "R199" in cli("R000").output
    tree, depth = json.loads(cli("R000", "--json").output), 1
    while tree["runs"]:
        (tree,) = tree["runs"]
        depth += 1
    assert depth == 200
