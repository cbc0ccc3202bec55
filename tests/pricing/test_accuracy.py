"""How near estimates are over recorded runs: the runs beside a checkout, or runs recorded against the provider here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from benchmarks.estimates import BARS, LATE, Conversation, counted, read_runs, score
from bursar.pricing.tokens import COUNTER
from bursar.testing import Provider, Reply, ToolUse

SHARED = Path(__file__).parents[3] / "shared" / "data" / "trajectories"
TURNS = 12
POLICY = "Only orders that are pending may be changed, and only once. Ask for the number of the order first. " * 90


def record(number: int) -> dict[str, Any]:
    """A run of twelve turns with a tool in each; its system prompt is billed and not recorded."""
    turns = iter(
        [Reply(text=f"Turn {n} of {number}.", tool_calls=[ToolUse("look", {"order": n * 7_919})]) for n in range(TURNS)]
    )
    messages: list[Any] = [{"role": "user", "content": f"{number}: where are my orders? " * (1 + number)}]
    sent: list[Any] = [{"role": "system", "content": POLICY}, *messages]
    with Provider(latency_s=0.0, replies=lambda _: next(turns)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x") as client:
            for turn in range(TURNS):
                answer = client.chat.completions.create(model="gpt-4o", messages=sent)
                assert answer.usage is not None
                said = answer.choices[0].message.model_dump(exclude_none=True)
                usage = {
                    "prompt_tokens": answer.usage.prompt_tokens,
                    "completion_tokens": answer.usage.completion_tokens,
                }
                order = {"order": turn * 7_919, "state": "sent", "items": ["lamp", "desk", "chair"][: 1 + turn % 3]}
                results = [
                    {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(order)}
                    for call in said["tool_calls"]
                ]
                messages += [said | {"usage": usage}, *results]
                sent += [said, *results]
    return {"id": f"run-{number}", "model": "gpt-4o", "source": "here", "messages": messages}


@pytest.fixture(scope="module")
def conversations() -> list[Conversation]:
    """Recorded runs whose every call the provider counted, of several models."""
    COUNTER.count("load the ranks")
    if (SHARED / "tau2-bench.jsonl.gz").is_file():
        return counted(list(read_runs(SHARED)))[::2]
    return counted([record(number) for number in range(8)])


def test_estimates_of_recorded_runs_are_near(conversations: list[Conversation]) -> None:
    """After five calls: off by 1 % at the median and 5 % at the 95th percentile at most; bounds hardly ever broken."""
    found = score("recorded", conversations)
    assert found.late_calls >= 50
    assert found.p50 <= BARS["p50"]
    assert found.p95 <= BARS["p95"]
    assert found.practical_broken <= max(BARS["practical broken"], 2 / found.calls)
    assert found.hard_broken == 0


def test_the_bound_costs_little(conversations: list[Conversation]) -> None:
    """What is held for a conversation under way is on average less than a tenth above what is counted."""
    found = score("recorded", conversations)
    assert 1 < found.practical_mean_late < 1.1
    assert found.practical_mean_late < found.practical_mean < 1.3


def test_runs_that_are_counted_in_part_are_left_out(conversations: list[Conversation]) -> None:
    """A recording whose counts leave out what was cached is no measure, and a count that is far off is seen."""
    run = {"id": "r", "model": "gpt-4o", "source": "here", "messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi", "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
    ]}  # fmt: skip
    assert counted([run]) == []
    calls = [
        call._replace(input_tokens=3 * call.input_tokens) if n > LATE else call
        for n, call in enumerate(conversations[0].calls)
    ]
    assert score("tripled", [conversations[0]._replace(calls=calls)]).worst > 0.5
