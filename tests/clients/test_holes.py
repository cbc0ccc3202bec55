"""Holes that attacks have found in the money guarantees of wrapped clients, each closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
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


@pytest.mark.parametrize("api", ["claude", "chat"])
def test_a_child_that_lets_go_of_a_stream_leaves_it_to_its_parent(provider: Provider, api: str) -> None:
    """A forked child drops the stream that its parent reads: the row and the charge are those of the whole answer."""
    claude = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x")
    gpt = openai.OpenAI(base_url=provider.openai_url, api_key="x")
    with claude, gpt, bursar.run("fork", Budget(usd="1")) as run:
        stream: Any = (
            bursar.wrap(claude).messages.create(**CLAUDE, stream=True)
            if api == "claude"
            else bursar.wrap(gpt).chat.completions.create(**CHAT, stream=True)
        )
        events = iter(stream)
        next(events)
        child = os.fork()
        if not child:
            # It closes the generator, as the end of a worker's function or a collection would.
            del events, stream
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        assert run.spend.held != NOTHING
        list(events)
    (row,) = rows_of(run)
    assert (row.status, row.nusd) == ("ok", provider.billed_nusd)
    assert run.spend.settled.nusd == provider.billed_nusd


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_a_client_made_of_a_wrapped_ones_class_is_bare(provider: Provider, vendor: str) -> None:
    """`type(client)(...)` and copies of what it makes are as the SDK makes them: they work, and carry no guard."""
    options: Any = {"api_key": "x", "max_retries": 0}
    made: Any = (
        type(bursar.wrap(openai.OpenAI(base_url=provider.openai_url, **options)))(
            base_url=provider.openai_url, **options
        )
        if vendor == "openai"
        else type(bursar.wrap(anthropic.Anthropic(base_url=provider.anthropic_url, **options)))(
            base_url=provider.anthropic_url, **options
        )
    )
    unseen = pytest.warns(bursar.BursarWarning, match="saw no model call")
    with made, unseen, bursar.run("bare", Budget(model_calls=1)) as run:
        for client in (made, made.with_options(timeout=20)):
            if vendor == "openai":
                client.chat.completions.create(**CHAT)
            else:
                client.messages.create(**CLAUDE)
    assert len(provider.charges) == 2
    assert run.spend.settled == NOTHING


def test_a_slash_at_the_end_is_no_way_round(provider: Provider) -> None:
    """Posted by hand to the same place written otherwise, a call is the same call."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt, bursar.run("slash", Budget(usd="1")) as run:
        bursar.wrap(gpt).post("/chat/completions/", body=CHAT, cast_to=object)
    assert run.spend.settled.nusd == provider.billed_nusd > 0


def answering(content: Any) -> Any:
    """An HTTP client that is answered alike whatever it asks."""
    return HTTP.Client(transport=HTTP.MockTransport(lambda _: HTTP.Response(200, json=content)))


def test_a_conversation_made_shorter_is_metered() -> None:
    """`responses.compact` is one model call, charged what it says it used; a limit that it cannot fit refuses it."""
    used = {"input_tokens": 900, "output_tokens": 400, "total_tokens": 1_300}
    item = {"type": "compaction", "id": "c", "encrypted_content": "x"}
    body = {"id": "r", "object": "response.compaction", "created_at": 1, "output": [item], "usage": used}
    with answering(body) as http, openai.OpenAI(api_key="x", http_client=http) as gpt:
        if not hasattr(gpt.responses, "compact"):
            pytest.skip("this SDK has no such entry point")
        client = bursar.wrap(gpt, strict=True)
        with bursar.run("compact", Budget(usd="1")) as run:
            client.responses.compact(model="gpt-4o", input="word " * 800)
        with bursar.run("compact", Budget(usd="0.001")), pytest.raises(bursar.BudgetExceeded):
            client.responses.compact(model="gpt-4o", input="word " * 800)
    (row,) = rows_of(run)
    assert row.nusd == 900 * 2_500 + 400 * 10_000
    assert run.spend.settled.model_calls == 1


@pytest.mark.parametrize(
    ("url", "model", "nusd", "status"),
    [
        ("https://ours.openai.azure.com/openai/v1/", "gpt-4o", 35_000, "lower_bound"),
        ("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", 6_690, "list_price"),
        ("https://gateway.example.com/v1", "gpt-4o", 35_000, "list_price"),
    ],
)
def test_who_bills_is_told_by_the_host(url: str, model: str, nusd: int, status: str) -> None:
    """OpenAI's client is used for other vendors too: their prices are not OpenAI's, and not silently so."""
    message = {"role": "assistant", "content": "yes"}
    used = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": model, "usage": used}
    body |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with answering(body) as http, openai.OpenAI(api_key="x", base_url=url, http_client=http) as gpt:
        with bursar.run("host", Budget(usd="5")) as run:
            bursar.wrap(gpt).chat.completions.create(model=model, messages=HI, max_completion_tokens=100)
    (row,) = rows_of(run)
    assert (row.nusd, row.cost_status) == (nusd, status)


def test_sound_is_held_at_the_price_of_sound(provider: Provider) -> None:
    """What may be spoken, or is heard, is held at the dearest rate of its side: text would be a sixth of it."""
    heard = [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]
    asked: Any = {"model": "gpt-audio", "max_completion_tokens": 100}
    said: list[Any] = [
        {"messages": HI},
        {"messages": HI, "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"messages": [{"role": "user", "content": heard}]},
    ]
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as gpt:
        with bursar.run("sound", Budget(usd="5")) as run:
            for more in said:
                with contextlib.suppress(openai.APIStatusError):
                    bursar.wrap(gpt).chat.completions.create(**asked, **more)
    text, spoken, listened = [row.held_nusd or 0 for row in rows_of(run)]
    assert spoken - text == 100 * (64_000 - 10_000)
    assert listened > text
