"""Holes that attacks have found in the money guarantees of LangChain's doors, each closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import anthropic
import openai
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import ConfigurableField

import bursar
from bursar import Budget
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from tests.callbacks.models import CAP, claude, gpt
from tests.clients.books import rows_of

FAILURES = (anthropic.APIError, openai.APIError)
WORDS = "rivers and towns of the north "
COUNTED: Any = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
USAGES: list[Any] = [
    "junk", 7, [1],
    COUNTED | {"output_token_details": [1]},
    COUNTED | {"input_token_details": {"cache_creation": "3"}},
    {"input_tokens": -5, "output_tokens": 3, "total_tokens": -2},
    {"input_tokens": 10**12, "output_tokens": 3, "total_tokens": 7},
    {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
]  # fmt: skip


class Odd(BaseChatModel):
    """A model of somebody's own, which says its usage in its own way."""

    usage: Any = None
    said: Any = None

    @property
    def _llm_type(self) -> str:
        return "odd"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        message = AIMessage(content="x")
        object.__setattr__(message, "usage_metadata", self.usage)
        object.__setattr__(message, "response_metadata", self.said)
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.mark.parametrize("said", [{}, {"usage": "junk"}, {"usage": [1]}, {"token_usage": 7}, {"finish_reason": ["x"]}])
def test_an_answer_of_any_shape_reaches_the_caller_and_is_paid_for(said: Any) -> None:
    """What a model of somebody's own writes in place of its usage is charged at the bound, and raises nothing."""
    for usage in USAGES:
        with bursar.run("odd", Budget(tokens=100_000)) as run:
            assert Odd(usage=usage, said=said).invoke("hi").text == "x"
        assert run.spend.held == NOTHING
        assert run.spend.settled.tokens > 0


def test_a_slow_reader_pays_for_what_was_written_ahead() -> None:
    """He looks at each of five pieces for a fifth of a second, and leaves: the provider went on writing meanwhile."""
    reply = Reply(output_tokens=2_000, chunk_delay_s=0.025)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with bursar.run("slow", Budget(usd="1")) as run:
            for number, _ in enumerate(gpt(provider, max_completion_tokens=3_000).stream("hi")):
                if number == 5:
                    break
                time.sleep(0.2)
        provider.wait_idle()
        assert provider.billed_nusd <= run.spend.settled.nusd
        (row,) = rows_of(run)
        assert row.held_nusd is not None
        assert run.spend.settled.nusd < row.held_nusd


def _leave_after(model: Any, asked: Any, chunks: int, provider: Provider) -> None:
    """Read so many pieces of a stream on an event loop, and leave."""

    async def leave() -> None:
        async with contextlib.aclosing(model.astream(asked)) as stream:
            async for _ in stream:
                chunks_left.pop()
                if not chunks_left:
                    break
        await asyncio.to_thread(provider.wait_idle)

    chunks_left = [None] * chunks
    asyncio.run(leave())


@pytest.mark.parametrize("make", [claude, gpt])
def test_a_stream_that_is_left_is_paid_for_beyond_what_such_calls_use(make: Any) -> None:
    """On an event loop the hold is what earlier answers were like, and no cap: it says nothing of a longer one."""
    told = iter([100, 100, 100, 300])
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=next(told), chunk_delay_s=0.01)) as provider:
        model = make(provider)
        with bursar.run("longer", Budget(usd="1")) as run:
            for _ in range(3):
                model.invoke("hi")
            assert run.spend.settled.nusd == provider.billed_nusd
            _leave_after(model, "hi", 18, provider)
        assert provider.charges[-1].output_tokens > 120
        assert provider.billed_nusd <= run.spend.settled.nusd
        assert rows_of(run)[-1].output_tokens <= CAP


@pytest.mark.parametrize("make", [claude, gpt])
def test_an_answer_that_is_lost_is_paid_for_beyond_what_such_calls_use(make: Any) -> None:
    """On an event loop, after three short answers: one that was billed and never came is charged the cap that it had."""
    told = iter([Reply(output_tokens=20)] * 3 + [Reply(output_tokens=300, fault="reset_after_billing")])
    with Provider(latency_s=0.0, replies=lambda _: next(told)) as provider:
        model = make(provider)
        with bursar.run("lost", Budget(usd="1")) as run:
            for _ in range(3):
                model.invoke("hi")
            with pytest.raises(FAILURES):
                asyncio.run(model.ainvoke("hi"))
        assert provider.charges[-1].output_tokens == 300
        assert provider.billed_nusd <= run.spend.settled.nusd
        assert (rows_of(run)[-1].output_tokens, run.spend.held) == (CAP, NOTHING)


def test_what_a_stream_that_is_left_has_written_to_the_cache_is_paid_for() -> None:
    """Nobody has said whether its long prompt was new to the cache: it is charged as the dearest that it may be."""
    prompt: Any = [
        SystemMessage([{"type": "text", "text": WORDS * 600, "cache_control": {"type": "ephemeral"}}]),
        HumanMessage("hi"),
    ]
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=300, chunk_delay_s=0.01)) as provider:
        model = claude(provider)
        with bursar.run("written", Budget(usd="0.12")) as run:
            for turn in range(3):
                # So that the bound on the next prompt is close to what it will be.
                model.invoke([HumanMessage(f"{turn} {WORDS * 600}")])
            before = provider.billed_nusd
            assert run.spend.settled.nusd == before
            _leave_after(model, prompt, 3, provider)
        assert provider.charges[-1].cache_write_5m > 2_000
        assert provider.billed_nusd <= run.spend.settled.nusd


def test_hidden_thinking_of_a_stream_that_is_left_is_paid_for() -> None:
    """A reasoning model has thought before its first word: what was seen says nothing of that."""
    reply = Reply(thinking_tokens=2_000, output_tokens=400, chunk_delay_s=0.001)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with bursar.run("thinks", Budget(usd="1")) as run:
            for chunk in gpt(provider, model="gpt-5", max_completion_tokens=3_000).stream("hi"):
                if chunk.text:
                    break
        provider.wait_idle()
        assert 0 < provider.billed_nusd <= run.spend.settled.nusd


def test_fields_that_are_configured_later_open_no_way_past_the_guard(provider: Provider) -> None:
    """A wrapped model whose fields are set by the call is gated, or refuses to be made where its clients would be new."""
    field = ConfigurableField(id="most")
    with pytest.raises(bursar.ConfigError, match="max_tokens"):
        bursar.wrap(claude(provider)).configurable_fields(max_tokens=field)
    model = bursar.wrap(gpt(provider)).configurable_fields(max_tokens=field)
    with bursar.run("configured", Budget(tokens=1)), pytest.raises(bursar.BudgetExceeded):
        model.with_config(configurable={"most": 300}).invoke("hi")
    assert provider.charges == []
