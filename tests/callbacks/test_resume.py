"""A run that is interrupted, checkpointed and resumed in another process is charged once for each model call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bursar.runs.process import process
from bursar.testing import Provider, Reply, ToolUse, scripted
from bursar.tracing.queries import Reader

pytest.importorskip("langgraph.checkpoint.sqlite")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("door", ["handler", "middleware"])
def test_a_resumed_run_is_charged_once_a_call(door: str, tmp_path: Path) -> None:
    """Two model calls, one before the question and one after it, in two processes: two rows, as they were billed."""
    from tests.callbacks.resumed_agent import run

    replies = scripted([Reply(output_tokens=5, tool_calls=(ToolUse("pay", {"amount": 3}),)), Reply(text="Done.")])
    checkpoints = str(tmp_path / "checkpoints.db")
    with Provider(latency_s=0.0, replies=replies) as provider:
        asked: Any = {"messages": [("user", "pay")]}
        first = run(provider.anthropic_url, checkpoints, door, asked)
        assert first.steps == 1
        command = [sys.executable, "-m", "tests.callbacks.resumed_agent", provider.anthropic_url, checkpoints, door]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
        assert len(provider.charges) == 2
        with Reader(Path(process().ledger.path)) as reader:
            [row] = reader.spend_by("workflow")
        assert (row.attempts, row.nusd) == (2, provider.billed_nusd)
