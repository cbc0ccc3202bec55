import json
import math
import time

import anthropic
import httpx2
import openai
import pytest

from bursar.testing import Provider, Reply, ToolUse
from tests.testing.provider_bench import Bench

CLAUDE = "claude-sonnet-5-5"


def _message(client: anthropic.Anthropic) -> anthropic.types.Message:
    return client.messages.create(model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": "hi"}])


def _endings(provider: Provider) -> list[tuple[str, int]]:
    return [(charge.ended, charge.output_tokens) for charge in provider.charges]


def test_a_reset_is_a_connection_error_and_free(bench: Bench) -> None:
    """The SDK sees a broken connection and, allowed to, tries again."""
    provider = bench.provider(Reply(fault="reset"), Reply())
    with pytest.raises(anthropic.APIConnectionError):
        _message(bench.anthropic(provider))
    assert (len(provider.requests), provider.charges) == (1, [])
    _message(bench.anthropic(provider, max_retries=1))
    assert len(provider.charges) == 1


def test_a_reset_after_billing_is_paid_again_by_the_retry(bench: Bench) -> None:
    """The answer that never arrived is on the bill, and so is the one of the retry."""
    provider = bench.provider(Reply(fault="reset_after_billing"), Reply())
    bench.openai(provider, max_retries=1).responses.create(model="gpt-5", input="hi")
    assert _endings(provider) == [("fault", 200), ("complete", 200)]


def test_a_500_may_have_been_billed(bench: Bench) -> None:
    """A status with "reset_after_billing" is an error answer after the generation."""
    provider = bench.provider(Reply(status=500, fault="reset_after_billing"))
    with pytest.raises(openai.InternalServerError):
        bench.openai(provider).responses.create(model="gpt-5", input="hi")
    assert _endings(provider) == [("fault", 200)]


def test_a_dropped_stream_is_billed_up_to_the_chunk_under_way(bench: Bench) -> None:
    """Of 10 chunks of 8 tokens five arrive, and six are billed."""
    provider = bench.provider(Reply(output_tokens=80, fault="drop_mid_stream"))
    seen = 0
    with pytest.raises((httpx2.RemoteProtocolError, anthropic.APIConnectionError)):
        for event in bench.anthropic(provider).messages.create(
            model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": "hi"}], stream=True
        ):
            seen += event.type == "content_block_delta"
    assert seen == 5
    assert _endings(provider) == [("fault", 48)]


def test_a_dropped_plain_answer_is_billed_in_full(bench: Bench) -> None:
    """Half of a JSON body is a connection error for the SDK and a whole answer for the vendor."""
    provider = bench.provider(Reply(fault="drop_mid_stream"))
    with pytest.raises(openai.APIConnectionError):
        bench.openai(provider).responses.create(model="gpt-5", input="hi")
    assert _endings(provider) == [("fault", 200)]


def test_an_error_event_ends_an_anthropic_stream(bench: Bench) -> None:
    """The SDK raises its status error, and the chunks sent so far are billed."""
    provider = bench.provider(Reply(output_tokens=80, fault="error_mid_stream"))
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(
            bench.anthropic(provider).messages.create(
                model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": "hi"}], stream=True
            )
        )
    assert _endings(provider) == [("fault", 40)]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_error_event_ends_an_openai_stream(bench: Bench, api: str) -> None:
    """Chat raises on the error object; responses hands out an error event."""
    provider = bench.provider(Reply(output_tokens=80, fault="error_mid_stream"))
    client = bench.openai(provider)
    if api == "chat":
        with pytest.raises(openai.APIError, match="server had an error"):
            list(
                client.chat.completions.create(
                    model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True
                )
            )
    else:
        events = list(client.responses.create(model="gpt-5", input="hi", stream=True))
        assert events[-1].type == "error"
    assert _endings(provider) == [("fault", 40)]


def test_an_error_event_in_a_plain_call_is_a_500(bench: Bench) -> None:
    """Where there is no stream to break, the server fails and bills nothing."""
    provider = bench.provider(Reply(fault="error_mid_stream"))
    with pytest.raises(anthropic.InternalServerError):
        _message(bench.anthropic(provider))
    assert provider.charges == []


def test_a_hanging_call_times_out_and_is_free(bench: Bench) -> None:
    """The client's own time limit ends it; with `timeout_s` the provider's does."""
    provider = bench.provider(Reply(fault="hang"), Reply(fault="hang", timeout_s=0.05))
    with pytest.raises(anthropic.APITimeoutError):
        _message(bench.anthropic(provider, timeout=0.1))
    with pytest.raises(anthropic.APIConnectionError):
        _message(bench.anthropic(provider, timeout=5))
    provider.wait_idle(timeout_s=5)
    assert provider.charges == []


def test_closing_the_provider_ends_a_hanging_call(bench: Bench) -> None:
    """`__exit__` waits for nobody."""
    provider = bench.provider(Reply(fault="hang"), Reply(latency_s=60))
    for _ in range(2):
        with pytest.raises(anthropic.APITimeoutError):
            _message(bench.anthropic(provider, timeout=0.1))
    started = time.perf_counter()
    bench.stack.close()
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_without_usage_is_billed_all_the_same(bench: Bench, streamed: bool) -> None:
    """No event and no object tells the usage; the bill knows it."""
    provider = bench.provider(Reply(fault="no_usage"))
    client = bench.openai(provider)
    if streamed:
        chunks = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        assert all(chunk.usage is None for chunk in chunks)
    else:
        completion = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        assert completion.usage is None
    assert _endings(provider) == [("complete", 200)]


@pytest.mark.parametrize("usage", [{"output_tokens": float("nan")}, {"output_tokens": "many"}, {"input_tokens": -1}])
def test_a_scripted_usage_replaces_the_true_one(bench: Bench, usage: dict[str, object]) -> None:
    """Whatever the script puts there arrives raw, while the bill stays honest."""
    provider = bench.provider(Reply(usage_override=usage))
    response = bench.anthropic(provider).messages.with_raw_response.create(
        model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
    )
    raw = json.loads(response.text())["usage"]
    ((name, value),) = usage.items()
    told = raw[name]
    assert told == value or (isinstance(told, float) and math.isnan(told))
    assert len(raw) == 1
    assert provider.billed_nusd == 8 * 2_000 + 200 * 10_000


def test_a_scripted_usage_reaches_the_events_of_a_stream(bench: Bench) -> None:
    """Both usages of an Anthropic stream are replaced."""
    provider = bench.provider(Reply(usage_override={"input_tokens": 1, "output_tokens": 7}))
    with bench.anthropic(provider).messages.stream(
        model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        usage = stream.get_final_message().usage
    assert (usage.input_tokens, usage.output_tokens) == (1, 7)
    assert provider.charges[0].output_tokens == 200


def test_an_answer_may_name_another_model(bench: Bench) -> None:
    """`response_model` is in the answer; the bill goes by the model asked for."""
    provider = bench.provider(Reply(response_model="claude-sonnet-5-5-20261001"))
    assert _message(bench.anthropic(provider)).model == "claude-sonnet-5-5-20261001"
    assert provider.charges[0].model == CLAUDE


def test_a_script_may_decide_the_tier_and_the_headers(bench: Bench) -> None:
    """The tier that served the call is reported and billed; extra headers reach the client."""
    provider = bench.provider(Reply(service_tier="flex", headers={"x-ratelimit-remaining-requests": "7"}))
    raw = bench.openai(provider).responses.with_raw_response.create(model="gpt-5", input="hi")
    assert raw.parse().service_tier == "flex"
    assert raw.headers["x-ratelimit-remaining-requests"] == "7"
    assert provider.billed_nusd == 8 * 625 + 200 * 5_000


def test_a_script_goes_on_with_its_last_reply_and_skips_counting(bench: Bench) -> None:
    """Counting requests take nothing from the script."""
    provider = bench.provider(Reply(tool_calls=[ToolUse("a")]), Reply(text="done"))
    client = bench.anthropic(provider)
    client.messages.count_tokens(model=CLAUDE, messages=[{"role": "user", "content": "hi"}])
    assert [_message(client).stop_reason for _ in range(3)] == ["tool_use", "end_turn", "end_turn"]
