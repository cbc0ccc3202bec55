"""The price data: what genai-prices was released with, or a newer copy of it that somebody fetched.

A newer copy is fetched by `bursar prices update` and by nothing else, so that no process changes its prices by
itself. It is kept beside the ledger and not in a cache: whoever empties a cache must not change a price. Each copy
is a file named after the time it was fetched and its digest; the newest holds, and deleting it brings the one before
back.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.words.errors import PriceDataError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = "price-data"
PACKAGED_ON: Final = date(2026, 11, 10)
"""When the version of genai-prices that is pinned was published: its data says of no price when it was looked at."""
OLD_DAYS: Final = 60
"""A list of before has models without a price by now, and perhaps prices that have moved."""
_MOST_BYTES: Final = 64 * 1024 * 1024
_TIMEOUT_S: Final = 30.0
_MOST_TIMES: Final = 10
"""A price that moved by more than this is taken for a slip of a point, and refused unless forced."""
_CHECKED: Final = ("anthropic", "openai")


class PriceData(NamedTuple):
    """A snapshot of genai-prices and the name that every price made of it carries."""

    name: str
    snapshot: Any


class Change(NamedTuple):
    """A model whose input or output rate is another one now; dollars per million tokens, None for no price."""

    model: str
    kind: str
    before: Decimal | None
    after: Decimal | None


class Kept(NamedTuple):
    """A copy that lies on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """What prices made of it say."""
        return f"genai-prices data {self.path.stem}"

    @property
    def fetched_on(self) -> date | None:
        """The day that its name says; None where somebody has given it another one."""
        try:
            return date.fromisoformat(self.path.stem[:10])
        except ValueError:
            return None


def packaged() -> str:
    """The name of the data that came with the package."""
    # Half of what a status line takes to load.
    from importlib.metadata import version

    return f"genai-prices {version('genai-prices')}"


def kept(home: Path | None) -> Kept | None:
    """The newest copy beside a ledger, None where there is none."""
    paths = _copies(home) if home is not None else []
    return Kept(paths[-1]) if paths else None


def age_days(found: Kept | None, day: date) -> int | None:
    """How many days ago prices were as a copy says, or as what came with the package says; None where unknown."""
    made_on = PACKAGED_ON if found is None else found.fetched_on
    return None if made_on is None else (day - made_on).days


def load(found: Kept | None) -> PriceData:
    """Load a copy, or what came with the package. Takes half a second. Raises `PriceDataError`."""
    from genai_prices.data_snapshot import get_snapshot

    if found is None:
        return PriceData(packaged(), get_snapshot())
    return PriceData(found.name, _snapshot(_content(found.path), str(found.path)))


def fetch(source: str) -> list[Any]:
    """Read price data from a file or an address. Raises `PriceDataError` that says why not."""
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        if source.startswith(("https://", "http://")):
            with urlopen(source, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the two schemes above
                content = answer.read(_MOST_BYTES + 1)
        else:
            content = Path(source).read_bytes()
    except (OSError, URLError, ValueError) as error:
        raise PriceDataError(
            f"{source} cannot be read ({error}); a file will do as well: bursar prices update FILE"
        ) from None
    if len(content) > _MOST_BYTES:
        raise PriceDataError(f"{source} is larger than {_MOST_BYTES:,} bytes: that is no price data")
    try:
        providers = orjson.loads(content)
    except ValueError as error:
        raise PriceDataError(f"{source} is no JSON ({error})") from None
    if not isinstance(providers, list):
        raise PriceDataError(f"{source} is no list of providers, as genai-prices publishes it")
    return providers


def check(providers: list[Any], source: str, before: PriceData, day: date, *, force: bool = False) -> list[Change]:
    """Say what would change for the vendors of both SDKs. Raises `PriceDataError` for what cannot be right."""
    after = _snapshot(providers, source)
    old, new = dict(_rates(before.snapshot, day)), dict(_rates(after, day))
    for name in _CHECKED:
        if not any(model.startswith(f"{name} ") for model, _ in new):
            raise PriceDataError(f"{source} has no prices of {name}")
    changes = [Change(*key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    for change in changes:
        if not force and change.before and change.after and not _near(change.before, change.after):
            raise PriceDataError(
                f"{source}: {change.kind} of {change.model} goes from ${change.before:f} to ${change.after:f} a "
                f"million tokens, more than {_MOST_TIMES} times; --force takes it all the same"
            )
    return changes


def keep(home: Path, providers: list[Any], source: str, now: datetime) -> Kept:
    """Keep a copy beside the ledger; it holds from the next start of each process. Raises `PriceDataError`."""
    folder = home / FOLDER
    path = folder / f"{now.astimezone(UTC):%Y-%m-%dT%H%M%SZ}-{_digest(providers)}.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(orjson.dumps({"source": source, "providers": providers}))
        partial.replace(path)
    except OSError as error:
        raise PriceDataError(f"{path} cannot be written ({error.strerror})") from None
    return Kept(path)


def undo(home: Path) -> tuple[Kept, Kept | None]:
    """Delete the newest copy; that one, and what holds now. Raises `PriceDataError` where there is none."""
    paths = _copies(home)
    if not paths:
        raise PriceDataError(f"nothing to undo: there is no newer price data at {home / FOLDER}")
    paths[-1].unlink(missing_ok=True)
    return Kept(paths[-1]), kept(home)


def _copies(home: Path) -> list[Path]:
    return sorted((home / FOLDER).glob("*.json"))


def _content(path: Path) -> list[Any]:
    try:
        providers = orjson.loads(path.read_bytes())["providers"]
        if path.stem.endswith(_digest(providers)):
            return list(providers)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise PriceDataError(f"{path} is damaged; `bursar prices update --undo` brings back the prices before it")


def _digest(providers: list[Any]) -> str:
    return hashlib.sha256(orjson.dumps(providers)).hexdigest()[:8]


def _snapshot(providers: list[Any], source: str) -> Any:
    from genai_prices.data_snapshot import DataSnapshot

    # Its updater reads what it fetched by this function and offers no other way; the version is pinned exactly.
    from genai_prices.types import _providers_from_raw
    from pydantic import ValidationError

    try:
        return DataSnapshot(_providers_from_raw(providers), from_auto_update=True)
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        raise PriceDataError(f"{source} is no price data of genai-prices: {str(error)[:300]}") from None


def _rates(snapshot: Any, day: date) -> Iterator[tuple[tuple[str, str], Decimal]]:
    from bursar.pricing.compile import compile_card
    from bursar.pricing.rates import STANDARD

    data = PriceData("", snapshot)
    for provider in snapshot.providers:
        for model in provider.models if provider.id in _CHECKED else ():
            card = compile_card(data, provider.id, model.id, STANDARD, day)
            if card is not None:
                for kind in ("input", "output"):
                    yield (f"{provider.id} {model.id}", kind), Decimal(getattr(card.base, kind)).scaleb(-6)


def _near(before: Decimal, after: Decimal) -> bool:
    return before <= after * _MOST_TIMES and after <= before * _MOST_TIMES
