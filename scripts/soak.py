"""Ten minutes of a service that calls models in every way under every fault, and its books against the bill.

    python scripts/soak.py                      # 4 worker processes, 10 minutes
    python scripts/soak.py --seconds 60 --json

Each worker is a process with threads and an event loop, both SDKs, plain and streamed calls, embeddings, background
responses, batches, tools, retries under a cap, a loop guard, nested runs and budgets, streams that are dropped, tasks
that are cancelled. The provider on loopback answers slowly, refuses, fails, cuts streams, forgets usage and ignores
caps. At the end, for every run: what the provider billed for it, what the ledger says, what is held. Exit code 0
means: no run was billed beyond its limit but by a call that the ledger calls an overrun (a plain answer of a server
that ignores the cap), none is in the ledger at less than was billed, runs without a fault are there at exactly that,
nothing is held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import re
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai

import bursar
from bursar import Budget, LoopGuard, RetryCap
from bursar._money import show_usd
from bursar._process import process
from bursar.db import open_ledger
from bursar.testing import Provider, ReceivedRequest, Reply

PROMPT = "Where is the order of customer 17? Answer in one paragraph. "
KINDS = ("chat", "messages", "responses")
PATIENCE_S = 5.0
"""How long somebody asks for the end of what he ordered."""
MARK = re.compile(r"<(\w+)>")
FAILURES = (anthropic.APIError, openai.APIError, httpx2.HTTPError)
"""What an agent takes for a failed call; streams that break raise the transport's own error."""
FAULTS = (
    (0.03, {"status": 429}), (0.02, {"status": 500}), (0.02, {"status": 529}), (0.02, {"fault": "reset"}),
    (0.02, {"fault": "reset_after_billing"}), (0.02, {"fault": "drop_mid_stream"}),
    (0.02, {"fault": "error_mid_stream"}), (0.02, {"fault": "no_usage"}), (0.02, {"ignores_cap": True}),
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A run as its worker saw it."""

    run_id: str
    limit_nusd: int
    held_nusd: int


CHUNK_S = 0.01
"""A chunk of 8 tokens each: 800 tokens a second. A provider without any delay has written whole answers into the
socket's buffer when a caller leaves after four chunks, and nobody can know what it will bill for those."""


def reply(request: ReceivedRequest) -> Reply:
    """What the provider does with a request: mostly an answer, one time in six a fault; every third run is spared."""
    dice = random.Random(request.number)
    tokens, slow = dice.randint(20, 400), dice.uniform(0.005, 0.2)
    mark = MARK.search(json.dumps(request.body))
    spared = mark is not None and int(mark.group(1), 36) % 3 == 0
    point = 1.0 if spared else dice.random()
    for share, fault in FAULTS:
        if point < share:
            return Reply(output_tokens=tokens, latency_s=slow, chunk_delay_s=CHUNK_S, **fault)
        point -= share
    return Reply(output_tokens=tokens, latency_s=slow, chunk_delay_s=CHUNK_S)


@bursar.tool(usd="0.0001")
def look_up(order: int) -> str:
    """A tool with a price, which fails now and then."""
    if order % 7 == 0:
        raise LookupError(order)
    return "on its way"


class Agent:
    """One agent loop: a few calls in a row or at once, until its budget or its work ends."""

    def __init__(self, clients: dict[str, Any], seed: int) -> None:
        self.clients, self.dice = clients, random.Random(seed)

    def request(self, kind: str, run_id: str) -> dict[str, Any]:
        """What one call asks for, with the run's mark in it, so that the bill can be told apart."""
        text = f"<{run_id}> {self.dice.random()} " + PROMPT * self.dice.randint(1, 40)
        cap = self.dice.choice([200, 400, 1_000, 4_000])
        if kind == "messages":
            return {"model": "claude-sonnet-5-5", "max_tokens": cap, "messages": [{"role": "user", "content": text}]}
        if kind == "responses":
            return {"model": "gpt-4o", "input": text, "max_output_tokens": cap}
        return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "max_completion_tokens": cap}

    def create(self, kind: str, *, is_async: bool) -> Any:
        """The method of the wrapped client."""
        client = self.clients[("async " if is_async else "") + ("messages" if kind == "messages" else "openai")]
        if kind == "messages":
            return client.messages.create
        return client.responses.create if kind == "responses" else client.chat.completions.create

    def budget(self) -> Budget:
        """Mostly too little for all that the agent wants."""
        return Budget(usd=f"0.{self.dice.randint(10, 120):03d}")

    def call(self, run_id: str) -> None:
        """One blocking call, plain or streamed, sometimes left in the middle."""
        kind = self.dice.choice(KINDS)
        stream = self.dice.random() < 0.5
        answer = self.create(kind, is_async=False)(**self.request(kind, run_id), stream=stream)
        if stream:
            with answer as events:
                for n, _ in enumerate(events):
                    if n > 3 and self.dice.random() < 0.02:
                        break

    async def acall(self, run_id: str) -> None:
        """One awaited call, plain or streamed, sometimes left in the middle or cancelled."""
        kind = self.dice.choice(KINDS)
        stream = self.dice.random() < 0.5

        async def go() -> None:
            answer = await self.create(kind, is_async=True)(**self.request(kind, run_id), stream=stream)
            if stream:
                async with answer as events:
                    n = 0
                    async for _ in events:
                        n += 1
                        if n > 3 and self.dice.random() < 0.02:
                            break

        if self.dice.random() < 0.05:
            async with asyncio.timeout(self.dice.uniform(0.01, 0.3)):
                await go()
        else:
            await go()

    def embed(self, run_id: str) -> None:
        """Some vectors."""
        texts = [f"<{run_id}> {PROMPT}"] * self.dice.randint(1, 5)
        self.clients["openai"].embeddings.create(model="text-embedding-3-small", input=texts)

    def order(self, run_id: str) -> None:
        """A background response, or a batch, and what came of it."""
        until = time.monotonic() + PATIENCE_S
        if self.dice.random() < 0.5:
            responses = self.clients["openai"].responses
            answer = responses.create(**self.request("responses", run_id), background=True)
            while answer.status in ("queued", "in_progress") and time.monotonic() < until:
                time.sleep(0.05)
                answer = responses.retrieve(answer.id)
            return
        batches = self.clients["messages"].messages.batches
        asked = [{"custom_id": f"c{n}", "params": self.request("messages", run_id)} for n in range(3)]
        batch = batches.create(requests=asked)
        while batch.processing_status != "ended" and time.monotonic() < until:
            time.sleep(0.05)
            batch = batches.retrieve(batch.id)
        if batch.processing_status == "ended":
            list(batches.results(batch.id))

    def threads(self) -> Ended:
        """A run with a few threads in it."""
        budget = self.budget()
        guards = (budget, RetryCap(attempts=2), LoopGuard())
        with bursar.run("soak threads", *guards, user=f"u{self.dice.randint(0, 20)}") as run:
            workers = [threading.Thread(target=run.bind(self.several), args=(run.id,)) for _ in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        return Ended(run.id, budget.limits()["usd"], run.spend.held.nusd)

    def several(self, run_id: str) -> None:
        """Calls until the budget says no."""
        for _ in range(6):
            try:
                with bursar.budget(tokens=6_000):
                    self.call(run_id)
                with contextlib.suppress(LookupError):
                    look_up(self.dice.randint(1, 50))
                if self.dice.random() < 0.2:
                    self.dice.choice([self.embed, self.order])(run_id)
            except bursar.Stopped:
                return
            except FAILURES:
                continue

    async def tasks(self) -> Ended:
        """A run with tasks in it, and a run nested in it."""
        budget = self.budget()
        async with bursar.run("soak tasks", budget, user=f"u{self.dice.randint(0, 20)}") as run:
            await asyncio.gather(*(self.aseveral(run.id) for _ in range(4)))
            async with bursar.run("soak nested", Budget(usd="0.02")):
                await self.aseveral(run.id)
        return Ended(run.id, budget.limits()["usd"], run.spend.held.nusd)

    async def aseveral(self, run_id: str) -> None:
        """Calls until the budget says no."""
        for _ in range(4):
            try:
                await self.acall(run_id)
            except bursar.Stopped:
                return
            except (*FAILURES, TimeoutError):
                continue


def worker(urls: tuple[str, str], path: str, seconds: float, seed: int, results: Any, begin: Any) -> None:
    """One process of the service: threads in one half of it, an event loop in the other."""
    warnings.simplefilter("ignore")
    bursar.configure(ledger=path)
    ended: list[Ended] = []
    begin.wait()
    until = time.monotonic() + seconds

    def blocking() -> None:
        options: dict[str, Any] = {"api_key": "x", "max_retries": 1}
        clients = {
            "messages": bursar.wrap(anthropic.Anthropic(base_url=urls[0], **options)),
            "openai": bursar.wrap(openai.OpenAI(base_url=urls[1], **options)),
        }
        agent = Agent(clients, seed)
        while time.monotonic() < until:
            ended.append(agent.threads())

    async def looping() -> None:
        options: dict[str, Any] = {"api_key": "x", "max_retries": 1}
        clients = {
            "async messages": bursar.wrap(anthropic.AsyncAnthropic(base_url=urls[0], **options)),
            "async openai": bursar.wrap(openai.AsyncOpenAI(base_url=urls[1], **options)),
        }
        agent = Agent(clients, seed + 1_000)
        while time.monotonic() < until:
            ended.append(await agent.tasks())

    thread = threading.Thread(target=blocking)
    thread.start()
    asyncio.run(looping())
    thread.join()
    process().close()
    results.put([(each.run_id, each.limit_nusd, each.held_nusd) for each in ended])


def billed(provider: Provider) -> tuple[Counter[str], Counter[str]]:
    """What each run was billed, and how many charges that were; the mark in the request says whose it is."""
    owner = {request.number: MARK.search(json.dumps(request.body)) for request in provider.requests}
    money: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for charge in provider.charges:
        mark = owner[charge.number]
        assert mark is not None
        money[mark.group(1)] += charge.nusd
        calls[mark.group(1)] += 1
    return money, calls


def ledger(path: Path) -> tuple[Counter[str], dict[str, set[str]], Counter[str], set[str]]:
    """What the ledger has on each outermost run: cost, kinds of certainty; rows by status; the runs with an overrun."""
    money: Counter[str] = Counter()
    sure: dict[str, set[str]] = defaultdict(set)
    statuses: Counter[str] = Counter()
    beyond: set[str] = set()
    rows = open_ledger(path, read_only=True).execute(
        "SELECT coalesce(r.parent_run_id, r.run_id), c.cost_nusd, e.usage_source, e.status, e.flags "
        "FROM model_call c JOIN run r ON r.number = c.run JOIN ending e ON e.id = c.ending"
    )
    for run_id, cost, source, status, flags in rows:
        if "overrun" in flags.split():
            beyond.add(run_id)
        money[run_id] += cost
        sure[run_id].add(source)
        statuses[status] += 1
    return money, sure, statuses, beyond


def judge(ended: list[Ended], provider: Provider, path: Path) -> dict[str, Any]:
    """Compare every run's three books."""
    bill, charges = billed(provider)
    kept, sure, statuses, beyond = ledger(path)
    faults, exact = [], 0
    for run in ended:
        if bill[run.run_id] > run.limit_nusd and run.run_id not in beyond:
            faults.append(f"{run.run_id} was billed {bill[run.run_id]} of {run.limit_nusd}")
        if kept[run.run_id] < bill[run.run_id]:
            faults.append(f"{run.run_id} is in the ledger at {kept[run.run_id]}, billed at {bill[run.run_id]}")
        if not sure[run.run_id] - {"provider", "none"}:
            exact += 1
            if kept[run.run_id] != bill[run.run_id]:
                faults.append(f"{run.run_id} is measured at {kept[run.run_id]}, billed at {bill[run.run_id]}")
        if run.held_nusd:
            faults.append(f"{run.run_id} still holds {run.held_nusd}")
    total, limit = sum(bill.values()), sum(run.limit_nusd for run in ended)
    return {
        "runs": len(ended),
        "runs wholly measured": exact,
        "runs with an overrun": len(beyond),
        "runs beyond their limit": sum(bill[run.run_id] > run.limit_nusd for run in ended),
        "billed calls": sum(charges.values()),
        "rows by status": dict(statuses),
        "billed usd": show_usd(total),
        "billed of limits": round(total / limit, 3),
        "ledger over bill": round(sum(kept.values()) / total, 4),
        "faults": faults,
    }


def main() -> None:
    """Run the service, then judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bursar-soak-") as directory, Provider(replies=reply) as provider:
        path, results = Path(directory) / "ledger.db", context.Queue()
        urls, begin = (provider.anthropic_url, provider.openai_url), context.Barrier(given.workers)
        children = [
            context.Process(target=worker, args=(urls, str(path), given.seconds, n, results, begin))
            for n in range(given.workers)
        ]
        for child in children:
            child.start()
        ended = [Ended(*each) for _ in children for each in results.get(timeout=given.seconds + 120)]
        for child in children:
            child.join()
        provider.wait_idle()
        found = judge(ended, provider, path)
    print(json.dumps(found, indent=2) if given.json else "\n".join(f"{k:24}{v}" for k, v in found.items()))
    raise SystemExit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
