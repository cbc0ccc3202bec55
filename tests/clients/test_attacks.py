"""Ways round the promise: never more than the limit admitted or billed, never a free call, nothing held for ever."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import anthropic
import openai
import pytest
from pydantic import BaseModel, ValidationError

import bursar
from bursar import Budget
from bursar.clients.requests import read, with_cap
from bursar.clients.transcript import measure
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.events import NOTHING, UNITS
from bursar.words.money import usd
from tests.clients.books import rows_of
from tests.clients.http import HTTP

if TYPE_CHECKING:
    from collections.abc import Callable

HI = [{"role": "user", "content": "hi"}]
ASKED: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": HI}
CLAUDE: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": HI}
RESPONSES: Any = {"model": "gpt-4o", "max_output_tokens": 300, "input": "hi"}


class City(BaseModel):
    name: str


def gpt_on(provider: Provider, **options: Any) -> openai.OpenAI:
    return bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x", **({"max_retries": 0} | options)))


def claude_on(provider: Provider, **options: Any) -> anthropic.Anthropic:
    made = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", **({"max_retries": 0} | options))
    return bursar.wrap(made)


EXTRA: dict[str, dict[str, Any]] = {
    "a larger cap": {"max_completion_tokens": 5_000},
    "a second cap": {"max_tokens": 5_000},
    "more choices": {"n": 20},
    "a dearer model": {"model": "gpt-4-turbo"},
    "a longer prompt": {"messages": [{"role": "user", "content": "word " * 5_000}]},
}


@pytest.mark.parametrize("extra", list(EXTRA.values()), ids=list(EXTRA))
def test_extra_body_is_no_way_round(extra: dict[str, Any]) -> None:
    """What extra_body puts in the place of a checked field is what is checked: no more is billed than the limit."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=4_000)) as provider:
        with gpt_on(provider) as client, bursar.run("extra", Budget(usd="0.006")) as run:
            try:
                client.chat.completions.create(**ASKED, extra_body=extra)
            except (bursar.BudgetExceeded, openai.BadRequestError):
                assert provider.charges == []
        assert provider.billed_nusd == run.spend.settled.nusd <= 6_000_000


CLAUDES_EXTRA: dict[str, dict[str, Any]] = {
    "a larger cap": {"max_tokens": 5_000},
    "a dearer model": {"model": "claude-opus-5-5"},
    "a longer prompt": {"messages": [{"role": "user", "content": "word " * 5_000}]},
}


@pytest.mark.parametrize("extra", list(CLAUDES_EXTRA.values()), ids=list(CLAUDES_EXTRA))
def test_extra_body_is_no_way_round_with_claude(extra: dict[str, Any]) -> None:
    """As with OpenAI: a cap that was lowered stays lowered, whoever merges the bodies."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=4_000)) as provider:
        with claude_on(provider) as client, bursar.run("extra", Budget(usd="0.006")) as run:
            try:
                client.messages.create(**CLAUDE, extra_body=extra)
            except bursar.BudgetExceeded:
                assert provider.charges == []
        assert provider.billed_nusd == run.spend.settled.nusd <= 6_000_000


def test_two_caps_are_both_lowered() -> None:
    """A request that names both of Chat's caps is held at the one that counts, and both are lowered."""
    body = {"model": "gpt-4o", "messages": HI, "max_tokens": 300, "max_completion_tokens": 3_000}
    assert read("chat", body, None).cap == 3_000
    lowered = with_cap("chat", body, 100)
    assert (lowered["max_tokens"], lowered["max_completion_tokens"]) == (100, 100)


@pytest.mark.parametrize("cap", [-5, 2.5, True])
def test_a_cap_that_is_refused_stays_refused(claude: anthropic.Anthropic, provider: Provider, cap: Any) -> None:
    """Lowering never makes an acceptable cap of one that the provider would refuse."""
    with bursar.run("caps", Budget(usd="0.05")) as run:
        with pytest.raises((bursar.BudgetExceeded, anthropic.BadRequestError)):
            bursar.wrap(claude).messages.create(**(CLAUDE | {"max_tokens": cap}))
    assert provider.charges == []
    assert run.spend.settled == NOTHING


def test_a_cap_of_nothing_stays_nothing(claude: anthropic.Anthropic, provider: Provider) -> None:
    """max_tokens=0 warms Claude's cache: it holds its input only, and nothing is written in its place."""
    with bursar.run("caps", Budget(usd="0.001")) as run:
        bursar.wrap(claude).messages.create(**(CLAUDE | {"max_tokens": 0}))
    assert provider.requests[0].max_output_tokens == 0
    assert run.spend.settled.nusd == provider.billed_nusd


@pytest.mark.parametrize("budget", [Budget.unlimited(), Budget(model_calls=3), Budget(usd="1"), Budget(tokens=10_000)])
@pytest.mark.parametrize("odd", [{"max_completion_tokens": 2**60}, {"n": 2**60}, {"n": -1}, {"n": True}])
def test_numbers_out_of_all_range_are_no_errors_of_ours(
    gpt: openai.OpenAI, provider: Provider, budget: Any, odd: dict[str, Any]
) -> None:
    """What no provider accepts is refused by the budget or by the provider, never by our arithmetic."""
    with bursar.run("range", budget) as run:
        try:
            bursar.wrap(gpt).chat.completions.create(**(ASKED | odd))
        except (bursar.Stopped, openai.BadRequestError):
            assert provider.charges == []
    assert run.spend.held == NOTHING
    assert run.spend.settled.nusd == provider.billed_nusd


@pytest.mark.parametrize("thinking", [-10_000, 2**62, True, "many", None, 1.5])
def test_a_thinking_budget_cannot_lower_the_floor(
    claude: anthropic.Anthropic, provider: Provider, thinking: Any
) -> None:
    """A budget for thinking that cannot be meant holds no negative room and crashes nothing."""
    asked: Any = CLAUDE | {"max_tokens": 2_000, "thinking": {"type": "enabled", "budget_tokens": thinking}}
    with bursar.run("thinking", Budget(tokens=100)) as run, pytest.raises((bursar.Stopped, anthropic.APIStatusError)):
        bursar.wrap(claude).messages.create(**asked)
    assert provider.charges == []
    assert run.spend.held == NOTHING


@pytest.mark.parametrize("api", ["messages", "messages async", "chat", "chat length", "responses"])
def test_an_answer_that_cannot_be_parsed_is_paid_for(api: str) -> None:
    """`.parse()` of an answer that does not fit its type raises its own error, and is charged as the provider counts."""
    text = None if api == "chat length" else "this is no JSON"
    with Provider(latency_s=0.0, replies=lambda _: Reply(text=text)) as provider:
        with gpt_on(provider) as gpt, claude_on(provider) as claude, bursar.run("parse", Budget(usd="1")) as run:

            async def parse_async() -> None:
                made = anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x")
                async with bursar.wrap(made) as client:
                    await client.messages.parse(**CLAUDE, output_format=City)

            with pytest.raises((ValidationError, openai.LengthFinishReasonError)):
                if api == "messages":
                    claude.messages.parse(**CLAUDE, output_format=City)
                elif api == "messages async":
                    asyncio.run(parse_async())
                elif api == "responses":
                    gpt.responses.parse(**RESPONSES, text_format=City)
                else:
                    gpt.chat.completions.parse(**(ASKED | {"max_completion_tokens": 20}), response_format=City)
        assert run.spend.settled.nusd == provider.billed_nusd > 0
        (row,) = rows_of(run)
        assert row.usage_source == "provider"
        assert row.error_type in {"ValidationError", "LengthFinishReasonError"}


def answered(payload: Any, content_type: str = "application/json", status: int = 200) -> Any:
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {"content-type": content_type}
    return HTTP.Client(transport=HTTP.MockTransport(lambda _: HTTP.Response(status, content=content, headers=headers)))


USED = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
USED_CLAUDE = {"input_tokens": 10, "output_tokens": 20}
ODD: list[tuple[str, Any]] = [
    ("chat", {"choices": 5, "usage": USED}),
    ("chat", {"choices": {"a": 1}, "usage": USED}),
    ("chat", {"choices": [{"message": {"tool_calls": 7}}], "usage": USED, "model": ["x"], "id": 7}),
    ("chat", {"choices": [], "usage": [1]}),
    ("chat", b"[]"),
    ("chat", b"null"),
    ("chat", b"{"),
    ("chat", b""),
    ("chat", b"\xff\xfe"),
    ("messages", {"content": 5, "usage": USED_CLAUDE}),
    ("messages", {"content": {"a": 1}, "usage": USED_CLAUDE}),
    ("messages", b"{"),
    ("messages", b"null"),
    ("responses", {"output": 5, "status": 7, "incomplete_details": "x", "usage": USED_CLAUDE}),
]


@pytest.mark.parametrize(("api", "payload"), ODD)
def test_an_answer_of_an_unknown_shape_is_no_error_of_ours(api: str, payload: Any) -> None:
    """The caller sees what the SDK makes of it; the books believe its usage where there is one, else the bound."""

    def ask(*, guarded: bool) -> str:
        with answered(payload) as http:
            maker: Any = anthropic.Anthropic if api == "messages" else openai.OpenAI
            client = maker(api_key="x", http_client=http, max_retries=0)
            client = bursar.wrap(client) if guarded else client
            try:
                if api == "messages":
                    return type(client.messages.create(**CLAUDE)).__name__
                if api == "chat":
                    return type(client.chat.completions.create(**ASKED)).__name__
                return type(client.responses.create(**RESPONSES)).__name__
            except ValueError as error:
                return type(error).__name__

    with bursar.run("odd", Budget(usd="1")) as run:
        assert ask(guarded=True) == ask(guarded=False)
    (row,) = rows_of(run)
    told = isinstance(payload, dict) and isinstance(payload["usage"], dict)
    assert (row.usage_source, row.output_tokens) == (("provider", 20) if told else ("estimated", 300))
    assert run.spend.held == NOTHING


def test_zeros_are_no_usage() -> None:
    """A proxy that writes zeros does not make a call free."""
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    with Provider(latency_s=0.0, replies=lambda _: Reply(usage_override=zeros)) as provider:
        with gpt_on(provider) as client, bursar.run("zeros", Budget(usd="1")) as run:
            client.chat.completions.create(**ASKED)
            list(client.chat.completions.create(**ASKED, stream=True))
        assert run.spend.settled.nusd >= provider.billed_nusd
        assert [row.flags for row in rows_of(run)] == [("invalid_usage",), ("invalid_usage", "repeated")]


@pytest.mark.parametrize("how", ["raw", "raw claude", "streaming", "streaming claude", "posted"])
def test_a_stream_that_is_never_made_is_concluded(how: str) -> None:
    """A streamed answer read as bytes is charged what they say, one not read at its bound; nothing stays held."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=250)) as provider:
        with gpt_on(provider) as gpt, claude_on(provider) as claude, bursar.run("raw", Budget(usd="1")) as run:
            if how == "raw":
                gpt.chat.completions.with_raw_response.create(**ASKED, stream=True)
            elif how == "raw claude":
                claude.messages.with_raw_response.create(**CLAUDE, stream=True)
            elif how == "streaming":
                with gpt.chat.completions.with_streaming_response.create(**ASKED, stream=True) as response:
                    assert b"".join(response.iter_bytes())
                assert run.spend.held == NOTHING
            elif how == "streaming claude":
                with claude.messages.with_streaming_response.create(**CLAUDE, stream=True) as answer:
                    assert b"".join(answer.iter_bytes())
                assert run.spend.held == NOTHING
            else:
                gpt.post("/chat/completions", body={**ASKED, "stream": True}, cast_to=object)
            gc.collect()
        provider.wait_idle()
        assert run.spend.held == NOTHING
        assert run.spend.settled.nusd >= provider.billed_nusd > 0
        (row,) = rows_of(run)
        assert row.nusd == (provider.billed_nusd if how.startswith("streaming") else row.held_nusd)


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_an_unread_stream_may_have_been_written_in_full(api: str) -> None:
    """Opened, never read, dropped: the provider may have finished it, so the bound is charged."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=280)) as provider:
        with gpt_on(provider) as gpt, claude_on(provider) as claude, bursar.run("unread", Budget(usd="1")) as run:
            stream: Any = (
                gpt.chat.completions.create(**ASKED, stream=True)
                if api == "chat"
                else claude.messages.create(**CLAUDE, stream=True)
            )
            provider.wait_idle()
            del stream
            gc.collect()
        assert run.spend.settled.nusd >= provider.billed_nusd > 280 * 10_000
        assert run.spend.held == NOTHING


def test_large_chunks_are_seen_as_such() -> None:
    """A cut stream of large chunks is charged a chunk of that size on top."""
    reply = Reply(output_tokens=1_500, chunk_tokens=300, chunk_delay_s=0.02)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with gpt_on(provider) as client, bursar.run("chunks", Budget(usd="1")) as run:
            with client.chat.completions.create(**(ASKED | {"max_completion_tokens": 2_000}), stream=True) as stream:
                for _ in range(2):
                    next(stream)
        provider.wait_idle()
        assert run.spend.settled.nusd >= provider.billed_nusd > 0


@pytest.mark.parametrize("take", [15, 18])
def test_what_has_come_beyond_a_cap_is_paid_for(take: int) -> None:
    """A server that ignores its cap, left a little past it: more has been read than could have been written."""
    reply = Reply(output_tokens=400, ignores_cap=True, chunk_delay_s=0.01)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with gpt_on(provider) as client, bursar.run("past", Budget(usd="1")) as run:
            with client.chat.completions.create(**(ASKED | {"max_completion_tokens": 100}), stream=True) as stream:
                for _ in range(take):
                    next(stream)
        provider.wait_idle()
        assert provider.charges[0].output_tokens > 100
        assert run.spend.settled.nusd >= provider.billed_nusd


def test_a_running_count_is_not_the_whole() -> None:
    """Servers that write a usage into every chunk: a stream that is left early is not charged its first count only."""

    def chunk(said: str, counted: int, finish: str | None = None) -> str:
        body = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "model": "gpt-4o",
            "choices": [{"index": 0, "delta": {"content": said}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 9, "completion_tokens": counted, "total_tokens": 9 + counted},
        }
        return f"data: {json.dumps(body)}\n\n"

    events = "".join(chunk("word " * 10, 10 * n) for n in range(1, 6)) + chunk("", 50, "stop") + "data: [DONE]\n\n"
    with answered(events.encode(), "text/event-stream") as http, bursar.run("running", Budget(usd="1")) as run:
        client = bursar.wrap(openai.OpenAI(api_key="x", http_client=http))
        with client.chat.completions.create(**ASKED, stream=True) as stream:
            next(stream)
        assert len(list(client.chat.completions.create(**ASKED, stream=True))) == 6
    left, read_out = rows_of(run)
    assert (left.usage_source, read_out.usage_source) == ("stream_partial", "provider")
    assert (left.input_tokens, read_out.output_tokens) == (9, 50)
    assert left.output_tokens >= 10 + 64


def test_events_of_an_unknown_shape_reach_the_caller() -> None:
    """Our reading of a stream never raises into the caller's loop."""
    odd: list[Any] = [
        {"choices": 7},
        {"choices": [3]},
        {"choices": [{"delta": {"tool_calls": 5}}]},
        {"usage": 9},
        {"choices": [{"delta": {"content": ["x"]}}]},
        {"usage": {"prompt_tokens": [1], "completion_tokens": {}}},
    ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in odd) + "data: [DONE]\n\n"
    with answered(text.encode(), "text/event-stream") as http, bursar.run("odd", Budget(usd="1")) as run:
        client = bursar.wrap(openai.OpenAI(api_key="x", http_client=http))
        assert list(client.chat.completions.create(**ASKED, stream=True))
    (row,) = rows_of(run)
    assert row.nusd == row.held_nusd


def test_words_in_every_corner_are_counted() -> None:
    """Text documents, titles, citations, functions, prompts: what is billed as input is bounded by its bytes."""
    long = "word " * 2_000
    for block in (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": long}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": long}]}},
        {"type": "document", "source": {"type": "url", "url": "x"}, "context": long},
        {"type": "text", "text": "x", "citations": [{"cited_text": long}]},
        {"type": "thing", "number": 2**80, "said": long * 20},
        {"type": "thing", "said": "\ud800" + long},
    ):
        script = measure([{"role": "user", "content": [block]}], [])
        assert script.tokens[0] >= 2_000, block
        assert script.utf8_bytes >= 10_000
    assert (
        read("chat", {"model": "m", "messages": [], "functions": [{"name": long}]}, None).transcript.fixed_tokens
        > 2_000
    )
    stored = read("responses", {"model": "m", "prompt": {"id": "p", "variables": {"a": long}}}, None).transcript
    assert stored.fixed_tokens >= 2_000
    assert stored.unbounded


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_wrapping_again_loosens_nothing(gpt: openai.OpenAI, claude: anthropic.Anthropic, vendor: str) -> None:
    """A client that is wrapped again keeps the limits it had, in runs and outside, and counts once."""

    def ask(client: Any) -> Any:
        return client.chat.completions.create(**ASKED) if vendor == "openai" else client.messages.create(**CLAUDE)

    bare: Any = gpt if vendor == "openai" else claude
    first = bursar.wrap(bare, Budget(model_calls=2))
    again = bursar.wrap(bursar.wrap(first, Budget(usd="1"), team="red"))
    ask(again)
    with bursar.run("again", Budget.unlimited()) as run:
        ask(again)
        with pytest.raises(bursar.BudgetExceeded) as refused:
            ask(again)
    assert refused.value.unit == "model_calls"
    assert len(rows_of(run)) == 1
    with pytest.raises(bursar.BudgetExceeded):
        ask(first)


def test_retries_behind_a_middleware_that_rewrites_are_one_operation(provider: Provider) -> None:
    """The caller's middleware makes each attempt's body anew; the attempts are still one model call."""
    statuses = iter([500, 500, 200])
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=next(statuses), headers={"retry-after-ms": "1"})) as p:

        def rewrite(request: Any, call_next: Any) -> Any:
            return call_next(request.copy(body={**request.json, "metadata": {"user_id": "u"}}))

        made = anthropic.Anthropic(base_url=p.anthropic_url, api_key="x", max_retries=3, middleware=[rewrite])
        with bursar.wrap(made) as client, bursar.run("rewrite", Budget(model_calls=1)) as run:
            client.messages.create(**CLAUDE)
    rows = rows_of(run)
    assert [row.call_id[-2:] for row in rows] == ["/0", "/1", "/2"]
    assert len({row.call_id[:26] for row in rows}) == 1
    assert run.spend.settled.model_calls == 1


class Stop(BaseException):
    """Not an Exception, like KeyboardInterrupt."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_an_interrupt_in_between_leaves_nothing_held(provider: Provider, vendor: str, when: str) -> None:
    """Ctrl-C inside the HTTP library: what may have left is charged, and the interrupt reaches the caller as it is."""

    def interrupt(_: Any) -> None:
        raise Stop

    hooks: Any = {"request": [interrupt]} if when == "before" else {"response": [interrupt]}
    with HTTP.Client(event_hooks=hooks) as http, bursar.run("stop", Budget(usd="1")) as run, pytest.raises(Stop):
        if vendor == "openai":
            gpt_on(provider, http_client=http).chat.completions.create(**ASKED)
        else:
            claude_on(provider, http_client=http).messages.create(**CLAUDE)
    provider.wait_idle()
    assert run.spend.held == NOTHING
    assert run.spend.settled.nusd >= provider.billed_nusd
    assert len(rows_of(run)) == 1


class Watcher:
    """Looks at a run all the time and keeps the worst that it saw."""

    def __init__(self, run: bursar.Run, limits: dict[str, int]) -> None:
        self._run, self._limits, self._over = run, limits, threading.Event()
        self.worst: list[str] = []
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.001):
            spend = self._run.spend
            for unit, limit in self._limits.items():
                i = UNITS.index(unit)
                if spend.settled[i] + spend.held[i] > limit:
                    self.worst.append(f"{unit}: {spend.settled[i]} + {spend.held[i]} > {limit}")


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize(
    "limits",
    [
        {"usd": "0.05"},
        {"tokens": 6_000},
        {"uncached_tokens": 6_000},
        {"input_tokens": 2_000},
        {"output_tokens": 4_000},
        {"model_calls": 15},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_nothing_breaks_the_limit_at_any_moment(  # noqa: C901 - five kinds of call in one storm
    limits: dict[str, Any], seed: int
) -> None:
    """Tasks of all kinds, cancelled at random, retried, cut, failing: settled + held and the bill stay within."""
    dice = random.Random(seed)
    faults: list[Callable[[], Reply]] = [
        lambda: Reply(output_tokens=dice.randrange(1, 400), chunk_delay_s=0.001),
        lambda: Reply(status=429, headers={"retry-after-ms": "1"}),
        lambda: Reply(status=503, headers={"retry-after-ms": "1"}),
        lambda: Reply(status=500, headers={"retry-after-ms": "1"}),
        lambda: Reply(fault="reset_after_billing"),
        lambda: Reply(fault="drop_mid_stream"),
        lambda: Reply(fault="error_mid_stream"),
        lambda: Reply(fault="no_usage"),
    ]

    async def one(gpt: Any, claude: Any) -> None:
        cap = dice.choice([50, 400, 4_000])
        kind = dice.randrange(5)
        if kind == 0:
            await gpt.chat.completions.create(**(ASKED | {"max_completion_tokens": cap, "n": dice.choice([1, 3])}))
        elif kind == 1:
            await claude.messages.create(**(CLAUDE | {"max_tokens": cap}))
        elif kind == 2:
            await gpt.responses.create(**(RESPONSES | {"max_output_tokens": cap}))
        else:
            made = gpt.chat.completions if kind == 3 else claude.messages
            name = "max_completion_tokens" if kind == 3 else "max_tokens"
            stream = await made.create(**((ASKED if kind == 3 else CLAUDE) | {name: cap}), stream=True)
            most = dice.randrange(60)
            async with stream:
                async for _ in stream:
                    most -= 1
                    if most < 0:
                        break

    async def cancelled(work: Any) -> None:
        task = asyncio.create_task(work)
        if dice.random() < 0.4:
            await asyncio.sleep(dice.random() * 0.1)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def everything(provider: Provider) -> None:
        options: dict[str, Any] = {"api_key": "x", "max_retries": 2}
        async with (
            openai.AsyncOpenAI(base_url=provider.openai_url, **options) as gpt,
            anthropic.AsyncAnthropic(base_url=provider.anthropic_url, **options) as claude,
        ):
            wrapped = bursar.wrap(gpt), bursar.wrap(claude)
            await asyncio.gather(*(cancelled(one(*wrapped)) for _ in range(40)))

    with Provider(latency_s=0.005, replies=lambda _: dice.choice(faults)()) as provider:
        budget = Budget(**limits, max_wait=1.0)
        with bursar.run("storm", budget) as run, Watcher(run, budget.limits()) as watcher:
            asyncio.run(everything(provider))
        provider.wait_idle()
        gc.collect()
        assert watcher.worst == []
        assert run.spend.held == NOTHING
        assert all(left >= 0 for left in run.remaining.values())
        rows = rows_of(run)
        assert sum(row.nusd or 0 for row in rows) == run.spend.settled.nusd
        assert len({row.call_id for row in rows}) == len(rows)
        if "usd" in limits:
            assert provider.billed_nusd <= usd_limit(budget)


def usd_limit(budget: Budget) -> int:
    return budget.limits()["usd"]


def test_threads_and_tasks_share_one_limit() -> None:
    """Sync clients in threads beside async clients in a loop: the bill stays within the limit that they share."""
    with Provider(latency_s=0.01) as provider, bursar.run("mixed", Budget(usd=usd(20_000_000))) as run:

        def in_thread(_: int) -> None:
            with gpt_on(provider) as client:
                try:
                    client.chat.completions.create(**ASKED)
                except bursar.BudgetExceeded:
                    return

        async def in_tasks() -> None:
            async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as bare:
                client = bursar.wrap(bare)
                await asyncio.gather(
                    *(client.chat.completions.create(**ASKED) for _ in range(10)), return_exceptions=True
                )

        with ThreadPoolExecutor(12) as pool:
            done = [pool.submit(run.bind(in_thread), n) for n in range(10)]
            done.append(pool.submit(run.bind(lambda: asyncio.run(in_tasks()))))
            for future in done:
                future.result()
        assert provider.billed_nusd == run.spend.settled.nusd <= 20_000_000
        assert run.spend.settled.model_calls == 9
        assert run.spend.held == NOTHING


def test_a_hard_bound_holds_against_an_inflated_tokenizer() -> None:
    """Under bound="hard" text of any kind, counted by bytes, costs no more than was held."""
    texts = ["\U0001f469\u200d\U0001f469" * 300, "\u0e01\u0e33" * 500, "a" * 3_000, "}{][" * 500, "\u200b" * 800]
    with Provider(latency_s=0.0) as provider, gpt_on(provider) as gpt, claude_on(provider) as claude:
        with bursar.run("hard", Budget(usd="10", bound="hard")) as run:
            for text in texts:
                messages: Any = [{"role": "user", "content": text}]
                gpt.chat.completions.create(**(ASKED | {"messages": messages}))
                claude.messages.create(**(CLAUDE | {"messages": messages}))
        for row in rows_of(run):
            assert row.bound == "hard"
            assert (row.held_nusd or 0) >= (row.nusd or 0)
            assert "overrun" not in row.flags


def test_a_count_that_cannot_be_is_not_believed() -> None:
    """A counting endpoint that answers nonsense makes no call smaller than it is."""
    prompt = [{"role": "user", "content": "The quick brown fox jumps over the lazy dog. " * 200}]
    nonsense: list[Any] = [-(10**6), 0, "12", None, True, {}, 1e9]
    for counted in nonsense:

        def reply(request: Any, counted: Any = counted) -> Any:
            assert request.url.path.endswith("count_tokens")
            return HTTP.Response(200, json={"input_tokens": counted})

        with HTTP.Client(transport=HTTP.MockTransport(reply)) as http:
            client = bursar.wrap(anthropic.Anthropic(api_key="x", http_client=http))
            with bursar.run("count", Budget(tokens=3_000)) as run, pytest.raises(bursar.BudgetExceeded):
                client.messages.create(**(CLAUDE | {"messages": prompt}))
            assert run.spend.held == NOTHING


def test_tool_calls_block_the_next_call() -> None:
    """A limit on tool calls is read from answers: what goes above it is recorded in full and stops the next call."""
    reply = Reply(text="", tool_calls=[ToolUse("look", {"n": n}) for n in range(5)])
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider, gpt_on(provider) as client:
        with bursar.run("tools", Budget(tool_calls=4)) as run:
            client.chat.completions.create(**ASKED)
            with pytest.raises(bursar.BudgetExceeded):
                client.chat.completions.create(**ASKED)
    assert run.spend.settled.tool_calls == 5


def test_waiting_is_over_when_it_is_over() -> None:
    """Tasks that wait for a hold are served as soon as it is settled, not when their patience ends."""
    with Provider(latency_s=0.1) as provider, bursar.run("wait", Budget(tokens=800)):

        async def all_at_once() -> None:
            async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as bare:
                client = bursar.wrap(bare)
                await asyncio.gather(*(client.chat.completions.create(**ASKED) for _ in range(3)))

        began = time.monotonic()
        asyncio.run(all_at_once())
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_count_goes_where_the_call_goes(provider: Provider, stream: bool) -> None:
    """A copy of a wrapped client with another host and key sends nothing, not even to be counted, to the first."""
    prompt = [{"role": "user", "content": "The quick brown fox jumps over the lazy dog. " * 200}]
    with Provider(latency_s=0.0) as other, claude_on(provider) as first:
        client = first.with_options(base_url=other.anthropic_url, api_key="another")
        with bursar.run("count", Budget(tokens=3_000)):
            answer: Any = client.messages.create(**(CLAUDE | {"messages": prompt}), stream=stream)
            assert list(answer)
        assert [request.api for request in other.requests] == ["count_tokens", "messages"]
    assert provider.requests == []
