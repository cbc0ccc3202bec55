"""`seconds`: nothing begins after the deadline, and nothing that has begun is lost to it."""

from __future__ import annotations

import asyncio
import threading
import time
from decimal import Decimal

import pytest

import bursar
from bursar import Budget, BudgetExceeded
from bursar.testing import Provider, ReceivedRequest, Reply
from bursar.words.events import NOTHING
from tests.clients.books import rows_of, verdicts_of
from tests.clients.callers import CALLERS, Ask, achat, sync_chat


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_call_that_begins_after_the_deadline_is_refused(provider: Provider, ask: Ask) -> None:
    """Nothing is sent, the error is in microseconds and says what to do, and the refusal is on the record."""
    with bursar.run("late", Budget(seconds=0.01)) as run:
        time.sleep(0.02)
        with pytest.raises(BudgetExceeded, match=r"0\.01 seconds are over.*raise Budget\(seconds") as stopped:
            ask(provider)
    error = stopped.value
    assert (error.unit, error.why, error.limit, error.scope) == ("seconds", "deadline", 10_000, f"run {run.id}")
    assert error.settled >= 20_000
    assert provider.requests == []
    (verdict,) = verdicts_of(run)
    assert (verdict.action, verdict.reason, verdict.unit, verdict.acted) == ("deny", "deadline", "seconds", True)
    assert run.stop_reason == "budget"


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_paid_answer_is_never_thrown_away(ask: Ask) -> None:
    """A call in flight at the deadline ends as it would have; only the next one is refused."""
    with Provider(latency_s=0.9) as slow, bursar.run("slow", Budget(seconds=0.8)) as run:
        assert ask(slow) is not None
        with pytest.raises(BudgetExceeded):
            ask(slow)
        assert run.spend.settled.nusd == slow.billed_nusd > 0


def test_what_is_left_is_shown(provider: Provider) -> None:
    """`remaining` counts down to zero, in exact seconds, and stays there."""
    with bursar.run("left", Budget(seconds=1, model_calls=2)) as run:
        left = run.remaining["seconds"]
        assert isinstance(left, Decimal)
        assert 0 < left <= 1
        sync_chat(provider)
        assert run.remaining["seconds"] < left
        with bursar.budget(seconds=0.01) as inner:
            time.sleep(0.02)
            assert inner.remaining == {"seconds": 0}
        assert run.remaining["model_calls"] == 1


def test_the_nearest_deadline_counts(provider: Provider) -> None:
    """An inner deadline ends inside, an outer one ends all, whichever is named later."""
    with bursar.run("outer", Budget(seconds=60)):
        with bursar.budget(seconds=0.01) as inner:
            time.sleep(0.02)
            with pytest.raises(BudgetExceeded) as stopped:
                sync_chat(provider)
            assert stopped.value.scope.startswith(f"budget {inner.run.id}")
        sync_chat(provider)
    with bursar.run("outer", Budget(seconds=0.5)) as outer:
        sync_chat(provider)
        with bursar.run("inner", Budget(seconds=60)):
            time.sleep(0.5)
            with pytest.raises(BudgetExceeded) as stopped:
                sync_chat(provider)
    assert stopped.value.scope == f"run {outer.id}"
    assert len(provider.charges) == 2


def test_a_thread_waits_in_a_queue_until_the_deadline_at_most() -> None:
    """Behind a call that takes longer, the wait ends with the deadline, while the other is still under way."""
    go_on = threading.Event()

    def late(_: ReceivedRequest) -> Reply:
        assert go_on.wait(30)
        return Reply()

    with Provider(latency_s=0.0, replies=late) as slow, bursar.run("queue", Budget(tokens=500, seconds=3)) as run:
        first = threading.Thread(target=run.bind(sync_chat), args=(slow,))
        first.start()
        while not run.spend.held.tokens:
            time.sleep(0.005)
        errors: list[BudgetExceeded] = []

        def second() -> None:
            with pytest.raises(BudgetExceeded) as stopped:
                sync_chat(slow)
            errors.append(stopped.value)

        other = threading.Thread(target=run.bind(second))
        other.start()
        other.join()
        go_on.set()
        first.join()
        assert [error.why for error in errors] == ["deadline"]
        assert len(slow.charges) == 1
        assert run.spend.held == NOTHING


def test_a_task_waits_in_a_queue_until_the_deadline_at_most() -> None:
    """The same on an event loop: of two calls of which one fits, the second is refused at the deadline."""

    async def both(slow: Provider) -> list[object]:
        return list(await asyncio.gather(achat(slow), achat(slow), return_exceptions=True))

    with Provider(latency_s=2.0) as slow, bursar.run("queue", Budget(tokens=500, seconds=1)) as run:
        ended = asyncio.run(both(slow))
        refused = [error for error in ended if isinstance(error, BudgetExceeded)]
        assert [error.why for error in refused] == ["deadline"]
        assert len(rows_of(run)) == len(slow.charges) == 1


def test_a_retry_after_the_deadline_is_not_sent() -> None:
    """The SDK's own retry begins a new attempt: after the deadline it is refused like any call."""
    import openai

    with Provider(latency_s=0.0, replies=lambda _: Reply(status=429, headers={"retry-after": "6"})) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=3) as client:
            with bursar.run("retry", Budget(seconds=5)), pytest.raises(BudgetExceeded) as stopped:
                bursar.wrap(client).chat.completions.create(
                    model="gpt-4o", messages=[{"role": "user", "content": "hi"}]
                )
        assert stopped.value.why == "deadline"
        assert stopped.value.__cause__ is None
        assert len(provider.requests) == 1


def test_observing_a_deadline_stops_nothing(provider: Provider) -> None:
    """In observe mode the verdict says that it did not act, and the call goes out."""
    with bursar.run("watched", Budget(seconds=0.01), mode="observe") as run:
        time.sleep(0.02)
        sync_chat(provider)
    assert [(verdict.reason, verdict.acted) for verdict in verdicts_of(run)] == [("deadline", False)]
    assert len(provider.charges) == 1
