"""A run that is interrupted, paused or killed, and resumed in another process, is charged once for each model call."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bursar
from bursar.runs.process import process
from bursar.stores.sqlite import SqliteStore
from bursar.testing import Provider, Reply, ToolUse, scripted
from bursar.tracing.queries import Reader

pytest.importorskip("langgraph.checkpoint.sqlite")
from tests.callbacks.resumed_agent import FIRST, run

ROOT = Path(__file__).parents[2]
PAY = Reply(output_tokens=5, tool_calls=(ToolUse("pay", {"amount": 3}),))
DONE = Reply(text="Done.")


def elsewhere(provider: Provider, checkpoints: str, door: str, what: str) -> subprocess.Popen[bytes]:
    """The same agent in a process of its own, told to `begin`, to `answer` or to `go on`."""
    command = [sys.executable, "-m", "tests.callbacks.resumed_agent", provider.anthropic_url, checkpoints, door, what]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def kept() -> tuple[int, int]:
    """Attempts in the ledger, and what they were charged."""
    with Reader(Path(process().ledger.path)) as reader:
        [row] = reader.spend_by("workflow")
    return row.attempts, row.nusd or 0


@pytest.mark.parametrize("door", ["handler", "middleware"])
def test_a_resumed_run_is_charged_once_a_call(door: str, tmp_path: Path) -> None:
    """Two model calls, one before the question and one after it, in two processes: two rows, as they were billed."""
    checkpoints = str(tmp_path / "checkpoints.db")
    with Provider(latency_s=0.0, replies=scripted([PAY, DONE])) as provider:
        first = run(provider.anthropic_url, checkpoints, door, FIRST)
        assert first.steps == 1
        assert elsewhere(provider, checkpoints, door, "answer").wait() == 0
        assert len(provider.charges) == 2
        assert kept() == (2, provider.billed_nusd)


def test_a_paused_run_goes_on_elsewhere(tmp_path: Path) -> None:
    """It drains where its limit is reached; another process makes the second call, and that alone."""
    if not hasattr(pytest.importorskip("langgraph.errors"), "GraphDrained"):
        pytest.skip("this LangGraph cannot drain")
    checkpoints = str(tmp_path / "checkpoints.db")
    with Provider(latency_s=0.0, replies=scripted([PAY, DONE])) as provider:
        first = run(provider.anthropic_url, checkpoints, "pause", FIRST, asks=False, model_calls=1)
        assert len(provider.charges) == first.spend.settled.model_calls == 1
        assert elsewhere(provider, checkpoints, "pause", "go on").wait() == 0
        assert len(provider.charges) == 2
        assert kept() == (2, provider.billed_nusd)


@pytest.mark.parametrize("door", ["handler", "wrapped"])
def test_a_killed_run_goes_on_elsewhere(door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while its second call is out: what was made before is charged once, the lost call at its bound, as no row,
    and the call that another process makes in its place once."""
    config = tmp_path / "bursar.toml"
    config.write_text(f'[bursar]\nledger = "{tmp_path / "ledger.db"}"\n[env.development]\nusd_per_day = "5"\n')
    monkeypatch.setenv("BURSAR_CONFIG", str(config))
    bursar.configure(config=str(config))
    checkpoints = str(tmp_path / "checkpoints.db")
    try:
        with Provider(latency_s=0.0, replies=scripted([PAY, Reply(latency_s=60.0), DONE])) as provider:
            begun = elsewhere(provider, checkpoints, door, "begin")
            while len(provider.requests) < 2:
                assert begun.poll() is None
                time.sleep(0.01)
            begun.kill()
            begun.wait()
            run(provider.anthropic_url, checkpoints, door, None, asks=False)
            assert len(provider.requests) == 3
            assert kept() == (2, sum(charge.nusd for charge in provider.charges if charge.number != 2))
            store = SqliteStore.at(Path(process().ledger.path))
            store.recover()
            presumed = [hold.charged.nusd for hold in store.scan() if hold.state.name == "PRESUMED"]
            store.close()
            assert len(presumed) == 1
            assert presumed[0] >= provider.charges[0].nusd
    finally:
        bursar.configure(config=None)
