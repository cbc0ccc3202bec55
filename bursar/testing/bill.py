"""The bill of one answer: its tokens at their rates, where and how fast it was made, and what it caused beside it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from bursar.testing.billing import InputTokens, ModelPrice
from bursar.testing.extras import Extras
from bursar.testing.prices import PriceList

SEARCH_NUSD = 10_000_000
"""Ten dollars for a thousand web searches, at both vendors."""


def with_extras(prompt: InputTokens, extras: Extras) -> InputTokens:
    """The prompt as it is billed: audio on top of it, and what of it is written to OpenAI's cache told apart."""
    written = extras.cache_write_30m + extras.cache_write_12h
    return replace(
        prompt,
        uncached=prompt.uncached - written,
        cache_write_30m=extras.cache_write_30m,
        cache_write_12h=extras.cache_write_12h,
        audio=extras.audio_input_tokens,
    )


def geo(body: dict[str, Any], extras: Extras) -> str:
    """Where an answer of Anthropic's is made: as the test says, else as asked, else anywhere."""
    asked = body.get("inference_geo")
    return extras.inference_geo or (asked if isinstance(asked, str) else "global")


def speed(price: ModelPrice, body: dict[str, Any], extras: Extras) -> str:
    """How fast an answer of Anthropic's is made: as the test says, else as asked where the model can."""
    asked = "fast" if body.get("speed") == "fast" and price.fast is not None else "standard"
    return extras.speed or asked


def answer_nusd(
    price: ModelPrice, tier: str, prompt: InputTokens, output_tokens: int, body: dict[str, Any], extras: Extras
) -> int:
    """The price of the answer itself and of its searches."""
    rates = price.rates_for(tier, prompt.total, speed(price, body, extras))
    spoken = min(extras.audio_output_tokens, output_tokens)
    return rates.nusd(prompt, output_tokens, spoken, _factor(price, body, extras)) + extras.web_searches * SEARCH_NUSD


def beside_nusd(prices: PriceList, price: ModelPrice, body: dict[str, Any], extras: Extras) -> int:
    """The price of what an answer caused beside it, each entry by the list of the model that did it."""
    nusd = 0
    for entry in extras.iterations:
        if entry.kind == "message" and not entry.output_tokens:
            # Anthropic's release notes: a refusal before any output is not billed.
            continue
        found = (prices.find(entry.model) if entry.model else price) or price
        prompt = InputTokens(entry.input_tokens, entry.cache_read, entry.cache_write_5m)
        rates = found.rates_for("standard", prompt.total, speed(found, body, extras))
        nusd += rates.nusd(prompt, entry.output_tokens, 0, _factor(found, body, extras))
    return nusd


def _factor(price: ModelPrice, body: dict[str, Any], extras: Extras) -> Decimal:
    return price.us if price.vendor == "anthropic" and geo(body, extras) == "us" else Decimal(1)
