"""Rates: integer vectors compiled from price data, once for each model, context and day.

genai-prices has dated prices, tiers and variants; it takes half a second and eighty megabytes to load, so what
was compiled is kept on disk and the package is imported only for what is not there. What its data lacks is in
`multipliers.py`, and what somebody set by hand in `overrides.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.pricing.data import PriceData, age_days, kept, load, packaged
from bursar.words.errors import BursarWarning, PriceDataError
from bursar.words.events import CostStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from bursar.settings.prices import PriceSpec

_NAME: Final = re.compile(r"[A-Za-z0-9._:/@+\-\[\] ]{1,200}", re.ASCII)
_PROFILE: Final = re.compile(r"(?:[a-z-]+\.)?(?:anthropic|openai)\.")
"""What Bedrock has before the vendor's name of a model: it says where the model runs, and so what it costs."""
_MOST_CARDS: Final = 4_096
_FORMAT: Final = 2
"""Of the file of compiled rates: a file of another one is not read."""


class PriceContext(NamedTuple):
    """Under which of a model's prices a call falls, in genai-prices' words; None is the standard one.

    `region` is where it is processed, None where that is not known or changes nothing.
    """

    service_tier: str | None = None
    processing: str | None = None
    speed: str | None = None
    region: str | None = None


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
    audio_input: int
    audio_cache_read: int
    audio_output: int


@dataclass(frozen=True, slots=True)
class RateCard:
    """What a model costs on a day. A tier (tokens, rates) holds for the whole call above that many input tokens.

    `assumed` names the kinds of token whose rate is ours and never too low; `missing` those that are priced as text for
    want of a rate, and cost more. `status` says how sure the rest is. `web_search_nusd` and `file_search_nusd` are
    nano-dollars each, None where unknown. `version` says where the rates come from.
    """

    provider: str
    model: str
    base: Rates
    tiers: tuple[tuple[int, Rates], ...]
    web_search_nusd: int | None
    file_search_nusd: int | None
    max_input_tokens: int | None
    status: CostStatus
    assumed: tuple[str, ...]
    missing: tuple[str, ...]
    version: str

    def at(self, input_tokens: int) -> Rates:
        """The rates of the tier that so much input reaches."""
        found = self.base
        for above, rates in self.tiers:
            if input_tokens > above:
                found = rates
        return found


class PriceList:
    """Finds rate cards: in memory, else on disk, else by compiling. Safe for threads; never raises for a name.

    `home` is the folder of the ledger, where newer price data may lie. `set_prices` go before the list. `outdated`:
    the list has come to be more than `max_age_days` old.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        home: Path | None = None,
        set_prices: Sequence[PriceSpec] = (),
        max_age_days: int | None = None,
    ) -> None:
        self._directory, self._set_prices = directory, tuple(set_prices)
        self._lock = threading.Lock()
        self._cards: dict[tuple[str, str, PriceContext, date], RateCard | None] = {}
        self._kept: dict[str, Any] | None = None
        self._copy = kept(home)
        self._data: PriceData | None = None
        self._max_age_days, self.outdated = max_age_days, False

    def card(self, provider: str, model: str, *, context: PriceContext = STANDARD, day: date) -> RateCard | None:
        """The rates of a model on a day, None where no price is known."""
        key = (provider, model, context, day)
        try:
            return self._cards[key]
        except KeyError:
            return self._miss(key)

    def at_hand(self, provider: str, model: str, *, day: date) -> RateCard | None:
        """As `card` in the standard context, of what lies on the disk for this day or the latest before: in no time.

        For a glance, not for a charge: it may be of older price data.
        """
        name = f"{provider}|{model}|||||"
        files = (self._directory or cache_directory()).glob(f"rates-{_FORMAT}-*.json")
        for file in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            entries = _read(file)
            days = [entry.removeprefix(name) for entry in entries if entry.startswith(name)]
            found = max((each for each in days if each <= day.isoformat()), default=None)
            if found is None:
                continue
            try:
                card = _from_json(entries[name + found])
            except (TypeError, ValueError):
                continue
            if not self._set_prices:
                return card
            from bursar.pricing.overrides import overridden

            return overridden(self._set_prices, card, card, (provider, model, STANDARD, day), placed=card)
        return None

    def _miss(self, key: tuple[str, str, PriceContext, date]) -> RateCard | None:
        provider, model, context, day = key
        if not _NAME.fullmatch(model):
            return None
        with self._lock:
            # Each day has cards of its own, so that the first call of a day comes by here.
            self._grow_old(day)
            if len(self._cards) >= _MOST_CARDS:
                self._cards.clear()
            card = self._listed(provider, model, context, day)
            if self._set_prices:
                from bursar.pricing.overrides import overridden

                standard = card if context == STANDARD else self._listed(provider, model, STANDARD, day)
                settled = context if context.region is not None else context._replace(region="global")
                placed = self._listed(provider, model, settled, day)
                card = overridden(self._set_prices, card, standard, key, placed=placed)
            self._cards[key] = card
            return card

    def is_outdated(self, card: RateCard) -> bool:
        """Whether a price is of the list, or a share of it, and the list is outdated: rates that were set never are."""
        return self.outdated and not any(
            spec.factor is None and card.version.startswith(f"{spec.origin} ") for spec in self._set_prices
        )

    def _grow_old(self, day: date) -> None:
        if self._max_age_days is not None:
            age = age_days(self._copy, day)
            self.outdated = self.outdated or age is None or age > self._max_age_days

    def _listed(self, provider: str, model: str, context: PriceContext, day: date) -> RateCard | None:
        if self._kept is None:
            self._kept = _read(self._file())
        name = "|".join([provider, model, *(part or "" for part in context), day.isoformat()])
        try:
            return _from_json(self._kept[name])
        except (KeyError, TypeError, ValueError):
            pass
        from bursar.pricing.compile import compile_card

        card = compile_card(self._loaded(), provider, model, context, day)
        self._kept[name] = None if card is None else [getattr(card, part) for part in RateCard.__slots__]
        _write(self._file(), self._kept)
        return card

    def _loaded(self) -> PriceData:
        if self._data is None:
            try:
                self._data = load(self._copy)
            except PriceDataError as error:
                # In the middle of a call: it is priced by what came with the package, and says so.
                self._copy, self._kept = None, {}
                self._data = load(None)
                with contextlib.suppress(BursarWarning):
                    warnings.warn(f"{error}; {packaged()} is used", BursarWarning, stacklevel=2)
        return self._data

    def _file(self) -> Path:
        name = packaged() if self._copy is None else self._copy.name
        return (self._directory or cache_directory()) / f"rates-{_FORMAT}-{name.replace(' ', '-')}.json"


def placed(provider: str, asked: str, answered: str) -> str:
    """The model that answered, in the words of the one that was asked for: Bedrock's answers leave the place out."""
    profile = _PROFILE.match(asked) if provider == "aws.bedrock" else None
    return answered if profile is None or _PROFILE.match(answered) else profile[0] + answered


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

    from bursar.pricing.compile import theirs

    wanted = None if provider is None else theirs(provider)
    return [(p.id, m.id) for p in get_snapshot().providers if wanted in (None, p.id) for m in p.models]


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


def _from_json(entry: Any) -> RateCard | None:
    if entry is None:
        return None
    fields = dict(zip(RateCard.__slots__, entry, strict=True))
    fields["base"] = Rates(*_ints(fields["base"]))
    fields["tiers"] = tuple((int(above), Rates(*_ints(rates))) for above, rates in fields["tiers"])
    fields["status"] = CostStatus(fields["status"])
    fields["assumed"], fields["missing"] = tuple(fields["assumed"]), tuple(fields["missing"])
    return RateCard(**fields)


def _ints(values: Iterable[Any]) -> list[int]:
    rates = list(values)
    if not all(rate.__class__ is int and rate >= 0 for rate in rates):
        raise ValueError(rates)
    return rates
