"""Many calls at once under a budget for a few of them: who is served, what is billed, and how long it takes.

    python -m benchmarks.fanout            # all cases, some minutes
    python -m benchmarks.fanout --quick    # the chat cases only
    python -m benchmarks.fanout --json     # for a program

Fifty calls under a budget worth ten and a half of them, on the loopback provider with 0.5 s latency: threads and
asyncio, both SDKs, output caps of 1, 6 and 22 times what is used and absent, cold and after twenty calls of the
same workflow at the same concurrency. `wall` is against ten and against fifty calls unguarded in the same run.
Then a longer horizon: four hundred calls by twenty workers with outputs of a heavy tail, under a budget for about
half of them. `billed` is the provider's own count; the limit must never be passed and nothing may stay held.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import anthropic
import openai

import bursar
from benchmarks.common import as_json, facts, own_ledger, show_facts, table
from bursar import Budget
from bursar.runs.process import process
from bursar.testing import Provider, ReceivedRequest, Reply
from bursar.tracing.queries import Reader
from bursar.words.money import usd

OUT, CALLS, AFFORDABLE, WARM_UP = 200, 50, 10, 20
LATENCY_S = 0.5
SHORT = "Where is the order of customer 17? Answer in one paragraph. " * 8
LONG = "The quick brown fox jumps over the lazy dog near the river bank. " * 2_150


@dataclass(frozen=True)
class Case:
    """One line of the table; shares are of the limit, walls of unguarded runs."""

    case: str
    served: int
    billed_of_limit: float
    held_nusd: int
    false_denials: int
    lowered: int
    clamped: int
    cut: int
    wall_s: float
    wall_of_ten: float
    wall_of_fifty: float


def arguments(api: str, prompt: str, number: int, cap: int | None) -> dict[str, Any]:
    """One request; the number comes first, so that no prompt cache makes a call cheaper than another."""
    messages = [{"role": "user", "content": f"{number:05d} {prompt}"}]
    if api == "messages":
        return {"model": "claude-sonnet-5-5", "max_tokens": cap or 16_000, "messages": messages}
    return {"model": "gpt-4o", "messages": messages} | ({} if cap is None else {"max_completion_tokens": cap})


def in_threads(
    api: str, provider: Provider, run: bursar.Run | None, asked: list[dict[str, Any]], workers: int
) -> float:
    """Send all of them from so many threads; seconds."""
    made: Any = anthropic.Anthropic if api == "messages" else openai.OpenAI
    url = provider.anthropic_url if api == "messages" else provider.openai_url
    with made(base_url=url, api_key="x", max_retries=0) as bare:
        client: Any = bare if run is None else bursar.wrap(bare)
        create = client.messages.create if api == "messages" else client.chat.completions.create

        def one(request: dict[str, Any]) -> None:
            try:
                create(**request)
            except bursar.BudgetExceeded:
                return

        with ThreadPoolExecutor(workers) as pool:
            began = time.monotonic()
            list(pool.map(one if run is None else run.bind(one), asked))
            return time.monotonic() - began


def in_tasks(api: str, provider: Provider, run: bursar.Run | None, asked: list[dict[str, Any]], workers: int) -> float:
    """Send all of them as tasks of one event loop; seconds."""

    async def everything() -> float:
        made: Any = anthropic.AsyncAnthropic if api == "messages" else openai.AsyncOpenAI
        url = provider.anthropic_url if api == "messages" else provider.openai_url
        async with made(base_url=url, api_key="x", max_retries=0) as bare:
            client: Any = bare if run is None else bursar.wrap(bare)
            create = client.messages.create if api == "messages" else client.chat.completions.create

            async def one(request: dict[str, Any]) -> None:
                try:
                    await create(**request)
                except bursar.BudgetExceeded:
                    return

            began = time.monotonic()
            await asyncio.gather(*(one(request) for request in asked))
            return time.monotonic() - began

    return asyncio.run(everything())


def price_of_one(api: str, prompt: str) -> int:
    """What the provider bills for one such call."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=OUT)) as provider:
        in_threads(api, provider, None, [arguments(api, prompt, 0, OUT)], 1)
        return provider.billed_nusd


def fifty(api: str, how: str, prompt: str, cap: int | None, *, warm: bool) -> Case:
    """One case of fifty."""
    send = in_threads if how == "threads" else in_tasks
    one = price_of_one(api, prompt)
    limit = one * (2 * AFFORDABLE + 1) // 2
    name = f"{api} {how} {'30k in ' if prompt is LONG else ''}cap {cap or 'absent'} {'warm' if warm else 'cold'}"
    with Provider(latency_s=LATENCY_S, replies=lambda _: Reply(output_tokens=OUT)) as provider:
        ten, all_of_them = (
            send(api, provider, None, [arguments(api, prompt, 10_000 + n, cap) for n in range(count)], CALLS)
            for count in (AFFORDABLE, CALLS)
        )
        if warm:
            with bursar.run(name, Budget(usd=usd(1_000 * one))) as run:
                send(api, provider, run, [arguments(api, prompt, 20_000 + n, cap) for n in range(WARM_UP)], WARM_UP)
        provider.reset()
        with bursar.run(name, Budget(usd=usd(limit))) as run:
            wall = send(api, provider, run, [arguments(api, prompt, n, cap) for n in range(CALLS)], CALLS)
        served = len(provider.charges)
        left = limit - provider.billed_nusd
        return case_of(name, run, provider, limit, min(CALLS - served, left // one), wall, ten, all_of_them, served)


def horizon(spread: str) -> Case:
    """Four hundred calls by twenty workers under a budget for about half of them, with outputs that vary."""
    dice = random.Random(3)
    outputs = [
        dice.randint(100, 300) if spread == "uniform" else min(1_500, max(10, round(dice.lognormvariate(5, 0.7))))
        for _ in range(400)
    ]

    def reply(request: ReceivedRequest) -> Reply:
        return Reply(output_tokens=outputs[int(request.body["messages"][0]["content"][:5])], latency_s=0.05)

    asked = [arguments("chat", SHORT, n, 2_000) for n in range(400)]
    with Provider(replies=reply) as provider:
        half = in_threads("chat", provider, None, asked[:200], 20)
        limit = provider.billed_nusd
        provider.reset()
        with bursar.run(f"horizon {spread}", Budget(usd=usd(limit))) as run:
            wall = in_threads("chat", provider, run, asked, 20)
        served, left = len(provider.charges), limit - provider.billed_nusd
        sent = {int(request.body["messages"][0]["content"][:5]) for request in provider.requests}
        denied = 0
        # A denied call was affordable if its own answer still fits what was never spent; the shortest go first.
        for output in sorted(output for number, output in enumerate(outputs) if number not in sent):
            left -= provider.charges[0].input_tokens * 2_500 + output * 10_000
            denied += left >= 0
        return case_of(f"400 calls, {spread} outputs", run, provider, limit, denied, wall, half, half, served)


def case_of(
    name: str,
    run: bursar.Run,
    provider: Provider,
    limit: int,
    denied: int,
    wall: float,
    ten: float,
    fifty_s: float,
    served: int,
) -> Case:
    """Read the books of a case."""
    with Reader(process().ledger.path) as reader:
        rows = reader.calls(reader.family(run.id))
    assert sum(row.nusd or 0 for row in rows) == provider.billed_nusd, "the books are not the provider's"
    assert provider.billed_nusd <= limit, "overspent"
    return Case(
        name,
        served,
        round(provider.billed_nusd / limit, 3),
        run.spend.held.nusd,
        denied,
        sum("lowered" in row.flags for row in rows),
        sum("clamped" in row.flags for row in rows),
        sum(row.finish_reason in {"length", "max_tokens"} for row in rows),
        round(wall, 2),
        round(wall / ten, 2),
        round(wall / fifty_s, 2),
    )


def main() -> None:
    """Run the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the chat cases only")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found, cases = facts(), []
    with own_ledger():
        for api in ("chat",) if given.quick else ("chat", "messages"):
            for how in ("threads", "asyncio"):
                for cap in (OUT, 6 * OUT, 22 * OUT, None):
                    cases += [fifty(api, how, SHORT, cap, warm=warm) for warm in (False, True)]
                cases.append(fifty(api, how, LONG, 6 * OUT, warm=True))
        cases += [horizon(spread) for spread in ("uniform", "heavy-tailed")]
    if given.json:
        print(as_json({"facts": found, "cases": [asdict(case) for case in cases]}))
        return
    print(show_facts(found))
    print(table(list(asdict(cases[0])), [list(asdict(case).values()) for case in cases]))


if __name__ == "__main__":
    main()
