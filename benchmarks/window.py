"""What trimming costs with a prefix cache: a simulated run of 200 steps, recorded runs, and the CPU of it.

    uv run python -m benchmarks.window [--recorded FOLDER] [--runs 20] [--json]

With langchain in the environment its `trim_messages`, `ClearToolUsesEdit` and `SummarizationMiddleware` stand beside
ours, each called before every step with the whole history, as it is by default. Prices are bursar's own tables.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

from benchmarks.common import as_json, facts, show_facts, spread, table
from bursar import ContextWindow, WindowMemory, trim
from bursar.guards.history import Item
from bursar.pricing.price import price
from bursar.pricing.rates import PriceList, RateCard
from bursar.replay.windows import Talk, compare, simulate, talk_of, windows
from bursar.words.events import Usage

WINDOW = 100_000
FIXED, TASK = 8_000, 1_000
DAY = date(2026, 11, 20)
MODELS = {"0.1x reads": "claude-sonnet-4-6", "0.05x reads": "claude-sonnet-5-5"}
Parts = list[tuple[str, int]]
Hook = Callable[[list[Any]], list[Any]]


def card(model: str) -> RateCard:
    found = PriceList().card("anthropic", model, day=DAY)
    assert found is not None
    return found


def lengths(seed: int, steps: int) -> list[tuple[int, int]]:
    """Log-normal answers (mean 300, sigma 0.8) and results (mean 2,000, sigma 1.2, 25,000 at most)."""
    dice = random.Random(seed)

    def draw(mean: float, sigma: float, most: float) -> int:
        return max(1, int(min(most, dice.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma))))

    return [(draw(300, 0.8, 1e9), draw(2_000, 1.2, 25_000)) for _ in range(steps)]


def coding_agent(seed: int, steps: int = 200) -> Talk:
    items, outputs = [Item("task", "user", TASK)], []
    for n, (said, result) in enumerate(lengths(seed, steps)):
        items.append(Item(f"a{n}", "assistant", said, calls=(f"c{n}",)))
        items.append(Item(f"t{n}", "tool", result, results=(f"c{n}",), clearable=result - 24 if result >= 100 else 0))
        outputs.append(said)
    return Talk(tuple(items), FIXED, tuple(outputs))


def simulated(runs: int) -> dict[str, dict[str, float]]:
    """Mean dollars, cached share and cuts of every strategy."""
    sums: dict[str, list[float]] = {}
    for seed in range(runs):
        for cost in compare(coding_agent(seed), windows(WINDOW), card(MODELS["0.1x reads"])):
            add(sums, cost.strategy, (cost.nusd or 0) / 1e9, cost.cached, cost.input_tokens, cost.cuts, cost.peak)
    return means(sums, runs)


def add(sums: dict[str, list[float]], name: str, *values: float) -> None:
    sums[name] = [a + b for a, b in zip(sums.get(name, [0.0] * len(values)), values, strict=True)]


def means(sums: dict[str, list[float]], runs: int) -> dict[str, dict[str, float]]:
    return {
        name: {"usd": usd / runs, "cached_share": cached / total, "cuts": cuts / runs, "mean_peak": peak / runs}
        for name, (usd, cached, total, cuts, peak) in sums.items()
    }


def rivals(runs: int) -> dict[str, dict[str, float]]:
    """LangChain's three on the same runs; empty where it is not installed."""
    sums: dict[str, list[float]] = {}
    for name, make in hooks().items():
        for seed in range(runs):
            add(sums, name, *driven(make(), lengths(seed, 200)))
    return means(sums, runs)


def driven(hook: Hook, steps: list[tuple[int, int]]) -> tuple[float, int, int, int, int]:
    """Dollars, cached and all tokens, new prefixes and the longest request of a run through a hook of LangChain."""
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    history: list[Any] = [HumanMessage("task", id="task", additional_kwargs={"tokens": TASK})]
    before: Parts = []
    usd = cached = total = cuts = peak = 0
    for n, (said, result) in enumerate(steps):
        sent = hook(list(history))
        now = [("fixed", FIXED), *((f"{m.id} {hash(str(m.content))}", size_of(m)) for m in sent)]
        read, size = common(before, now), sum(tokens for _, tokens in now)
        usd += price(Usage(size, said, read, size - read), card(MODELS["0.1x reads"])).nusd or 0
        cached, total, peak = cached + read, total + size, max(peak, size)
        cuts += bool(before) and now[: len(before)] != before
        before = now
        call = {"id": f"c{n}", "name": "look", "args": {}}
        history.append(AIMessage(".", id=f"a{n}", tool_calls=[call], additional_kwargs={"tokens": said}))
        tokens = {"tokens": result}
        history.append(ToolMessage(".", id=f"t{n}", tool_call_id=f"c{n}", additional_kwargs=tokens))
    return usd / 1e9, cached, total, cuts, peak


def size_of(message: Any) -> int:
    """Tokens of a message; what was replaced by a sentence is as long as the sentence."""
    tokens: int = message.additional_kwargs.get("tokens", len(message.content) // 4)
    return len(message.content) // 4 + 4 if message.type == "tool" and message.content != "." else tokens


def hooks() -> dict[str, Callable[[], Hook]]:
    """What LangChain has, each as a function of the whole history before a step; made anew for each run."""
    try:
        from langchain.agents.middleware import ClearToolUsesEdit, SummarizationMiddleware
        from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
        from langchain_core.messages import AIMessage, RemoveMessage, trim_messages
    except ImportError:
        return {}

    def count(messages: Sequence[Any]) -> int:
        return sum(map(size_of, messages))

    def last(history: list[Any]) -> list[Any]:
        return trim_messages(
            history, max_tokens=WINDOW - FIXED, token_counter=count, strategy="last", include_system=True,
            start_on=("human", "ai"),
        )  # fmt: skip

    def cleared(history: list[Any]) -> list[Any]:
        copy = [message.model_copy() for message in history]
        ClearToolUsesEdit(trigger=WINDOW).apply(copy, count_tokens=lambda messages: FIXED + count(messages))
        return copy

    def summarising() -> Hook:
        model = GenericFakeChatModel(messages=iter(AIMessage("s" * 6_000) for _ in range(10_000)))
        middleware: Any = SummarizationMiddleware(
            model=model, trigger=("tokens", WINDOW - FIXED), keep=("messages", 20), token_counter=cast("Any", count)
        )
        state: list[Any] = []
        seen = 0

        def hook(history: list[Any]) -> list[Any]:
            nonlocal state, seen
            state, seen = [*state, *history[seen:]], len(history)
            update = middleware.before_model({"messages": state}, None)
            if update is not None:
                state = [message for message in update["messages"] if not isinstance(message, RemoveMessage)]
            return state

        return hook

    return {
        "trim_messages": lambda: last,
        "ClearToolUsesEdit": lambda: cleared,
        "SummarizationMiddleware": summarising,
    }


def common(before: Parts, now: Parts) -> int:
    read = 0
    for old, new in zip(before, now, strict=False):
        if old != new:
            break
        read += new[1]
    return read


def recorded(folder: Path, size: int = 16_000) -> dict[str, Any]:
    """Recorded runs that outgrow the window, with 3,000 tokens of system prompt and schemas on top."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path) as lines:
            talks = [talk_of(json.loads(line), 3_000) for line in lines]
        long = [talk for talk in talks if talk.fixed + sum(item.tokens for item in talk.items) > size]
        for reads, model in MODELS.items():
            for talk in long:
                whole = simulate(talk, None, card(model)).nusd or 0
                for spec in windows(size):
                    sums = found.setdefault(path.name.partition(".")[0], {"runs": len(long)})
                    one = sums.setdefault(f"{spec.strategy}, {reads}", [0, 0])
                    one[0] += simulate(talk, spec, card(model)).nusd or 0
                    one[1] += whole
    return found


def cpu(messages: int, steps: int = 60) -> dict[str, Any]:
    """Microseconds of one call with `messages` messages that fit; two are added before each."""
    history: list[Any] = [{"role": "user", "content": "do it"}]
    for n in range(messages // 2):
        call = {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": f'{{"page": {n}}}'}}
        history.append({"role": "assistant", "content": None, "tool_calls": [call]})
        history.append({"role": "tool", "tool_call_id": f"c{n}", "content": f"page {n} " + "word " * 100})
    memory, window = WindowMemory(), ContextWindow(tokens=50_000_000)
    trim(history, window, memory=memory)
    found = {"bursar.trim": spread(timed(history, lambda: trim(history, window, memory=memory), steps))}
    try:
        from langchain_core.messages import convert_to_messages, trim_messages
        from langchain_core.messages.utils import count_tokens_approximately
    except ImportError:
        return found
    theirs = convert_to_messages(history)
    found["trim_messages"] = spread(
        timed([], lambda: trim_messages(theirs, max_tokens=50_000_000, token_counter=count_tokens_approximately), 15)
    )
    found["trim_messages, to cut"] = spread(
        timed([], lambda: trim_messages(theirs, max_tokens=20_000, token_counter=count_tokens_approximately), 15)
    )
    return found


def timed(history: list[Any], call: Callable[[], Any], steps: int) -> list[float]:
    taken = []
    for n in range(steps):
        history += [{"role": "assistant", "content": f"so {n}"}, {"role": "user", "content": f"and {n}"}]
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1e6)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, help="a folder of recorded runs (*.jsonl.gz)")
    parser.add_argument("--runs", type=int, default=20, help="simulated runs")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {"facts": facts(), "simulated": {**simulated(args.runs), **rivals(args.runs)}}
    found["cpu_us"] = {str(size): cpu(size) for size in (1_600, 2_000)}
    if args.recorded:
        found["recorded"] = recorded(args.recorded)
    if args.json:
        print(as_json(found))
        return
    print(show_facts(found["facts"]))
    rows = [
        [name, f"{v['usd']:.2f}", f"{v['cached_share']:.1%}", f"{v['cuts']:.1f}", f"{v['mean_peak']:,.0f}"]
        for name, v in found["simulated"].items()
    ]
    print(table([f"200 steps, window {WINDOW:,}", "$", "cached", "new prefixes", "peak"], rows))
    for size, both in found["cpu_us"].items():
        print(f"{size} messages:", {name: round(value["median"]) for name, value in both.items()}, "us")
    for source, sums in found.get("recorded", {}).items():
        shares = {name: round(one[0] / one[1], 3) for name, one in sums.items() if name != "runs"}
        print(source, sums["runs"], shares)


if __name__ == "__main__":
    main()
