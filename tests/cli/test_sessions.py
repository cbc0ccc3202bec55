"""`bursar sessions` on imported transcripts and on calls of a real client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget, LedgerError
from bursar.cli.app import app
from bursar.testing import Provider, Reply
from tests.importers.transcripts import Transcript, usage

if TYPE_CHECKING:
    from pathlib import Path


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["sessions", *arguments])


def imported(tmp_path: Path) -> None:
    lines = Transcript("8b24b5b1-long")
    for turn in range(30):
        lines.answer(usage(3, 10_000 + turn * 2_000, 1_997, 0, 100))
    lines.answer(usage(500, 0, 0, 0, 50), name="side", isSidechain=True, agentId="a")
    lines.answer(usage(3, 5_000, 1_997, 0, 100))
    lines.write(tmp_path)
    other = Transcript("8b-short\x1b[2J")
    other.answer(usage(900))
    other.write(tmp_path, "short")
    assert CliRunner().invoke(app, ["import", str(tmp_path)]).exit_code == 0


def test_sessions_are_listed_with_what_they_grow_by(tmp_path: Path) -> None:
    """Context, growth, resets, sub-agents apart, what a reset would have saved; readable, and nothing a terminal obeys."""
    imported(tmp_path)
    done = cli("--since", "2026-11-01")
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if line.startswith("8b24b5b1"))
    assert "12k - 7.0k" in line
    assert "+2.0k" in line
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 120
    found = {each["session"]: each for each in json.loads(cli("--since", "2026-11-01", "--json").stdout)}
    long = found["8b24b5b1-long"]
    assert (long["turns"], long["first"], long["largest"], long["resets"]) == (31, 12_000, 70_000, 1)
    # 500 in at $4 a million, 50 out at $20.
    assert long["others_nusd"] == 2_000_000 + 1_000_000
    assert long["best"]["after_turn"] < 30
    assert cli("--since", "2026-11-25").exit_code == 1


def test_one_session_is_shown_turn_by_turn(tmp_path: Path) -> None:
    """By the beginning of its id; what is not unique or not there is said."""
    imported(tmp_path)
    shown = cli("8b24").stdout
    assert "31 turns, +2,000 tokens a turn, 1 resets" in shown
    assert "-63,000" in shown
    assert "beginning anew after turn" in shown
    assert "other agents in it: 1 calls" in shown
    assert len(json.loads(cli("8b24", "--json").stdout)["each"]) == 31
    assert cli("zz").exit_code == 1
    several = cli("8b")
    assert isinstance(several.exception, LedgerError)
    assert "several sessions begin with '8b'" in str(several.exception)


def test_calls_of_our_own_name_their_session() -> None:
    """`session=` of a run."""
    with Provider(latency_s=0.0) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt:
        with bursar.run("chat", Budget(usd="1"), session="talk-1"):
            for length in (10, 200, 400):
                bursar.wrap(gpt).chat.completions.create(
                    model="gpt-4o", messages=[{"role": "user", "content": "word " * length}]
                )
    (found,) = json.loads(cli("--json").stdout)
    assert (found["session"], found["workflow"], found["turns"]) == ("talk-1", "chat", 3)
    assert found["growth"] > 100
    assert found["next_nusd"] > 0


def test_a_session_of_which_no_call_was_answered_is_not_said_to_be_missing() -> None:
    """All of its calls failed: it has no turn to show, and what they cost is said elsewhere."""
    with (
        Provider(latency_s=0.0, replies=lambda _: Reply(status=500)) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as gpt,
        bursar.run("chat", Budget(usd="1"), session="talk-2"),
        pytest.raises(openai.InternalServerError),
    ):
        bursar.wrap(gpt).chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    done = cli("talk-2")
    assert done.exit_code == 1
    assert "no call of session 'talk-2' was answered" in str(done.exception)
    assert "talk-2" in CliRunner().invoke(app, ["report", "--by", "session"]).stdout
