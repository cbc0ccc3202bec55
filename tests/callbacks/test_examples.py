"""The examples run as they are, without a key, and are short enough to be read."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {
    "approval.py": "100 people were asked",
    "react_agent.py": "sunny wherever I looked",
    "sub_agents.py": "8 of 20 sub-agents were served",
    "deep_agent.py": "bees see ultraviolet",
}


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it promises, and its run was limited and recorded; it has at most 60 lines."""
    if name == "deep_agent.py":
        pytest.importorskip("deepagents")
    for key in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    path = EXAMPLES / name
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert SAID[name] in said
    assert "model +" in said
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_every_example_is_run() -> None:
    """None is there that nobody tries."""
    assert {path.name for path in EXAMPLES.glob("*.py")} >= set(SAID)
