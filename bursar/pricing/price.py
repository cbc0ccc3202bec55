"""The price of an attempt: plain integers, one rounding.

Rates are pico-dollars a token, a price is nano-dollars; the sum of all parts is rounded up once, and the residue
of that rounding lies in the largest part, so that the parts add up to the price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bursar._events import CostStatus
from bursar._money import PICO_PER_NANO

if TYPE_CHECKING:
    from bursar._events import Usage
    from bursar.pricing.rates import RateCard


class Cost(NamedTuple):
    """Nano-dollars in all and by kind of token; `nusd` None is unknown, and then every part is 0."""

    nusd: int | None
    status: CostStatus
    input_nusd: int = 0
    output_nusd: int = 0
    cache_read_nusd: int = 0
    cache_write_nusd: int = 0
    fees_nusd: int = 0


UNKNOWN = Cost(None, CostStatus.UNKNOWN)


def price(usage: Usage, card: RateCard | None, *, measured: bool = True) -> Cost:
    """Price the usage of one attempt at the tier that its input reaches; `measured` False marks an estimate."""
    if card is None:
        return UNKNOWN
    rates = card.at(usage.input_tokens) if card.tiers else card.base
    status = card.status
    if not measured:
        status = CostStatus.ESTIMATED
    uncached = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    if uncached < 0:
        # Parts that exceed their whole: every part is priced, nothing is subtracted.
        uncached, status = 0, CostStatus.UPPER_BOUND
    into = uncached * rates.input
    out = usage.output_tokens * rates.output
    read = usage.cache_read_tokens * rates.cache_read
    written = (
        usage.cache_write_5m_tokens * rates.cache_write_5m
        + usage.cache_write_30m_tokens * rates.cache_write_30m
        + usage.cache_write_1h_tokens * rates.cache_write_1h
        + usage.cache_write_12h_tokens * rates.cache_write_12h
    )
    fees = 0
    if usage.web_searches:
        if card.web_search_nusd is None:
            status = CostStatus.LOWER_BOUND
        else:
            fees = usage.web_searches * card.web_search_nusd * PICO_PER_NANO
    if card.assumed and status is CostStatus.LIST_PRICE and _uses(usage, card.assumed):
        status = CostStatus.UPPER_BOUND
    total = -(-(into + out + read + written + fees) // PICO_PER_NANO)
    parts = [part // PICO_PER_NANO for part in (into, out, read, written, fees)]
    residue = total - sum(parts)
    if residue:
        parts[parts.index(max(parts))] += residue
    return Cost(total, status, *parts)


def _uses(usage: Usage, kinds: tuple[str, ...]) -> bool:
    return any(getattr(usage, f"{kind}_tokens") for kind in kinds)
