"""Requests within which the provider may ask other models: what those add to the estimate.

An advisor reads the context; the model that asked then reads it again, with the advice. A fallback reads it in the
place of a model that has declined, with what that one had written by then; both are billed. A token that is read costs
at most what the dearest of them takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.pricing.rates import PriceContext, placed
from bursar.words.demand import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.flow.call import World
    from bursar.pricing.estimate import Estimate
    from bursar.pricing.rates import RateCard, Rates
    from bursar.words.events import Helper, ModelRequest

ADVICE_TOKENS: Final = 2_048
"""What an advisor without a cap is taken to write each time: nobody publishes the cap that it has then."""
MOST_ADVICE: Final = 64_000
"""The same where bounds are hard: the largest answer of a model that advises."""
_ANYWHERE: Final = frozenset({None, "", "global", "not_available"})

Cards = dict["Helper", "RateCard | None"]


def cards_of(request: ModelRequest, world: World) -> Cards:
    """The prices of those whom a request may ask; None where there is none."""
    day, region = world.clock.today(), None if request.region in _ANYWHERE else request.region
    found: Cards = {}
    for helper in request.helpers:
        model = placed(request.provider, request.model, helper.model)
        context = PriceContext(None, None, helper.speed, region)
        found[helper] = world.prices.card(request.provider, model, context=context, day=day)
    return found


def unpriced(request: ModelRequest, world: World) -> str | None:
    """One of those whom a request may ask that has no price, or none that is new enough."""
    cards = cards_of(request, world)
    return next((each.model for each, card in cards.items() if card is None or world.prices.is_outdated(card)), None)


def with_helpers(estimate: Estimate, request: ModelRequest, world: World, *, hard: bool) -> Estimate:
    """The estimate of a request with those whom it may ask; `hard`: with whatever they may write."""
    demand = estimate.demand
    reads = 1 + sum(2 * helper.uses or 1 for helper in request.helpers)
    written = sum(helper.uses * _advice(helper, hard=hard) or _answer(helper, request) for helper in request.helpers)
    price = demand.price
    if price is not None:
        cards = cards_of(request, world)
        price = _dearest(price[0], request, cards, hard=hard), _dearest(price[1], request, cards, hard=hard)
    demand = demand._replace(
        input_practical=reads * demand.input_practical + 2 * written,
        input_hard=reads * demand.input_hard + 2 * written,
        # The cap of a fallback is its own, and would stay.
        clampable=demand.clampable and not any(helper.cap for helper in request.helpers if not helper.uses),
        price=price,
    )
    return estimate._replace(demand=demand)


def _dearest(own: Rate, request: ModelRequest, cards: Mapping[Helper, RateCard | None], *, hard: bool) -> Rate:
    fixed_nusd, input_pico, output_pico = own
    cap = request.cap or request.cap_default
    for helper, card in cards.items():
        if card is None:
            continue
        rates = (card.base, *(tier for _, tier in card.tiers))
        output = max(tier.output for tier in rates)
        if helper.uses:
            fixed_nusd += Rate(0, 0, output).bound(0, helper.uses * _advice(helper, hard=hard))
            life = helper.cache_write
        else:
            # Each may have written all that it may before it declines; the one after it begins anew.
            output_pico += -(-output * _answer(helper, request) // cap)
            life = request.cache_write
        input_pico = max(input_pico, *(_read(tier, life) for tier in rates))
    return Rate(fixed_nusd, input_pico, output_pico)


def _read(rates: Rates, life: str | None) -> int:
    written: int = rates.input if life is None else getattr(rates, f"cache_write_{life}")
    return max(rates.input, written)


def _answer(helper: Helper, request: ModelRequest) -> int:
    return max(helper.cap or 0, request.cap or request.cap_default)


def _advice(helper: Helper, *, hard: bool) -> int:
    return helper.cap or (MOST_ADVICE if hard else ADVICE_TOKENS)
