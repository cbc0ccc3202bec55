"""Billing: what one answer costs, in whole nano-dollars, by the rules of a vendor's price list."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

Vendor = Literal["anthropic", "openai"]

_NANODOLLARS_PER_DOLLAR_PER_MILLION = 1000


@dataclass(frozen=True, slots=True)
class InputTokens:
    """The prompt of one call, in tokens; the four parts do not overlap."""

    uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0

    @property
    def total(self) -> int:
        """All tokens of the prompt."""
        return self.uncached + self.cache_read + self.cache_write

    @property
    def cache_write(self) -> int:
        """Tokens written to the cache, for either lifetime."""
        return self.cache_write_5m + self.cache_write_1h


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars per million tokens of each kind; reasoning is output."""

    uncached: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal

    def nusd(self, prompt: InputTokens, output_tokens: int) -> int:
        """The price in nano-dollars, rounded up once."""
        dollars_times_million = (
            self.uncached * prompt.uncached
            + self.cache_read * prompt.cache_read
            + self.cache_write_5m * prompt.cache_write_5m
            + self.cache_write_1h * prompt.cache_write_1h
            + self.output * output_tokens
        )
        return math.ceil(dollars_times_million * _NANODOLLARS_PER_DOLLAR_PER_MILLION)


def rates(
    uncached: str,
    output: str,
    *,
    read: str | None = None,
    write_5m: str | None = None,
    write_1h: str | None = None,
) -> Rates:
    """Rates from dollars per million tokens; a cache price not given is the price of uncached input."""
    return Rates(
        uncached=Decimal(uncached),
        output=Decimal(output),
        cache_read=Decimal(read or uncached),
        cache_write_5m=Decimal(write_5m or uncached),
        cache_write_1h=Decimal(write_1h or uncached),
    )


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The list price of one model.

    `long_context` applies to the whole call when the prompt has more than `long_context_above` tokens.
    `tiers` are the service tiers with rates of their own; any other tier is served and billed as standard.
    `max_output` is the most tokens one answer may have. `reasoning` models refuse chat's `max_tokens`.
    """

    vendor: Vendor
    standard: Rates
    max_output: int = 16_384
    long_context_above: int | None = None
    long_context: Rates | None = None
    tiers: Mapping[str, Rates] = field(default_factory=lambda: MappingProxyType({}))
    reasoning: bool = False

    def rates_for(self, tier: str, prompt_tokens: int) -> Rates:
        """The rates of a call with that prompt in that service tier."""
        if tier in self.tiers:
            return self.tiers[tier]
        above = self.long_context_above
        if self.long_context is not None and above is not None and prompt_tokens > above:
            return self.long_context
        return self.standard

    def nusd(self, tier: str, prompt: InputTokens, output_tokens: int) -> int:
        """The price of one call in nano-dollars, rounded up once."""
        return self.rates_for(tier, prompt.total).nusd(prompt, output_tokens)
