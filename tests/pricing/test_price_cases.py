"""Bills computed by hand from the vendors' list prices: right to the nano-dollar, or flagged with which way they err.

Each amount is written as tokens times nano-dollars a token: a dollar a million tokens is 1,000 nano-dollars a token.
"""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

import pytest

from bursar.flow.charge import context_of
from bursar.pricing.price import price
from bursar.pricing.rates import PriceContext, PriceList
from bursar.words.events import Usage

DAY = date(2026, 11, 20)
PRICES = PriceList()
LIST, UPPER, LOWER = "list_price", "upper_bound", "lower_bound"
OPUS = 5_000 * 4_000 + 1_500 * 20_000  # claude-opus-5-5: $4 in, $20 out
SOL = 5_000 * 4_000 + 1_500 * 20_000  # gpt-5.6-sol: $4 in, $20 out
ASKED = {"input_tokens": 5_000, "output_tokens": 1_500}


class Case(NamedTuple):
    what: str
    model: str
    usage: dict[str, int]
    nusd: int | None
    status: str
    provider: str = "anthropic"
    tier: str | None = None
    speed: str | None = None
    region: str | None = None
    day: date = DAY


def used(into: int, out: int, **more: int) -> dict[str, int]:
    names = {"read": "cache_read", "w5m": "cache_write_5m", "w1h": "cache_write_1h", "w12h": "cache_write_12h"}
    return {"input_tokens": into, "output_tokens": out} | {
        f"{names[name]}_tokens" if name in names else name: count for name, count in more.items()
    }


def gpt(what: str, model: str, usage: dict[str, int], nusd: int | None, status: str, **more: Any) -> Case:
    return Case(what, model, usage, nusd, status, **({"provider": "openai"} | more))


CASES = [
    # Claude: cache of every kind, cliffs, fees.
    Case("all kinds of cache", "claude-sonnet-4-5", used(16_000, 500, read=10_000, w5m=2_000, w1h=3_000),
         1_000 * 3_000 + 10_000 * 300 + 2_000 * 3_750 + 3_000 * 6_000 + 500 * 15_000, LIST),
    Case("reads at 0.05 of input", "claude-opus-5-5", used(100_000, 500, read=90_000),
         10_000 * 4_000 + 90_000 * 200 + 500 * 20_000, LIST),
    Case("reads at 0.025 of input", "claude-fable-5-2", used(10_000, 500, read=8_000),
         2_000 * 8_000 + 8_000 * 200 + 500 * 40_000, LIST),
    Case("above the cliff", "claude-haiku-5-5", used(120_000, 500), 120_000 * 500 + 500 * 2_500, LIST),
    Case("at the cliff", "claude-haiku-5-5", used(100_000, 500), 100_000 * 100 + 500 * 500, LIST),
    Case("one above the cliff", "claude-haiku-5-5", used(100_001, 0), 100_001 * 500, LIST),
    Case("cached tokens reach the cliff", "claude-haiku-5-5", used(120_000, 0, read=60_000),
         60_000 * 500 + 60_000 * 50, LIST),
    Case("long context before it was made flat", "claude-opus-4-6", used(250_000, 1_000),
         250_000 * 10_000 + 1_000 * 37_500, LIST, day=date(2026, 3, 12)),
    Case("long context since it is flat", "claude-opus-4-6", used(250_000, 1_000),
         250_000 * 5_000 + 1_000 * 25_000, LIST, day=date(2026, 3, 13)),
    Case("three searches", "claude-sonnet-4-5", ASKED | {"web_searches": 3},
         5_000 * 3_000 + 1_500 * 15_000 + 3 * 10_000_000, LIST),
    Case("a fetch costs its tokens", "claude-opus-5-5", ASKED | {"web_fetches": 4}, OPUS, LIST),
    Case("a container's hours are not said", "claude-opus-5-5", ASKED | {"code_executions": 1}, OPUS, LOWER),
    Case("more read than sent", "claude-opus-5-5", used(10, 0, read=30), 30 * 200, UPPER),
    Case("one cached token", "claude-haiku-5-5", used(1, 0, read=1), 10, LIST),
    Case("what some tools write for a long context", "claude-opus-5-5[1m]", ASKED, OPUS, LIST),
    Case("a dated name", "claude-opus-5-5-20260910", ASKED, OPUS, LIST),
    Case("nobody knows it", "claude-opus-99", ASKED, None, "unknown"),
    # Claude: batch, fast mode, capacity bought ahead, places.
    Case("batch", "claude-opus-5-5", ASKED, OPUS // 2, LIST, tier="batch"),
    Case("batch before the data has it", "claude-opus-5-5", ASKED, OPUS // 2, LIST, tier="batch", day=date(2026, 10, 1)),
    Case("batch of a model without one in the data", "claude-opus-4-1", ASKED,
         5_000 * 7_500 + 1_500 * 37_500, LIST, tier="batch"),
    Case("batch above the cliff", "claude-haiku-5-5", used(120_000, 500), 120_000 * 250 + 500 * 1_250, LIST, tier="batch"),
    Case("batch of a model of long ago", "claude-3-5-haiku-20241022", ASKED, 5_000 * 400 + 1_500 * 2_000, LIST, tier="batch"),
    Case("fast mode", "claude-opus-5-5", ASKED, 5_000 * 8_000 + 1_500 * 40_000, LIST, speed="fast"),
    Case("fast mode and cache", "claude-opus-5-5", used(10_000, 500, read=8_000, w5m=1_000),
         1_000 * 8_000 + 8_000 * 400 + 1_000 * 10_000 + 500 * 40_000, LIST, speed="fast"),
    Case("fast mode and US", "claude-opus-5-5", used(10_000, 500, read=8_000, w5m=1_000),
         1_000 * 8_800 + 8_000 * 440 + 1_000 * 11_000 + 500 * 44_000, LIST, speed="fast", region="us"),
    Case("fast mode without a price of it", "claude-sonnet-5-5", ASKED, 5_000 * 2_000 + 1_500 * 10_000, LOWER, speed="fast"),
    Case("capacity bought ahead", "claude-opus-5-5", ASKED, OPUS, UPPER, tier="priority"),
    Case("US", "claude-opus-5-5", ASKED, 5_000 * 4_400 + 1_500 * 22_000, LIST, region="us"),
    Case("global", "claude-opus-5-5", ASKED, OPUS, LIST, region="global"),
    Case("a place without a factor", "claude-opus-5-5", ASKED, OPUS, LOWER, region="eu"),
    Case("a model that cannot be told where", "claude-opus-4-5", ASKED,
         5_000 * 5_000 + 1_500 * 25_000, LIST, region="not_available"),
    Case("batch, US, both writes and searches", "claude-opus-5-5",
         used(8_100, 200, read=5_000, w5m=1_000, w1h=2_000, web_searches=2),
         100 * 2_200 + 5_000 * 110 + 1_000 * 2_750 + 2_000 * 4_400 + 200 * 11_000 + 2 * 10_000_000, LIST,
         tier="batch", region="us"),
    # Claude elsewhere.
    Case("Bedrock, US profile", "us.anthropic.claude-opus-5-5", ASKED,
         5_000 * 4_400 + 1_500 * 22_000, LIST, "aws.bedrock"),
    Case("Bedrock, global profile", "global.anthropic.claude-opus-5-5", ASKED, OPUS, LIST, "aws.bedrock"),
    Case("Bedrock, one region", "anthropic.claude-opus-5-5", ASKED, 5_000 * 4_400 + 1_500 * 22_000, LIST, "aws.bedrock"),
    Case("Bedrock, batch", "anthropic.claude-opus-5-5", ASKED,
         5_000 * 4_400 + 1_500 * 22_000, UPPER, "aws.bedrock", tier="batch"),
    Case("Bedrock, a search without a known fee", "us.anthropic.claude-opus-5-5", ASKED | {"web_searches": 1},
         5_000 * 4_400 + 1_500 * 22_000, LOWER, "aws.bedrock"),
    Case("Bedrock, a profile that nobody lists", "apac.anthropic.claude-opus-5-5", ASKED, None, "unknown", "aws.bedrock"),
    Case("Vertex, a region", "claude-sonnet-4-5@20250929", ASKED,
         5_000 * 3_300 + 1_500 * 16_500, LIST, "gcp.vertex_ai", region="us-east5"),
    Case("Vertex, several regions", "claude-opus-5-5", ASKED,
         5_000 * 4_400 + 1_500 * 22_000, LIST, "gcp.vertex_ai", region="eu"),
    Case("Vertex, global", "claude-sonnet-4-5@20250929", ASKED,
         5_000 * 3_000 + 1_500 * 15_000, LIST, "gcp.vertex_ai", region="global"),
    Case("Vertex, nobody knows where", "claude-sonnet-4-5@20250929", ASKED,
         5_000 * 3_000 + 1_500 * 15_000, LOWER, "gcp.vertex_ai"),
    Case("Vertex, a model from before the surcharge", "claude-3-7-sonnet@20250219", ASKED,
         5_000 * 3_000 + 1_500 * 15_000, LIST, "gcp.vertex_ai", region="us-east5"),
    Case("Vertex, batch", "claude-opus-5-5", ASKED, OPUS, UPPER, "gcp.vertex_ai", tier="batch", region="global"),
    Case("Foundry", "claude-opus-5-5", ASKED, OPUS, LOWER, "azure.ai.inference"),
    Case("OpenRouter", "anthropic/claude-opus-5.5", ASKED, OPUS, LIST, "openrouter"),
    # OpenAI: cliffs, cache, tiers, dates.
    gpt("above the cliff", "gpt-5.6-sol", used(300_000, 1_000), 300_000 * 8_000 + 1_000 * 30_000, LIST),
    gpt("at the cliff", "gpt-5.6-sol", used(272_000, 1_000), 272_000 * 4_000 + 1_000 * 20_000, LIST),
    gpt("one above the cliff", "gpt-5.6-sol", used(272_001, 1_000), 272_001 * 8_000 + 1_000 * 30_000, LIST),
    gpt("12-hour writes", "gpt-5.6-sol", used(3_000, 2_000, w12h=2_000),
        1_000 * 4_000 + 2_000 * 10_000 + 2_000 * 20_000, UPPER),
    gpt("30-minute writes", "gpt-5.6-sol", used(3_000, 0) | {"cache_write_30m_tokens": 2_000},
        1_000 * 4_000 + 2_000 * 5_000, LIST),
    gpt("12-hour writes of the flex tier", "gpt-6.1-terra", used(1_000, 0, w12h=1_000), 1_000 * 1_250, UPPER, tier="flex"),
    gpt("flex", "gpt-5.6-sol", ASKED, SOL // 2, LIST, tier="flex"),
    gpt("flex and cache", "gpt-5.6-sol", used(10_000, 500, read=8_000),
        2_000 * 2_000 + 8_000 * 200 + 500 * 10_000, LIST, tier="flex"),
    gpt("priority", "gpt-5.6-sol", ASKED, SOL * 2, LIST, tier="priority"),
    gpt("priority and cache", "gpt-5.6-sol", used(10_000, 500, read=8_000),
        2_000 * 8_000 + 8_000 * 800 + 500 * 40_000, LIST, tier="priority"),
    gpt("priority above the cliff", "gpt-5.6-sol", used(300_000, 0), 300_000 * 16_000, LIST, tier="priority"),
    gpt("priority's newer name", "gpt-4o", used(10_000, 1_000), 10_000 * 4_250 + 1_000 * 17_000, LIST, tier="fast"),
    gpt("priority without a price of it", "gpt-4", ASKED, 5_000 * 30_000 + 1_500 * 60_000, LOWER, tier="priority"),
    gpt("flex without a price of it", "gpt-4o", used(10_000, 1_000), 10_000 * 2_500 + 1_000 * 10_000, UPPER, tier="flex"),
    gpt("units bought ahead", "gpt-4o", used(10_000, 1_000), 10_000 * 2_500 + 1_000 * 10_000, UPPER, tier="scale"),
    gpt("batch", "gpt-5.6-sol", ASKED, SOL // 2, LIST, tier="batch"),
    gpt("batch before the data has it", "gpt-4o", used(10_000, 1_000),
        10_000 * 1_250 + 1_000 * 5_000, LIST, tier="batch", day=date(2026, 6, 1)),
    gpt("batch with cache before the data has it", "gpt-5", used(10_000, 1_000, read=8_000),
        2_000 * 625 + 8_000 * 125 + 1_000 * 5_000, UPPER, tier="batch", day=date(2026, 6, 1)),
    gpt("batch with cache, as published", "gpt-5.4", used(10_000, 0, read=8_000), 2_000 * 1_250 + 8_000 * 130, LIST, tier="batch"),
    gpt("dated price, before", "gpt-5.6-luna", used(4_000, 2_000), 4_000 * 1_000 + 2_000 * 6_000, LIST, day=date(2026, 7, 29)),
    gpt("dated price, after", "gpt-5.6-luna", used(4_000, 2_000), 4_000 * 200 + 2_000 * 1_200, LIST, day=date(2026, 7, 30)),
    gpt("no price of cached input", "gpt-4", used(1_000, 100, read=500), 1_000 * 30_000 + 100 * 60_000, UPPER),
    gpt("reasoning is output", "gpt-5", used(1_000, 500, reasoning_tokens=400), 1_000 * 1_250 + 500 * 10_000, LIST),
    gpt("three cached tokens, rounded up once", "gpt-5-mini", used(3, 0, read=3), 38, LIST, tier="flex"),
    gpt("fine-tuned", "ft:gpt-4o-mini-2024-07-18:acme::1", used(4_000, 2_000), 4_000 * 300 + 2_000 * 1_200, LIST),
    gpt("fine-tuned, batch", "ft:gpt-4o-mini-2024-07-18:acme::1", used(4_000, 2_000),
        4_000 * 150 + 2_000 * 600, LIST, tier="batch"),
    gpt("fine-tuned, batch that is not confirmed", "ft:gpt-4o-2024-08-06:acme::1", used(4_000, 2_000),
        4_000 * 3_750 + 2_000 * 15_000, UPPER, tier="batch"),
    gpt("vectors", "text-embedding-3-small", used(1_000, 0), 1_000 * 20, LIST),
    gpt("an alias that nobody lists", "gpt-5.6-chat-latest", ASKED, None, "unknown"),
    # OpenAI: audio, tools, places.
    gpt("audio both ways", "gpt-audio", used(100, 100, audio_input_tokens=50, audio_output_tokens=10),
        50 * 2_500 + 50 * 32_000 + 90 * 10_000 + 10 * 64_000, LIST),
    gpt("audio without a rate", "gpt-4o-audio-preview", used(100, 100, audio_input_tokens=50), 100 * 2_500 + 100 * 10_000, LOWER),
    gpt("cached tokens that may be audio", "gpt-realtime", used(1_000, 0, read=500, audio_input_tokens=600),
        400 * 400 + 100 * 400 + 500 * 32_000, UPPER),
    gpt("a search", "gpt-5", used(1_000, 500, web_searches=1), 1_000 * 1_250 + 500 * 10_000 + 10_000_000, LIST),
    gpt("two searches of files", "gpt-4o", used(10_000, 1_000, file_searches=2),
        10_000 * 2_500 + 1_000 * 10_000 + 2 * 2_500_000, LIST),
    gpt("a search without a known fee", "gpt-4", used(10, 10, web_searches=1), 10 * 30_000 + 10 * 60_000, LOWER),
    gpt("pictures are billed elsewhere", "gpt-5", used(1_000, 500, image_generations=1), 1_000 * 1_250 + 500 * 10_000, LOWER),
    gpt("Europe", "gpt-5.6-sol", ASKED, 5_000 * 4_400 + 1_500 * 22_000, LIST, region="eu"),
    gpt("Europe, cached, flex", "gpt-5.6-sol", used(10_000, 500, read=8_000),
        2_000 * 2_200 + 8_000 * 220 + 500 * 11_000, LIST, tier="flex", region="eu"),
    gpt("Europe, a model from before the surcharge", "gpt-4o", used(10_000, 1_000), 10_000 * 2_500 + 1_000 * 10_000, LIST, region="eu"),
    gpt("Azure", "gpt-4o", used(10_000, 1_000), 10_000 * 2_500 + 1_000 * 10_000, LOWER, provider="azure.ai.openai"),
    gpt("Azure, batch", "gpt-5.6-sol", ASKED, SOL // 2, LOWER, provider="azure.ai.openai", tier="batch"),
    gpt("Azure, a deployment's own name", "our-deployment", ASKED, None, "unknown", provider="azure.ai.openai"),
    gpt("Bedrock, global", "global.openai.gpt-5.6-sol", ASKED, SOL, LIST, provider="aws.bedrock"),
    gpt("Bedrock, one region", "openai.gpt-5.6-sol", ASKED, 5_000 * 4_400 + 1_500 * 22_000, LIST, provider="aws.bedrock"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.provider}: {case.what}")
def test_a_bill_computed_by_hand(case: Case) -> None:
    """Exactly the nano-dollars that the vendor's list makes of it, and the right word for how sure that is."""
    context = context_of(case.tier, case.speed, case.region)
    card = PRICES.card(case.provider, case.model, context=context, day=case.day)
    cost = price(Usage(**case.usage), card)
    assert (cost.nusd, cost.status.value) == (case.nusd, case.status)
    assert sum(cost[2:]) == (cost.nusd or 0)


def test_a_way_of_processing_that_nobody_knows_is_an_upper_bound() -> None:
    """A word in another spelling matches no price of its own: the standard one, flagged, and not silently."""
    card = PRICES.card("anthropic", "claude-opus-5-5", context=PriceContext(processing="Batch"), day=DAY)
    cost = price(Usage(5_000, 1_500), card)
    assert (cost.nusd, cost.status.value) == (OPUS, UPPER)
