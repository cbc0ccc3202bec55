"""`over`: a limit that warns, and one that slows down."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, BursarWarning
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from tests.clients.books import rows_of, verdicts_of
from tests.clients.callers import CALLERS, Ask, achat, sync_chat


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_warn_refuses_nothing(provider: Provider, ask: Ask) -> None:
    """Beyond the limit calls go on as asked; each is a verdict, and one warning says it."""
    with bursar.run("warned", Budget(model_calls=1, over="warn")) as run:
        ask(provider)
        with pytest.warns(BursarWarning, match="goes beyond 1 model_calls") as said:
            ask(provider)
        ask(provider)
    assert len(said) == 1
    assert [(verdict.action, verdict.settled, verdict.needed) for verdict in verdicts_of(run)] == [
        ("over", 1, 1),
        ("over", 2, 1),
    ]
    assert run.remaining == {"model_calls": -2}
    assert run.spend.settled.nusd == provider.billed_nusd
    assert [row.flags for row in rows_of(run)] == [(), ("repeated",), ("repeated",)]


def test_warn_changes_no_cap(provider: Provider) -> None:
    """What would be clamped under a limit that refuses is sent as asked under one that warns."""
    with bursar.run("warned", Budget(usd="0.0029", over="warn")):
        sync_chat(provider, max_completion_tokens=4_000)
    assert [request.max_output_tokens for request in provider.requests] == [4_000]


def test_warn_lets_a_model_without_a_price_go(provider: Provider) -> None:
    """Nothing is refused, so neither is what cannot be priced."""
    with bursar.run("unpriced", Budget(usd="1", over="warn")) as run:
        with pytest.raises(openai.APIStatusError):
            sync_chat(provider, model="nobodys-model")
    assert [row.nusd for row in rows_of(run)] in ([None], [0])


def test_an_outer_limit_still_refuses(provider: Provider) -> None:
    """A limit inside that warns loosens nothing outside."""
    with bursar.run("outer", Budget(model_calls=1)), bursar.budget(model_calls=5, over="warn"):
        sync_chat(provider)
        with pytest.raises(BudgetExceeded):
            sync_chat(provider)


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_throttle_lets_calls_go_at_its_rate(provider: Provider, ask: Ask) -> None:
    """Within the limit at once; beyond it the first goes, the next 0.2 s later, with a verdict and its wait on the row."""
    with bursar.run("slow", Budget(model_calls=1, over="throttle:5/s")) as run:
        for _ in range(3):
            ask(provider)
    starts = [row.ts_us for row in rows_of(run)]
    assert starts[2] - starts[1] >= 180_000
    assert [verdict.action for verdict in verdicts_of(run)] == ["throttle"] * 2
    assert rows_of(run)[2].queue_us > 0
    assert run.spend.settled.model_calls == 3
    assert run.spend.settled.nusd == provider.billed_nusd


def test_parallel_tasks_share_one_rate() -> None:
    """Six tasks at once over a limit of two: four of them go out one after the other, 0.1 s apart."""

    async def six(provider: Provider) -> None:
        await asyncio.gather(*(achat(provider) for _ in range(6)))

    with Provider(latency_s=0.0) as provider, bursar.run("six", Budget(model_calls=2, over="throttle:10/s")) as run:
        asyncio.run(six(provider))
    slowed = sorted(row.ts_us for row in rows_of(run))
    assert len([verdict for verdict in verdicts_of(run) if verdict.action == "throttle"]) == 4
    assert slowed[5] - slowed[2] >= 250_000


def test_parallel_threads_share_one_rate(provider: Provider) -> None:
    """The same for threads."""
    with bursar.run("six", Budget(model_calls=2, over="throttle:10/s")) as run:
        threads = [threading.Thread(target=run.bind(sync_chat), args=(provider,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    slowed = sorted(row.ts_us for row in rows_of(run))
    assert len([verdict for verdict in verdicts_of(run) if verdict.action == "throttle"]) >= 4
    assert slowed[5] - slowed[2] >= 250_000


def test_a_cancelled_wait_leaves_nothing_behind(provider: Provider) -> None:
    """Cancelled while it is slowed down, a task holds nothing, sends nothing, and takes nobody's turn."""

    async def work(run: bursar.Run) -> None:
        await achat(provider)
        await achat(provider)
        waiting = asyncio.create_task(achat(provider))
        await asyncio.sleep(0.1)
        assert run.spend.held != NOTHING
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert run.spend.held == NOTHING

    with bursar.run("cancelled", Budget(model_calls=1, over="throttle:1/h")) as run:
        asyncio.run(work(run))
    assert len(provider.requests) == 2


def test_a_deadline_ends_the_wait(provider: Provider) -> None:
    """A call that is slowed down waits until the deadline at most, is refused there, and holds nothing."""
    with bursar.run("both", Budget(model_calls=1, over="throttle:1/h"), Budget(seconds=3)) as run:
        sync_chat(provider)
        sync_chat(provider)
        with pytest.raises(BudgetExceeded) as stopped:
            sync_chat(provider)
    assert stopped.value.why == "deadline"
    assert run.spend.held == NOTHING
    assert len(provider.requests) == 2


@pytest.mark.parametrize("over", ["warn", "throttle:1/h"])
def test_observing_says_and_does_nothing(provider: Provider, over: str) -> None:
    """In observe mode the verdicts do not act: no warning, no wait."""
    with bursar.run("watched", Budget(model_calls=1, over=over), mode="observe") as run:
        for _ in range(3):
            sync_chat(provider)
    assert {verdict.acted for verdict in verdicts_of(run)} == {False}
    assert len(verdicts_of(run)) == 2


def test_a_throttle_in_dollars_refuses_what_has_no_price(provider: Provider) -> None:
    """A limit that acts cannot be kept without a price: refused, as under a limit that denies."""
    with bursar.run("unpriced", Budget(usd="1", over="throttle:1/s")), pytest.raises(bursar.PriceUnknown):
        sync_chat(provider, model="nobodys-model")
    assert provider.requests == []


def test_a_large_cap_alone_is_not_beyond_the_limit() -> None:
    """A call is beyond a limit where it would be refused at its smallest, not where its cap is generous."""

    def short(_: Any) -> Reply:
        return Reply(output_tokens=10)

    with Provider(latency_s=0.0, replies=short) as provider:
        with bursar.run("generous", Budget(tokens=5_000, over="throttle:1/h")) as run:
            for _ in range(3):
                sync_chat(provider, max_completion_tokens=16_000)
    assert verdicts_of(run) == []
