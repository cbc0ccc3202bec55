"""Gates on recorded runs: what they would have asked and refused, call by call, against a count by hand."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bursar import Budget, CostGate
from bursar.cli.app import app
from bursar.replay import RunCost, replay
from bursar.words.tools import ToolRule

DAY = date(2026, 11, 20)
CENT = 10_000_000


def step(dollars: int, **more: Any) -> dict[str, Any]:
    """An answer of gpt-4o whose tokens cost so many dollars: a thousand times 100 of output at $10 a million."""
    return {"role": "assistant", "usage": {"prompt_tokens": 0, "completion_tokens": 100_000 * dollars}, **more}


def call(name: str, number: int, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"id": f"c{number}", "type": "function", "function": function}], "content": None}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Four model calls, at $1, $1, $3 and $1; after the first two a tool each."""
    said = [{"role": "user", "content": "go"}]
    said += [step(1, **call("wire_money", 1, amount=5)), {"role": "tool", "tool_call_id": "c1", "content": "sent"}]
    said += [step(1, **call("look", 2, page=2)), {"role": "tool", "tool_call_id": "c2", "content": "seen"}]
    said += [step(3, content="now"), {"role": "user", "content": "more"}, step(1, content="done")]
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps({"id": "a", "model": "gpt-4o", "success": True, "messages": said}) + "\n")
    return str(path)


def gated(file: str, *gates: CostGate, **more: Any) -> RunCost:
    [run] = replay([file], gates=gates, day=DAY, **more)
    return run


def said(run: RunCost) -> list[tuple[int, str, str]]:
    return [(verdict.step, verdict.action, verdict.name) for verdict in run.gates.verdicts]


def test_every_call_is_judged_at_its_price(file: str) -> None:
    """Models by what they cost, tools by name, arguments, effect and price of the file."""
    assert said(gated(file, CostGate(ask_above_usd="2"))) == [(3, "ask", "gpt-4o")]
    assert said(gated(file, CostGate(tool="wire_*", ask="always"))) == [(1, "ask", "wire_money")]
    tools = (ToolRule("look", 3 * 100 * CENT, "write"),)
    assert said(gated(file, CostGate(ask_above_usd="2"), tools=tools)) == [(2, "ask", "look"), (3, "ask", "gpt-4o")]
    assert said(gated(file, CostGate(effect="write", deny=True), tools=tools)) == [(2, "deny", "look")]
    assert said(gated(file, CostGate(when=lambda args: args.get("amount") == 5, ask="always"))) == [
        (1, "ask", "wire_money")
    ]
    assert said(gated(file)) == []


def test_a_refused_model_call_ends_the_run(file: str) -> None:
    """A refused tool does not; of one call the denial is what counts, and its cost is that of the call."""
    run = gated(file, CostGate(ask_above_usd="0.50", deny_above_usd="2"), CostGate(tool="look", deny=True))
    assert said(run) == [
        (1, "ask", "gpt-4o"), (2, "ask", "gpt-4o"), (2, "deny", "look"), (3, "deny", "gpt-4o"),
    ]  # fmt: skip
    assert (run.gates.stopped_at, run.gates.asked, run.gates.denied) == (3, 2, 2)
    assert run.gates.verdicts[-1].nusd == 300 * CENT


def test_a_share_and_a_full_budget_are_those_of_the_run(file: str) -> None:
    """$5 of $6 are spent before the last call; where the budget ends a gate may be asked, and else the run ends."""
    assert said(gated(file, CostGate(ask_above_share="50%"), budget=Budget(usd="6"))) == [
        (3, "ask", "gpt-4o"), (4, "ask", "gpt-4o"),
    ]  # fmt: skip
    assert said(gated(file, CostGate(ask_above_usd="0.50"), budget=Budget(usd="4"))) == [
        (1, "ask", "gpt-4o"), (2, "ask", "gpt-4o"), (3, "ask", "gpt-4o"),
    ]  # fmt: skip
    run = gated(file, CostGate(ask="full"), budget=Budget(usd="4"))
    assert said(run) == [(3, "ask", "gpt-4o")]
    assert "$2.000 of $4.000 is left" in run.gates.verdicts[0].why


def test_the_command_line_takes_gates_of_the_file_and_of_options(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of the gates, each call with `--explain`, and the same as JSON; a gate that cannot be meant is refused."""
    config = tmp_path / "bursar.toml"
    config.write_text('[tool."look"]\nusd = "0.25"\n\n[[gate]]\ntool = "look"\nask = "always"\n')
    monkeypatch.setenv("BURSAR_CONFIG", str(config))
    given = [file, "--day", "2026-11-20", "--ask-above-usd", "0.50", "--deny-above-usd", "2", "--ask-tool", "wire_*"]

    def cli(*more: str) -> str:
        done = CliRunner().invoke(app, ["replay", *given, *more])
        assert done.exit_code == 0, done.output
        return done.output

    shown = cli()
    assert "somebody would have been asked 4 times in 1 runs, 4 times in one of them" in shown
    assert "1 runs would have been refused a model call (1 successes among them)" in shown
    line = next(line for line in shown.splitlines() if "tool='look'" in line)
    assert line.split()[-5:] == ["1", "1", "$0.2500", "0", "$0.00"]
    explained = cli("--explain", "a")
    assert "gates: asked 4 times, 1 calls refused; ended before step 3" in explained
    assert "above the $2.000 that is allowed" in explained
    plain = json.loads(cli("--json", "--explain", "a"))
    assert (plain["gate_asks"], plain["gate_denials"], plain["gate_stopped_at"]) == (4, 1, 3)
    assert plain["gate_verdicts"][1]["name"] == "wire_money"
    done = CliRunner().invoke(app, ["replay", file, "--ask-above-usd", "-1"])
    assert done.exit_code
