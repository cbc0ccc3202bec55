"""Transcripts of Claude Code in the ledger: each answer once, at its own time and price, however often it is read."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.tracing.queries import Reader
from bursar.words.errors import LedgerError
from tests.importers.transcripts import START, Transcript, usage


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def counts(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    done = cli(*arguments, "--json")
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_hand(folder: Path) -> tuple[int, int, int, int, Decimal]:
    """Answers, input, output tokens, tool calls and dollars of Opus 5.5, counted without anything of ours.

    $4 a million in, $20 out, reads at a twentieth, writes at 1.25 and 2 times (list price of November 2026).
    """
    best: dict[tuple[str, str], dict[str, Any]] = {}
    tools: set[str] = set()
    for path in folder.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if value.get("type") != "assistant" or value["message"].get("model") == "<synthetic>":
                continue
            key = value["message"]["id"], value["requestId"]
            used = value["message"]["usage"]
            if key not in best or used["output_tokens"] > best[key]["output_tokens"]:
                best[key] = used
            tools |= {block["id"] for block in value["message"]["content"]}
    million = Decimal(1_000_000)
    into = out = 0
    dollars = Decimal(0)
    for used in best.values():
        read, lives = used["cache_read_input_tokens"], used["cache_creation"]
        five, hour = lives["ephemeral_5m_input_tokens"], lives["ephemeral_1h_input_tokens"]
        into += used["input_tokens"] + read + five + hour
        out += used["output_tokens"]
        dollars += used["input_tokens"] * 4 / million + used["output_tokens"] * 20 / million
        dollars += read * 4 / million / 20 + five * 5 / million + hour * 8 / million
    return len(best), into, out, len(tools), dollars


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    """Three sessions with everything that is in such files: copies, sub-agents, compaction, errors, torn lines."""
    chance, folder = random.Random(5), tmp_path / "projects" / "-home-ana-shop"
    first = Transcript("aaaa")
    for turn in range(20):
        first.user()
        first.answer(usage(3, turn * 900, chance.randrange(500), chance.randrange(900), 40 + turn), blocks=1 + turn % 3)
    first.raw(json.dumps({"type": "summary", "summary": "Shop", "leafUuid": "x"}))
    first.raw(
        json.dumps(
            {
                "type": "system",
                "subtype": "compact_boundary",
                "sessionId": "aaaa",
                "compactMetadata": {"preTokens": 155_000},
            }
        )
    )
    first.answer(usage(9), model="<synthetic>", name="error", isApiErrorMessage=True)
    first.raw('{"type": "assistant", "message": {"id": "torn')
    first.write(folder)
    resumed = Transcript(
        "bbbb", lines=[line.replace('"sessionId": "aaaa"', '"sessionId": "bbbb"') for line in first.lines[:-1]]
    )
    resumed.answer(usage(5, 12_000, 300))
    resumed.write(folder)
    agent = Transcript("aaaa", began=START + timedelta(minutes=9))
    for turn in range(4):
        agent.answer(usage(100, turn * 50, 40), name=f"msg_agent_{turn}", isSidechain=True, agentId="ad2d877")
    agent.write(folder, "aaaa/subagents/agent-ad2d877")
    return folder.parent


def test_sums_equal_an_independent_count_and_a_second_run_adds_nothing(projects: Path, ledger: Path) -> None:
    """Lines of one answer are one row, copies in resumed sessions none; twice, with and without looking again."""
    answers, into, out, tools, dollars = by_hand(projects)
    first = counts(projects, code=1)
    assert (first["new"], first["known"]) == (answers, 20)
    # 20 of the user, 39 of answers, a summary, a compaction and an error stand before the torn one.
    assert [problem["line"] for problem in first["problems"]] == [63]
    assert first["skipped"] == {"no answer of a model": 42, "compaction": 2, "written by Claude Code itself": 2}
    assert counts(projects)["unchanged"] == 3
    again = counts(projects, "--again", code=1)
    assert (again["new"], again["grown"], again["known"]) == (0, 0, answers + 20)
    with Reader(ledger) as reader:
        (row,) = reader.spend_by("source")
    assert (row.key, row.requests, row.input_tokens, row.output_tokens) == ("claude-code", answers, into, out)
    assert row.tool_calls == tools
    # Each row is rounded up to a billionth of a dollar.
    assert 0 <= row.nusd - dollars * 10**9 < answers
    assert (row.p50_us, row.unpriced) == (None, 0)


def test_a_session_is_a_run_and_its_sub_agents_are_told_apart(projects: Path, ledger: Path) -> None:
    """Rows lie at the time of their answers; `bursar trace` shows a session."""
    counts(projects, code=1)
    with Reader(ledger) as reader:
        runs = {reader.calls([run])[0].run_id: run for run in reader.runs()}
        agents = {row.key: row.requests for row in reader.spend_by("agent")}
        sessions = {row.key: row.requests for row in reader.spend_by("session")}
        (day,) = reader.spend_by("day")
        (feature,) = reader.spend_by("feature")
        assert sum(len(reader.calls([run])) for run in runs.values()) == 25
    assert agents == {"(none)": 21, "sub-agent": 4}
    assert sessions == {"aaaa": 24, "bbbb": 1}
    assert (day.key, feature.key) == ("2026-11-02", "shop")
    assert sorted(run.steps for run in runs.values()) == [1, 24]
    assert {run.stop_reason for run in runs.values()} == {"imported"}
    shown = CliRunner().invoke(app, ["trace", str(min(runs, key=str))]).output
    assert "claude-code" in shown
    assert "claude-opus-5-5" in shown


def test_an_answer_that_was_not_finished_grows(ledger: Path, tmp_path: Path) -> None:
    """The file was read while it was written: the last count takes the place of the first."""
    half, whole = Transcript("s"), Transcript("s")
    half.answer(usage(10, out=1), name="m")
    whole.answer(usage(10, out=700), name="m", blocks=3)
    path = half.write(tmp_path)
    assert counts(path)["new"] == 1
    whole.write(tmp_path)
    grown = counts(path)
    assert (grown["new"], grown["grown"], grown["merged"]) == (0, 1, 2)
    with Reader(ledger) as reader:
        (row,) = reader.spend_by("model")
        (run,) = reader.runs()
    assert (row.requests, row.output_tokens) == (1, 700)
    assert (run.steps, run.tokens, run.tool_calls) == (1, 710, 3)


def test_output_that_was_counted_too_early_is_a_lower_bound(ledger: Path, tmp_path: Path) -> None:
    """As some versions write it: one line without a reason to stop. It is said, and is no list price."""
    lines = Transcript("s")
    lines.answer(usage(10, out=5))
    lines.lines[-1] = lines.lines[-1].replace('"stop_reason": "tool_use"', '"stop_reason": null')
    lines.answer(usage(10))
    path = lines.write(tmp_path)
    assert "at least that: of 1 answers" in cli(path).stdout
    with Reader(ledger) as reader:
        calls = reader.calls(reader.runs())
    assert [(call.cost_status, call.flags) for call in calls] == [("lower_bound", ("unfinished",)), ("list_price", ())]


def test_what_was_not_billed_by_anthropic_is_priced_as_what_it_was(ledger: Path, tmp_path: Path) -> None:
    """An unknown model has a cost of NULL, not 0, and is named; ids tell the clouds; a price that is set later is used."""
    lines = Transcript("s")
    lines.answer(usage(1_000_000, out=1), model="their-own-model", name="gen-1")
    lines.answer(usage(1_000), name="msg_bdrk_1")
    path = lines.write(tmp_path)
    assert counts(path)["unpriced"] == {"their-own-model": 1}
    with Reader(ledger) as reader:
        costs = {row.key: row.unpriced for row in reader.spend_by("provider")}
    assert costs == {"anthropic": 1, "aws.bedrock": 0}
    set_price = ["prices", "set", "their-own-model", "--provider", "anthropic", "--input", "2", "--output", "10"]
    assert CliRunner().invoke(app, set_price).exit_code == 0
    assert counts(path, "--again")["grown"] == 1
    with Reader(ledger) as reader:
        rows = {row.key: row.nusd for row in reader.spend_by("model")}
    assert rows["their-own-model"] == 2_000_010_000


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[1, 2]", "is a list, not an object"),
        ("not json", "is no JSON"),
        ('{"type": "assistant", "sessionId": "s", "message": "hi"}', "without a message"),
        ('{"type": "assistant", "sessionId": "s", "message": {"usage": {}}, "timestamp": "soon"}', "no time"),
        ('{"type": "assistant", "sessionId": "s", "message": {"model": "m"}, "timestamp": "2026-11-02"}', "without a usage"),
        ('{"type": "assistant", "sessionId": "s", "message": {"model": "m", "usage": {"input_tokens": -4, "output_tokens": 1}}, "timestamp": "2026-11-02"}', "cannot be true"),
        ('{"type": "assistant", "sessionId": "s", "message": {"usage": {"input_tokens": 4, "output_tokens": 1}}, "timestamp": "2026-11-02"}', "which model"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_understood_is_named_and_the_others_count(tmp_path: Path, line: str, what: str) -> None:
    """With file and line; the answer after it is imported all the same."""
    lines = Transcript("s")
    lines.user()
    lines.raw(line)
    lines.answer(usage(10))
    path = lines.write(tmp_path)
    found = counts(path, code=1)
    assert found["new"] == 1
    (problem,) = found["problems"]
    assert (problem["path"], problem["line"]) == (str(path), 2)
    assert what in problem["what"]


def test_a_dry_run_counts_and_writes_nothing(projects: Path, ledger: Path) -> None:
    """Before there is a ledger, and beside one."""
    assert counts(projects, "--dry-run", code=1)["new"] == 45
    assert not ledger.exists()
    with pytest.raises(LedgerError):
        Reader(ledger)
    counts(projects, code=1)
    before = ledger.read_bytes()
    found = counts(projects, "--dry-run", code=1)
    assert (found["new"], found["known"]) == (0, 45)
    assert ledger.read_bytes() == before


def test_what_is_there_by_default_is_said_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path the transcripts of Claude Code; where it keeps none, how to go on."""
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    done = cli()
    assert done.exit_code == 1
    assert "no transcripts below" in done.stderr
    lines = Transcript("s")
    lines.answer(usage(10))
    lines.write(tmp_path / "projects" / "-x")
    done = cli()
    assert "claude-code 1: 1 rows new" in done.stdout
    assert "next: bursar report" in done.stdout
    assert cli(tmp_path / "none.jsonl").exit_code == 1
