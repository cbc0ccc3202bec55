"""`bursar explain` names the block of the prompt that was replaced, from what real clients have sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anthropic
import openai
from typer.testing import CliRunner

import bursar
from bursar import Budget
from bursar.cli.app import app
from bursar.testing import Provider

if TYPE_CHECKING:
    from pathlib import Path

OPENAI: Any = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}},
}
ANTHROPIC: Any = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}


def cli(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["explain", "--release", "1.4", "1.5", *arguments])
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def test_a_tool_that_was_added_is_named_for_both_providers(ledger: Path) -> None:
    """Release 1.5 describes its tool at length: the tool list has changed, by so many tokens; the system prompt not."""
    with (
        Provider(latency_s=0.0) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt,
        anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x") as claude,
    ):
        wrapped, other = bursar.wrap(gpt), bursar.wrap(claude)
        for release, words in (("1.4", "Look."), ("1.5", "Look. " * 300)):
            function = OPENAI | {"function": OPENAI["function"] | {"description": words}}
            for turn in range(3):
                asked: Any = [{"role": "user", "content": f"hi {turn}"}]
                with bursar.run("triage", Budget(usd="1"), release=release):
                    said: Any = [{"role": "system", "content": "Be brief."}, *asked]
                    wrapped.chat.completions.create(model="gpt-4o", tools=[function], max_tokens=20, messages=said)
                with bursar.run("search", Budget(usd="1"), release=release):
                    tool = ANTHROPIC | {"description": words}
                    other.messages.create(
                        model="claude-haiku-5-5", system="Be brief.", tools=[tool], max_tokens=20, messages=asked
                    )
    changes = json.loads(cli("--json"))["replaced"]
    assert [(change["workflow"], change["kind"]) for change in changes] == [
        ("search", "tools_hash"),
        ("triage", "tools_hash"),
    ]
    assert all(200 < change["tokens"] < 900 for change in changes)
    shown = cli()
    assert "  triage: the tool list changed (" in shown
    assert " tokens a call" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100
