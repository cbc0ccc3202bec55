import asyncio
from typing import Any

import anthropic
import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock

from bursar.testing import Extras, Iteration, Provider, Reply, ToolUse, tokenizer
from tests.testing.provider_bench import Bench

MODEL = "claude-sonnet-5-5"
EVERYTHING = Reply(
    text="Let me look that up.", thinking_tokens=20, tool_calls=[ToolUse("search", {"q": "trains to Rome"})]
)


def test_a_plain_answer_is_a_message_and_is_billed(bench: Bench) -> None:
    """The prompt "hi" is 8 tokens (3 per request, 4 per message, 1 word); with 200 out it costs $0.002016."""
    provider = bench.provider()
    message = bench.anthropic(provider).messages.create(
        model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
    )
    block = message.content[0]
    assert isinstance(block, TextBlock)
    assert tokenizer.count(block.text) == message.usage.output_tokens == 200
    assert (message.model, message.stop_reason, message.usage.input_tokens) == (MODEL, "end_turn", 8)
    (charge,) = provider.charges
    assert (charge.input_tokens, charge.output_tokens, charge.ended) == (8, 200, "complete")
    assert charge.nusd == provider.billed_nusd == 8 * 2_000 + 200 * 10_000
    (request,) = provider.requests
    assert (request.number, request.api, request.model, request.max_output_tokens) == (
        1,
        "messages",
        MODEL,
        500,
    )
    assert request.headers["authorization"] == "Bearer x"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("wrote", [0, 40])
def test_a_model_that_declined_is_billed_for_what_it_wrote(bench: Bench, wrote: int, stream: bool) -> None:
    """Reading and 40 tokens at $2 and $10 a million, nothing without any; the answer at $4 and $20; a block between."""
    declined = Iteration("message", 8, wrote, model=MODEL)
    provider = bench.provider(
        Reply(output_tokens=10, extras=Extras(iterations=(declined,), served_by="claude-opus-5-5"))
    )
    messages = bench.anthropic(provider).beta.messages
    asked: Any = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    if stream:
        with messages.stream(**asked) as events:
            message = events.get_final_message()
    else:
        message = messages.create(**asked)
    assert message.model == "claude-opus-5-5"
    assert [block.type for block in message.content] == ["fallback", "text"]
    assert [(entry.type, entry.output_tokens) for entry in message.usage.iterations or ()] == [
        ("message", wrote),
        ("fallback_message", 10),
    ]
    assert provider.billed_nusd == 8 * 4_000 + 10 * 20_000 + (8 * 2_000 + 40 * 10_000 if wrote else 0)


def test_the_cap_cuts_the_answer(bench: Bench) -> None:
    """An answer has at most `max_tokens` tokens, says so, and costs no more."""
    provider = bench.provider()
    message = bench.anthropic(provider).messages.create(
        model=MODEL, max_tokens=30, messages=[{"role": "user", "content": "hi"}]
    )
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 30)
    assert provider.charges[0].output_tokens == 30


def test_thinking_text_and_tools_arrive_typed(bench: Bench) -> None:
    """An answer of all kinds has them in order, and its output is their sum."""
    provider = bench.provider(EVERYTHING)
    message = bench.anthropic(provider).messages.create(
        model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
    )
    thinking, text, tool = message.content
    assert isinstance(thinking, ThinkingBlock)
    assert isinstance(text, TextBlock)
    assert isinstance(tool, ToolUseBlock)
    assert tokenizer.count(thinking.thinking) == 20
    assert tool.input == {"q": "trains to Rome"}
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 20
    # Thinking 20, text 6 words and a full stop less one, call: 8 markers, its name, its JSON.
    arguments = tokenizer.count('{"q": "trains to Rome"}')
    assert message.usage.output_tokens == 20 + tokenizer.count(text.text) + 8 + 1 + arguments


def test_a_stream_accumulates_to_the_plain_answer(bench: Bench) -> None:
    """The SDK's helper puts the events together to the same message, and both are billed alike."""
    provider = bench.provider(EVERYTHING)
    client = bench.anthropic(provider)
    with client.messages.stream(model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}]) as stream:
        streamed = stream.get_final_message()
    plain = client.messages.create(model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}])
    assert [block.type for block in streamed.content] == ["thinking", "text", "tool_use"]
    tool = streamed.content[2]
    assert isinstance(tool, ToolUseBlock)
    assert tool.input == {"q": "trains to Rome"}
    assert streamed.usage.output_tokens == plain.usage.output_tokens
    assert streamed.stop_reason == plain.stop_reason
    assert [charge.nusd for charge in provider.charges] == [provider.charges[0].nusd] * 2


def test_raw_events_come_in_the_documented_order(bench: Bench) -> None:
    """`message_start` tells the input first, `message_delta` the cumulative output last."""
    provider = bench.provider(Reply(output_tokens=20))
    events = list(
        bench.anthropic(provider).messages.create(
            model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}], stream=True
        )
    )
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[2:5] == ["content_block_delta"] * 3
    assert kinds[5:] == ["content_block_stop", "message_delta", "message_stop"]
    start, delta = events[0], events[-2]
    assert start.type == "message_start"
    assert (start.message.usage.input_tokens, start.message.usage.output_tokens) == (8, 1)
    assert delta.type == "message_delta"
    assert delta.usage.output_tokens == 20


def test_a_cap_inside_a_tool_call_leaves_it_incomplete(bench: Bench) -> None:
    """A call that the cap cuts has no arguments, and the stop reason is the cap."""
    provider = bench.provider(Reply(text="", tool_calls=[ToolUse("search", {"q": "x " * 50})]))
    message = bench.anthropic(provider).messages.create(
        model=MODEL, max_tokens=12, messages=[{"role": "user", "content": "hi"}]
    )
    (tool,) = message.content
    assert isinstance(tool, ToolUseBlock)
    assert (tool.input, message.stop_reason, message.usage.output_tokens) == ({}, "max_tokens", 12)


def test_a_cap_of_zero_only_reads_the_prompt(bench: Bench) -> None:
    """`max_tokens=0` warms the cache: no content, no output billed."""
    provider = bench.provider()
    message = bench.anthropic(provider).messages.create(
        model=MODEL, max_tokens=0, messages=[{"role": "user", "content": "hi"}]
    )
    assert (message.content, message.usage.output_tokens) == ([], 0)
    assert provider.billed_nusd == 16_000


def test_counting_costs_nothing_and_agrees_with_the_bill(bench: Bench) -> None:
    """`count_tokens` names the input that the same prompt is then billed for, tools included."""
    provider = bench.provider()
    client = bench.anthropic(provider)
    tool: anthropic.types.ToolParam = {"name": "search", "input_schema": {"type": "object", "properties": {}}}
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Where is the next train?"}]
    counted = client.messages.count_tokens(model=MODEL, messages=messages, tools=[tool], system="Be brief.")
    assert provider.charges == []
    client.messages.create(model=MODEL, max_tokens=9, messages=messages, tools=[tool], system="Be brief.")
    assert counted.input_tokens == provider.charges[0].input_tokens
    assert [request.api for request in provider.requests] == ["count_tokens", "messages"]


def test_the_beta_endpoint_is_the_same(bench: Bench) -> None:
    """`beta.messages.create` reaches the Messages API."""
    provider = bench.provider()
    message = bench.anthropic(provider).beta.messages.create(
        model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
    )
    assert message.usage.output_tokens == 200
    assert provider.requests[0].path == "/v1/messages"


def test_a_conversation_with_tools_and_pictures_is_counted(bench: Bench) -> None:
    """Tool calls and results count by their text, a picture by a flat number and not by its base64."""
    provider = bench.provider()
    bench.anthropic(provider).messages.create(
        model=MODEL,
        max_tokens=5,
        messages=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "A" * 400_000},
                    },
                    {"type": "text", "text": "look"},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "search", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "none"}],
                    }
                ],
            },
        ],
    )
    # 3 + three messages of 4 + picture + "look" + "search{}" in two tokens + "none".
    assert provider.charges[0].input_tokens == 3 + 12 + 1500 + 1 + 2 + 1


@pytest.mark.parametrize("streamed", [False, True])
def test_asynchronous_clients_are_served_alike(streamed: bool) -> None:
    """The async SDK gets the same answers, plain and streamed."""

    async def ask(provider: Provider) -> int:
        async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x") as client:
            if streamed:
                async with client.messages.stream(
                    model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
                ) as stream:
                    return (await stream.get_final_message()).usage.output_tokens
            message = await client.messages.create(
                model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
            )
            return message.usage.output_tokens

    with Provider(latency_s=0) as provider:
        assert asyncio.run(ask(provider)) == 200
        assert provider.charges[0].stream is streamed


def test_inflation_multiplies_the_input(bench: Bench) -> None:
    """With an inflation of 1.1, 10 tokens of prompt are counted and billed as 11, and 8 as 9."""
    provider = bench.provider(inflation=1.1)
    client = bench.anthropic(provider)
    for content, tokens in (("one two three", 11), ("hi", 9)):
        messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": content}]
        assert client.messages.count_tokens(model=MODEL, messages=messages).input_tokens == tokens
