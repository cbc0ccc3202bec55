"""Every entry point and every way to end: one row an attempt, charged by the table, nothing held, nothing free."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.testing import Provider, Reply, scripted
from bursar.words.events import NOTHING
from tests.clients.books import rows_of

MESSAGES = [{"role": "user", "content": "Name three rivers."}]


class Door:
    """One entry point of one SDK, sync or async, plain or streamed, behind one function."""

    def __init__(self, api: str, *, is_async: bool, stream: bool) -> None:
        self.api, self.is_async, self.stream = api, is_async, stream

    def client(self, provider: Provider, **options: Any) -> Any:
        options = {"api_key": "x", "max_retries": 0} | options
        if self.api == "messages":
            made: Any = anthropic.AsyncAnthropic if self.is_async else anthropic.Anthropic
            return made(base_url=provider.anthropic_url, **options)
        made = openai.AsyncOpenAI if self.is_async else openai.OpenAI
        return made(base_url=provider.openai_url, **options)

    def arguments(self) -> dict[str, Any]:
        extra: dict[str, Any] = {"stream": True} if self.stream else {}
        if self.api == "messages":
            return {"model": "claude-sonnet-5-5", "max_tokens": 500, "messages": MESSAGES, **extra}
        if self.api == "chat":
            return {"model": "gpt-4o", "max_completion_tokens": 500, "messages": MESSAGES, **extra}
        return {"model": "gpt-4o", "max_output_tokens": 500, "input": "Name three rivers.", **extra}

    def create(self, client: Any) -> Any:
        if self.api == "chat":
            return client.chat.completions.create
        return client.messages.create if self.api == "messages" else client.responses.create

    def call(self, client: Any, take: int | None = None) -> list[Any]:
        """Ask once and read the answer, or only its first events."""
        if self.is_async:
            return asyncio.run(self.acall(client, take))
        answer = self.create(client)(**self.arguments())
        if not self.stream:
            return [answer]
        events = []
        with answer:
            for event in answer:
                events.append(event)
                if take is not None and len(events) >= take:
                    break
        return events

    async def acall(self, client: Any, take: int | None = None) -> list[Any]:
        async with client:
            answer = await self.create(client)(**self.arguments())
            if not self.stream:
                return [answer]
            events = []
            async with answer:
                async for event in answer:
                    events.append(event)
                    if take is not None and len(events) >= take:
                        break
            return events


def doors() -> list[Any]:
    return [
        pytest.param(
            Door(api, is_async=is_async, stream=stream),
            id=f"{api}-{'async' if is_async else 'sync'}-{'stream' if stream else 'plain'}",
        )
        for api in ("messages", "chat", "responses")
        for is_async in (False, True)
        for stream in (False, True)
    ]


every_door = pytest.mark.parametrize("door", doors())
streamed = pytest.mark.parametrize("door", [d for d in doors() if d.values[0].stream])


def run_once(door: Door, reply: Reply, take: int | None = None, **options: Any) -> tuple[bursar.Run, Provider, Any]:
    """One call under a generous budget; the run, the provider and what the caller got or was raised."""
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        client = bursar.wrap(door.client(provider, **options))
        with bursar.run("endings", Budget(usd="1", tokens=100_000)) as run:
            try:
                outcome: Any = door.call(client, take)
            except (anthropic.AnthropicError, openai.OpenAIError, Exception) as error:  # noqa: BLE001
                outcome = error
        provider.wait_idle()
        if not door.is_async:
            client.close()
        return run, provider, outcome


def check(run: bursar.Run, provider: Provider) -> None:
    """What holds of every ending."""
    assert run.spend.held == NOTHING
    assert run.spend.settled.nusd >= provider.billed_nusd
    rows = rows_of(run)
    assert len(rows) == 1
    assert sum(row.nusd or 0 for row in rows) == run.spend.settled.nusd


@every_door
def test_an_answer_is_charged_what_the_provider_bills(door: Door) -> None:
    """A plain end: the provider's usage, to the nano-dollar, measured."""
    run, provider, _ = run_once(door, Reply(output_tokens=40))
    check(run, provider)
    (row,) = rows_of(run)
    assert run.spend.settled.nusd == provider.billed_nusd
    assert (row.status, row.usage_source, row.cost_status, row.output_tokens) == ("ok", "provider", "list_price", 40)
    assert run.spend.unmeasured == NOTHING
    assert (row.ttft_us is not None) == door.stream


@every_door
@pytest.mark.parametrize("status", [400, 401, 404, 429, 503, 529])
def test_a_refusal_of_the_provider_costs_nothing(door: Door, status: int) -> None:
    """Errors before generation release the hold; the caller sees the SDK's own exception."""
    run, provider, outcome = run_once(door, Reply(status=status, error_type="scripted"))
    check(run, provider)
    assert outcome.status_code == status
    assert run.spend.settled == NOTHING
    (row,) = rows_of(run)
    assert (row.status, row.http_status, row.nusd) == ("error", status, 0)


@every_door
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_server_error_is_charged_its_input(door: Door, status: int) -> None:
    """After a 500 the prompt may have been billed: the input is charged, unmeasured."""
    run, provider, outcome = run_once(door, Reply(status=status))
    check(run, provider)
    assert outcome.status_code == status
    (row,) = rows_of(run)
    assert row.cost_status == "estimated"
    assert row.output_tokens == 0
    assert run.spend.unmeasured.input_tokens > 0


@every_door
def test_a_lost_answer_is_charged_at_its_bound(door: Door) -> None:
    """Generated, billed, and then the connection breaks: never free, whatever the SDK calls it."""
    run, provider, outcome = run_once(door, Reply(output_tokens=40, fault="reset_after_billing"))
    check(run, provider)
    assert provider.billed_nusd > 0
    assert isinstance(outcome, Exception)
    (row,) = rows_of(run)
    assert row.usage_source in ("estimated", "stream_partial")


@every_door
def test_a_call_that_never_left_is_released(door: Door) -> None:
    """Nobody listens: nothing was sent, nothing is charged."""
    with Provider() as provider:
        client = bursar.wrap(door.client(provider))
    with bursar.run("endings", Budget(usd="1")) as run:
        with pytest.raises((anthropic.APIConnectionError, openai.APIConnectionError)):
            door.call(client)
    assert run.spend.settled == NOTHING
    assert run.spend.held == NOTHING
    (row,) = rows_of(run)
    assert (row.nusd, row.retry_reason) == (0, "connection")


@every_door
def test_a_time_out_is_charged_at_its_bound(door: Door) -> None:
    """The client gives up while the provider still writes: the hold is charged and flagged."""
    run, provider, outcome = run_once(door, Reply(output_tokens=40, latency_s=0.6), timeout=0.15)
    check(run, provider)
    assert isinstance(outcome, (anthropic.APITimeoutError, openai.APITimeoutError))
    (row,) = rows_of(run)
    assert (row.retry_reason, row.cost_status) == ("timeout", "estimated")
    assert row.nusd == row.held_nusd


@every_door
def test_an_answer_without_usage_is_charged_at_its_bound(door: Door) -> None:
    """A missing usage is presumed, and flagged."""
    run, provider, _ = run_once(door, Reply(output_tokens=40, fault="no_usage"))
    check(run, provider)
    (row,) = rows_of(run)
    assert "usage_missing" in row.flags
    assert row.cost_status == "estimated"


@streamed
def test_a_stream_that_the_caller_leaves_is_charged_what_was_seen(door: Door) -> None:
    """Breaking out of a stream: the input, the output so far and one chunk, flagged as partial."""
    run, provider, _ = run_once(door, Reply(output_tokens=300, chunk_tokens=4, chunk_delay_s=0.01), take=8)
    check(run, provider)
    (row,) = rows_of(run)
    assert (row.status, row.usage_source) == ("abandoned", "stream_partial")
    assert 0 < (row.nusd or 0) <= (row.held_nusd or 0)


@streamed
@pytest.mark.parametrize("fault", ["drop_mid_stream", "error_mid_stream"])
def test_a_stream_that_breaks_is_charged_what_was_seen(door: Door, fault: Any) -> None:
    """The network or the provider ends a stream: the caller gets the SDK's exception, the books get a charge."""
    run, provider, outcome = run_once(door, Reply(output_tokens=200, fault=fault))
    check(run, provider)
    (row,) = rows_of(run)
    assert row.status == "error"
    if door.api == "responses" and fault == "error_mid_stream":
        # Here the error is an event like any other, after which the stream just ends.
        assert row.usage_source == "estimated"
    else:
        assert isinstance(outcome, Exception)
        assert row.usage_source == "stream_partial"


@pytest.mark.parametrize("api", ["messages", "chat", "responses"])
def test_a_stream_that_is_dropped_is_concluded(api: str) -> None:
    """A stream that nobody holds any more is found, and charged when the run ends."""
    door = Door(api, is_async=False, stream=True)
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=40)) as provider:
        with bursar.wrap(door.client(provider)) as client:
            with bursar.run("endings", Budget(usd="1")) as run:
                door.create(client)(**door.arguments())
                gc.collect()
        provider.wait_idle()
        check(run, provider)
        assert rows_of(run)[0].status == "abandoned"


@pytest.mark.parametrize("api", ["messages", "chat", "responses"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("delay_s", [0.01, 0.05, 0.15])
def test_a_cancelled_task_leaves_nothing_held(api: str, stream: bool, delay_s: float) -> None:
    """Cancelled before, while or after it was sent, a call is charged at least what the provider bills."""
    door = Door(api, is_async=True, stream=stream)
    reply = Reply(output_tokens=40, latency_s=0.1, chunk_delay_s=0.02, chunk_tokens=4)

    async def cancel_it(client: Any) -> None:
        task = asyncio.create_task(door.acall(client))
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        client = bursar.wrap(door.client(provider))
        with bursar.run("endings", Budget(usd="1")) as run:
            asyncio.run(cancel_it(client))
            provider.wait_idle()
        assert run.spend.held == NOTHING
        assert run.spend.settled.nusd >= provider.billed_nusd


@pytest.mark.parametrize("door", [d for d in doors() if not d.values[0].stream])
def test_each_retry_is_a_row_with_its_reason(door: Door) -> None:
    """Two refusals and an answer: three rows, one model call, and only the answer is paid."""
    replies = scripted(
        [
            Reply(status=429, headers={"retry-after-ms": "1"}),
            Reply(status=529, headers={"retry-after-ms": "1"}),
            Reply(),
        ]
    )
    with Provider(latency_s=0.0, replies=replies) as provider:
        client = bursar.wrap(door.client(provider, max_retries=3))
        with bursar.run("retries", Budget(usd="1", model_calls=1)) as run:
            door.call(client)
        rows = rows_of(run)
        assert [row.retry_reason for row in rows] == ["rate_limit", "overloaded", None]
        assert [row.call_id[-2:] for row in rows] == ["/0", "/1", "/2"]
        assert run.spend.settled.model_calls == 1
        assert run.spend.settled.nusd == provider.billed_nusd
        if not door.is_async:
            client.close()


@pytest.mark.parametrize("door", [d for d in doors() if not d.values[0].stream])
def test_a_budget_that_ends_between_attempts_stops_the_retries(door: Door) -> None:
    """A retry that no longer fits raises ours: not retried, not chained to the SDK's error, nothing sent."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=500, headers={"retry-after-ms": "1"})) as provider:
        client = bursar.wrap(door.client(provider, max_retries=5))
        with bursar.run("retries", Budget(tokens=1)), pytest.raises(bursar.BudgetExceeded) as refused:
            door.call(client)
        # The first failure is charged its input, which is nearly all that the smallest answer needs.
        client = bursar.wrap(door.client(provider, max_retries=5))
        with bursar.run("retries", Budget(tokens=refused.value.needed + 8)) as run:
            with pytest.raises(bursar.BudgetExceeded) as stopped:
                door.call(client)
        assert stopped.value.__cause__ is None
        assert stopped.value.__context__ is None
        assert len(provider.requests) == len(rows_of(run)) == 1
        if not door.is_async:
            client.close()
