"""Prices that somebody set: negotiated rates, discounts, models that no list knows; each holds for some days."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from bursar.words.errors import ConfigError

TOKEN_KINDS: Final = (
    "input", "output", "cache_read", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h",
    "audio_input", "audio_cache_read", "audio_output",
)  # fmt: skip
"""Kinds of token that a rate can be set for, in dollars per million."""
FEES: Final = ("web_search", "file_search")
"""What a fee can be set for, in dollars each."""
TIERS: Final = ("batch", "flex", "priority", "fast", "scale")
ANY_MODEL: Final = "*"
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?|\.[0-9]{1,12}", re.ASCII)
_PERCENT: Final = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,6})?) ?%", re.ASCII)
_MOST_PER_MILLION: Final = 1_000_000
_MOST_FACTOR: Final = 10


class PriceSpec(NamedTuple):
    """One price as it was set. It holds from `since` to `until`, both days included; None is without end.

    rates: (kind, pico-dollars a token). fees: (kind, nano-dollars each). factor: on every rate per token of the list,
    instead of rates. tier: the service tier that it is for, None for all: the others keep their proportion to the
    standard one. origin: the file and line that it stands in. by_hand: set by `bursar prices set`.
    """

    model: str
    provider: str | None
    since: date | None
    until: date | None
    rates: tuple[tuple[str, int], ...]
    fees: tuple[tuple[str, int], ...]
    factor: Decimal | None
    tier: str | None
    origin: str
    by_hand: bool = False

    def holds(self, day: date) -> bool:
        """Whether it is in force on a day."""
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)


def parse_rate(value: object, shown: str) -> int:
    """Read dollars per million tokens as pico-dollars a token. Raises `ConfigError`, `TypeError` for a float."""
    pico = _amount(value, shown) * 1_000_000
    return int(-(-pico // 1))


def parse_fee(value: object, shown: str) -> int:
    """Read dollars as nano-dollars. Raises `ConfigError`, `TypeError` for a float."""
    nano = _amount(value, shown) * 1_000_000_000
    return int(-(-nano // 1))


def parse_discount(value: object, shown: str) -> Decimal:
    """Read "12 %" as what is left to pay, 0.88. Raises `ConfigError`."""
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or not Decimal(found[1]):
        raise ConfigError(
            f"{shown}={str(value)[:60]!r} is no discount; write a text as in '12 %', above 0 and below 100"
        )
    return 1 - Decimal(found[1]) / 100


def parse_factor(value: object, shown: str) -> Decimal:
    """Read what list prices are multiplied by. Raises `ConfigError`, `TypeError` for a float."""
    found = _amount(value, shown)
    if found > _MOST_FACTOR:
        raise ConfigError(f"{shown}={str(value)[:60]!r}: list prices are multiplied by at most {_MOST_FACTOR}")
    return found


def parse_day(value: object, shown: str) -> date:
    """Read a day: a date, or its text. Raises `ConfigError`."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and len(value) == len("2026-11-01"):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ConfigError(f"{shown}={str(value)[:60]!r} is no day; write one as in 2026-11-01")


def _amount(value: object, shown: str) -> Decimal:
    if isinstance(value, float):
        raise TypeError(f'{shown}={value!r}: money is never a float; write a text, {shown} = "{format(value, ".15g")}"')
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ConfigError(f"{shown}={str(value)[:60]!r} is no number; write digits and a point, as in '2.50'")
    if not _NUMBER.fullmatch(str(value)):
        raise ConfigError(f"{shown}={str(value)[:60]!r} is no price; write digits and a point, as in '2.50'")
    amount = Decimal(value)
    if amount <= 0:
        # What costs nothing and what nobody knows the price of must not look the same.
        raise ConfigError(f"{shown}={str(value)[:60]!r}: a price is above zero; leave out what costs nothing")
    if amount > _MOST_PER_MILLION:
        raise ConfigError(f"{shown}={str(value)[:60]!r} is above ${_MOST_PER_MILLION:,}: that is no price")
    return amount
