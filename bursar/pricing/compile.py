"""Compile what the price data says of a model into integer rates, and say how sure they are."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.pricing.multipliers import BATCH, BATCH_OF_EVERYTHING, BATCH_OF_TEXT, WRITE_OF_INPUT, uplift
from bursar.pricing.price import weaker
from bursar.pricing.rates import PriceContext, RateCard, Rates
from bursar.words.events import CostStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.pricing.data import PriceData

_VERSION_SUFFIX: Final = re.compile(r"([-@:.]?(\d[\d-]*|latest|preview|thinking|v\d+))*", re.ASCII)
_LONG_CONTEXT: Final = "[1m]"
"""What some tools write behind a Claude model's name to ask for its long context: the same model, the same price."""
_PROVIDERS: Final = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "gcp.vertex_ai": "google",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "moonshot_ai": "moonshotai",
}
"""OpenTelemetry's provider names where genai-prices has another."""
_DEARER: Final = frozenset({"priority", "fast"})
_COMMITTED: Final = frozenset({("anthropic", "priority"), ("openai", "scale")})
"""Tiers of capacity that was bought ahead at a discount: the list price is the most that a token of them costs."""


class _Found(NamedTuple):
    """What holds of a model on a day: its prices, the factors on them by kind, and how sure that is."""

    prices: Any
    factors: Mapping[str, Decimal]
    status: CostStatus
    assumed: tuple[str, ...] = ()


def compile_card(data: PriceData, provider: str, model: str, context: PriceContext, day: date) -> RateCard | None:
    """Look a model up and compile its rates for a day; None where it has no price per token."""
    seller = theirs(provider)
    name = model.lower().removesuffix(_LONG_CONTEXT)
    try:
        found, info = data.snapshot.find_provider_model(name, None, seller, None)
    except (LookupError, ValueError):
        return None
    if not _declared(info.match, name):
        return None
    price = _prices(info, str(found.id), context, day)
    if _rate(price.prices, "input", 0) is None:
        return None
    if _rate(price.prices, "output", 0) is None and not _embeds(str(info.id)):
        return None
    place = uplift(str(found.id), str(info.id), context.region, day)
    status = price.status if place.sure else weaker(price.status, CostStatus.LOWER_BOUND)
    assumed, missing = set(price.assumed), set[str]()
    rates = _Reader(price.prices, place.factor, price.factors, assumed, missing)
    starts = sorted(
        {tier.start for kind in _KINDS for tier in getattr(getattr(price.prices, f"{kind}_mtok", None), "tiers", ())}
    )
    base = rates.at(0)
    tiers = tuple((start, rates.at(start + 1)) for start in starts)
    searches, files = _fee(price.prices, "web_searches"), _fee(price.prices, "storage_searches")
    digest = hashlib.sha256(orjson.dumps([base, tiers, searches, files], default=tuple)).hexdigest()[:8]
    return RateCard(
        provider=str(found.id),
        model=str(info.id),
        base=base,
        tiers=tiers,
        web_search_nusd=searches,
        file_search_nusd=files,
        max_input_tokens=info.context_window,
        status=status,
        assumed=tuple(sorted(assumed)),
        missing=tuple(sorted(missing)),
        version=f"{data.name} {day.isoformat()} {digest}",
    )


def theirs(provider: str) -> str:
    """The price data's name of a provider."""
    return _PROVIDERS.get(provider, provider)


def up(value: Decimal) -> int:
    """Round a rate up: what is not known to the last digit is not understated."""
    return int(Decimal(value).to_integral_value(ROUND_CEILING))


def _prices(info: Any, seller: str, context: PriceContext, day: date) -> _Found:
    wanted = {name: value for name, value in context._asdict().items() if value is not None and name != "region"}
    moments = _moments(info, day)
    prices = max((info.get_prices(moment, wanted) for moment in moments), key=_dearness)
    status = CostStatus.UPPER_BOUND if len(moments) > 1 else CostStatus.LIST_PRICE
    if not wanted or _has_variant(info, wanted, moments[0]):
        return _Found(prices, {}, status)
    if wanted == {"processing": "batch"}:
        if day >= BATCH_OF_EVERYTHING.get(seller, date.max):
            return _Found(prices, dict.fromkeys(_KINDS, BATCH), status)
        if day >= BATCH_OF_TEXT.get(seller, date.max) and _has_variant(info, wanted, None):
            halved = dict.fromkeys(("input", "output"), BATCH)
            return _Found(prices, halved, status, ("cache_read", *(f"cache_write_{life}" for life in WRITE_OF_INPUT)))
    if (seller, context.service_tier) in _COMMITTED:
        return _Found(prices, {}, CostStatus.UPPER_BOUND)
    dearer = context.service_tier in _DEARER or context.speed is not None
    return _Found(prices, {}, CostStatus.LOWER_BOUND if dearer else CostStatus.UPPER_BOUND)


def _embeds(model: str) -> bool:
    # A model that makes vectors writes no tokens: no price of output is no gap in its list price.
    return "embed" in model


_KINDS: Final = (
    "input", "output", "cache_read", "cache_write", "cache_write_1h", "input_audio", "output_audio", "cache_audio_read",
)  # fmt: skip


class _Reader(NamedTuple):
    """Reads the rates of one tier; notes which kinds had to be assumed and which are missing."""

    prices: Any
    factor: Decimal
    factors: Mapping[str, Decimal]
    assumed: set[str]
    missing: set[str]

    def at(self, tokens: int) -> Rates:
        """The rates of the tier that so much input reaches."""
        into, out = self._of("input", tokens), self._of("output", tokens)
        assert into is not None
        out = 0 if out is None else out
        read = self._of("cache_read", tokens)
        if read is None:
            self.assumed.add("cache_read")
            read = into
        five, hour = self._of("cache_write", tokens), self._of("cache_write_1h", tokens)
        # A provider that lists no write rate at all bills writes as input, or not at all.
        factors = WRITE_OF_INPUT if five is not None else dict.fromkeys(WRITE_OF_INPUT, Decimal(1))
        written = {"5m": five, "30m": five, "1h": hour, "12h": None}
        self.assumed.update(f"cache_write_{life}" for life, rate in written.items() if rate is None)
        writes = {
            f"cache_write_{life}": up(into * factors[life]) if rate is None else rate for life, rate in written.items()
        }
        heard, spoken = self._of("input_audio", tokens), self._of("output_audio", tokens)
        if heard is None:
            self.missing.add("audio_input")
        if spoken is None:
            self.missing.add("audio_output")
        heard = into if heard is None else heard
        again = self._of("cache_audio_read", tokens)
        return Rates(
            input=into,
            output=out,
            cache_read=read,
            **writes,
            audio_input=heard,
            audio_cache_read=heard if again is None else again,
            audio_output=out if spoken is None else spoken,
        )

    def _of(self, kind: str, tokens: int) -> int | None:
        rate = _rate(self.prices, kind, tokens)
        return None if rate is None else up(rate * self.factor * self.factors.get(kind, 1))


def _rate(prices: Any, kind: str, tokens: int) -> Decimal | None:
    price = getattr(prices, f"{kind}_mtok", None)
    if price is None:
        return None
    per_million = _at(price, tokens)
    if not per_million.is_finite() or per_million < 0:
        return None
    # A dollar a million tokens is a million pico-dollars a token.
    return per_million * 1_000_000


def _fee(prices: Any, kind: str) -> int | None:
    price = getattr(prices, f"{kind}_kcount", None)
    return None if price is None else up(_at(price, 0) * 1_000_000)


def _at(price: Any, tokens: int) -> Decimal:
    found = Decimal(getattr(price, "base", price))
    for tier in getattr(price, "tiers", ()):
        if tokens > tier.start:
            found = Decimal(tier.price)
    return found


def _moments(info: Any, day: date) -> list[datetime]:
    conditions = info.prices if isinstance(info.prices, list) else []
    constraints = [c.constraint for c in conditions] + [v.constraint for v in info.price_variants or ()]
    if any(hasattr(constraint, "start_time") for constraint in constraints):
        # Off-peak prices change by the hour: a card holds for the day, so it is the dearest hour's.
        return [datetime.combine(day, time(hour, 30), UTC) for hour in range(24)]
    return [datetime.combine(day, time(12), UTC)]


def _dearness(prices: Any) -> Decimal:
    return (_rate(prices, "input", 0) or Decimal(0)) + (_rate(prices, "output", 0) or Decimal(0))


def _has_variant(info: Any, wanted: Mapping[str, str], moment: datetime | None) -> bool:
    """Whether the model has prices of its own for this; `moment` None is at any time."""
    return any(
        (moment is None or variant.constraint is None or variant.constraint.active(moment))
        and all(wanted.get(name) == value for name, value in variant.when.items())
        and variant.prices.__dict__
        for variant in info.price_variants or ()
    )


def _declared(match: Any, model: str) -> bool:
    """Whether the data names this model: exactly, by a pattern, or by a prefix with nothing but a version after it."""
    kinds = {type(clause).__name__: clause for clause in [match]}
    for clause in getattr(match, "or_", None) or getattr(match, "and_", None) or kinds.values():
        if getattr(clause, "or_", None) or getattr(clause, "and_", None):
            if _declared(clause, model):
                return True
            continue
        prefix = getattr(clause, "starts_with", None)
        if prefix is None:
            if clause.is_match(model):
                return True
        elif model.startswith(prefix) and (prefix.startswith("ft:") or _VERSION_SUFFIX.fullmatch(model[len(prefix) :])):
            return True
    return False
