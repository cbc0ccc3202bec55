import asyncio

import openai
import pytest
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
)

from bursar.testing import Provider, Reply, ToolUse, tokenizer
from tests.testing.provider_bench import Bench

EVERYTHING = Reply(text="Looking.", thinking_tokens=16, tool_calls=[ToolUse("search", {"q": "trains to Rome"})])


def test_a_plain_response_is_billed(bench: Bench) -> None:
    """The prompt "hi" is 8 tokens (3 per request, 4 per item, 1 word); with 200 out gpt-5 takes $0.00201."""
    provider = bench.provider()
    response = bench.openai(provider).responses.create(model="gpt-5", input="hi")
    assert (response.status, tokenizer.count(response.output_text)) == ("completed", 200)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.total_tokens) == (8, 208)
    assert provider.billed_nusd == 8 * 1_250 + 200 * 10_000


def test_reasoning_text_and_calls_are_output_items(bench: Bench) -> None:
    """The items come in order and typed, reasoning counted in the usage."""
    provider = bench.provider(EVERYTHING)
    response = bench.openai(provider).responses.create(model="gpt-5", input="hi")
    reasoning, message, call = response.output
    assert isinstance(reasoning, ResponseReasoningItem)
    assert isinstance(message, ResponseOutputMessage)
    assert isinstance(call, ResponseFunctionToolCall)
    assert (response.output_text, call.arguments) == ("Looking.", '{"q": "trains to Rome"}')
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == 16


def test_the_cap_leaves_the_response_incomplete(bench: Bench) -> None:
    """A response that the cap cut says so, plain and in the last event of a stream."""
    provider = bench.provider()
    client = bench.openai(provider)
    response = client.responses.create(model="gpt-5", input="hi", max_output_tokens=25)
    events = list(client.responses.create(model="gpt-5", input="hi", max_output_tokens=25, stream=True))
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert events[-1].type == "response.incomplete"
    assert [charge.output_tokens for charge in provider.charges] == [25, 25]


def test_a_stream_accumulates_to_the_plain_response(bench: Bench) -> None:
    """The SDK's helper ends with the same output and usage as the plain call."""
    provider = bench.provider(EVERYTHING)
    client = bench.openai(provider)
    with client.responses.stream(model="gpt-5", input="hi") as stream:
        streamed = stream.get_final_response()
    plain = client.responses.create(model="gpt-5", input="hi")
    assert streamed.output_text == plain.output_text
    assert [item.type for item in streamed.output] == [item.type for item in plain.output]
    assert streamed.usage == plain.usage
    assert provider.charges[0].nusd == provider.charges[1].nusd


def test_events_are_numbered_and_in_the_documented_order(bench: Bench) -> None:
    """A text of 16 tokens arrives in two deltas between its item's beginning and end."""
    provider = bench.provider(Reply(output_tokens=16))
    events = list(bench.openai(provider).responses.create(model="gpt-5", input="hi", stream=True))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [getattr(event, "sequence_number", None) for event in events] == list(range(10))


def test_counting_agrees_with_the_bill(bench: Bench) -> None:
    """`input_tokens.count` names what the same input is billed for, instructions and items included."""
    provider = bench.provider()
    client = bench.openai(provider)
    items: openai.types.responses.ResponseInputParam = [
        {"role": "user", "content": [{"type": "input_text", "text": "Where is the train?"}]},
        {"type": "function_call", "call_id": "c", "name": "search", "arguments": '{"q": 1}'},
        {"type": "function_call_output", "call_id": "c", "output": "Platform nine"},
    ]
    counted = client.responses.input_tokens.count(model="gpt-5", input=items, instructions="Be brief.")
    assert provider.charges == []
    client.responses.create(model="gpt-5", input=items, instructions="Be brief.")
    assert counted.input_tokens == provider.charges[0].input_tokens
    # 3, four items of 4, "Be brief." 3, the question 5, `search{"q": 1}` 7, "Platform nine" 2.
    assert counted.input_tokens == 3 + 16 + 3 + 5 + 7 + 2


def test_a_follow_up_is_billed_for_all_that_came_before(bench: Bench) -> None:
    """With `previous_response_id` the stored prompt and its answer are input again."""
    provider = bench.provider(Reply(output_tokens=20))
    client = bench.openai(provider)
    first = client.responses.create(model="gpt-5", input="hi")
    client.responses.create(model="gpt-5", input="And?", previous_response_id=first.id)
    # The first prompt of 8, its answer of 4 + 20, then 3 + 4 + 2.
    assert [charge.input_tokens for charge in provider.charges] == [8, 41]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gpt-5", input="And?", previous_response_id="resp_unknown")
    assert caught.value.code == "previous_response_not_found"


@pytest.mark.parametrize("streamed", [False, True])
def test_asynchronous_clients_are_served_alike(streamed: bool) -> None:
    """The async SDK gets the same answers, plain and streamed."""

    async def ask(provider: Provider) -> str:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
            if streamed:
                async with client.responses.stream(model="gpt-5", input="hi") as stream:
                    return (await stream.get_final_response()).output_text
            return (await client.responses.create(model="gpt-5", input="hi")).output_text

    with Provider(latency_s=0) as provider:
        assert tokenizer.count(asyncio.run(ask(provider))) == 200
        assert provider.charges[0].stream is streamed
