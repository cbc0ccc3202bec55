"""Recorded runs: every one priced or flagged, and the sums those of an independent count."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
import tiktoken
from genai_prices import Usage, calc_price

from bursar import Budget, RecordingError
from bursar.pricing.tokens import load_encoding
from bursar.replay import RunCost, files, replay
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.money import usd

SHARED = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
DAY = date(2026, 11, 20)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The recorded runs beside a checkout; where there are none, runs recorded here against the loopback provider."""
    if SHARED.is_dir():
        return sorted(SHARED.glob("*.jsonl.gz"))
    path = tmp_path_factory.mktemp("recorded") / "runs.jsonl.gz"
    runs = [record_run(number) for number in range(12)]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, runs)).encode()))
    return [path]


def record_run(number: int) -> dict[str, Any]:
    """An agent of a few turns, its messages as they were sent; every other one with the provider's usage."""
    turns = iter(
        [Reply(text=f"turn {n}", tool_calls=[ToolUse("look", {"page": n})]) for n in range(number % 4)] + [Reply()]
    )
    messages: list[Any] = [{"role": "user", "content": f"{number}: read the pages. " * (1 + number)}]
    model = ["gpt-4o", "gpt-4o-mini", "gpt-5"][number % 3]
    with Provider(latency_s=0.0, replies=lambda _: next(turns)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x") as client:
            while True:
                answer = client.chat.completions.create(model=model, messages=messages)
                message = answer.choices[0].message.model_dump(exclude_none=True)
                assert answer.usage is not None
                usage = {
                    "prompt_tokens": answer.usage.prompt_tokens,
                    "completion_tokens": answer.usage.completion_tokens,
                }
                messages.append(message | ({"usage": usage} if number % 2 else {}))
                if not answer.choices[0].message.tool_calls:
                    break
                result = {"role": "tool", "content": f"page of run {number}"}
                messages += [result | {"tool_call_id": call.id} for call in answer.choices[0].message.tool_calls]
    return {"id": f"run-{number}", "model": model, "success": number % 3 == 0, "messages": messages}


def independent_steps(run: dict[str, Any], encoding: tiktoken.Encoding) -> list[tuple[int, int]]:
    """Count a run once more, from the rule in words: 3 a message, 3 for the reply, text, calls and results."""

    def size(message: dict[str, Any]) -> int:
        parts = [message.get("content") or ""]
        for call in message.get("tool_calls") or []:
            parts += [call["function"]["name"], call["function"]["arguments"]]
        return sum(len(encoding.encode_ordinary(part)) for part in parts)

    if "steps" in run:
        return [(step[1], step[2]) for step in run["steps"] if step[0] != "u"]
    steps, asked = [], False
    for at, message in enumerate(run["messages"]):
        if message["role"] == "assistant" and asked:
            usage = message.get("usage")
            before = 3 + sum(3 + size(other) for other in run["messages"][:at])
            steps.append((usage["prompt_tokens"], usage["completion_tokens"]) if usage else (before, size(message)))
        asked = asked or message["role"] in ("user", "tool")
    return steps


def test_every_run_is_priced_or_flagged_and_sums_are_right(recorded: list[Path]) -> None:
    """All recorded runs: steps, tokens and dollars of each sampled run equal a count made by other means."""
    encoding: tiktoken.Encoding = load_encoding()
    dice = random.Random(11)
    for path in recorded:
        runs = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        costs = list(replay([str(path)], day=DAY))
        assert [cost.id for cost in costs] == [run["id"] for run in runs]
        for run, cost in dice.sample(list(zip(runs, costs, strict=True)), min(40, len(runs))):
            check_run(run, cost, independent_steps(run, encoding))


def check_run(run: dict[str, Any], cost: RunCost, steps: list[tuple[int, int]]) -> None:
    assert cost.steps == len(steps)
    assert cost.input_tokens == sum(into for into, _ in steps)
    assert cost.output_tokens == sum(out for _, out in steps)
    assert cost.success is run["success"]
    assert (cost.nusd is None) == (cost.cost_status == "unknown")
    if cost.nusd is None:
        with pytest.raises(LookupError):
            calc_price(Usage(input_tokens=1), run["model"], provider_id="openai")
        return
    name = run["model"].rpartition("/")[2]
    dollars = Decimal(0)
    for into, out in steps:
        usage = Usage(input_tokens=into, output_tokens=out)
        # A name that fits no provider's pattern is one of OpenAI's old ones.
        vendor = "openai" if name.startswith("text-") else None
        noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
        dollars += calc_price(usage, name, provider_id=vendor, genai_request_timestamp=noon).total_price
    # Each step is rounded up to a nano-dollar by itself.
    assert 0 <= Decimal(cost.nusd).scaleb(-9) - dollars <= Decimal(len(steps)).scaleb(-9)


def test_a_budget_stops_where_the_money_ends(recorded: list[Path]) -> None:
    """Under half of its own cost every priced run of two steps stops; what is not spent is the rest of it."""
    path = str(recorded[-1])
    for run in list(replay([path], day=DAY))[:25]:
        if run.nusd is None or run.steps < 2 or run.nusd < 2:
            continue
        budget = Budget(usd=usd(run.nusd // 2))
        stopped = next(again for again in replay([path], budget, day=DAY) if again.id == run.id)
        assert stopped.stopped_at_step is not None
        assert stopped.stop_reason == "usd"
        assert stopped.nusd_not_spent is not None
        assert run.nusd - run.nusd // 2 <= stopped.nusd_not_spent <= run.nusd


SAID = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}]


def replayed(tmp_path: Path, content: bytes, **options: Any) -> list[RunCost]:
    path = tmp_path / "runs"
    path.write_bytes(content)
    return list(replay([str(path)], **options))


def test_plain_message_lists_are_read(tmp_path: Path) -> None:
    """A bare list, an object over many lines, and Anthropic's blocks, gzipped or not; the model may be given."""
    (run,) = replayed(tmp_path, json.dumps(SAID).encode(), model="gpt-4o", day=DAY)
    assert (run.steps, run.input_tokens, run.output_tokens, run.model) == (1, 3 + 2 + 3, 1, "gpt-4o")
    (run,) = replayed(
        tmp_path, gzip.compress(json.dumps({"messages": SAID, "model": "gpt-4o"}, indent=2).encode()), day=DAY
    )
    assert run.id == "runs"
    blocks = [
        {"role": "user", "content": [{"type": "text", "text": "one two"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {"a": 1}}], "usage": {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 2}},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}]}, "y", {"type": "odd"}]},
        {"role": "assistant", "content": "done"},
    ]  # fmt: skip
    (run,) = replayed(
        tmp_path, json.dumps({"system": "be brief", "messages": blocks, "model": "claude-sonnet-5-5"}).encode(), day=DAY
    )
    assert run.steps == 2
    assert run.cost_status == "estimated"
    assert run.input_tokens > 12


def test_skeletons_and_measured_runs(tmp_path: Path) -> None:
    """Steps with counts of their own; a run whose every step the provider counted is at list price."""
    lines = [
        {
            "id": "s",
            "model": "gpt-4o",
            "success": None,
            "steps": [["u"], ["c", 100, 10, "h", []], ["t", 200, 20, "h", []]],
        },
        {
            "id": "m",
            "model": "openai/gpt-4o",
            "messages": [SAID[0], SAID[1] | {"usage": {"prompt_tokens": 10, "completion_tokens": 1}}],
        },
        {"id": "e", "model": "gpt-4o", "messages": []},
    ]
    skeleton, measured, empty = replayed(
        tmp_path, "\n".join(map(json.dumps, lines)).encode(), day=DAY, budget=Budget(tokens=150)
    )
    assert (skeleton.input_tokens, skeleton.nusd, skeleton.stopped_at_step, skeleton.stop_reason) == (
        300,
        1_050_000,
        2,
        "tokens",
    )
    assert (measured.cost_status, measured.nusd) == ("list_price", 35_000)
    assert (empty.steps, empty.nusd, empty.stopped_at_step) == (0, 0, None)


def test_an_unpriced_run_is_refused_under_dollars(tmp_path: Path) -> None:
    """Unknown is never zero: no cost, and under a limit in dollars the first step is already too much."""
    (run,) = replayed(tmp_path, json.dumps({"messages": SAID, "model": "nobody"}).encode(), budget=Budget(usd="1"))
    assert (
        run.as_json()
        | {
            "usd": None,
            "cost_status": "unknown",
            "stopped_at_step": 1,
            "stop_reason": "price_unknown",
            "usd_not_spent": None,
        }
        == run.as_json()
    )


BAD = {
    "empty": b"",
    "no json": b"hello\n",
    "binary": b"\x00\xff\xfe" * 100,
    "cut gzip": gzip.compress(b'{"messages": []}\n' * 1_000)[:40],
    "a broken list": b"[1, 2",
    "a broken object": b'{"messages": [\n',
    "a number": b"7\n",
    "neither": b'{"id": 1}\n',
    "no role": b'{"messages": [{"content": "x"}]}\n',
    "a message that is none": b'{"messages": [7]}\n',
    "a bad step": b'{"steps": [["c", -1, 2, "h", []]]}\n',
    "a step that is none": b'{"steps": [7]}\n',
    "deep": b'{"messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}\n",
}


@pytest.mark.parametrize("content", BAD.values(), ids=list(BAD))
def test_what_is_no_run_is_named(tmp_path: Path, content: bytes) -> None:
    """A file or line that is no recorded run: an error with its place, never a crash."""
    with pytest.raises(RecordingError, match="runs"):
        replayed(tmp_path, content)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": "7", "completion_tokens": 1},
        [],
        {"prompt_tokens": 1},
    ],
)
def test_a_usage_that_cannot_be_is_counted_instead(tmp_path: Path, usage: Any) -> None:
    """Negative, bool, text or missing counts are not believed."""
    messages = [SAID[0], SAID[1] | {"usage": usage}]
    (run,) = replayed(tmp_path, json.dumps({"messages": messages, "model": "gpt-4o"}).encode(), day=DAY)
    assert (run.input_tokens, run.output_tokens, run.cost_status) == (8, 1, "estimated")


def test_a_bad_line_is_passed_over_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are broken or too long are reported with their number; the others count."""
    monkeypatch.setattr(files, "LONGEST_LINE", 1_000)
    good = json.dumps({"messages": SAID, "model": "gpt-4o"})
    problems: list[RecordingError] = []
    content = "\n".join([good, "{broken", '"' + "x" * 5_000 + '"', "", good]).encode()
    runs = replayed(tmp_path, content, problem=problems.append)
    assert len(runs) == 2
    assert [problem.line for problem in problems] == [2, 3]


def test_directories_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory stands for the recordings in it; "-" is standard input; what cannot be opened is named."""
    good = json.dumps({"messages": SAID, "model": "gpt-4o"}) + "\n"
    (tmp_path / "a.jsonl").write_text(good)
    (tmp_path / "b.json").write_text("[]")
    (tmp_path / "labels.jsonl").write_text('{"label": 1}\n')
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "sub.jsonl").mkdir()
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(good.encode())[:20])
    (tmp_path / "cut.json.gz").rename(tmp_path / "zz.txt")
    assert len(list(replay([str(tmp_path)], day=DAY))) == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(good.encode()))))
    assert len(list(replay(["-"], day=DAY))) == 1
    with pytest.raises(RecordingError, match="cannot be opened"):
        list(replay([str(tmp_path / "missing")]))
    (tmp_path / "none").mkdir()
    with pytest.raises(RecordingError, match="holds no recorded runs"):
        list(replay([str(tmp_path / "none")]))
