import asyncio
import threading
import time

import anthropic
import openai
import pytest

from bursar.testing import Provider, Reply, scripted
from tests.testing.provider_bench import Bench

CLAUDE = "claude-sonnet-5-5"
SLOW = Reply(output_tokens=400, chunk_tokens=8, chunk_delay_s=0.02)


def test_a_stream_closed_early_is_billed_for_what_was_generated(bench: Bench) -> None:
    """Input, the chunks seen and the one under way are billed, plus a few while the news travels."""
    provider = bench.provider(SLOW)
    stream = bench.anthropic(provider).messages.create(
        model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": "hi"}], stream=True
    )
    seen = 0
    for event in stream:
        seen += event.type == "content_block_delta"
        if seen == 3:
            break
    stream.close()
    provider.wait_idle(timeout_s=5)
    (charge,) = provider.charges
    assert (charge.ended, charge.input_tokens, charge.output_tokens % 8) == ("aborted", 8, 0)
    assert 4 * 8 <= charge.output_tokens <= 10 * 8
    assert charge.nusd == 8 * 2_000 + charge.output_tokens * 10_000


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_openai_stream_closed_early_is_billed_alike(bench: Bench, api: str) -> None:
    """Closing the SDK's stream aborts the generation."""
    provider = bench.provider(SLOW)
    client = bench.openai(provider)
    if api == "chat":
        with client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True
        ) as chunks:
            next(iter(chunks))
    else:
        with client.responses.create(model="gpt-5", input="hi", stream=True) as events:
            next(iter(events))
    provider.wait_idle(timeout_s=5)
    (charge,) = provider.charges
    assert charge.ended == "aborted"
    assert 8 <= charge.output_tokens <= 10 * 8


def test_a_cancelled_async_stream_is_billed_for_what_was_generated() -> None:
    """Cancelling the task that reads a stream aborts the generation."""

    async def read(provider: Provider) -> None:
        async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x") as client:
            async with client.messages.stream(
                model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
            ) as stream:
                async for _ in stream.text_stream:
                    pass

    async def cancelled(provider: Provider) -> None:
        task = asyncio.create_task(read(provider))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(provider.wait_idle, 5)

    with Provider(latency_s=0, replies=scripted([SLOW])) as provider:
        asyncio.run(cancelled(provider))
        (charge,) = provider.charges
        assert charge.ended == "aborted"
        assert 8 <= charge.output_tokens < 400


def test_a_client_that_leaves_a_plain_call_pays_for_the_whole_answer(bench: Bench) -> None:
    """A time-out does not stop the generation, and `wait_idle` waits for its end."""
    provider = bench.provider(Reply(latency_s=0.3))
    with pytest.raises(openai.APITimeoutError):
        bench.openai(provider, timeout=0.05).responses.create(model="gpt-5", input="hi")
    assert provider.charges == []
    provider.wait_idle(timeout_s=5)
    (charge,) = provider.charges
    assert (charge.ended, charge.output_tokens) == ("aborted", 200)


def test_a_timed_out_retry_is_paid_twice(bench: Bench) -> None:
    """Both attempts generate; the SDK shows one."""
    provider = bench.provider(Reply(latency_s=0.4), Reply(latency_s=0))
    bench.openai(provider, max_retries=1, timeout=0.1).responses.create(model="gpt-5", input="hi")
    provider.wait_idle(timeout_s=5)
    assert sorted(charge.ended for charge in provider.charges) == ["aborted", "complete"]


def test_waiting_has_a_limit(bench: Bench) -> None:
    """`wait_idle` raises when something still generates."""
    provider = bench.provider(Reply(latency_s=5))
    with pytest.raises(openai.APITimeoutError):
        bench.openai(provider, timeout=0.05).responses.create(model="gpt-5", input="hi")
    with pytest.raises(TimeoutError):
        provider.wait_idle(timeout_s=0.05)


def test_an_answer_takes_its_latency_and_its_chunks(bench: Bench) -> None:
    """0.1 s to the first byte and 10 chunks of 0.02 s make 0.3 s, plain as streamed."""
    provider = bench.provider(Reply(output_tokens=80, chunk_delay_s=0.02), latency_s=0.1)
    client = bench.openai(provider)
    for streamed in (False, True):
        started = time.perf_counter()
        if streamed:
            list(client.responses.create(model="gpt-5", input="hi", stream=True))
        else:
            client.responses.create(model="gpt-5", input="hi")
        assert time.perf_counter() - started >= 0.3


def test_the_provider_leaves_no_thread(bench: Bench) -> None:
    """After `__exit__` no thread is left, clients with open connections notwithstanding."""
    before = threading.active_count()
    with Provider(latency_s=0) as provider:
        client = bench.openai(provider)
        client.responses.create(model="gpt-5", input="hi")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
