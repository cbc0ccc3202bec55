"""`approver="interrupt"`: the graph stops, is kept in SQLite, and goes on in another process; decided once, run once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bursar import BudgetExceeded
from bursar.runs.process import process
from bursar.testing import Provider, Reply, ToolUse, scripted

pytest.importorskip("langgraph.checkpoint.sqlite")
ROOT = Path(__file__).parents[2]
PAY = Reply(output_tokens=5, tool_calls=(ToolUse("pay", {"amount": 3}),))
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:run .* ended and saw no model call"),
]


class Graph:
    """An agent that may pay; its life is in its checkpoints, and goes on in this process or `elsewhere`."""

    def __init__(self, provider: Provider, folder: Path, door: str, gate: str) -> None:
        self._fixed: list[str] = [
            provider.anthropic_url,
            str(folder / "checkpoints.db"),
            str(folder / "paid.txt"),
            door,
            gate,
        ]
        self._paid = folder / "paid.txt"

    def run(self, resume: Any = None, *, elsewhere: bool = False) -> dict[str, Any]:
        if not elsewhere:
            from tests.approvals.payer import run

            url, checkpoints, paid, door, gate = self._fixed
            return run(url, checkpoints, paid, door, gate, json.dumps(resume))
        command = [sys.executable, "-m", "tests.approvals.payer", *self._fixed, json.dumps(resume)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    @property
    def paid(self) -> list[str]:
        return self._paid.read_text().split() if self._paid.exists() else []


def states() -> list[str]:
    return [row.state for row in reversed(process().approvals.book.latest(0, 100))]


@pytest.mark.parametrize("door", ["middleware", "handler", "decorated"])
def test_a_tool_is_approved_when_the_graph_is_resumed(door: str, tmp_path: Path) -> None:
    """In another process or in this one: asked once though the node runs twice, paid once, each model call charged once."""
    with Provider(latency_s=0.0, replies=scripted([PAY, Reply(text="Done.")])) as provider:
        graph = Graph(provider, tmp_path, door, "tool")
        first = graph.run()
        assert first["asked"]["name"] == "pay"
        assert (graph.paid, states()) == ([], ["asked"])
        last = graph.run({"decision": "approve", "by": "ana"}, elsewhere=door == "middleware")
        assert (graph.paid, last["said"]) == (["3"], "Done.")
        assert states() == ["used"]
        assert process().approvals.book.latest(0, 1)[0].by_whom == "ana"
        assert len(provider.charges) == 2


def test_a_tool_is_denied_or_edited_when_the_graph_is_resumed(tmp_path: Path) -> None:
    """A no never runs, and its reason is what the model reads; an edit runs what was written."""
    script = scripted([PAY, Reply(text="Well then."), PAY, Reply(text="Done.")])
    with Provider(latency_s=0.0, replies=script) as provider:
        graph = Graph(provider, tmp_path, "middleware", "tool")
        graph.run()
        last = graph.run({"decision": "reject", "reason": "too much"})
        assert (graph.paid, states()) == ([], ["denied"])
        assert "too much" in last["read"][-1]
        (tmp_path / "checkpoints.db").unlink()
        graph.run()
        graph.run({"decision": "edit", "arguments": {"amount": 1}})
        assert (graph.paid, states()) == (["1"], ["denied", "used"])


@pytest.mark.parametrize("door", ["middleware", "handler"])
def test_a_model_call_is_approved_when_the_graph_is_resumed(door: str, tmp_path: Path) -> None:
    """Nothing is sent before the yes; after it, once."""
    with Provider(latency_s=0.0, replies=scripted([Reply(text="Hello.")])) as provider:
        graph = Graph(provider, tmp_path, door, "model")
        first = graph.run()
        assert (first["asked"]["kind"], provider.charges) == ("model", [])
        last = graph.run("yes", elsewhere=door == "handler")
        assert (last["said"], len(provider.charges), states()) == ("Hello.", 1, ["used"])


def test_a_budget_is_raised_once_when_the_graph_is_resumed_twice(tmp_path: Path) -> None:
    """Where it goes on the limit of that run is raised; whoever resumes the same thread again raises and sends nothing."""
    with Provider(latency_s=0.0, replies=scripted([Reply(text="Hello.")])) as provider:
        graph = Graph(provider, tmp_path, "decorated", "full")
        first = graph.run()
        assert first["asked"]["short_usd"]
        assert (provider.charges, states()) == ([], ["asked"])
        checkpoints = tmp_path / "checkpoints.db"
        before = checkpoints.read_bytes()
        answer = {"decision": "approve", "raise_usd": "0.50", "by": "ana"}
        assert graph.run(answer, elsewhere=True)["said"] == "Hello."
        checkpoints.write_bytes(before)
        with pytest.raises(BudgetExceeded, match="has been used"):
            graph.run(answer)
        assert (len(provider.charges), states()) == (1, ["used"])
        row = process().approvals.book.latest(0, 1)[0]
        assert (row.raise_nusd, row.by_whom) == (500_000_000, "ana")
        raises = process().ledger.database().execute("SELECT run_id, nusd, acted FROM verdict WHERE action = 'raise'")
        assert [(nusd, acted) for _, nusd, acted in raises] == [(500_000_000, 1)]


def test_an_answer_to_another_question_is_passed_over(tmp_path: Path) -> None:
    """The node runs again and says something else: what was said to the first is no yes to the second."""
    ask = Reply(output_tokens=5, tool_calls=(ToolUse("changing", {"amount": 3}),))
    with Provider(latency_s=0.0, replies=scripted([ask, Reply(text="Done.")])) as provider:
        graph = Graph(provider, tmp_path, "changing", "tool")
        first = graph.run()
        second = graph.run("yes")
        assert (graph.paid, states()) == ([], ["asked", "asked"])
        assert first["asked"]["approval"] != second["asked"]["approval"]


def test_outside_of_a_graph_an_interrupt_is_a_no_that_says_so() -> None:
    """Nobody could be asked; nothing is made."""
    import bursar
    from bursar import Budget, CostGate

    with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver="interrupt")):
        said = bursar.tool(name="pay")(lambda: "paid")()
    assert "inside of a LangGraph node" in str(said)
    assert states() == ["denied"]
