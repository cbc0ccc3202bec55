"""The clouds' clients: the type stays, who bills is on the record, each call is charged once, at the price of its place.

However a call of theirs ends is in `test_cloud_endings.py`.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget, BursarWarning, ConfigError
from bursar.clients import unmetered
from bursar.clients.sellers import seller_of
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from scripts.soak.clouds import azure, bedrock, foundry, vertex
from tests.clients.books import rows_of
from tests.clients.clouds import aws, bedrock_openai, google_cloud, mantle, openai_bedrock, openai_vertex
from tests.clients.entries import CHAT, CLAUDE, RESPONSES

if TYPE_CHECKING:
    pass

HAIKU = "claude-haiku-4-5-20251001"
MADE: Any = [azure, vertex, bedrock, mantle, foundry, aws, google_cloud, bedrock_openai, openai_bedrock, openai_vertex]
VARIANTS: Any = [
    # made, model, who bills, what it costs in hundredths of the vendor's own price
    (azure, "gpt-4o", "azure.ai.openai", 100),
    (vertex, "claude-sonnet-4-5@20250929", "gcp.vertex_ai", 100),
    (bedrock, f"global.anthropic.{HAIKU}-v1:0", "aws.bedrock", 100),
    (bedrock, f"us.anthropic.{HAIKU}-v1:0", "aws.bedrock", 110),
    (mantle, "global.anthropic.claude-sonnet-5-5", "aws.bedrock", 100),
    (mantle, "anthropic.claude-sonnet-5-5", "aws.bedrock", 110),
    (foundry, "claude-sonnet-5-5", "azure.ai.inference", 100),
    (aws, "claude-sonnet-5-5", None, 100),
    (google_cloud, "claude-sonnet-5", None, 100),
    (bedrock_openai, "global.openai.gpt-6.1-terra", "aws.bedrock", 100),
    (openai_bedrock, "openai.gpt-6.1-terra", "aws.bedrock", 110),
]


def ask(client: Any, model: str, **options: Any) -> Any:
    if isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        return client.chat.completions.create(**(CHAT | {"model": model} | options))
    return client.messages.create(**(CLAUDE | {"model": model} | options))


def open_at(made: Any, provider: Provider, **options: Any) -> Any:
    """A client, or the test is skipped: the oldest supported SDKs lack some."""
    try:
        return made(provider, **options)
    except (AttributeError, ImportError):
        pytest.skip("this SDK has no such client")


def exported(sdk: Any) -> set[str]:
    """The names of the client classes that an SDK exports. Other names of `openai` make its client when looked at."""
    base = sdk._base_client
    named = {name: getattr(sdk, name) for name in list(vars(sdk)) if name[0].isupper()}
    kinds = (base.SyncAPIClient, base.AsyncAPIClient)
    return {name for name, kind in named.items() if inspect.isclass(kind) and issubclass(kind, kinds)}


def test_every_client_class_that_the_sdks_export_is_here(provider: Provider) -> None:
    """A cloud that a vendor adds shows as one whose seller nobody has decided."""
    known = {"Anthropic", "Client", "OpenAI"} | {type(open_at(made, provider)).__name__ for made in MADE}
    assert {name.removeprefix("Async") for name in exported(anthropic) | exported(openai)} - known == set()


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("made", "model", "seller", "hundredths"),
    VARIANTS,
    ids=[f"{made.__name__}-{model}" for made, model, *_ in VARIANTS],
)
def test_a_client_of_a_cloud_is_charged_once_at_its_price(
    made: Any, model: str, seller: str | None, hundredths: int, stream: bool, way: str
) -> None:
    """The class stays, one row is written, and it costs what the cloud's list says, to the nano."""
    # An answer names the model as the vendor does, without the cloud's words for the place.
    named = model.rpartition("anthropic.")[2].removesuffix("-v1:0").replace("@", "-")
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=50, response_model=named)) as provider:
        bare = open_at(made, provider, is_async=way == "async")
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
        assert row.request_id is not None
        assert row.flags == ()
        assert run.spend.settled.nusd * 100 == provider.billed_nusd * hundredths > 0


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_bedrock_refuses_costs_nothing_and_says_why(stream: bool) -> None:
    """Amazon has its word for an error, and its name of a request, in headers of its own."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=429)) as provider:
        with bedrock(provider, max_retries=0) as bare, bursar.run("clouds", Budget(usd="1")) as run:
            with pytest.raises(anthropic.RateLimitError):
                ask(bursar.wrap(bare), VARIANTS[2][1], stream=stream)
        (row,) = rows_of(run)
        assert (row.status, row.error_type, row.nusd) == ("error", "ThrottlingException", 0)
        assert row.request_id is not None
        assert run.spend.held == NOTHING


def test_another_model_at_bedrock_than_was_asked_for_is_named() -> None:
    """A profile that answers with a dearer model is charged at that one's price in the same place."""
    with Provider(
        latency_s=0.0, replies=lambda _: Reply(output_tokens=50, response_model="claude-opus-5-5")
    ) as provider:
        with bedrock(provider) as bare, bursar.run("clouds", Budget(usd="1")) as run:
            answer = ask(bursar.wrap(bare), VARIANTS[2][1])
        (row,) = rows_of(run)
        assert row.flags == ("model_drift",)
        assert row.nusd == answer.usage.input_tokens * 4_000 + answer.usage.output_tokens * 20_000


@pytest.mark.parametrize("way", ["sync", "async"])
def test_without_credentials_nothing_is_sent_and_nothing_charged(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that the SDK could not sign never left: its hold is released."""
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with Provider(latency_s=0.0) as provider, bursar.run("clouds", Budget(usd="1")) as run:
        kind: Any = anthropic.AnthropicBedrock if way == "sync" else anthropic.AsyncAnthropicBedrock
        bare = kind(base_url=provider.anthropic_url, aws_region="us-east-1")

        async def aask() -> None:
            async with bare:
                await ask(bursar.wrap(bare), VARIANTS[2][1])

        with pytest.raises(RuntimeError, match="credentials"):
            if way == "async":
                asyncio.run(aask())
            else:
                with bare:
                    ask(bursar.wrap(bare), VARIANTS[2][1])
        assert provider.requests == []
    (row,) = rows_of(run)
    assert (row.status, row.nusd) == ("error", 0)
    assert run.spend.held == NOTHING == run.spend.settled


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has warned of nothing yet."""
    monkeypatch.setattr(unmetered, "_said", set())


@pytest.mark.usefixtures("silent")
def test_a_batch_that_bedrock_does_not_have_is_not_charged() -> None:
    """It is warned of like any, and refused with strict; what the SDK then will not send is released."""
    with Provider(latency_s=0.0) as provider, bedrock(provider) as bare, bursar.run("clouds", Budget(usd="1")) as run:
        request = {"custom_id": "a", "params": CLAUDE | {"model": VARIANTS[2][1]}}
        with pytest.raises(ConfigError, match="batches"):
            bursar.wrap(bare, strict=True).messages.batches.create(requests=[request])
        with (
            pytest.warns(BursarWarning, match="batches"),
            pytest.raises(anthropic.AnthropicError, match="not supported"),
        ):
            bursar.wrap(bare).messages.batches.create(requests=[request])
        assert provider.requests == []
    assert run.spend.settled == NOTHING == run.spend.held


def test_a_deployment_of_an_unknown_name_is_refused_under_dollars() -> None:
    """Azure's deployments have names of their own: without a price nothing is sent, and the model is named."""
    with Provider(latency_s=0.0) as provider, azure(provider) as bare:
        with bursar.run("clouds", Budget(usd="1")), pytest.raises(bursar.PriceUnknown) as refused:
            ask(bursar.wrap(bare), "our-deployment")
        assert (refused.value.provider, refused.value.model) == ("azure.ai.openai", "our-deployment")
        assert provider.requests == []


def test_openai_s_models_at_vertex_have_no_price_of_their_own() -> None:
    """OpenAI's price is not Google's: refused under dollars, counted under tokens, its cost unknown and not zero."""
    asked = RESPONSES | {"model": "gpt-6.1-terra"}
    with Provider(latency_s=0.0) as provider, open_at(openai_vertex, provider) as bare:
        client = bursar.wrap(bare)
        assert seller_of(client) == "gcp.vertex_ai"
        with bursar.run("clouds", Budget(usd="1")), pytest.raises(bursar.PriceUnknown):
            client.responses.create(**asked)
        assert provider.requests == []
        with bursar.run("clouds", Budget(tokens=100_000)) as run:
            answer = client.responses.create(**asked)
    (row,) = rows_of(run)
    assert (row.nusd, row.cost_status) == (None, "unknown")
    assert run.spend.settled.tokens == answer.usage.total_tokens
    assert run.spend.held == NOTHING
