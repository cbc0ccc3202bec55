"""How near the estimate of a request is to what the provider counts, and how often its bounds are broken.

Recorded conversations are gone through call by call: each request is estimated by the estimator that a guarded run has,
then the provider's count is told to it. The recordings are a folder of trajectories (JSON lines, gzipped, OpenAI's
messages) whose assistant messages hold the provider's `usage`. A second table takes the same texts, written as Claude's
messages, and the counts of `ctok`, a reconstruction of Claude's tokenizer, where that package can be imported.

Recordings leave out the system prompt and the tools. They are put back as one text of the size that models with the
o200k tokenizer were billed for it in the same domain, at four bytes a token. For those models the first estimate
of a conversation is then right by construction; the figures that count are of later calls.

    uv run python -m benchmarks.estimates ../shared/data/trajectories
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import as_json, facts, show_facts, table
from bursar.clients.requests import read
from bursar.pricing.estimate import Estimator
from bursar.pricing.tokens import COUNTER
from bursar.words.events import Answer, ModelRequest, Status, Usage

BARS = {"p50": 0.01, "p95": 0.05, "practical broken": 0.005, "hard broken": 0.0}
LATE = 5
"""Calls of a conversation after which the point estimate has to be near."""
BYTES_PER_TOKEN = 4
O200K = ("gpt-4.1", "ft:gpt-4.1", "gpt-5", "o3")
LEAST_PREFIX = 1_000
"""Tokens of the smallest system prompt among the recorded agents; a first count below it leaves cached tokens out."""
TOOL_FRAME = '<invoke name="{name}">{parameters}</invoke>'
PARAMETER = '<parameter name="{name}">{value}</parameter>'


class Call(NamedTuple):
    """One model call: the request, and the tokens that the provider counted."""

    request: ModelRequest
    input_tokens: int
    output_tokens: int


class Conversation(NamedTuple):
    """The calls of one recorded run."""

    model: str
    workflow: str
    calls: list[Call]


@dataclass
class Score:
    """The figures of one group of conversations; errors and bounds are fractions of the provider's count."""

    group: str
    conversations: int
    calls: int
    late_calls: int
    p50: float
    p95: float
    worst: float
    practical_broken: float
    practical_broken_late: float
    hard_broken: float
    practical_mean: float
    practical_mean_late: float
    hard_mean: float
    us_per_call: float


def read_runs(folder: Path, pattern: str = "tau2-bench.jsonl.gz") -> Iterator[dict[str, Any]]:
    """The recorded runs of a folder that have messages, in the order of the files."""
    for path in sorted(folder.glob(pattern)):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (run for run in map(json.loads, lines) if "messages" in run)


def counted(runs: Sequence[dict[str, Any]]) -> list[Conversation]:
    """The conversations whose calls the provider counted, whole: groups whose counts leave cached tokens out are not.

    Such a group is known by a first call that counts no system prompt.
    """
    groups: dict[tuple[str, str, str], list[tuple[str, list[tuple[list[Any], Any]]]]] = defaultdict(list)
    for run in runs:
        steps = list(steps_of(run))
        if steps:
            key = (run["model"], workflow_of(run), str(run.get("meta", {}).get("commit")))
            groups[key].append((run["model"], steps))
    least = {}
    for key, members in groups.items():
        extras = [_input(steps[0][1]) - _tokens(read_as_sent(model, steps[0][0], "")) for model, steps in members]
        if min(extras) >= LEAST_PREFIX:
            least[key] = min(extras)
    o200k = {workflow: size for (model, workflow, _), size in sorted(least.items()) if model.startswith(O200K)}
    found = []
    for key, members in groups.items():
        if key in least:
            size = least[key] if key[0].startswith(O200K) else o200k.get(key[1], least[key])
            for model, steps in members:
                found.append(Conversation(model, key[1], [_call(model, said, usage, size) for said, usage in steps]))
    return found


def steps_of(run: dict[str, Any]) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """What was sent and what was counted, for each answer that somebody asked for and whose usage was recorded."""
    said: list[dict[str, Any]] = []
    asked = False
    for message in run["messages"]:
        if message["role"] == "assistant" and asked and message.get("usage"):
            yield list(said), message["usage"]
        asked = asked or message["role"] not in {"assistant", "system"}
        said.append({name: message[name] for name in _SENT if message.get(name) is not None})


_SENT = ("role", "content", "tool_calls", "tool_call_id")


def workflow_of(run: dict[str, Any]) -> str:
    """What the agent is for: its domain, else the source of the run."""
    return str(run.get("meta", {}).get("domain") or run.get("source"))


def read_as_sent(model: str, said: list[dict[str, Any]], system: str) -> ModelRequest:
    """The request that an agent would have made of these messages, read as the adapters read it."""
    if "claude" in model:
        body = {"model": model, "max_tokens": 4_096, "system": system, "messages": as_claude(said)}
        return read("messages", body, None)
    first = [{"role": "system", "content": system}] if system else []
    return read("chat", {"model": model, "messages": [*first, *said]}, None)


def as_claude(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages in Claude's form: calls are blocks, and results in a row are one message of the user."""
    found: list[dict[str, Any]] = []
    for message in said:
        if message["role"] == "tool":
            block = {
                "type": "tool_result",
                "tool_use_id": message["tool_call_id"],
                "content": message.get("content", ""),
            }
            if found and found[-1]["role"] == "user" and isinstance(found[-1]["content"], list):
                found[-1]["content"].append(block)
            else:
                found.append({"role": "user", "content": [block]})
            continue
        blocks = [{"type": "text", "text": message["content"]}] if message.get("content") else []
        blocks += [_tool_use(call) for call in message.get("tool_calls", [])]
        found.append({"role": message["role"], "content": blocks})
    return found


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    try:
        given = json.loads(call["function"]["arguments"])
    except ValueError:
        given = {"text": call["function"]["arguments"]}
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": given}


def _input(usage: dict[str, Any]) -> int:
    return int(usage["prompt_tokens"])


def _tokens(request: ModelRequest) -> int:
    return sum(request.transcript.tokens) + request.transcript.fixed_tokens


def _call(model: str, said: list[dict[str, Any]], usage: dict[str, Any], prefix: int) -> Call:
    bare = read_as_sent(model, said, "")
    script = bare.transcript
    whole = script._replace(
        fixed_tokens=script.fixed_tokens + prefix, utf8_bytes=script.utf8_bytes + BYTES_PER_TOKEN * prefix
    )
    return Call(bare._replace(transcript=whole), _input(usage), int(usage["completion_tokens"]))


# -- a tokenizer of another family ---------------------------------------------------------------------------------


def recounted(runs: Sequence[dict[str, Any]], count: Callable[[str], int], frame: int) -> list[Conversation]:
    """The same texts as requests to Claude, counted by `count`: `frame` tokens a message, calls in tags of ours.

    Every answer after a message of somebody else is a call. Its system prompt is its task's first message, where the
    recording has no other.
    """
    found = []
    for run in runs:
        said: list[dict[str, Any]] = []
        calls = []
        for message in run["messages"]:
            if message["role"] == "assistant" and any(each["role"] != "assistant" for each in said):
                sent = as_claude(said)
                tokens = frame + sum(frame + _weight(block, count) for each in sent for block in each["content"])
                body = {"model": "claude-sonnet-5-5", "max_tokens": 4_096, "messages": sent}
                calls.append(Call(read("messages", body, None), tokens, 200))
            said.append({name: message[name] for name in _SENT if message.get(name) is not None})
            if said[-1]["role"] == "system":
                said[-1]["role"] = "user"
        if calls:
            found.append(Conversation("ctok 4.8", workflow_of(run), calls))
    return found


def _weight(block: dict[str, Any], count: Callable[[str], int]) -> int:
    if block["type"] == "text":
        return count(block["text"])
    if block["type"] == "tool_result":
        return count(str(block["content"]))
    given = "".join(PARAMETER.format(name=name, value=value) for name, value in dict(block["input"]).items())
    return count(TOOL_FRAME.format(name=block["name"], parameters=given))


# -- the score -----------------------------------------------------------------------------------------------------


def score(group: str, conversations: Sequence[Conversation], estimator: Estimator | None = None) -> Score:
    """Estimate every call, then learn from it, in the order of the recordings."""
    estimator = estimator or Estimator()
    errors, practical, hard, late_bounds = [], [], [], []
    spent = 0
    for number, conversation in enumerate(conversations):
        for step, call in enumerate(conversation.calls):
            begun = time.thread_time_ns()
            found = estimator.estimate(call.request, conversation.workflow, number, None)
            spent += time.thread_time_ns() - begun
            practical.append(found.demand.input_practical / call.input_tokens)
            hard.append(found.demand.input_hard / call.input_tokens)
            if step >= LATE:
                errors.append(abs(found.input_likely - call.input_tokens) / call.input_tokens)
                late_bounds.append(practical[-1])
            said = Answer(Status.OK, usage=Usage(call.input_tokens, call.output_tokens))
            begun = time.thread_time_ns()
            estimator.learn(call.request, conversation.workflow, number, said, 1, cut=False)
            spent += time.thread_time_ns() - begun
    errors.sort()
    return Score(
        group,
        len(conversations),
        len(practical),
        len(errors),
        _part(errors, 0.5),
        _part(errors, 0.95),
        errors[-1] if errors else 0.0,
        _below(practical),
        _below(late_bounds),
        _below(hard),
        _mean(practical),
        _mean(late_bounds),
        _mean(hard),
        spent / 1_000 / max(1, len(practical)),
    )


def _part(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def _below(bounds: Sequence[float]) -> float:
    return sum(bound < 1 for bound in bounds) / len(bounds) if bounds else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def by_model(conversations: Sequence[Conversation]) -> list[Score]:
    """One score for all together, then one for each model; each begins with an estimator that knows nothing."""
    models = sorted({each.model for each in conversations})
    own = [(model.split(":20")[0], [each for each in conversations if each.model == model]) for model in models]
    return [score("all", conversations), *[score(model, group) for model, group in own]]


def show(scores: Sequence[Score]) -> str:
    """The table."""
    heads = (
        "group", "runs", "calls", f"after {LATE}", "p50", "p95", "worst", "practical broken", f"after {LATE}",
        "hard broken", "practical/count", f"after {LATE}", "hard/count", "us",
    )  # fmt: skip
    rows = [
        (
            x.group, x.conversations, x.calls, x.late_calls, f"{x.p50:.2%}", f"{x.p95:.2%}", f"{x.worst:.1%}",
            f"{x.practical_broken:.2%}", f"{x.practical_broken_late:.2%}", f"{x.hard_broken:.2%}",
            f"{x.practical_mean:.3f}", f"{x.practical_mean_late:.3f}", f"{x.hard_mean:.2f}", f"{x.us_per_call:.1f}",
        )
        for x in scores
    ]  # fmt: skip
    return table(heads, rows)


def claude_like() -> tuple[Callable[[str], int], int] | None:
    """ctok's count of a text alone, and the frame of a message; None where the package is absent."""
    try:
        import ctok
    except ImportError:
        return None
    frame: int = ctok.token_count("", "4.8")

    @lru_cache(1 << 16)
    def alone(text: str) -> int:
        tokens: int = ctok.token_count(text, "4.8")
        return max(0, tokens - frame)

    return alone, frame


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of recordings")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--every", type=int, default=20, help="recount every n-th run with ctok (it is slow)")
    given = parser.parse_args()
    COUNTER.count("load the ranks")
    found = facts()
    tables = {"provider's counts": by_model(counted(list(read_runs(given.folder))))}
    claude = claude_like()
    if claude:
        for name in ("tau2-bench", "tau-bench", "swe-agent-demos", "intercode", "reflexion-hotpotqa"):
            every = 1 if name == "swe-agent-demos" else given.every
            runs = list(read_runs(given.folder, f"{name}.jsonl.gz"))[::every]
            tables[f"ctok's counts, {name}"] = [score(name, recounted(runs, *claude))]
    if given.json:
        print(as_json({"facts": found, "bars": BARS, "scores": {k: list(map(asdict, v)) for k, v in tables.items()}}))
        return
    print(show_facts(found))
    for name, scores in tables.items():
        print(f"\n{name}\n{show(scores)}")
    if claude is None:
        print("\nctok cannot be imported: its counts are left out")


if __name__ == "__main__":
    main()
