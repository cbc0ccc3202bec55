"""Which models of a vendor are its dearest: known by their prices, since no list of names stays true."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from bursar.pricing.rates import known_models

if TYPE_CHECKING:
    from datetime import date

    from bursar.pricing.rates import PriceList


def is_top(prices: PriceList, provider: str, model: str, day: date) -> bool:
    """Whether a model's output costs as much as the upper half of its vendor's prices; False where none is known.

    The prices are ranked, not the models: ten cheap ones at one price are one price. A vendor keeps old models on the
    list at their old prices, so that of today's models only the dearest are in the upper half.
    """
    card = prices.card(provider, model, day=day)
    least = _least(prices, provider, day)
    return card is not None and least is not None and card.base.output >= least


@lru_cache(maxsize=64)
def _least(prices: PriceList, provider: str, day: date) -> int | None:
    cards = [prices.card(provider, name, day=day) for _, name in known_models(provider)]
    levels = sorted({card.base.output for card in cards if card is not None and card.base.output})
    return levels[len(levels) // 2] if len(levels) > 1 else None
