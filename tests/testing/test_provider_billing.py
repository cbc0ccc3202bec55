from decimal import Decimal

import pytest

from bursar.testing import ModelPrice, rates
from bursar.testing.billing import InputTokens
from bursar.testing.prices import LIST_PRICES, PriceList


def test_every_kind_of_token_has_its_own_rate() -> None:
    """1k input, 10k read, 2k and 3k written, 500 out on claude-sonnet-4-5 cost $0.039."""
    # $0.003 + $0.003 + $0.0075 + $0.018 + $0.0075, one summand per kind.
    prompt = InputTokens(uncached=1_000, cache_read=10_000, cache_write_5m=2_000, cache_write_1h=3_000)
    assert LIST_PRICES["claude-sonnet-4-5"].nusd("standard", prompt, 500) == 39_000_000


def test_a_fraction_of_a_nano_dollar_is_rounded_up_once() -> None:
    """Three cached tokens at $0.0125 per million are 37.5 nano-dollars, billed as 38."""
    price = LIST_PRICES["gpt-5-mini"]
    assert price.nusd("flex", InputTokens(cache_read=3), 0) == 38
    assert price.nusd("flex", InputTokens(cache_read=2), 0) == 25


def test_a_long_prompt_raises_the_price_of_everything() -> None:
    """claude-haiku-5-5 costs five times as much from the first token when the prompt exceeds 100k."""
    price = LIST_PRICES["claude-haiku-5-5"]
    assert price.nusd("standard", InputTokens(uncached=100_000), 500) == 10_000_000 + 250_000
    assert price.nusd("standard", InputTokens(uncached=100_001), 500) == 50_000_500 + 1_250_000


def test_cached_tokens_count_towards_a_long_prompt() -> None:
    """A prompt of 150k read and 60k new tokens is long for claude-sonnet-4-5."""
    prompt = InputTokens(uncached=60_000, cache_read=150_000)
    # 60k at $6 and 150k at $0.60.
    assert LIST_PRICES["claude-sonnet-4-5"].nusd("standard", prompt, 0) == 360_000_000 + 90_000_000


@pytest.mark.parametrize(("tier", "nusd"), [("default", 11_250_000), ("priority", 22_500_000), ("flex", 5_625_000)])
def test_a_service_tier_has_its_own_rates(tier: str, nusd: int) -> None:
    """1k in and 1k out on gpt-5 cost $0.01125 as standard, twice that as priority, half as flex."""
    assert LIST_PRICES["gpt-5"].nusd(tier, InputTokens(uncached=1_000), 1_000) == nusd


def test_a_tier_that_the_model_lacks_is_billed_as_standard() -> None:
    """gpt-4o has no flex rates."""
    price = LIST_PRICES["gpt-4o"]
    assert price.nusd("flex", InputTokens(uncached=1_000), 0) == 2_500_000


@pytest.mark.parametrize(
    ("dated", "plain"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-opus-4-5-latest", "claude-opus-4-5"),
    ],
)
def test_a_dated_model_costs_what_its_plain_name_costs(dated: str, plain: str) -> None:
    """The date in a model's name is not part of its price."""
    assert PriceList().find(dated) is LIST_PRICES[plain]


def test_unknown_models_have_no_price() -> None:
    """A name that only begins like a known one is unknown."""
    assert PriceList().find("gpt-4o-imaginary") is None


def test_models_of_ones_own_extend_and_replace_the_list() -> None:
    """An extra price wins over the list price of the same name."""
    own = ModelPrice("openai", rates("1", "2"))
    prices = PriceList({"mine": own, "gpt-4o": own})
    assert prices.find("mine") is prices.find("gpt-4o") is own
    assert own.standard.cache_read == Decimal(1)


@pytest.mark.parametrize("name", sorted(LIST_PRICES))
def test_reading_the_cache_never_costs_more_than_not_having_it(name: str) -> None:
    """Every list price has cache reads at most as dear as uncached input, and writes at least as dear."""
    price = LIST_PRICES[name]
    for each in (price.standard, price.long_context, *price.tiers.values()):
        if each is not None:
            assert each.cache_read <= each.uncached <= each.cache_write_5m <= each.cache_write_1h
