"""The same client back: type, copies, the caller's own middleware, and what wrap's tags and limits do."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget, BursarWarning
from bursar.runs.process import process
from bursar.testing import Provider, Reply
from bursar.tracing.queries import Reader
from tests.clients.books import rows_of

ASKED: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
CLAUDE: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}


class OwnClient(openai.OpenAI):
    """A user's own subclass."""


@pytest.mark.parametrize(
    "made",
    [
        lambda url: openai.OpenAI(base_url=url, api_key="x"),
        lambda url: openai.AsyncOpenAI(base_url=url, api_key="x"),
        lambda url: OwnClient(base_url=url, api_key="x"),
        lambda url: openai.AzureOpenAI(azure_endpoint=url, api_key="x", api_version="1"),
        lambda url: anthropic.Anthropic(base_url=url, api_key="x"),
        lambda url: anthropic.AsyncAnthropic(base_url=url, api_key="x"),
    ],
)
def test_the_type_stays(made: Any) -> None:
    """A wrapped client, its copies and its name are of the class that was handed in; the original is not touched."""
    bare = made("http://127.0.0.1:9/v1")
    wrapped = bursar.wrap(bare)
    for client in (wrapped, wrapped.copy(), wrapped.with_options(timeout=5), bursar.wrap(wrapped)):
        assert isinstance(client, type(bare))
        assert type(client).__name__ == type(bare).__name__
        assert type(client).__module__ == type(bare).__module__
    assert wrapped is not bare
    assert type(bare) is not type(wrapped) or not bare.middleware


@pytest.mark.parametrize("thing", [None, object(), "client", anthropic, openai.OpenAI])
def test_what_is_no_client_is_refused(thing: Any) -> None:
    """wrap() takes clients, and says so."""
    with pytest.raises(TypeError, match="anthropic or openai"):
        bursar.wrap(thing)


@pytest.mark.parametrize("copy", ["with_options", "copy", "wrap twice"])
def test_copies_keep_the_guard_and_charge_once(
    provider: Provider, gpt: openai.OpenAI, claude: anthropic.Anthropic, copy: str
) -> None:
    """A copy of a wrapped client, and a client wrapped twice, are limited and charged once a call."""

    def copied(client: Any) -> Any:
        if copy == "wrap twice":
            return bursar.wrap(bursar.wrap(client))
        return getattr(bursar.wrap(client), copy)(timeout=30)

    with bursar.run("copies", Budget(usd="1")) as run:
        copied(gpt).chat.completions.create(**ASKED)
        copied(claude).messages.create(**CLAUDE)
    assert run.spend.settled.model_calls == len(rows_of(run)) == 2
    assert run.spend.settled.nusd == provider.billed_nusd


def test_the_callers_middleware_stays(provider: Provider) -> None:
    """A middleware of the caller runs outside of ours, which sees what is really sent."""
    seen: list[str] = []

    def shorten(request: Any, call_next: Any) -> Any:
        seen.append(request.url)
        return call_next(request.copy(body={**request.json, "max_tokens": 7}))

    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", middleware=[shorten]) as bare:
        client = bursar.wrap(bare)
        with bursar.run("own", Budget(usd="1")) as run:
            client.messages.create(**CLAUDE)
    assert seen == ["/v1/messages"]
    assert rows_of(run)[0].max_tokens == 7


def test_a_middleware_between_us_and_the_provider_is_seen(provider: Provider) -> None:
    """What a later middleware changes beneath us cannot be seen; what ours admits is still all that is charged."""
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x") as bare:
        client = bursar.wrap(bare).with_options(max_retries=0)
        with bursar.run("own", Budget(usd="1")) as run:
            client.messages.create(**CLAUDE)
    assert run.spend.settled.nusd == provider.billed_nusd


def test_raw_responses_are_charged(gpt: openai.OpenAI, claude: anthropic.Anthropic, provider: Provider) -> None:
    """A raw response is read for its usage; one that nobody reads is charged at its bound, and says so."""
    wrapped, wrapped_claude = bursar.wrap(gpt), bursar.wrap(claude)
    with bursar.run("raw", Budget(usd="1")) as run:
        assert wrapped.chat.completions.with_raw_response.create(**ASKED).parse().choices
        assert wrapped_claude.messages.with_raw_response.create(**CLAUDE).parse().content
    assert run.spend.settled.nusd == provider.billed_nusd
    with bursar.run("raw", Budget(usd="1")) as run:
        with wrapped.chat.completions.with_streaming_response.create(**ASKED):
            pass
        with wrapped_claude.messages.with_streaming_response.create(**CLAUDE):
            pass
    assert [row.flags for row in rows_of(run)] == [("unread", "uncapped"), ("unread",)]
    assert [row.cost_status for row in rows_of(run)] == ["estimated", "estimated"]


def test_other_endpoints_pass_untouched(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """Listing and counting cost nothing: they work, and nothing is recorded for them."""
    with pytest.warns(BursarWarning, match="saw no model call"), bursar.run("others", Budget(usd="1")) as run:
        with pytest.raises(openai.NotFoundError):
            bursar.wrap(gpt).models.list()
        counted = bursar.wrap(claude).messages.count_tokens(model="claude-sonnet-5-5", messages=CLAUDE["messages"])
        assert counted.input_tokens > 0
    assert run.spend.settled.model_calls == 0


def test_tags_of_the_client_count_outside_of_runs(gpt: openai.OpenAI) -> None:
    """Outside of any run a call goes to the workflow of its client, or is unattributed; user ids are hashed."""
    bursar.wrap(gpt, workflow="triage", user="u-17", team="red").chat.completions.create(**ASKED)
    bursar.wrap(gpt).chat.completions.create(**ASKED)
    with Reader(process().ledger.path) as reader:
        assert {row.key for row in reader.spend_by("workflow")} == {"triage", "unattributed"}
        users = {row.key for row in reader.spend_by("user")}
    assert "(none)" in users
    assert all(user == "(none)" or user.startswith("k1:") for user in users)


def test_the_run_names_its_calls_and_the_client_fills_the_rest(gpt: openai.OpenAI) -> None:
    """Inside a run its own tags win; what it leaves open the client may say."""
    client = bursar.wrap(gpt, workflow="client", feature="from-client", user="c", extra="1")
    with bursar.run("outer", Budget(usd="1"), prompt_version="v3") as run:
        client.chat.completions.create(**ASKED)
        client.chat.completions.create(**ASKED)
    with Reader(process().ledger.path) as reader:
        assert [row.key for row in reader.spend_by("workflow")] == ["outer"]
        assert [row.key for row in reader.spend_by("feature")] == ["from-client"]
        assert [row.key for row in reader.spend_by("prompt_version")] == ["v3"]
        assert reader.run(run.id).workflow == "outer"


def test_a_limit_given_to_wrap_lasts_as_long_as_the_client(gpt: openai.OpenAI, provider: Provider) -> None:
    """A budget of the client counts outside of runs and inside, beside the run's own."""
    client = bursar.wrap(gpt, Budget(model_calls=3))
    client.chat.completions.create(**ASKED)
    with bursar.run("inside", Budget(usd="1", model_calls=9)) as run:
        client.chat.completions.create(**ASKED)
        client.chat.completions.create(**ASKED)
        with pytest.raises(bursar.BudgetExceeded) as stopped:
            client.chat.completions.create(**ASKED)
    assert stopped.value.scope.startswith("client ")
    assert stopped.value.run is run
    with pytest.raises(bursar.BudgetExceeded) as stopped:
        client.chat.completions.create(**ASKED)
    assert stopped.value.run is None
    assert len(provider.charges) == 3


@pytest.mark.parametrize("guards", [("0.50",), (0.5,), (object(),)])
def test_what_is_no_guard_is_refused(gpt: openai.OpenAI, guards: Any) -> None:
    """Only guards are guards."""
    with pytest.raises(TypeError, match="not a guard"):
        bursar.wrap(gpt, *guards)


@pytest.mark.parametrize("tags", [{"workflow": ""}, {"user": " "}, {"feature": 7}])
def test_an_empty_tag_is_refused(gpt: openai.OpenAI, tags: Any) -> None:
    """A tag is a text that says something."""
    with pytest.raises(bursar.ConfigError):
        bursar.wrap(gpt, **tags)


def test_stream_usage_is_asked_for_and_its_chunk_hidden(gpt: openai.OpenAI) -> None:
    """A chat stream gets its usage without the caller seeing the extra chunk; who asks for it himself sees it."""
    client = bursar.wrap(gpt)
    with bursar.run("usage", Budget(usd="1")) as run:
        stream = client.chat.completions.create(**ASKED, stream=True)
        assert isinstance(stream, openai.Stream)
        chunks = list(stream)
        assert all(chunk.choices for chunk in chunks)
        shown = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
        assert not shown[-1].choices
        stream.close()
        stream.close()
    assert [row.usage_source for row in rows_of(run)] == ["provider", "provider"]


def test_a_second_call_beside_an_open_stream_does_not_deadlock(gpt: openai.OpenAI, provider: Provider) -> None:
    """A task that holds all there is in a stream of its own is told so at once, and not left waiting for itself."""
    client = bursar.wrap(gpt)
    with bursar.run("self", Budget(tokens=600)), pytest.raises(bursar.BudgetExceeded) as stopped:
        with client.chat.completions.create(**ASKED, max_completion_tokens=550, stream=True):
            client.chat.completions.create(**ASKED, max_completion_tokens=300)
    assert stopped.value.why == "would_deadlock"


def test_a_sync_client_on_an_event_loop_never_waits(gpt: openai.OpenAI) -> None:
    """On an event loop's own thread nobody could settle what is waited for: clamp or refuse, at once."""
    client = bursar.wrap(gpt)

    async def both() -> str:
        async def hold() -> None:
            with client.chat.completions.create(**ASKED, max_completion_tokens=550, stream=True) as stream:
                next(iter(stream))
                await asyncio.sleep(0.05)

        task = asyncio.create_task(hold())
        await asyncio.sleep(0.02)
        try:
            client.chat.completions.create(**ASKED, max_completion_tokens=300)
        except bursar.BudgetExceeded as error:
            return error.why
        finally:
            await task
        return "served"

    with bursar.run("loop", Budget(tokens=600)):
        assert asyncio.run(both()) == "would_deadlock"


def test_what_an_answer_cost(gpt: openai.OpenAI, claude: anthropic.Anthropic, provider: Provider) -> None:
    """cost() knows answers of wrapped clients, prices others from their usage, and takes objects and JSON."""
    known = bursar.cost(bursar.wrap(claude).messages.create(**CLAUDE))
    assert known.nusd == provider.billed_nusd
    assert known.latency_s is not None
    assert str(known).startswith("$0.0020")
    foreign = gpt.chat.completions.create(**ASKED)
    unseen = bursar.cost(foreign)
    assert unseen.latency_s is None
    assert unseen == bursar.cost(foreign.model_dump())
    assert unseen.usd is not None
    assert bursar.cost(gpt.responses.create(model="gpt-4o", input="x")).nusd
    assert str(bursar.cost({"choices": [], "model": "gpt-4o"})) == "price unknown · usage unknown"
    with pytest.raises(bursar.BursarError, match="takes an answer"):
        bursar.cost(object())


def test_a_free_count_settles_a_cold_doubt(claude: anthropic.Anthropic, provider: Provider) -> None:
    """Nothing learned and little room: the provider is asked for the exact count once, instead of refusing."""
    client = bursar.wrap(claude)
    prompt = "The quick brown fox jumps over the lazy dog. " * 200
    asked: Any = CLAUDE | {"messages": [{"role": "user", "content": prompt}]}
    with bursar.run("count", Budget(tokens=3_000)) as run:
        client.messages.create(**asked)
    assert [request.api for request in provider.requests] == ["count_tokens", "messages"]
    assert run.spend.settled.tokens <= 3_000


def test_an_async_client_counts_as_well(provider: Provider) -> None:
    """The same, awaited; and for OpenAI's Responses."""
    prompt = "The quick brown fox jumps over the lazy dog. " * 200

    async def ask() -> None:
        async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x") as bare:
            with bursar.run("count", Budget(tokens=3_000)):
                await bursar.wrap(bare).messages.create(
                    **(CLAUDE | {"messages": [{"role": "user", "content": prompt}]})
                )
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as gpt:
            with bursar.run("count", Budget(tokens=2_800)):
                await bursar.wrap(gpt).responses.create(model="gpt-4o", input=prompt, max_output_tokens=300)

    asyncio.run(ask())
    with openai.OpenAI(base_url=provider.openai_url, api_key="x") as sync, bursar.run("other", Budget(tokens=2_800)):
        bursar.wrap(sync).responses.create(model="gpt-4o", input=prompt, max_output_tokens=300)
    apis = [request.api for request in provider.requests]
    assert apis.count("count_tokens") == 1
    assert apis.count("input_tokens") == 2
    assert len(provider.charges) == 3


def test_a_refused_count_leaves_the_bound(claude: anthropic.Anthropic) -> None:
    """Where counting fails the bound decides."""
    with Provider(latency_s=0.0, replies=lambda _: Reply()) as gone:
        bare = anthropic.Anthropic(base_url=gone.anthropic_url, api_key="x", max_retries=0)
    client = bursar.wrap(bare)
    prompt = "The quick brown fox jumps over the lazy dog. " * 200
    with bursar.run("count", Budget(tokens=3_000)), pytest.raises(bursar.BudgetExceeded):
        client.messages.create(**(CLAUDE | {"messages": [{"role": "user", "content": prompt}]}))
    bare.close()
