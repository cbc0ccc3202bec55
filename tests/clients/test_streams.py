"""Streams: what the caller sees, when they are concluded, and what is charged when they are not read to the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import Any

import anthropic
import httpx
import openai
import pytest

import bursar
from bursar import Budget
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.events import NOTHING
from tests.clients.books import rows_of

ASKED: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
CLAUDE: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
RESPONSES: Any = {"model": "gpt-4o", "max_output_tokens": 300, "input": "hi"}


def test_the_types_of_streams_stay(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    """A stream of a wrapped client is the SDK's own stream, by type and by name."""
    with bursar.run("types", Budget(usd="1")):
        with bursar.wrap(gpt).chat.completions.create(**ASKED, stream=True) as chat:
            assert isinstance(chat, openai.Stream)
            assert type(chat).__name__ == "Stream"
            list(chat)
        with bursar.wrap(claude).messages.create(**CLAUDE, stream=True) as messages:
            # Older versions have an isinstance of their own, which denies their own streams.
            assert issubclass(type(messages), anthropic.Stream)
            list(messages)
        with bursar.wrap(gpt).responses.create(**RESPONSES, stream=True) as responses:
            assert isinstance(responses, openai.Stream)
            list(responses)


@pytest.mark.parametrize("api", ["messages", "chat", "responses"])
def test_the_helpers_are_charged_as_the_calls_they_make(
    claude: anthropic.Anthropic, gpt: openai.OpenAI, provider: Provider, api: str
) -> None:
    """`.stream(...)` is charged what the provider bills, once."""
    with bursar.run("helpers", Budget(usd="1")) as run:
        if api == "messages":
            with bursar.wrap(claude).messages.stream(**CLAUDE) as stream:
                assert stream.get_final_message().usage.output_tokens == 200
        elif api == "chat":
            with bursar.wrap(gpt).chat.completions.stream(**ASKED) as events:
                assert events.get_final_completion().choices
        else:
            with bursar.wrap(gpt).responses.stream(**RESPONSES) as answers:
                assert answers.get_final_response().output_text
    (row,) = rows_of(run)
    assert (row.status, row.usage_source) == ("ok", "provider")
    assert run.spend.settled.nusd == provider.billed_nusd


@pytest.mark.parametrize("api", ["messages", "chat", "responses"])
def test_a_helper_that_is_left_is_concluded(
    claude: anthropic.Anthropic, gpt: openai.OpenAI, provider: Provider, api: str
) -> None:
    """Leaving `.stream(...)` early is concluded when the run ends, and not free."""
    with bursar.run("helpers", Budget(usd="1")) as run:
        if api == "messages":
            with bursar.wrap(claude).messages.stream(**CLAUDE) as stream:
                next(iter(stream))
            del stream
        elif api == "chat":
            with bursar.wrap(gpt).chat.completions.stream(**ASKED) as events:
                next(iter(events))
            del events
        else:
            with bursar.wrap(gpt).responses.stream(**RESPONSES) as answers:
                next(iter(answers))
            del answers
        gc.collect()
    provider.wait_idle()
    (row,) = rows_of(run)
    assert (row.status, row.usage_source) == ("abandoned", "stream_partial")
    assert run.spend.held == NOTHING
    assert run.spend.settled.nusd > 0


def test_the_time_to_the_first_token_is_measured() -> None:
    """TTFT is the time to the first word, not to the headers and not to the end."""
    reply = Reply(output_tokens=40, latency_s=0.1, chunk_tokens=10, chunk_delay_s=0.05)
    with (
        Provider(replies=lambda _: reply) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="x") as bare,
    ):
        with bursar.run("ttft", Budget(usd="1")) as run:
            for chunk in bursar.wrap(bare).chat.completions.create(**ASKED, stream=True):
                if chunk.choices and chunk.choices[0].finish_reason:
                    time.sleep(0.1)
    (row,) = rows_of(run)
    assert row.ttft_us is not None
    assert 90_000 < row.ttft_us < row.latency_us - 90_000


def test_tool_calls_of_a_stream_are_counted() -> None:
    """Each tool call counts once, in every API, however many pieces it comes in."""
    reply = Reply(text="", tool_calls=[ToolUse("look", {"n": "long " * 50}), ToolUse("see", {})])
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        claude = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x")
        gpt = openai.OpenAI(base_url=provider.openai_url, api_key="x")
        with claude, gpt, bursar.run("tools", Budget(usd="1")) as run:
            list(bursar.wrap(gpt).chat.completions.create(**ASKED, stream=True))
            list(bursar.wrap(gpt).responses.create(**RESPONSES, stream=True))
            list(bursar.wrap(claude).messages.create(**CLAUDE, stream=True))
    assert [row.tool_calls for row in rows_of(run)] == [2, 2, 2]
    assert run.spend.settled.tool_calls == 6


def test_closing_twice_and_reading_on_is_harmless(gpt: openai.OpenAI) -> None:
    """A closed stream is charged once; closing again or reading on changes nothing."""
    with bursar.run("closing", Budget(usd="1")) as run:
        stream = bursar.wrap(gpt).chat.completions.create(**ASKED, stream=True)
        next(stream)
        stream.close()
        spent = run.spend
        # What the SDK does of a closed stream is the SDK's, by version and by what had arrived; nothing more is charged.
        with contextlib.suppress(openai.APIConnectionError, httpx.TransportError):
            list(stream)
        assert run.spend == spent
    assert len(rows_of(run)) == 1
    assert run.spend.held == NOTHING


def test_a_cut_stream_of_claude_knows_its_input(claude: anthropic.Anthropic) -> None:
    """The input was counted in the first event: it is charged as counted, only the output is presumed."""
    system: Any = [{"type": "text", "text": "Rules. " * 1_500, "cache_control": {"type": "ephemeral"}}]
    with bursar.run("cut", Budget(usd="1")) as run:
        whole = bursar.wrap(claude).messages.create(**CLAUDE, system=system)
        with bursar.wrap(claude).messages.create(**CLAUDE, system=system, stream=True) as stream:
            next(iter(stream))
    first, second = rows_of(run)
    assert second.usage_source == "stream_partial"
    assert second.input_tokens == first.input_tokens
    assert second.cache_read_tokens == first.cache_write_tokens == whole.usage.cache_creation_input_tokens
    assert run.spend.unmeasured.input_tokens == second.input_tokens


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_beside_ones_own_stream_is_clamped_or_refused_at_once(
    gpt: openai.OpenAI, provider: Provider, kind: str
) -> None:
    """Nobody waits for himself: where something is left the second call is clamped, else it is refused, quickly."""

    async def ask_twice() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as bare:
            client = bursar.wrap(bare)
            async with await client.chat.completions.create(**ASKED, stream=True) as stream:
                await client.chat.completions.create(**(ASKED | {"max_completion_tokens": 2_000}))
                with pytest.raises(bursar.BudgetExceeded) as refused:
                    await client.chat.completions.create(**(ASKED | {"max_completion_tokens": 2_000}))
                assert refused.value.why in {"would_deadlock", "no_room"}
                [event async for event in stream]

    began = time.monotonic()
    with bursar.run("self", Budget(tokens=700)) as run:
        if kind == "async":
            asyncio.run(ask_twice())
        else:
            client = bursar.wrap(gpt)
            with client.chat.completions.create(**ASKED, stream=True) as stream:
                client.chat.completions.create(**(ASKED | {"max_completion_tokens": 2_000}))
                with pytest.raises(bursar.BudgetExceeded):
                    client.chat.completions.create(**(ASKED | {"max_completion_tokens": 2_000}))
                list(stream)
    # Who waited for himself would do so for `max_wait`, a minute.
    assert time.monotonic() - began < 30
    first, second = rows_of(run)
    assert "clamped" in second.flags
    assert first.flags == ()
    assert run.spend.settled.tokens <= 700


def test_a_stream_that_outlives_its_run_is_still_charged_to_it(gpt: openai.OpenAI, provider: Provider) -> None:
    """A stream read after its run has ended is charged to that run, and its row is in the ledger."""
    with bursar.run("late", Budget(usd="1")) as run:
        stream = bursar.wrap(gpt).chat.completions.create(**ASKED, stream=True)
        assert run.spend.held.nusd > 0
    list(stream)
    assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING
    assert len(rows_of(run)) == 1
