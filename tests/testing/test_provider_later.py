import json
from contextlib import ExitStack

import openai
import pytest

from bursar.testing import Provider, Reply
from tests.testing.provider_bench import Bench

HI = [{"role": "user", "content": "hi"}]
PARAMS = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": HI}


def lines(*names: str, model: str = "gpt-4o") -> bytes:
    body = {"model": model, "max_completion_tokens": 300, "messages": HI}
    asked = [{"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body} for name in names]
    return "\n".join(map(json.dumps, asked)).encode()


def test_a_message_batch_costs_half(bench: Bench) -> None:
    """Two answers of 8 tokens in and 200 out at half of $2 and $10 a million: $0.002016, named tier "batch"."""
    provider = bench.provider()
    batches = bench.anthropic(provider).messages.batches
    made = batches.create(requests=[{"custom_id": name, "params": PARAMS} for name in ("a", "b")])  # type: ignore[typeddict-item]
    assert (made.processing_status, made.request_counts.processing) == ("in_progress", 2)
    ended = batches.retrieve(made.id)
    assert (ended.processing_status, ended.request_counts.succeeded) == ("ended", 2)
    results = list(batches.results(made.id))
    assert [result.custom_id for result in results] == ["a", "b"]
    assert results[0].result.type == "succeeded"
    assert results[0].result.message.usage.service_tier == "batch"
    assert provider.billed_nusd == 2 * (8 * 1_000 + 200 * 5_000)


def test_a_batch_of_files_costs_half(bench: Bench) -> None:
    """gpt-4o at half of $2.50 and $10 a million: 7 tokens in and 200 out are $0.00100875; the result is a file."""
    provider = bench.provider()
    client = bench.openai(provider)
    file = client.files.create(file=("x.jsonl", lines("a", "b")), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (made.status, made.output_file_id) == ("validating", None)
    ended = client.batches.retrieve(made.id)
    assert ended.output_file_id is not None
    found = [json.loads(line) for line in client.files.content(ended.output_file_id).content.splitlines()]
    assert [line["custom_id"] for line in found] == ["a", "b"]
    assert found[0]["response"]["body"]["usage"]["completion_tokens"] == 200
    assert provider.billed_nusd == 2 * (7 * 1_250 + 200 * 5_000)
    assert [batch.id for batch in client.batches.list()] == [made.id]


def test_requests_of_a_batch_fail_one_by_one(bench: Bench) -> None:
    """An error and an expiry by the script, a model that there is not: each is in the results, none on the bill."""
    provider = bench.provider(Reply(), Reply(status=500), Reply(fault="expire"))
    batches = bench.anthropic(provider).messages.batches
    requests = [{"custom_id": str(n), "params": PARAMS} for n in range(3)]
    requests.append({"custom_id": "3", "params": {**PARAMS, "model": "claude-of-tomorrow"}})
    made = batches.create(requests=requests)  # type: ignore[arg-type]
    kinds = [result.result.type for result in batches.results(made.id)]
    assert kinds == ["succeeded", "errored", "expired", "errored"]
    assert len(provider.charges) == 1


def test_a_batch_takes_its_time_and_may_be_cancelled(bench: Bench) -> None:
    """Not ended before its delay; cancelled in it, all of its requests are, and nothing is billed."""
    with ExitStack() as stack:
        provider = stack.enter_context(Provider(latency_s=0, batch_delay_s=20))
        client = Bench(stack).openai(provider)
        file = client.files.create(file=("x.jsonl", lines("a")), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert client.batches.retrieve(made.id).output_file_id is None
        ended = client.batches.cancel(made.id)
        assert ended.status == "cancelled"
        assert ended.error_file_id is not None
        assert b"batch_cancelled" in client.files.content(ended.error_file_id).content
        assert provider.billed_nusd == 0


def test_a_background_response_is_written_while_nobody_looks(bench: Bench) -> None:
    """Queued, in progress, completed: with usage, and billed, only at the end; one that there is not is a 404."""
    provider = bench.provider(Reply(latency_s=0.05, chunk_delay_s=0.002))
    responses = bench.openai(provider).responses
    made = responses.create(model="gpt-4o", input="hi", background=True)
    assert (made.status, made.usage, provider.billed_nusd) == ("queued", None, 0)
    provider.wait_idle()
    ended = responses.retrieve(made.id)
    assert ended.status == "completed"
    assert ended.usage is not None
    assert provider.billed_nusd == ended.usage.input_tokens * 2_500 + ended.usage.output_tokens * 10_000
    with pytest.raises(openai.NotFoundError):
        responses.retrieve("resp_of_nobody")


def test_a_background_response_is_followed_from_any_event_on(bench: Bench) -> None:
    """What is left is left out of the next stream; together they are all of its events."""
    provider = bench.provider(Reply(chunk_delay_s=0.002))
    responses = bench.openai(provider).responses
    with responses.create(model="gpt-4o", input="hi", background=True, stream=True) as stream:
        first = [event for event, _ in zip(stream, range(5), strict=False)]
    assert first[0].type == "response.created"
    rest = list(responses.retrieve(first[0].response.id, stream=True, starting_after=4))
    numbers = [event.sequence_number for event in [*first, *rest]]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].type == "response.completed"


def test_a_cancelled_response_costs_what_was_written(bench: Bench) -> None:
    """It says no usage, and stays cancelled."""
    provider = bench.provider(Reply(chunk_delay_s=0.02))
    responses = bench.openai(provider).responses
    name = ""
    with responses.create(model="gpt-4o", input="hi", background=True, stream=True) as stream:
        for event in stream:
            name = event.response.id if event.type == "response.created" else name
            if event.type == "response.output_text.delta":
                break
    cancelled = responses.cancel(name)
    assert (cancelled.status, cancelled.usage) == ("cancelled", None)
    (charge,) = provider.charges
    assert 0 < charge.output_tokens < 200
    assert responses.retrieve(name).status == "cancelled"
