"""The price table, typed in from the vendors' public list prices.

Sources, as published in November 2026: Anthropic, "Pricing" in the Claude API documentation; OpenAI,
"Pricing" in the API documentation (standard, flex and priority tables). Dollars per million tokens.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from bursar.testing.billing import ModelPrice, Rates, rates

_DATE = re.compile(r"([-@]\d{8}|-\d{4}-\d{2}-\d{2}|-latest)(-v\d+:\d+)?$")
_BEDROCK = re.compile(r"^(?:[a-z-]+\.)?(?:anthropic|openai)\.")


def _claude(
    standard: Rates,
    *,
    max_output: int = 64_000,
    above: int | None = None,
    long_context: Rates | None = None,
    fast: Rates | None = None,
    us: str = "1",
) -> ModelPrice:
    return ModelPrice(
        "anthropic",
        standard,
        max_output=max_output,
        long_context_above=above,
        long_context=long_context,
        fast=fast,
        us=Decimal(us),
    )


def _gpt(
    standard: Rates,
    max_output: int,
    *,
    flex: Rates | None = None,
    priority: Rates | None = None,
    reasoning: bool = False,
) -> ModelPrice:
    # "fast" is the newer name of the priority tier, at the same rates.
    named = {"flex": flex, "priority": priority, "fast": priority}
    tiers = {name: tier for name, tier in named.items() if tier is not None}
    return ModelPrice("openai", standard, max_output=max_output, tiers=MappingProxyType(tiers), reasoning=reasoning)


_CLAUDE: dict[str, ModelPrice] = {
    "claude-haiku-4-5": _claude(rates("1", "5", read="0.10", write_5m="1.25", write_1h="2")),
    "claude-haiku-5-5": _claude(
        rates("0.10", "0.50", read="0.01", write_5m="0.125", write_1h="0.20"),
        above=100_000,
        long_context=rates("0.50", "2.50", read="0.05", write_5m="0.625", write_1h="1"),
        us="1.1",
    ),
    "claude-sonnet-4-5": _claude(
        rates("3", "15", read="0.30", write_5m="3.75", write_1h="6"),
        above=200_000,
        long_context=rates("6", "22.50", read="0.60", write_5m="7.50", write_1h="12"),
    ),
    "claude-sonnet-5": _claude(
        rates("2", "10", read="0.20", write_5m="2.50", write_1h="4"), max_output=128_000, us="1.1"
    ),
    "claude-sonnet-5-5": _claude(
        rates("2", "10", read="0.10", write_5m="2.50", write_1h="4"), max_output=128_000, us="1.1"
    ),
    "claude-opus-4-5": _claude(rates("5", "25", read="0.50", write_5m="6.25", write_1h="10")),
    "claude-opus-5-5": _claude(
        rates("4", "20", read="0.20", write_5m="5", write_1h="8"),
        max_output=128_000,
        fast=rates("8", "40", read="0.40", write_5m="10", write_1h="16"),
        us="1.1",
    ),
}

_GPT: dict[str, ModelPrice] = {
    "gpt-4o": _gpt(rates("2.50", "10", read="1.25"), 16_384, priority=rates("4.25", "17", read="2.125")),
    "gpt-4o-mini": _gpt(rates("0.15", "0.60", read="0.075"), 16_384, priority=rates("0.25", "1", read="0.125")),
    "gpt-4.1": _gpt(rates("2", "8", read="0.50"), 32_768, priority=rates("3.50", "14", read="0.875")),
    "gpt-4.1-mini": _gpt(rates("0.40", "1.60", read="0.10"), 32_768, priority=rates("0.70", "2.80", read="0.175")),
    "gpt-5": _gpt(
        rates("1.25", "10", read="0.125"),
        128_000,
        flex=rates("0.625", "5", read="0.0625"),
        priority=rates("2.50", "20", read="0.25"),
        reasoning=True,
    ),
    "gpt-5-mini": _gpt(
        rates("0.25", "2", read="0.025"),
        128_000,
        flex=rates("0.125", "1", read="0.0125"),
        priority=rates("0.45", "3.60", read="0.045"),
        reasoning=True,
    ),
    "o3": _gpt(
        rates("2", "8", read="0.50"),
        100_000,
        flex=rates("1", "4", read="0.25"),
        priority=rates("3.50", "14", read="0.875"),
        reasoning=True,
    ),
    "o4-mini": _gpt(
        rates("1.10", "4.40", read="0.275"),
        100_000,
        flex=rates("0.55", "2.20", read="0.138"),
        priority=rates("2", "8", read="0.50"),
        reasoning=True,
    ),
    "gpt-6.1-terra": _gpt(
        rates("1", "5", read="0.05", write_30m="1.25", write_12h="2.50"),
        128_000,
        flex=rates("0.50", "2.50", read="0.025", write_30m="0.625", write_12h="1.25"),
        priority=rates("2", "10", read="0.10", write_30m="2.50", write_12h="5"),
        reasoning=True,
    ),
    "gpt-audio": _gpt(rates("2.50", "10", audio="32", audio_output="64"), 16_384),
    "gpt-3.5-turbo-instruct": _gpt(rates("1.50", "2"), 4_096),
    "text-embedding-3-small": _gpt(rates("0.02", "0"), 0),
}

LIST_PRICES: Mapping[str, ModelPrice] = MappingProxyType({**_CLAUDE, **_GPT})
"""Model name without a date to its list price."""


class PriceList:
    """The models a provider serves: the list prices plus some of the user's own."""

    def __init__(self, extra: Mapping[str, ModelPrice] | None = None) -> None:
        self._models = {**LIST_PRICES, **(extra or {})}

    def find(self, model: str) -> ModelPrice | None:
        """The price of `model`, or of the model that it is a dated version of."""
        bare = _DATE.sub("", _BEDROCK.sub("", model))
        return self._models.get(model) or self._models.get(bare)
