"""Sellers that say themselves what a call costs: that is the charge, and a list price is what it is without."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget
from tests.clients.books import rows_of
from tests.clients.http import HTTP

HI: Any = [{"role": "user", "content": "hi"}]
ROUTER, GROK, SONAR = "https://openrouter.ai/api/v1", "https://api.x.ai/v1", "https://api.perplexity.ai"
LISTED = 1_000 * 2_500 + 100 * 10_000
"""What OpenRouter's list makes of the usage below."""
USED = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}


def served(url: str, model: str, *, stream: bool = False, **said: Any) -> Any:
    """Ask a seller who says that of what he charges; the row that is left of it."""
    head = {"id": "c", "created": 1, "model": model}
    usage = USED | said
    words = {"role": "assistant", "content": "yes"}
    if stream:
        first = {"choices": [{"index": 0, "delta": words, "finish_reason": "stop"}]}
        chunks = [
            head | {"object": "chat.completion.chunk"} | each for each in (first, {"choices": [], "usage": usage})
        ]
        text = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
        answer = HTTP.Response(200, content=text, headers={"content-type": "text/event-stream"})
    else:
        choice = {"index": 0, "message": words, "finish_reason": "stop"}
        answer = HTTP.Response(
            200, text=json.dumps(head | {"object": "chat.completion", "choices": [choice], "usage": usage})
        )
    with HTTP.Client(transport=HTTP.MockTransport(lambda _: answer)) as http:
        client = bursar.wrap(openai.OpenAI(api_key="x", base_url=url, http_client=http, max_retries=0))
        with bursar.run("stated", Budget(tokens=100_000)) as run:
            asked: Any = client.chat.completions.create(
                model=model, messages=HI, max_completion_tokens=500, stream=stream
            )
            list(asked) if stream else asked
    (row,) = rows_of(run)
    assert run.spend.settled.nusd == (row.nusd or 0)
    return row


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("url", "model", "said", "nusd"),
    [
        (ROUTER, "openai/gpt-4o", {"cost": 0.00123}, 1_230_000),
        (ROUTER, "openai/gpt-4o", {"cost": 0.0000000011, "is_byok": False}, 2),
        (ROUTER, "openai/gpt-4o", {"cost": 1, "is_byok": False, "cost_details": {"upstream_inference_cost": 9}}, 10**9),
        # With a key of one's own the seller takes his fee, and the one whose key it is bills the rest.
        (ROUTER, "openai/gpt-4o", {"cost": 0.05, "is_byok": True, "cost_details": {"upstream_inference_cost": 1}}, 105 * 10**7),
        (ROUTER, "openai/gpt-4o", {"cost": 0.05, "cost_details": {"upstream_inference_cost": 1.0}}, 105 * 10**7),
        (ROUTER, "nobody/knows-1", {"cost": 0.00123}, 1_230_000),
        (ROUTER, "meta-llama/llama-3.3-70b-instruct:free", {"cost": 0}, 0),
        (GROK, "grok-4", {"cost_in_usd_ticks": 37_756_001}, 3_775_601),
        (SONAR, "sonar", {"cost": {"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.0061}}, 6_100_000),
    ],
)  # fmt: skip
def test_what_a_seller_says_is_what_is_charged(url: str, model: str, said: Any, nusd: int, stream: bool) -> None:
    """To the nano-dollar, rounded up, streamed or not, also of a model that no list has."""
    row = served(url, model, stream=stream, **said)
    assert (row.nusd, row.cost_status, row.usage_source) == (nusd, "provider", "provider")


@pytest.mark.parametrize("cost", [None, "0.5", True, -1, [], {}, float("nan"), float("inf"), 10**30], ids=repr)
def test_a_cost_that_cannot_be_is_not_believed(cost: Any) -> None:
    """It is priced by the list then, and nothing falls over it."""
    row = served(ROUTER, "openai/gpt-4o", cost=cost)
    assert (row.nusd, row.cost_status) == (LISTED, "list_price")


def test_a_cost_of_nothing_is_not_believed_where_a_price_is_known() -> None:
    """Unknown is never zero: the list's price stands, as the most that it may have been."""
    row = served(ROUTER, "openai/gpt-4o", cost=0)
    assert (row.nusd, row.cost_status) == (LISTED, "upper_bound")
    assert "stated_nothing" in row.flags
    row = served(ROUTER, "nobody/knows-1", cost=0)
    assert (row.nusd, row.cost_status) == (None, "unknown")


def test_a_key_of_ones_own_without_its_bill_is_a_lower_bound() -> None:
    """The fee alone is not what the call costs."""
    row = served(ROUTER, "openai/gpt-4o", cost=0.0001, is_byok=True)
    assert (row.nusd, row.cost_status) == (LISTED, "lower_bound")


def test_only_those_who_say_it_are_heard() -> None:
    """A gateway that nobody knows may write anything there."""
    row = served("https://gateway.example.com/v1", "gpt-4o", cost=0.0000001, cost_in_usd_ticks=1)
    assert (row.nusd, row.cost_status) == (LISTED, "list_price")


def test_the_parts_of_a_stated_cost_add_up_and_a_budget_counts_it() -> None:
    """Reports by kind of token show it in the proportion of the list; what is beyond the hold stops the next call."""
    usage = USED | {"cost": 0.9, "prompt_tokens_details": {"cached_tokens": 333}}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "openai/gpt-4o", "usage": usage}
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    answer = HTTP.Response(200, json=head | {"choices": [choice]})
    with HTTP.Client(transport=HTTP.MockTransport(lambda _: answer)) as http:
        gpt = bursar.wrap(openai.OpenAI(api_key="x", base_url=ROUTER, http_client=http))
        asked: Any = {"model": "openai/gpt-4o", "messages": HI, "max_completion_tokens": 100}
        with bursar.run("stated", Budget(usd="0.5")) as run, pytest.raises(bursar.BudgetExceeded):
            said = gpt.chat.completions.create(**asked)
            assert bursar.cost(said).nusd == 900_000_000
            gpt.chat.completions.create(**asked)
    rows = rows_of(run)
    assert [(row.nusd, row.flags) for row in rows if row.status == "ok"] == [(900_000_000, ("overrun",))]
