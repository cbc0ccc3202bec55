"""Prices that were set go before the list: which of them holds for a call, and what it makes of the list's card.

`bursar prices set` writes them into `prices.toml` in the folder of the ledger. Not into `bursar.toml`, which people
write and review; not into the ledger, which prices would then have to be opened for, and where nobody can read,
compare or copy a line. It has the format of `[[price]]` there, so that a line can be moved over. Whoever shares a
ledger shares its prices.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.pricing.compile import theirs
from bursar.pricing.multipliers import WRITE_OF_INPUT
from bursar.pricing.rates import STANDARD, PriceContext, RateCard, Rates
from bursar.settings.prices import ANY_MODEL
from bursar.words.events import CostStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.settings.prices import PriceSpec

_DEARER: Final = frozenset({"priority", "fast"})


def overridden(
    specs: Sequence[PriceSpec],
    card: RateCard | None,
    standard: RateCard | None,
    key: tuple[str, str, PriceContext, date],
    *,
    placed: RateCard | None,
) -> RateCard | None:
    """Apply the price that was set for a call, if one was.

    `card` is the list's for the call, `standard` the list's for the same model in the standard tier, `placed` the
    list's for the call where its place adds nothing that we do not know. A factor of 1 or more that was set for a
    provider says what its places add; a smaller one is a discount, and says nothing of them.
    """
    provider, model, context, day = key
    names = {model.lower(), *((card.model.lower(),) if card is not None else ())}
    tier = context.processing or context.service_tier or context.speed
    found = [
        spec
        for spec in specs
        if spec.holds(day)
        and (spec.model.lower() in names or spec.model == ANY_MODEL)
        and (spec.provider is None or theirs(spec.provider) == theirs(provider))
        and spec.tier in (None, tier)
    ]
    if not found:
        return card
    # Of several that are as good the last one.
    spec = max(reversed(found), key=_rank)
    if spec.factor is not None:
        listed = placed if spec.provider is not None and spec.factor >= 1 else card
        return None if listed is None else _named(_times(listed, spec), spec, day)
    if card is None or standard is None:
        made = _made(spec, theirs(provider), model, context)
        return None if made is None else _named(made, spec, day)
    return _named(_with_rates(card, card if spec.tier is not None else standard, spec), spec, day)


def _rank(spec: PriceSpec) -> tuple[bool, bool, bool, bool, date]:
    """What goes first: what is said of the tier, by hand, of the model, of the provider, and last in time."""
    named = spec.model != ANY_MODEL
    return spec.tier is not None, spec.by_hand, named, spec.provider is not None, spec.since or date.min


def _times(card: RateCard, spec: PriceSpec) -> RateCard:
    factor = spec.factor
    assert factor is not None

    def scaled(rates: Rates) -> Rates:
        return Rates(*(int(-(-rate * factor // 1)) for rate in rates))

    return replace(card, base=scaled(card.base), tiers=tuple((above, scaled(rates)) for above, rates in card.tiers))


def _with_rates(card: RateCard, reference: RateCard, spec: PriceSpec) -> RateCard:
    """Put rates into a card; its tiers keep their proportion to the `reference`, which the rates were set for."""
    rates = dict(spec.rates)

    def filled(listed: Rates) -> Rates:
        found = {
            kind: _in_proportion(rate, getattr(listed, kind), getattr(reference.base, kind))
            for kind, rate in rates.items()
        }
        return listed._replace(**found)

    return replace(
        card,
        base=filled(card.base),
        tiers=tuple((above, filled(listed)) for above, listed in card.tiers),
        assumed=tuple(kind for kind in card.assumed if kind not in rates),
        missing=tuple(kind for kind in card.missing if kind not in rates),
        **_fees(spec),
    )


def _in_proportion(rate: int, listed: int, reference: int) -> int:
    return rate if not reference else -(-rate * listed // reference)


def _made(spec: PriceSpec, provider: str, model: str, context: PriceContext) -> RateCard | None:
    """A card for a model that the list does not know; None where the rates do not make one."""
    rates = dict(spec.rates)
    into = rates.get("input")
    out = rates.get("output", 0 if "embed" in model.lower() else None)
    if into is None or out is None:
        return None
    known = {"input": into, "output": out, "cache_read": into, "audio_input": into, "audio_output": out}
    known |= {f"cache_write_{life}": int(-(-into * factor // 1)) for life, factor in WRITE_OF_INPUT.items()}
    known["audio_cache_read"] = rates.get("audio_input", into)
    status = CostStatus.LIST_PRICE
    if spec.tier is None and context != STANDARD:
        # Nothing is said of this tier: cheaper ones cost this at most, dearer ones at least.
        dearer = context.service_tier in _DEARER or context.speed is not None or context.region is not None
        status = CostStatus.LOWER_BOUND if dearer else CostStatus.UPPER_BOUND
    return RateCard(
        provider=provider,
        model=model,
        base=Rates(**(known | rates)),
        tiers=(),
        max_input_tokens=None,
        status=status,
        assumed=tuple(sorted(kind for kind in known if kind.startswith("cache") and kind not in rates)),
        missing=tuple(kind for kind in ("audio_input", "audio_output") if kind not in rates),
        version="",
        **({"web_search_nusd": None, "file_search_nusd": None} | _fees(spec)),
    )


def _fees(spec: PriceSpec) -> dict[str, Any]:
    return {f"{kind}_nusd": fee for kind, fee in spec.fees}


def _named(card: RateCard, spec: PriceSpec, day: date) -> RateCard:
    listed = card.version.rsplit(" ", 2)[0]
    digest = hashlib.sha256(orjson.dumps([card.base, card.tiers, card.web_search_nusd], default=tuple)).hexdigest()[:8]
    since = f" from {spec.since.isoformat()}" if spec.since else ""
    over = f" over {listed}" if listed else ""
    return replace(card, version=f"{spec.origin}{since}{over} {day.isoformat()} {digest}")
