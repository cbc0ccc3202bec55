"""What the provider says was used is believed only where it can be true; else the bound is charged, and flagged."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.clients.usage import anthropic_usage, chat_usage, responses_usage
from bursar.testing import Provider, Reply, ToolUse, scripted
from bursar.words.events import Usage
from tests.clients.books import rows_of

BAD = [-100, float("nan"), float("inf"), float("-inf"), 10**30, 2**63, True, "123", "١٢", "1_000", 12.0, 12.5, [], {}]


def chat(number: Any) -> dict[str, Any]:
    return {"prompt_tokens": number, "completion_tokens": 40, "total_tokens": 50}


def ask(provider: Provider, *, stream: bool = False, **options: Any) -> bursar.Run:
    """One chat call in a run of its own."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        asked: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
        with bursar.run("usage", Budget(usd="1")) as run:
            answer = client.chat.completions.create(**(asked | options), stream=stream)
            if stream:
                list(answer)
        return run


@pytest.mark.parametrize("number", BAD, ids=str)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_count_that_cannot_be_is_presumed(number: Any, stream: bool) -> None:
    """Negative, not finite, too large, a bool, a text, a fraction: the hold is charged, and the record says why.

    In a stream the SDKs read a bool, a text of digits and 12.0 as numbers before anybody else sees them.
    """
    if stream and (number is True or number in ("123", "1_000", 12.0)):
        number = [number]
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=40, usage_override=chat(number))) as provider:
        run = ask(provider, stream=stream)
    (row,) = rows_of(run)
    assert "invalid_usage" in row.flags
    assert row.nusd == row.held_nusd == run.spend.settled.nusd > 0
    assert row.cost_status == "estimated"


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None, "completion_tokens": None}, {"prompt_tokens": 5}])
def test_a_usage_without_numbers_is_presumed(usage: dict[str, Any]) -> None:
    """An empty usage and null fields are no zero."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=40, usage_override=usage)) as provider:
        run = ask(provider)
    (row,) = rows_of(run)
    assert "usage_missing" in row.flags
    assert row.nusd == row.held_nusd


def test_more_cached_than_sent_is_read_as_the_larger() -> None:
    """Parts above their whole: the larger reading is charged, and flagged."""
    usage = chat(10) | {"prompt_tokens_details": {"cached_tokens": 5_000}}
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=40, usage_override=usage)) as provider:
        run = ask(provider)
    (row,) = rows_of(run)
    assert "inconsistent_usage" in row.flags
    assert (row.input_tokens, row.cache_read_tokens) == (5_000, 5_000)


def test_more_output_than_allowed_is_recorded_in_full() -> None:
    """The provider's count is the truth also above the cap: charged in full, flagged as an overrun, and it blocks."""
    usage = chat(10) | {"completion_tokens": 90_000}
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=40, usage_override=usage)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)
            asked: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
            with bursar.run("usage", Budget(usd="0.01")) as run:
                client.chat.completions.create(**asked, max_completion_tokens=300)
                with pytest.raises(bursar.BudgetExceeded):
                    client.chat.completions.create(**asked, max_completion_tokens=300)
    (row,) = rows_of(run)
    assert "overrun" in row.flags
    assert row.output_tokens == 90_000
    assert run.remaining["usd"] < 0


def test_another_model_than_asked_is_charged_at_the_dearer_price() -> None:
    """A silent switch to a dearer model is charged as such and flagged; to a cheaper one it changes nothing."""
    for asked, answered, rate in (("gpt-4o-mini", "gpt-4o", 10_000), ("gpt-4o", "gpt-4o-mini", 10_000)):
        with Provider(latency_s=0.0, replies=scripted([Reply(output_tokens=100, response_model=answered)])) as p:
            run = ask(p, model=asked)
        (row,) = rows_of(run)
        assert "model_drift" in row.flags
        assert (row.request_model, row.response_model) == (asked, answered)
        assert (row.nusd or 0) >= 100 * rate


def test_a_dated_name_of_the_same_model_is_no_drift() -> None:
    """`gpt-4o` that answers as `gpt-4o-2024-08-06` is what was asked for."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(response_model="gpt-4o-2024-08-06")) as provider:
        assert rows_of(ask(provider))[0].flags == ()


def test_cache_reads_and_writes_have_their_own_columns_and_prices() -> None:
    """Claude's cache: written once by its lifetime, read afterwards, both to the nano-dollar of the provider's bill."""
    system: Any = [{"type": "text", "text": "Rules. " * 1_500, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
    with Provider(latency_s=0.0) as provider, anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x") as bare:
        client = bursar.wrap(bare)
        with bursar.run("cache", Budget(usd="1")) as run:
            client.messages.create(**asked, system=system)
            client.messages.create(**asked, system=system)
        first, second = rows_of(run)
        assert first.cache_write_tokens > 1_000
        assert first.cache_read_tokens == 0
        assert (second.cache_read_tokens, second.cache_write_tokens) == (first.cache_write_tokens, 0)
        assert run.spend.settled.nusd == provider.billed_nusd
        assert run.spend.settled.uncached_tokens == run.spend.settled.tokens - second.cache_read_tokens


def test_a_service_tier_has_its_own_price() -> None:
    """What was asked for as flex and served as flex is charged as flex; what was served as default is not."""
    with Provider(latency_s=0.0) as provider:
        run = ask(provider, model="gpt-5", max_completion_tokens=2_000, service_tier="flex")
        assert run.spend.settled.nusd == provider.billed_nusd
        provider.reset()
        run = ask(provider, model="gpt-4o", service_tier="flex")
        assert run.spend.settled.nusd == provider.billed_nusd


def test_tool_calls_are_counted_and_limited() -> None:
    """Tool calls that a model asks for count; above the limit the next model call is refused."""
    reply = Reply(text="", tool_calls=[ToolUse("look", {"n": 1}), ToolUse("look", {"n": 2})])
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x") as bare:
            client = bursar.wrap(bare)
            asked: Any = {
                "model": "claude-sonnet-5-5",
                "max_tokens": 300,
                "messages": [{"role": "user", "content": "x"}],
            }
            with bursar.run("tools", Budget(tool_calls=3)) as run:
                client.messages.create(**asked)
                with client.messages.create(**asked, stream=True) as stream:
                    list(stream)
                with pytest.raises(bursar.BudgetExceeded) as stopped:
                    client.messages.create(**asked)
    assert run.spend.settled.tool_calls == 4
    assert (stopped.value.unit, stopped.value.remaining) == ("tool_calls", -1)


def test_several_choices_are_all_charged() -> None:
    """n=3 holds and costs three answers."""
    with Provider(latency_s=0.0) as provider:
        run = ask(provider, n=3)
        assert run.spend.settled.nusd == provider.billed_nusd
        (row,) = rows_of(run)
        assert row.output_tokens == 600
        assert (row.held_nusd or 0) >= 3 * 300 * 10_000


def test_usage_is_read_from_json_as_from_objects() -> None:
    """The three shapes, by hand: Claude's input excludes the cache, OpenAI's includes it."""
    claude = json.loads(
        '{"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 20,'
        '"cache_creation": {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5},'
        '"output_tokens_details": {"thinking_tokens": 7}, "server_tool_use": {"web_search_requests": 2}}'
    )
    assert anthropic_usage(claude).usage == Usage(150, 20, 30, 15, 0, 5, 0, 7, 2)
    gpt = {
        "prompt_tokens": 150,
        "completion_tokens": 20,
        "prompt_tokens_details": {
            "cached_tokens": 30,
            "cache_write_tokens": 20,
            "cache_write_tokens_details": {"ttl_12h_tokens": 5},
        },
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    assert chat_usage(gpt).usage == Usage(150, 20, 30, 0, 15, 0, 5, 7, 0)
    assert responses_usage({"input_tokens": 9, "output_tokens": 4}).usage == Usage(9, 4)
    assert anthropic_usage(None).flags == ("usage_missing",)
