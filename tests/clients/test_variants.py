"""The clouds' clients and the module itself: the type stays, who bills is on the record, each call is charged once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from openai import _module_client

import bursar
from bursar import Budget
from bursar.clients.sellers import seller_of
from bursar.testing import Provider, Reply
from scripts.soak.clouds import azure, bedrock, foundry, vertex
from tests.clients.books import rows_of
from tests.clients.entries import CHAT, CLAUDE
from tests.clients.http import HTTP

if TYPE_CHECKING:
    from collections.abc import Iterator


VARIANTS: Any = [
    pytest.param(azure, "gpt-4o", "azure.ai.openai", id="azure"),
    pytest.param(vertex, "claude-sonnet-4-5@20250929", "gcp.vertex_ai", id="vertex"),
    pytest.param(bedrock, "global.anthropic.claude-haiku-4-5-20251001-v1:0", "aws.bedrock", id="bedrock"),
    pytest.param(foundry, "claude-sonnet-5-5", "azure.ai.inference", id="foundry"),
]


def ask(client: Any, model: str, **options: Any) -> Any:
    if isinstance(client, (openai.OpenAI, openai.AsyncOpenAI)):
        return client.chat.completions.create(**(CHAT | {"model": model} | options))
    return client.messages.create(**(CLAUDE | {"model": model} | options))


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("made", "model", "seller"), VARIANTS)
def test_a_client_of_a_cloud_is_charged_once_at_its_price(
    made: Any, model: str, seller: str, stream: bool, way: str
) -> None:
    """The class stays, one row is written, and where the cloud sells at the vendor's price it is that to the nano."""
    if stream and made is bedrock:
        pytest.skip("Bedrock streams in a binary format that the provider does not speak")
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=50)) as provider:
        bare = made(provider, is_async=way == "async")
        client = bursar.wrap(bare)
        assert isinstance(client, type(bare))
        assert type(client).__name__ == type(bare).__name__
        assert seller_of(client) == seller
        options = {"stream": True} if stream else {}

        async def aask() -> None:
            async with client:
                answer = await ask(client, model, **options)
                if stream:
                    assert [event async for event in answer]

        with bursar.run("clouds", Budget(usd="1")) as run:
            if way == "async":
                asyncio.run(aask())
            else:
                with client:
                    answer = ask(client, model, **options)
                    assert list(answer) if stream else answer
        (row,) = rows_of(run)
        assert (row.status, row.usage_source, row.request_model) == ("ok", "provider", model)
        assert run.spend.settled.nusd == provider.billed_nusd > 0


@pytest.mark.parametrize("name", ["AnthropicAWS", "AnthropicBedrockMantle", "AnthropicGoogleCloud", "BedrockOpenAI"])
def test_other_variants_are_known_by_their_class(name: str) -> None:
    """Each class of a cloud that an SDK has is one whose seller is decided, and not by accident."""
    made = getattr(anthropic, name, None) or getattr(openai, name, None)
    if made is None:
        pytest.skip("this SDK has no such class")
    client = made.__new__(made)
    client._base_url = HTTP.URL("https://cloud.example.com")
    seller = seller_of(client)
    assert (seller is None) == (name == "AnthropicAWS")


def test_a_deployment_of_an_unknown_name_is_refused_under_dollars() -> None:
    """Azure's deployments have names of their own: without a price nothing is sent, and the model is named."""
    with Provider(latency_s=0.0) as provider, azure(provider) as bare:
        with bursar.run("clouds", Budget(usd="1")), pytest.raises(bursar.PriceUnknown) as refused:
            ask(bursar.wrap(bare), "our-deployment")
        assert (refused.value.provider, refused.value.model) == ("azure.ai.openai", "our-deployment")
        assert provider.requests == []


@pytest.fixture
def module(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `openai` as a program would configure it."""
    monkeypatch.setattr(openai, "api_key", "x")
    monkeypatch.setattr(openai, "base_url", f"{provider.openai_url}/")
    # Its client shares its connections with the module. What is put in the place of these is undone with the rest.
    monkeypatch.setattr(openai, "http_client", None)
    monkeypatch.setattr(openai, "_load_client", openai._load_client)
    monkeypatch.setattr(_module_client, "_load_client", openai._load_client)
    yield openai
    openai._load_client().close()
    openai._reset_client()


def test_the_module_is_guarded(module: Any, provider: Provider) -> None:
    """`bursar.wrap(openai)` gives the module back, and its calls are charged once, also when it is wrapped twice."""
    assert bursar.wrap(module) is module
    bursar.wrap(module)
    with bursar.run("module", Budget(usd="1")) as run:
        openai.chat.completions.create(**CHAT)
        openai.embeddings.create(model="text-embedding-3-small", input="x")
    assert len(rows_of(run)) == 2
    assert run.spend.settled.nusd == provider.billed_nusd
    with bursar.run("module", Budget(tokens=10)), pytest.raises(bursar.BudgetExceeded):
        openai.responses.create(model="gpt-4o", input="Name three rivers. " * 100)


def test_a_module_that_makes_its_client_anew_stays_guarded(
    module: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever makes the module forget its client, and of whatever class the next one is: no call is free."""
    bursar.wrap(module, bursar.Budget(tokens=100_000), workflow="module")
    completions = openai.chat
    with bursar.run("module", Budget(usd="1")) as run:
        for forget in (openai._reset_client, lambda: setattr(openai, "_client", None)):
            openai.chat.completions.create(**CHAT)
            forget()
            completions.completions.create(**CHAT)
        monkeypatch.setattr(openai, "api_type", "azure")
        monkeypatch.setattr(openai, "api_version", "2026-01-01")
        monkeypatch.setattr(openai, "azure_endpoint", provider.anthropic_url)
        monkeypatch.setattr(openai, "base_url", None)
        openai._reset_client()
        openai.chat.completions.create(**CHAT)
    rows = rows_of(run)
    assert len(rows) == len(provider.charges) == 5
    assert [row.cost_status for row in rows] == ["list_price"] * 4 + ["lower_bound"]
    assert run.spend.settled.nusd == provider.billed_nusd


def test_a_module_that_is_wrapped_again_keeps_both_limits(module: Any, provider: Provider) -> None:
    """Also over a client that was made anew in between: wrapping loosens nothing."""
    bursar.wrap(module, Budget(model_calls=1))
    openai._reset_client()
    bursar.wrap(module, Budget(usd="1"))
    openai.chat.completions.create(**CHAT)
    openai._reset_client()
    with pytest.raises(bursar.BudgetExceeded):
        openai.chat.completions.create(**CHAT)
    assert len(provider.requests) == 1


def test_a_module_without_a_client_is_wrapped_before_it_has_a_key(module: Any, provider: Provider) -> None:
    """Wrapping makes no client: what the program sets afterwards counts."""
    openai._reset_client()
    bursar.wrap(module)
    assert openai._client is None
    with bursar.run("module", Budget(usd="1")) as run:
        openai.chat.completions.create(**CHAT)
    assert run.spend.settled.nusd == provider.billed_nusd > 0
