"""Holes that attacks have found in the money guarantees of wrapped clients, each closed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from tests.clients.books import rows_of
from tests.clients.http import HTTP

HI: Any = [{"role": "user", "content": "hi"}]
CLAUDE: Any = {"model": "claude-sonnet-5-5", "max_tokens": 4_000, "messages": HI}
CHAT: Any = {"model": "gpt-4o", "max_completion_tokens": 4_000, "messages": HI}


@pytest.mark.parametrize("api", ["claude", "chat"])
def test_under_a_hard_bound_a_stream_that_is_left_is_charged_its_cap(api: str) -> None:
    """The provider may have written everything into the socket's buffer when the caller leaves after five events."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=3_000)) as provider:
        claude = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x")
        gpt = openai.OpenAI(base_url=provider.openai_url, api_key="x")
        with claude, gpt, bursar.run("left", Budget(usd="1", bound="hard")) as run:
            stream: Any = (
                bursar.wrap(claude).messages.create(**CLAUDE, stream=True)
                if api == "claude"
                else bursar.wrap(gpt).chat.completions.create(**CHAT, stream=True)
            )
            with stream:
                for _ in range(5):
                    next(stream)
                provider.wait_idle()
        assert provider.billed_nusd <= run.spend.settled.nusd
        assert run.spend.held == NOTHING
        (row,) = rows_of(run)
        assert row.output_tokens == 4_000
        assert row.nusd is not None
        assert row.held_nusd is not None
        assert row.nusd <= row.held_nusd


@pytest.mark.parametrize("method", ["with_options", "copy"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_other_middlewares_do_not_take_the_place_of_the_guard(
    provider: Provider, method: str, *, is_async: bool
) -> None:
    """A copy of a wrapped client that names its middlewares anew is still guarded, once, and so are its copies."""
    made: Any = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
    wrapped: Any = bursar.wrap(made(base_url=provider.anthropic_url, api_key="x", max_retries=0), Budget(model_calls=2))

    def passing(request: Any, call_next: Any) -> Any:
        return call_next(request)

    async def apassing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    between = getattr(wrapped, method)(middleware=[apassing if is_async else passing])
    other = getattr(between, method)(timeout=30, middleware=[])
    asked, clients = CLAUDE | {"max_tokens": 300}, (other, wrapped, other)

    async def ask_all() -> None:
        async with wrapped:
            for client in clients:
                with contextlib.suppress(bursar.BudgetExceeded):
                    await client.messages.create(**asked)

    with bursar.run("middlewares", Budget(usd="1")) as run:
        if is_async:
            asyncio.run(ask_all())
        else:
            with wrapped:
                for client in clients:
                    with contextlib.suppress(bursar.BudgetExceeded):
                        client.messages.create(**asked)
    assert len(provider.charges) == len(rows_of(run)) == 2
    assert run.spend.settled.nusd == provider.billed_nusd


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_fails_inside_of_a_call_does_not_free_it(provider: Provider, *, is_async: bool) -> None:
    """A hook of the HTTP client asks something else through the same client, which fails: the call is charged."""
    clients: list[Any] = []

    def ask() -> Any:
        return clients[0].models.list()

    def hook(request: Any) -> None:
        if request.method == "POST":
            with pytest.raises(openai.NotFoundError):
                ask()

    async def ahook(request: Any) -> None:
        if request.method == "POST":
            with pytest.raises(openai.NotFoundError):
                await ask()

    asked = CHAT | {"max_completion_tokens": 300}
    options: Any = {"base_url": provider.openai_url, "api_key": "x", "max_retries": 0}
    with bursar.run("nested", Budget(usd="1")) as run:
        if is_async:

            async def go() -> None:
                async with HTTP.AsyncClient(event_hooks={"request": [ahook]}) as http:
                    clients.append(bursar.wrap(openai.AsyncOpenAI(http_client=http, **options)))
                    await clients[0].chat.completions.create(**asked)

            asyncio.run(go())
        else:
            with HTTP.Client(event_hooks={"request": [hook]}) as http:
                clients.append(bursar.wrap(openai.OpenAI(http_client=http, **options)))
                clients[0].chat.completions.create(**asked)
    assert run.spend.settled.nusd == provider.billed_nusd > 0
    assert [row.status for row in rows_of(run)] == ["ok"]
