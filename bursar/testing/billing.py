"""Billing: what one answer costs, in whole nano-dollars, by the rules of a vendor's price list."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

Vendor = Literal["anthropic", "openai"]

_NANODOLLARS_PER_DOLLAR_PER_MILLION = 1000


@dataclass(frozen=True, slots=True)
class InputTokens:
    """The prompt of one call, in tokens; the parts do not overlap. `uncached` is text, `audio` is not cached either."""

    uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_write_30m: int = 0
    cache_write_12h: int = 0
    audio: int = 0

    @property
    def total(self) -> int:
        """All tokens of the prompt."""
        return self.uncached + self.audio + self.cache_read + self.cache_write

    @property
    def cache_write(self) -> int:
        """Tokens written to the cache, for any lifetime."""
        return self.cache_write_5m + self.cache_write_1h + self.cache_write_30m + self.cache_write_12h


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars per million tokens of each kind; reasoning is output."""

    uncached: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_write_30m: Decimal
    cache_write_12h: Decimal
    audio: Decimal
    audio_output: Decimal

    def nusd(self, prompt: InputTokens, output_tokens: int, audio_output: int = 0, factor: Decimal = Decimal(1)) -> int:
        """The price in nano-dollars, rounded up once. `audio_output` is the part of the output that is audio."""
        dollars_times_million = (
            self.uncached * prompt.uncached
            + self.cache_read * prompt.cache_read
            + self.cache_write_5m * prompt.cache_write_5m
            + self.cache_write_1h * prompt.cache_write_1h
            + self.cache_write_30m * prompt.cache_write_30m
            + self.cache_write_12h * prompt.cache_write_12h
            + self.audio * prompt.audio
            + self.audio_output * audio_output
            + self.output * (output_tokens - audio_output)
        )
        return math.ceil(dollars_times_million * factor * _NANODOLLARS_PER_DOLLAR_PER_MILLION)

    def halved(self) -> "Rates":
        """What both vendors take in their batch APIs: half of everything."""
        return Rates(*(getattr(self, each.name) / 2 for each in fields(self)))


def rates(
    uncached: str,
    output: str,
    *,
    read: str | None = None,
    write_5m: str | None = None,
    write_1h: str | None = None,
    write_30m: str | None = None,
    write_12h: str | None = None,
    audio: str | None = None,
    audio_output: str | None = None,
) -> Rates:
    """Rates from dollars per million tokens; a price that is not given is that of uncached input, or of output."""
    return Rates(
        uncached=Decimal(uncached),
        output=Decimal(output),
        cache_read=Decimal(read or uncached),
        cache_write_5m=Decimal(write_5m or uncached),
        cache_write_1h=Decimal(write_1h or uncached),
        cache_write_30m=Decimal(write_30m or uncached),
        cache_write_12h=Decimal(write_12h or uncached),
        audio=Decimal(audio or uncached),
        audio_output=Decimal(audio_output or output),
    )


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The list price of one model.

    `long_context` applies to the whole call when the prompt has more than `long_context_above` tokens.
    `tiers` are the service tiers with rates of their own; any other tier is served and billed as standard.
    `max_output` is the most tokens one answer may have. `reasoning` models refuse chat's `max_tokens`. `fast` are the
    rates of Anthropic's fast mode, `us` what everything per token is multiplied by when it is made in the US alone.
    """

    vendor: Vendor
    standard: Rates
    max_output: int = 16_384
    long_context_above: int | None = None
    long_context: Rates | None = None
    tiers: Mapping[str, Rates] = field(default_factory=lambda: MappingProxyType({}))
    reasoning: bool = False
    fast: Rates | None = None
    us: Decimal = Decimal(1)

    def rates_for(self, tier: str, prompt_tokens: int, speed: str | None = None) -> Rates:
        """The rates of a call with that prompt in that service tier, at that speed; "batch" is half of the standard."""
        if tier == "batch":
            return self.rates_for("standard", prompt_tokens, speed).halved()
        if speed == "fast" and self.fast is not None:
            return self.fast
        if tier in self.tiers:
            return self.tiers[tier]
        above = self.long_context_above
        if self.long_context is not None and above is not None and prompt_tokens > above:
            return self.long_context
        return self.standard

    def nusd(self, tier: str, prompt: InputTokens, output_tokens: int) -> int:
        """The price of one call in nano-dollars, rounded up once."""
        return self.rates_for(tier, prompt.total).nusd(prompt, output_tokens)
