"""Rates: integer vectors compiled from genai-prices, once for each model, context and day.

genai-prices has dated prices, tiers and variants; it takes half a second and eighty megabytes to load, so what
was compiled is kept on disk and the package is imported only for what is not there. What its data lacks is
stated here, with its source, and marked on every price that uses it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar._events import CostStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAME: Final = re.compile(r"[A-Za-z0-9._:/@+\-\[\] ]{1,200}", re.ASCII)
_VERSION_SUFFIX: Final = re.compile(r"([-@:.]?(\d[\d-]*|latest|preview|thinking|v\d+))*", re.ASCII)
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
_WRITE_OF_INPUT: Final = {"5m": Decimal("1.25"), "30m": Decimal("1.25"), "1h": Decimal(2), "12h": Decimal("2.5")}
"""A cache write as a multiple of input where the data has none: Anthropic's published 5-minute and 1-hour factors,
OpenAI's published 30-minute and 12-hour factors (the data says of 12 hours that it is not modelled)."""
_DEARER: Final = frozenset({"priority", "fast"})
_MOST_CARDS: Final = 4_096


class PriceContext(NamedTuple):
    """Under which of a model's prices a call falls, in genai-prices' words; None is the standard one."""

    service_tier: str | None = None
    processing: str | None = None
    speed: str | None = None


STANDARD: Final = PriceContext()


class Rates(NamedTuple):
    """Pico-dollars a token, for one tier."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_30m: int
    cache_write_1h: int
    cache_write_12h: int


@dataclass(frozen=True, slots=True)
class RateCard:
    """What a model costs on a day. A tier (tokens, rates) holds for the whole call above that many input tokens.

    `assumed` names the kinds of token whose rate is ours; `status` says how sure the rest is; `web_search_nusd` is
    nano-dollars a search, None where unknown.
    """

    provider: str
    model: str
    base: Rates
    tiers: tuple[tuple[int, Rates], ...]
    web_search_nusd: int | None
    max_input_tokens: int | None
    status: CostStatus
    assumed: tuple[str, ...]
    version: str

    def at(self, input_tokens: int) -> Rates:
        """The rates of the tier that so much input reaches."""
        found = self.base
        for above, rates in self.tiers:
            if input_tokens > above:
                found = rates
        return found


class PriceList:
    """Finds rate cards: in memory, else on disk, else by compiling. Safe for threads; never raises for a name."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._cards: dict[tuple[str, str, PriceContext, date], RateCard | None] = {}
        self._kept: dict[str, Any] | None = None

    def card(self, provider: str, model: str, *, context: PriceContext = STANDARD, day: date) -> RateCard | None:
        """The rates of a model on a day, None where no price is known."""
        key = (provider, model, context, day)
        try:
            return self._cards[key]
        except KeyError:
            return self._miss(key)

    def _miss(self, key: tuple[str, str, PriceContext, date]) -> RateCard | None:
        provider, model, context, day = key
        if not _NAME.fullmatch(model):
            return None
        with self._lock:
            if len(self._cards) >= _MOST_CARDS:
                self._cards.clear()
            if self._kept is None:
                self._kept = _read(self._file())
            name = "|".join([provider, model, *(part or "" for part in context), day.isoformat()])
            try:
                card = _from_json(self._kept[name])
            except (KeyError, TypeError, ValueError):
                card = compile_card(provider, model, context, day)
                self._kept[name] = None if card is None else [getattr(card, part) for part in RateCard.__slots__]
                _write(self._file(), self._kept)
            self._cards[key] = card
            return card

    def _file(self) -> Path:
        return (self._directory or cache_directory()) / f"rates-{version('genai-prices')}.json"


def cache_directory() -> Path:
    """Where compiled rates are kept: `BURSAR_CACHE_DIR`, else the user's cache directory."""
    named = os.environ.get("BURSAR_CACHE_DIR")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("bursar"))


def find_provider(model: str) -> str | None:
    """Name the provider of a model that is known by its name alone; None where the data knows none."""
    if not _NAME.fullmatch(model):
        return None
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    for name in ("anthropic", "openai", "google"):
        provider = next((p for p in snapshot.providers if p.id == name), None)
        if provider is not None and provider.find_model(model.lower()) is not None:
            return name
    try:
        return str(snapshot.find_provider(model, None, None).id)
    except LookupError:
        return None


def known_models(provider: str | None = None) -> list[tuple[str, str]]:
    """All (provider, model) pairs that have a price, for suggestions."""
    from genai_prices.data_snapshot import get_snapshot

    wanted = None if provider is None else _PROVIDERS.get(provider, provider)
    return [(p.id, m.id) for p in get_snapshot().providers if wanted in (None, p.id) for m in p.models]


def compile_card(provider: str, model: str, context: PriceContext, day: date) -> RateCard | None:
    """Look a model up in genai-prices and compile its rates for a day; None where it has no price per token."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        found, info = get_snapshot().find_provider_model(model, None, _PROVIDERS.get(provider, provider), None)
    except (LookupError, ValueError):
        return None
    if not _declared(info.match, model.lower()):
        return None
    wanted = {name: value for name, value in context._asdict().items() if value is not None}
    moments = _moments(info, day)
    prices = max((info.get_prices(moment, wanted) for moment in moments), key=_dearness)
    if _rate(prices, "input", 0) is None:
        return None
    if _rate(prices, "output", 0) is None and not _embeds(str(info.id)):
        return None
    status = CostStatus.UPPER_BOUND if len(moments) > 1 else CostStatus.LIST_PRICE
    if wanted and not _has_variant(info, wanted, moments[0]):
        dearer = wanted.get("service_tier") in _DEARER or "speed" in wanted
        status = CostStatus.LOWER_BOUND if dearer else CostStatus.UPPER_BOUND
    assumed: set[str] = set()
    starts = sorted({tier.start for name in _FIELDS for tier in getattr(getattr(prices, name), "tiers", ())})
    base = _rates(prices, 0, assumed)
    tiers = tuple((start, _rates(prices, start + 1, assumed)) for start in starts)
    search = getattr(prices, "web_searches_kcount", None)
    searches = None if search is None else _up(_at(search, 0) * 1_000_000)
    digest = hashlib.sha256(orjson.dumps([base, tiers, searches], default=tuple)).hexdigest()[:8]
    return RateCard(
        str(found.id),
        str(info.id),
        base,
        tiers,
        searches,
        info.context_window,
        status,
        tuple(sorted(assumed)),
        f"genai-prices {version('genai-prices')} {day.isoformat()} {digest}",
    )


def _embeds(model: str) -> bool:
    # A model that makes vectors writes no tokens: no price of output is no gap in its list price.
    return "embed" in model


_FIELDS: Final = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")


def _rates(prices: Any, tokens: int, assumed: set[str]) -> Rates:
    into, out = _rate(prices, "input", tokens), _rate(prices, "output", tokens)
    assert into is not None
    if out is None:
        out = 0
    read = _rate(prices, "cache_read", tokens)
    if read is None:
        assumed.add("cache_read")
        read = into
    written = {"5m": _rate(prices, "cache_write", tokens), "1h": _rate(prices, "cache_write_1h", tokens), "12h": None}
    written["30m"] = written["5m"]
    # A provider that lists no write rate at all bills writes as input, or not at all.
    factors = _WRITE_OF_INPUT if written["5m"] is not None else dict.fromkeys(_WRITE_OF_INPUT, Decimal(1))
    for life, rate in written.items():
        if rate is None:
            assumed.add(f"cache_write_{life}")
            written[life] = _up(into * factors[life])
    lives = [rate for life in ("5m", "30m", "1h", "12h") if (rate := written[life]) is not None]
    return Rates(into, out, read, *lives)


def _rate(prices: Any, kind: str, tokens: int) -> int | None:
    price = getattr(prices, f"{kind}_mtok", None)
    if price is None:
        return None
    per_million = _at(price, tokens)
    if not per_million.is_finite() or per_million < 0:
        return None
    # A dollar a million tokens is a million pico-dollars a token.
    return _up(per_million * 1_000_000)


def _at(price: Any, tokens: int) -> Decimal:
    found = Decimal(getattr(price, "base", price))
    for tier in getattr(price, "tiers", ()):
        if tokens > tier.start:
            found = Decimal(tier.price)
    return found


def _up(value: Decimal) -> int:
    return int(Decimal(value).to_integral_value(ROUND_CEILING))


def _moments(info: Any, day: date) -> list[datetime]:
    conditions = info.prices if isinstance(info.prices, list) else []
    constraints = [c.constraint for c in conditions] + [v.constraint for v in info.price_variants or ()]
    if any(hasattr(constraint, "start_time") for constraint in constraints):
        # Off-peak prices change by the hour: a card holds for the day, so it is the dearest hour's.
        return [datetime.combine(day, time(hour, 30), UTC) for hour in range(24)]
    return [datetime.combine(day, time(12), UTC)]


def _dearness(prices: Any) -> int:
    return (_rate(prices, "input", 0) or 0) + (_rate(prices, "output", 0) or 0)


def _has_variant(info: Any, wanted: Mapping[str, str], moment: datetime) -> bool:
    return any(
        (variant.constraint is None or variant.constraint.active(moment))
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


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _write(path: Path, kept: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(dict(list(kept.items())[-_MOST_CARDS:]), default=tuple))
        Path(name).replace(path)
    except OSError:
        # A cache that cannot be written costs half a second next time, and nothing else.
        return


def _from_json(kept: Any) -> RateCard | None:
    if kept is None:
        return None
    provider, model, base, tiers, searches, window, status, assumed, stamp = kept
    higher = tuple((int(above), Rates(*_ints(rates))) for above, rates in tiers)
    sure = CostStatus(status)
    return RateCard(provider, model, Rates(*_ints(base)), higher, searches, window, sure, tuple(assumed), stamp)


def _ints(values: Iterable[Any]) -> list[int]:
    rates = list(values)
    if not all(rate.__class__ is int and rate >= 0 for rate in rates):
        raise ValueError(rates)
    return rates
