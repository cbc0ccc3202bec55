"""Kept answers and message lists in the ledger."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from bursar.testing import Provider
from bursar.tracing.queries import Reader
from tests.importers.test_claude_code import counts

if TYPE_CHECKING:
    from pathlib import Path

HI: Any = [{"role": "user", "content": "hi"}]


def rows_by(ledger: Path, by: str) -> dict[str, Any]:
    with Reader(ledger) as reader:
        return {row.key: row for row in reader.spend_by(by)}


def test_answers_of_real_sdks_cost_what_the_provider_billed(ledger: Path, tmp_path: Path) -> None:
    """Dumped as they came, one a line; the sums are the provider's own, and a second run adds nothing."""
    lines = []
    with Provider(latency_s=0.0) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt:
            lines += [gpt.chat.completions.create(model="gpt-4o", messages=HI).model_dump_json() for _ in range(3)]
            lines.append(gpt.responses.create(model="gpt-4o", input="hi").model_dump_json())
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x") as claude:
            lines.append(claude.messages.create(model="claude-opus-5-5", messages=HI, max_tokens=50).model_dump_json())
        billed = provider.billed_nusd
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join([*lines, lines[0]]))
    found = counts(path, "--workflow", "triage")
    assert (found["new"], found["merged"]) == (5, 1)
    assert counts(path, "--again")["known"] == 5
    rows = rows_by(ledger, "workflow")
    assert (rows["triage"].requests, rows["triage"].nusd) == (5, billed)
    assert set(rows_by(ledger, "provider")) == {"openai", "anthropic"}


def test_a_list_of_messages_is_a_run_and_grows(ledger: Path, tmp_path: Path) -> None:
    """Answers with a usage are rows, those without are counted; more of the same conversation adds only what is new."""
    path = tmp_path / "chat.json"
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "model": "gpt-4o", "timestamp": "2026-11-02T10:00:00Z", "usage": {"prompt_tokens": 100, "completion_tokens": 5}},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "more", "model": "gpt-4o"},
    ]  # fmt: skip
    path.write_text(json.dumps(messages))
    found = counts(path)
    assert (found["new"], found["skipped"]) == (1, {"no answer of a model": 3, "an answer without a usage": 1})
    messages.append(
        {
            "role": "assistant",
            "content": "x",
            "model": "claude-opus-5-5",
            "timestamp": 1_793_613_700,
            "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 90},
        }
    )
    path.write_text(json.dumps(messages))
    assert (counts(path)["new"]) == 1
    rows = rows_by(ledger, "day")
    assert rows["2026-11-02"].requests == 2
    assert rows["2026-11-02"].input_tokens == 200
    with Reader(ledger) as reader:
        (run,) = reader.runs()
    assert (run.steps, run.tokens) == (2, 210)


def test_conversations_with_names_are_told_apart_and_undated_ones_say_so(ledger: Path, tmp_path: Path) -> None:
    """The model of the conversation is that of its answers; what nothing dates has the time of its file, flagged."""
    usage = {"prompt_tokens": 100, "completion_tokens": 5}
    path = tmp_path / "runs.jsonl"
    lines = [
        {"id": f"run-{n}", "model": "gpt-4o", "messages": [*HI, {"role": "assistant", "usage": usage}]}
        for n in range(3)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    os.utime(path, (1_793_613_600, 1_793_613_600))
    assert counts(path)["new"] == 3
    assert set(rows_by(ledger, "session")) == {"run-0", "run-1", "run-2"}
    assert set(rows_by(ledger, "day")) == {"2026-11-02"}
    with Reader(ledger) as reader:
        flags = {reader.calls([run])[0].flags for run in reader.runs()}
    assert flags == {("undated",)}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ('{"a": 1}', "neither an answer with a usage nor a conversation"),
        ('[{"role": "user"}, 5]', "where an object should be"),
        ("17", "is none of these"),
        ('{"object": "chat.completion", "model": "gpt-4o", "usage": {"prompt_tokens": true, "completion_tokens": 1}}', "cannot be true"),
        ('{"messages": [5]}', "a message that is no object"),
        ("[1, 2", "is no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_named(tmp_path: Path, value: str, what: str) -> None:
    """With exit code 1."""
    path = tmp_path / "x.json"
    path.write_text(value)
    problems = counts(path, code=1)["problems"]
    assert any(what in each["what"] for each in problems), problems
