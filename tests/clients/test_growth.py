"""Streams that use more than was held for them: they hold more, or they are cut and say what had come."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bursar
from bursar import Budget, BudgetExceeded
from bursar.flow.call import Attempt
from bursar.flow.growth import beyond, output_room
from bursar.pricing.estimate import Estimate
from bursar.pricing.price import price
from bursar.pricing.rates import PriceList
from bursar.runs.process import process
from bursar.testing import Provider, Reply
from bursar.words.clock import CLOCK
from bursar.words.demand import Demand
from bursar.words.events import NOTHING, Amounts, Usage
from tests.clients.books import rows_of, verdicts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HI: Any = [{"role": "user", "content": "hi"}]
ASKED: dict[str, Any] = {
    "messages": {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": HI, "stream": True},
    "chat": {"model": "gpt-4o", "max_completion_tokens": 100, "messages": HI, "stream": True},
    "responses": {"model": "gpt-4o", "max_output_tokens": 100, "input": "hi", "stream": True},
}
WRITTEN = 900
"""Tokens that the provider of these tests writes, whatever the cap of 100."""


@pytest.fixture
def deaf() -> Iterator[Provider]:
    """A provider that writes on, whatever the cap, at a pace that a client can stop."""
    reply = Reply(output_tokens=WRITTEN, ignores_cap=True, chunk_delay_s=0.002)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        yield provider


def sync_stream(provider: Provider, api: str) -> Iterator[Any]:
    where: Any = {"api_key": "x", "max_retries": 0}
    if api == "messages":
        with anthropic.Anthropic(base_url=provider.anthropic_url, **where) as claude:
            yield from bursar.wrap(claude).messages.create(**ASKED[api])
        return
    with openai.OpenAI(base_url=provider.openai_url, **where) as gpt:
        client = bursar.wrap(gpt)
        made = client.chat.completions.create if api == "chat" else client.responses.create
        yield from made(**ASKED[api])


async def async_stream(provider: Provider, api: str) -> list[Any]:
    where: Any = {"api_key": "x", "max_retries": 0}
    if api == "messages":
        async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, **where) as claude:
            return [event async for event in await bursar.wrap(claude).messages.create(**ASKED[api])]
    async with openai.AsyncOpenAI(base_url=provider.openai_url, **where) as gpt:
        client = bursar.wrap(gpt)
        made: Any = client.chat.completions.create if api == "chat" else client.responses.create
        return [event async for event in await made(**ASKED[api])]


def consume(provider: Provider, api: str, way: str) -> None:
    if way == "sync":
        list(sync_stream(provider, api))
    else:
        asyncio.run(async_stream(provider, api))


WAYS = [(api, way) for api in ASKED for way in ("sync", "async")]


@pytest.mark.parametrize(("api", "way"), WAYS)
def test_a_stream_past_its_cap_holds_more_where_there_is_room(deaf: Provider, api: str, way: str) -> None:
    """All of it reaches the caller, all of it is charged, and nothing stays held."""
    with bursar.run("growth", Budget(usd="1", tokens=4_000)) as run:
        consume(deaf, api, way)
    (row,) = rows_of(run)
    assert (row.status, row.usage_source, row.output_tokens) == ("ok", "provider", WRITTEN)
    assert run.spend.held == NOTHING
    assert run.spend.settled.nusd == deaf.billed_nusd


@pytest.mark.parametrize(("api", "way"), WAYS)
@pytest.mark.parametrize("limit", [{"tokens": 420}, {"usd": "0.004"}, {"output_tokens": 400}])
def test_a_stream_is_cut_where_there_is_none(deaf: Provider, api: str, way: str, limit: dict[str, Any]) -> None:
    """It raises BudgetExceeded with what had come; less is billed than the whole, and that is charged."""
    with bursar.run("growth", Budget(**limit)) as run:
        with pytest.raises(BudgetExceeded, match=r"was closed.*\.partial") as caught:
            consume(deaf, api, way)
        deaf.wait_idle()
    error = caught.value
    assert (error.why, error.sent) == ("grew", True)
    assert error.partial is not None
    assert 100 < len(error.partial.split()) < WRITTEN
    assert pickle.loads(pickle.dumps(error)).partial == error.partial
    (row,) = rows_of(run)
    assert (row.status, row.error_type, row.usage_source) == ("blocked", "BudgetExceeded", "stream_partial")
    assert run.spend.held == NOTHING
    (charge,) = deaf.charges
    assert charge.ended == "aborted"
    assert charge.output_tokens < WRITTEN
    assert run.spend.settled.nusd >= deaf.billed_nusd
    assert [verdict.action for verdict in verdicts_of(run)] == ["cut"]
    assert run.stop_reason == "budget"


def test_what_had_come_is_the_beginning_of_the_answer(deaf: Provider) -> None:
    """`.partial` is the text that the caller would have read until then, tool arguments and thinking included."""
    seen: list[str] = []
    with bursar.run("growth", Budget(tokens=420)), pytest.raises(BudgetExceeded) as caught:
        for chunk in sync_stream(deaf, "chat"):
            seen += [choice.delta.content or "" for choice in chunk.choices]
    assert caught.value.partial is not None
    assert caught.value.partial.startswith("".join(seen))
    assert len(seen) > 10


def test_lines_that_the_caller_reads_himself_are_cut_too(deaf: Provider) -> None:
    """A streaming response in bytes is closed as a typed stream is, sync and async."""

    async def lines() -> None:
        async with openai.AsyncOpenAI(base_url=deaf.openai_url, api_key="x", max_retries=0) as gpt:
            made = bursar.wrap(gpt).chat.completions.with_streaming_response.create(**ASKED["chat"])
            async with made as response:
                async for _ in response.iter_lines():
                    pass

    with bursar.run("growth", Budget(tokens=420)) as run:
        with openai.OpenAI(base_url=deaf.openai_url, api_key="x", max_retries=0) as gpt, pytest.raises(BudgetExceeded):
            with bursar.wrap(gpt).chat.completions.with_streaming_response.create(**ASKED["chat"]) as response:
                list(response.iter_lines())
        deaf.wait_idle()
    with bursar.run("growth", Budget(tokens=420)) as other, pytest.raises(BudgetExceeded):
        asyncio.run(lines())
    deaf.wait_idle()
    for each in (run, other):
        (row,) = rows_of(each)
        assert row.status == "blocked"
        assert each.spend.held == NOTHING


def test_nobody_is_cut_who_only_observes(deaf: Provider) -> None:
    """mode="observe" reads on to the end."""
    with bursar.run("growth", Budget(tokens=420), mode="observe") as run:
        list(sync_stream(deaf, "chat"))
    (row,) = rows_of(run)
    assert row.output_tokens == WRITTEN


def test_a_shared_limit_cuts_and_keeps_its_books(
    deaf: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows is held in the ledger file too, and is given back when the call is charged."""
    config = tmp_path / "bursar.toml"
    config.write_text('[[limit]]\nper = "workflow"\nwindow = "day"\ntokens = 1200\n')
    monkeypatch.setenv("BURSAR_CONFIG", str(config))
    with bursar.run("growth", Budget.unlimited()) as run:
        list(sync_stream(deaf, "chat"))
        with pytest.raises(BudgetExceeded) as caught:
            list(sync_stream(deaf, "chat"))
        deaf.wait_idle()
    assert caught.value.scope.startswith("workflow")
    store = process().shared
    assert store.audit() == []
    (balance,) = [store.balance(scope) for scope in {record.path[0] for record in store.scan()}]
    assert balance.held == NOTHING
    assert balance.settled.tokens == run.spend.settled.tokens


CARD = PriceList().card("anthropic", "claude-sonnet-4-5", day=CLOCK.today())


def attempt(held: Amounts) -> Attempt:
    demand = Demand(0, 0, 0, 0, 0, None, 1, clampable=True, calls=1, price=None)
    return Attempt("a/0", 0, 0, 0, None, held, True, "practical", "as_asked", Estimate(0, 0, demand, 1), CARD)


@given(st.integers(1, 400_000), st.integers(1, 60_000), st.integers(1, 600_000), st.integers(0, 90_000))
def test_a_hold_reaches_as_far_as_it_pays(held_in: int, held_out: int, counted: int, written: int) -> None:
    """Within `output_room` nothing more is asked for, past it something is; what is asked for makes it fit."""
    assert CARD is not None
    usage = Usage(input_tokens=counted)
    nusd = price(Usage(input_tokens=held_in, output_tokens=held_out), CARD).nusd or 0
    total = held_in + held_out
    made = attempt(Amounts(nusd, total, total, held_in, held_out, 1, 0))
    room = output_room(made, usage)
    more = beyond(made, usage, written)
    assert more.input_tokens == more.model_calls == 0
    assert (more == NOTHING) == (written <= max(room, 0) and room >= 0)
    made.hold = Amounts(*(had + got for had, got in zip(made.hold, more, strict=True)))
    assert written <= output_room(made, usage)
