"""Advisors and fallbacks: what a request lets the provider ask of other models is held for before it is sent."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import pytest

import bursar
from bursar import Budget, BudgetExceeded, PriceUnknown
from bursar.clients.helpers import USES, helpers_of
from bursar.testing import Extras, Iteration, Provider, ReceivedRequest, Reply
from bursar.words.events import NOTHING, Helper
from tests.clients.books import rows_of, verdicts_of

if TYPE_CHECKING:
    from bursar.words.events import Amounts

OPUS_IN, OPUS_OUT = 4_400, 22_000
"""Nano-dollars a token of claude-opus-5-5, which is dearer than the model that is asked."""
ADVISOR: Any = {
    "type": "advisor_20260301",
    "name": "advisor",
    "model": "claude-opus-5-5",
    "max_tokens": 700,
    "max_uses": 1,
}
ASKED: Any = {"model": "claude-haiku-5-5", "max_tokens": 200, "messages": [{"role": "user", "content": "hi " * 200}]}
ADVICE = Extras(iterations=(Iteration("advisor_message", 200, 700, model="claude-opus-5-5"),))


def held_for(**more: Any) -> tuple[Amounts, int]:
    """What is held while one such call is under way, and what it is charged."""
    seen: list[Amounts] = []

    def reply(_: ReceivedRequest) -> Reply:
        seen.append(run.spend.held)
        return Reply(output_tokens=90)

    with Provider(latency_s=0.0, replies=reply) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            with bursar.run("held", Budget(usd="50", tokens=10**7)) as run:
                bursar.wrap(bare).beta.messages.create(**ASKED, **more)
        assert run.spend.settled.nusd == provider.billed_nusd
    return seen[0], run.spend.settled.nusd


def test_an_advisor_is_held_for() -> None:
    """Its reading of the context, and all that it may write, each time that it may be asked."""
    plain, _ = held_for()
    once, _ = held_for(tools=[ADVISOR])
    thrice, _ = held_for(tools=[ADVISOR | {"max_uses": 3}])
    assert once.nusd >= plain.nusd + 700 * OPUS_OUT + 200 * OPUS_IN
    assert thrice.nusd >= once.nusd + 2 * 700 * OPUS_OUT
    assert once.tokens >= plain.tokens + 700 + 200


def test_a_fallback_is_held_for() -> None:
    """It may answer in the place of the model that was asked, which is billed for having read; its cap is its own."""
    plain, charged = held_for()
    other, _ = held_for(fallbacks=[{"model": "claude-opus-5-5"}])
    longer, cost = held_for(fallbacks=[{"model": "claude-opus-5-5", "max_tokens": 1_000}])
    assert other.nusd >= 2 * 200 * OPUS_IN + 200 * OPUS_OUT
    assert longer.nusd >= 2 * 200 * OPUS_IN + 1_000 * OPUS_OUT
    assert longer.tokens >= plain.tokens + 200
    assert cost == charged


def test_a_model_that_declines_in_the_middle_is_held_for() -> None:
    """It may write up to the cap before, and so may the one that answers: no call goes beyond its hold, or the limit."""
    declined = Iteration("message", 200, 400, model="claude-opus-5-5")
    reply = Reply(output_tokens=400, extras=Extras(iterations=(declined,), served_by="claude-haiku-5-5"))
    asked = ASKED | {"model": "claude-opus-5-5", "max_tokens": 400, "fallbacks": [{"model": "claude-haiku-5-5"}]}
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            with bursar.run("declined", Budget(usd="0.05")) as run, contextlib.suppress(BudgetExceeded):
                for _ in range(20):
                    bursar.wrap(bare).beta.messages.create(**asked)
        assert 0 < provider.billed_nusd <= run.spend.settled.nusd <= 50_000_000
    served = [row for row in rows_of(run) if row.status == "ok"]
    assert len(served) > 1
    assert [row.flags for row in served if "overrun" in row.flags] == []


def test_fifty_advised_calls_stay_within_the_budget() -> None:
    """All advised, at once, under a budget for ten or so: the bill is within it, and no call is an overrun."""
    with Provider(latency_s=0.05, replies=lambda _: Reply(output_tokens=200, extras=ADVICE)) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            client, served = bursar.wrap(bare), []
            with bursar.run("fifty", Budget(usd="0.25")) as run:

                def one() -> None:
                    try:
                        served.append(client.beta.messages.create(**ASKED, tools=[ADVISOR]))
                    except BudgetExceeded:
                        return

                threads = [threading.Thread(target=run.bind(one)) for _ in range(50)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        assert 0 < provider.billed_nusd <= 250_000_000
    assert len(served) >= 10
    assert run.spend.settled.nusd == provider.billed_nusd
    assert [row.flags for row in rows_of(run) if "overrun" in row.flags] == []


@pytest.mark.parametrize("fault", ["drop_mid_stream", "reset_after_billing", "no_usage"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_end_that_is_lost_is_charged_with_the_advice(fault: Any, stream: bool) -> None:
    """What an advisor used is said at the very end: without that it is charged what it may have used."""
    reply = Reply(output_tokens=200, extras=ADVICE, fault=fault)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            with bursar.run("lost", Budget(usd="5")) as run:
                with contextlib.suppress(anthropic.APIError, httpx2.HTTPError):
                    answer: Any = bursar.wrap(bare).beta.messages.create(**ASKED, tools=[ADVISOR], stream=stream)
                    list(answer)
        provider.wait_idle()
        assert run.spend.settled.nusd >= provider.billed_nusd > 0
    assert run.spend.held == NOTHING


@pytest.mark.parametrize(
    "more",
    [{"tools": [ADVISOR | {"model": "claude-nobody-9"}]}, {"fallbacks": [{"model": "claude-nobody-9"}]}],
    ids=["advisor", "fallback"],
)
def test_one_without_a_price_is_refused_under_a_limit_in_dollars(more: Any) -> None:
    """Nothing is sent, and the error names it; without such a limit, or watched, it goes."""
    with Provider(latency_s=0.0) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)
            with bursar.run("unpriced", Budget(usd="5")), pytest.raises(PriceUnknown, match="claude-nobody-9") as stop:
                client.beta.messages.create(**ASKED, **more)
            assert (stop.value.model, provider.requests) == ("claude-nobody-9", [])
            with bursar.run("tokens", Budget(tokens=10**6)):
                client.beta.messages.create(**ASKED, **more)
            with bursar.run("watched", Budget(usd="5"), mode="observe") as run:
                client.beta.messages.create(**ASKED, **more)
    assert [(each.action, each.acted) for each in verdicts_of(run)] == [("deny", False)]
    assert len(provider.charges) == 2


def test_a_count_of_one_reading_bounds_no_two() -> None:
    """The provider's count says what the context is, not how often it is read: it is not asked for."""
    with Provider(latency_s=0.0) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            with bursar.run("counted", Budget(tokens=900)), pytest.raises(BudgetExceeded):
                bursar.wrap(bare).beta.messages.create(**ASKED, tools=[ADVISOR])
    assert provider.requests == []


def test_what_is_odd_is_left_to_the_provider() -> None:
    """Numbers that are none, entries that are no objects, defaults that only the provider knows."""
    tools = [
        ADVISOR | {"max_uses": True, "max_tokens": -1, "caching": {"ttl": "9h"}},
        "advisor_1",
        {"type": "advisor_1"},
    ]
    assert helpers_of({"fallbacks": "default"}, tools) == (Helper("claude-opus-5-5", USES),)
    odd = {"fallbacks": [{"model": 5}, None, {"model": "a", "speed": 3, "max_tokens": 10**30}], "speed": "fast"}
    assert helpers_of(odd, []) == (Helper("a", 0, 10**6),)
    cached = helpers_of({}, [ADVISOR | {"caching": {"type": "ephemeral", "ttl": "1h"}}])
    assert cached == (Helper("claude-opus-5-5", 1, 700, "1h"),)
