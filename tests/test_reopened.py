"""Runs that go on, in this process or in another one: what they have spent is spent."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, ConfigError
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from tests.clients.books import rows_of

DIES = """
import os, sys
import openai, bursar
from bursar import Budget
client = bursar.wrap(openai.OpenAI(base_url=sys.argv[1], api_key="x", max_retries=0))
with bursar.run("triage", Budget(model_calls=5)) as run:
    with bursar.run("part", Budget.unlimited()):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    print(run.id, run.spend.settled.nusd, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def gpt(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        yield bursar.wrap(client)


def ask(client: Any) -> None:
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])


def test_a_run_goes_on_where_it_ended(gpt: openai.OpenAI, provider: Provider) -> None:
    """Its budgets, its steps and its row count what was before; a call more than was allowed at first is refused."""
    with bursar.run("triage", Budget(model_calls=3)) as first:
        ask(gpt)
        ask(gpt)
    with bursar.run("triage", Budget(model_calls=3), Budget(usd="1"), id=first.id) as run:
        assert run.id == first.id
        assert run.spend == first.spend
        assert run.remaining["model_calls"] == 1
        ask(gpt)
        assert run.steps == 3
        with pytest.raises(BudgetExceeded):
            ask(gpt)
    assert run.spend.settled.nusd == provider.billed_nusd
    assert [row.step for row in rows_of(run)] == [1, 2, 3]
    assert "list price, 0 unpriced" in run.summary()


def test_a_run_goes_on_after_its_process_was_killed(provider: Provider, gpt: openai.OpenAI) -> None:
    """With all that it and what was nested in it had spent, though nobody had written its end."""
    done = subprocess.run(
        [sys.executable, "-c", DIES, provider.openai_url], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    run_id, nusd = done.stdout.split()
    with bursar.run("triage", Budget(model_calls=3), id=run_id) as run:
        assert run.spend.settled.nusd == int(nusd) == provider.billed_nusd
        assert run.spend.held == NOTHING
        ask(gpt)
        with pytest.raises(BudgetExceeded):
            ask(gpt)


def test_what_was_charged_at_a_bound_goes_on_as_such() -> None:
    """Unmeasured stays unmeasured."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(fault="no_usage")) as provider:
        client = bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0))
        with bursar.run("triage", Budget(usd="1")) as first:
            ask(client)
        assert first.spend.unmeasured.nusd > 0
        with bursar.run("triage", Budget(usd="1"), id=first.id) as run:
            assert run.spend == first.spend
        client.close()


def test_the_reserve_counts_what_was_before(gpt: openai.OpenAI) -> None:
    """What ordinary calls may have is not filled up again."""
    with bursar.run("triage", Budget(model_calls=3, reserve_final="auto")) as first:
        ask(gpt)
        ask(gpt)
    with bursar.run("triage", Budget(model_calls=3, reserve_final="auto"), id=first.id) as run:
        with pytest.raises(BudgetExceeded):
            ask(gpt)
        with run.final():
            ask(gpt)


@pytest.mark.parametrize(
    "wrong",
    [
        "../../x",
        "/etc/x",
        "a\0b",
        "CON",
        "x" * 300,
        "01ARZ3NDEKTSV4RRFFQ69G5FAV.",
        "",
        7,
        "01arz3ndektsv4rrffq69g5fav",
        "\u0660" * 26,
    ],
)
def test_what_is_no_id_is_refused(wrong: Any, ledger: Path) -> None:
    """Paths, devices, other lengths and letters: a ConfigError with the value, and no file is made or named by it."""
    before = sorted(ledger.parent.rglob("*"))
    with pytest.raises(ConfigError, match="is no id of a run"), bursar.run("triage", Budget(usd="1"), id=wrong):
        pass
    assert sorted(ledger.parent.rglob("*")) == before


def test_a_run_that_nobody_knows_gets_no_budget(gpt: openai.OpenAI) -> None:
    """An id of another ledger opens nothing; one that is open here, or inside of another run, neither."""
    with pytest.raises(ConfigError, match="no such run"), bursar.run("x", id="01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        pass
    with bursar.run("triage", Budget(usd="1")) as run:
        ask(gpt)
        with pytest.raises(ConfigError, match="by itself"), bursar.run("triage", id=run.id):
            pass
