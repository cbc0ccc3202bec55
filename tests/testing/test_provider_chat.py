import asyncio
from decimal import Decimal
from typing import Any

import openai
import pytest

from bursar.testing import Provider, Reply, ToolUse, tokenizer
from tests.testing.provider_bench import Bench

CALL = Reply(
    text="Looking.",
    thinking_tokens=16,
    tool_calls=[ToolUse("search", {"q": "trains to Rome"}), ToolUse("clock", id="c-2")],
)


def test_a_plain_completion_is_billed(bench: Bench) -> None:
    """The prompt "hi" is 7 tokens (3 per request, 3 per message, 1 word); 200 out: $0.0020175 on gpt-4o."""
    provider = bench.provider()
    completion = bench.openai(provider).chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hi"}]
    )
    assert completion.choices[0].finish_reason == "stop"
    assert tokenizer.count(completion.choices[0].message.content or "") == 200
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 200)
    assert completion.usage.total_tokens == 207
    assert provider.billed_nusd == 7 * 2_500 + 200 * 10_000


@pytest.mark.parametrize(
    ("model", "nusd"), [("openai/gpt-4o", 7 * 2_500 + 9 * 10_000), ("anthropic/claude-haiku-5.5", 7 * 100 + 9 * 500)]
)
def test_openrouter_says_what_it_takes(bench: Bench, model: str, nusd: int) -> None:
    """The vendor's price, in dollars beside the tokens; a stream's last event has it without being asked."""
    provider = bench.provider(Reply(output_tokens=9))
    chat: Any = bench.openai(provider).with_options(base_url=f"{provider.anthropic_url}/api/v1").chat.completions
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    usages = [chat.create(**asked).usage, list(chat.create(**asked, stream=True))[-1].usage]
    assert [Decimal(repr(usage.cost)) * 10**9 for usage in usages] == [nusd, nusd]
    assert provider.billed_nusd == 2 * nusd


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_either_cap_cuts_the_answer(bench: Bench, name: str) -> None:
    """Both spellings of the cap work for gpt-4o."""
    provider = bench.provider()
    completion = bench.openai(provider).chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hi"}], extra_body={name: 17}
    )
    assert completion.choices[0].finish_reason == "length"
    assert provider.charges[0].output_tokens == provider.requests[0].max_output_tokens == 17


def test_without_a_cap_the_model_has_a_ceiling(bench: Bench) -> None:
    """gpt-4o writes no more than 16,384 tokens."""
    provider = bench.provider(Reply(output_tokens=20_000))
    completion = bench.openai(provider).chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hi"}]
    )
    assert completion.choices[0].finish_reason == "length"
    assert provider.charges[0].output_tokens == 16_384


def test_tool_calls_arrive_typed(bench: Bench) -> None:
    """Calls have ids, names and JSON arguments; reasoning is in the usage only."""
    provider = bench.provider(CALL)
    completion = bench.openai(provider).chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": "hi"}]
    )
    choice = completion.choices[0]
    calls = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in calls if call.type == "function"] == ["search", "clock"]
    assert calls[0].type == "function"
    assert calls[0].function.arguments == '{"q": "trains to Rome"}'
    assert calls[0].id.startswith("call_")
    assert calls[1].id == "c-2"
    assert completion.usage is not None
    assert completion.usage.completion_tokens_details is not None
    assert completion.usage.completion_tokens_details.reasoning_tokens == 16


def test_a_stream_accumulates_to_the_plain_answer(bench: Bench) -> None:
    """The SDK's helper puts the chunks together to the same completion, and both are billed alike."""
    provider = bench.provider(CALL)
    client = bench.openai(provider)
    with client.chat.completions.stream(
        model="gpt-5", messages=[{"role": "user", "content": "hi"}], stream_options={"include_usage": True}
    ) as stream:
        streamed = stream.get_final_completion()
    plain = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
    assert streamed.choices[0].message.content == plain.choices[0].message.content == "Looking."
    assert [call.function.arguments for call in streamed.choices[0].message.tool_calls or []] == [
        '{"q": "trains to Rome"}',
        "{}",
    ]
    assert streamed.usage == plain.usage
    assert provider.charges[0].nusd == provider.charges[1].nusd


@pytest.mark.parametrize("wanted", [True, False])
def test_a_stream_tells_its_usage_only_when_asked(bench: Bench, wanted: bool) -> None:
    """With `include_usage` there is one more chunk, without choices; otherwise no chunk has a usage."""
    provider = bench.provider(Reply(output_tokens=20))
    chunks = list(
        bench.openai(provider).chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": wanted},
        )
    )
    told = [chunk for chunk in chunks if chunk.usage is not None]
    assert len(chunks) == 1 + 3 + 1 + wanted
    assert [(chunk.choices, chunk.usage and chunk.usage.completion_tokens) for chunk in told] == [([], 20)] * wanted
    assert provider.charges[0].output_tokens == 20


@pytest.mark.parametrize("streamed", [False, True])
def test_two_choices_cost_twice_the_output(bench: Bench, streamed: bool) -> None:
    """With n=2 the input is billed once and the output of both choices."""
    provider = bench.provider(Reply(output_tokens=50))
    client = bench.openai(provider)
    if streamed:
        chunks = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], n=2, stream=True
        )
        indices = {choice.index for chunk in chunks for choice in chunk.choices}
    else:
        completion = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], n=2)
        indices = {choice.index for choice in completion.choices}
    assert indices == {0, 1}
    assert provider.charges[0].output_tokens == 100
    assert provider.billed_nusd == 7 * 2_500 + 100 * 10_000


def test_the_service_tier_asked_for_is_reported_and_billed(bench: Bench) -> None:
    """gpt-5 as priority costs double; gpt-4o has no flex and says it served the default."""
    provider = bench.provider()
    client = bench.openai(provider)
    dear = client.chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": "hi"}], service_tier="priority"
    )
    plain = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hi"}], service_tier="flex"
    )
    assert (dear.service_tier, plain.service_tier) == ("priority", "default")
    assert provider.charges[0].nusd == 7 * 2_500 + 200 * 20_000


def test_asynchronous_clients_are_served_alike() -> None:
    """The async SDK gets the same answers, plain and streamed."""

    async def ask(provider: Provider) -> tuple[int, int]:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
            plain = await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
            chunks = await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
            return tokenizer.count(plain.choices[0].message.content or ""), tokenizer.count(text)

    with Provider(latency_s=0) as provider:
        assert asyncio.run(ask(provider)) == (200, 200)
        assert [charge.stream for charge in provider.charges] == [False, True]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_billed_by_their_input(bench: Bench, encoding: str) -> None:
    """Four words cost four tokens, 80 nano-dollars at $0.02 per million."""
    provider = bench.provider()
    result = bench.openai(provider).embeddings.create(
        model="text-embedding-3-small",
        input=["one two", "three four"],
        extra_body={"encoding_format": encoding},
    )
    assert [len(item.embedding) > 0 for item in result.data] == [True, True]
    assert (result.usage.prompt_tokens, provider.billed_nusd) == (4, 80)
    assert provider.charges[0].api == "embeddings"
