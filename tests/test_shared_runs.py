"""Runs that several processes have open at once: one budget for all of them, whoever is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, CostGate, PriceUnknown
from bursar.approvals import Reply as Yes
from bursar.testing import ModelPrice, Provider, rates
from bursar.words.events import NOTHING
from tests.clients.books import rows_of

WORKER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import openai, bursar
from bursar import Budget
client = bursar.wrap(openai.OpenAI(base_url=sys.argv[1], api_key="x", max_retries=0))
def ask(_):
    try:
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_completion_tokens=400
        )
    except bursar.Stopped:
        return 0
    return 1
with bursar.run("crawl", Budget(model_calls=10, usd="1"), id=sys.argv[2], shared=True) as run:
    print("open", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(4) as pool:
        served = sum(pool.map(run.bind(ask), range(int(sys.argv[3]))))
print(served, flush=True)
"""


@pytest.fixture
def gpt(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        yield bursar.wrap(client)


def ask(client: Any, model: str = "gpt-4o") -> None:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], max_completion_tokens=400)


def worker(provider: Provider, run_id: str, calls: int) -> subprocess.Popen[str]:
    """Another process that has the run open, and asks so often when it is told to."""
    pipe, code = subprocess.PIPE, [sys.executable, "-c", WORKER, provider.openai_url, run_id, str(calls)]
    child = subprocess.Popen(code, stdin=pipe, stdout=pipe, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    return child


def test_processes_spend_of_one_budget(gpt: openai.OpenAI, provider: Provider) -> None:
    """Three processes that ask for more than there is, at once: ten calls are served in all, and each can see it."""
    with bursar.run("crawl", Budget(model_calls=10, usd="1"), shared=True) as run:
        ask(gpt)
        others = [worker(provider, run.id, 9) for _ in range(2)]
        served = [int(child.communicate("\n")[0]) for child in others]
        assert 1 + sum(served) == 10 == len(provider.charges)
        assert run.spend.settled.model_calls == 10
        assert run.spend.settled.nusd == provider.billed_nusd
        assert run.spend.held == NOTHING
        assert run.remaining["model_calls"] == 0
        with pytest.raises(BudgetExceeded, match=f"run {run.id} shared"):
            ask(gpt)
    assert "10 model" in run.summary()
    assert len(rows_of(run)) == 10


def test_what_a_killed_process_had_in_flight_is_charged(gpt: openai.OpenAI) -> None:
    """Nobody knows what became of it: it counts at its bound, and its part of the budget does not come back."""
    with Provider(latency_s=30.0) as slow, bursar.run("crawl", Budget(model_calls=10, usd="1"), shared=True) as run:
        child = worker(slow, run.id, 4)
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        while len(slow.requests) < 4:
            time.sleep(0.01)
        child.kill()
        child.communicate()
        with ThreadPoolExecutor(4) as pool:
            served = sum(pool.map(run.bind(_served), [gpt] * 9))
        assert served == 6
        assert run.spend.settled.model_calls == 10
        assert run.spend.unmeasured.model_calls == 4


def _served(client: openai.OpenAI) -> bool:
    try:
        ask(client)
    except BudgetExceeded:
        return False
    return True


def test_a_run_that_was_not_shared_before_counts_what_it_has_cost(gpt: openai.OpenAI) -> None:
    """Its rows say it, once: those who open it later find it in the file."""
    with bursar.run("crawl", Budget(model_calls=3)) as first:
        ask(gpt)
    for left in (2, 1):
        with bursar.run("crawl", Budget(model_calls=3), id=first.id, shared=True) as run:
            assert run.remaining["model_calls"] == left
            ask(gpt)
    with bursar.run("crawl", Budget(model_calls=3), id=first.id, shared=True), pytest.raises(BudgetExceeded):
        ask(gpt)


def test_what_is_nested_counts_as_well(gpt: openai.OpenAI) -> None:
    """Runs and budgets inside of it, and clients with tags of their own."""
    tagged = bursar.wrap(gpt, feature="inbox")
    with bursar.run("crawl", Budget(model_calls=3), shared=True) as run:
        with bursar.run("part", Budget.unlimited()):
            ask(gpt)
        with bursar.budget(usd="1"):
            ask(tagged)
        assert run.spend.settled.model_calls == 2
        ask(tagged)
        with pytest.raises(BudgetExceeded), bursar.run("part", Budget.unlimited()):
            ask(gpt)


def test_the_strictest_budget_of_a_unit_is_shared(gpt: openai.OpenAI) -> None:
    """Two budgets of one run: both hold, as they do where nothing is shared."""
    with bursar.run("crawl", Budget(model_calls=3), Budget(model_calls=1, usd="1"), shared=True) as run:
        ask(gpt)
        with pytest.raises(BudgetExceeded):
            ask(gpt)
    assert run.spend.settled.model_calls == 1


def test_a_default_budget_that_is_shared_does_not_insist_on_a_price() -> None:
    """As it does not where it is not; one in dollars that somebody gave does."""
    own = {"house-model": ModelPrice("openai", rates("1", "2"))}
    with Provider(latency_s=0.0, models=own) as provider:
        client = bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0))
        with pytest.warns(bursar.BursarWarning, match="has no budget"), bursar.run("new", shared=True) as run:
            ask(client, "house-model")
        assert run.unpriced == 1
        with bursar.run("new", Budget(usd="1"), shared=True), pytest.raises(PriceUnknown):
            ask(client, "house-model")
        client.close()


def test_a_budget_that_is_raised_is_raised_for_all(gpt: openai.OpenAI) -> None:
    """Whoever opens the run after the yes has the larger budget, though it names the old one."""
    gate = CostGate(ask="full", approver=lambda _: Yes(True, raise_usd="1"))
    with bursar.run("crawl", Budget(usd="0.000001"), gate, shared=True) as run:
        ask(gpt)
        assert run.limits["usd"] > 10**9
    with bursar.run("crawl", Budget(usd="0.000001"), id=run.id, shared=True) as again:
        ask(gpt)
        assert again.spend.settled.model_calls == 2
