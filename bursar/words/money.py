"""Money: integer nano-dollars inside, `Decimal` at the edges, never `float`.

One dollar is 10**9 nano-dollars. Rates are kept a thousand times finer, in pico-dollars per token, so that
a price of $0.075 per million tokens (75,000 pico-dollars a token) is still an integer.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from bursar.words.errors import ConfigError

NANO_PER_USD: Final = 1_000_000_000
PICO_PER_NANO: Final = 1_000
MAX_AMOUNT: Final = 2**53 - 1
"""Largest amount of any unit: every store, those that count in doubles too, keeps it exactly ($9.007 million)."""

# ASCII digits only: `Decimal` itself also reads "1_000", " 10 " and digits of other scripts.
_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", re.ASCII)


def parse_usd(value: object, name: str) -> int:
    """Read a positive amount of dollars as nano-dollars.

    `value` is a `str` such as "0.50", an `int` or a `Decimal`. Raises `TypeError` for a float, a bool and any
    other type, `ConfigError` (with `name` and the value) for what is not a positive, finite amount that fits.
    """
    if isinstance(value, float):
        raise TypeError(
            f"{name}={value!r}: money is never a float (0.1 + 0.2 != 0.3); write {name}={format(value, '.15g')!r}"
        )
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise TypeError(f"{name}={value!r}: dollars are a str, an int or a Decimal, not {type(value).__name__}")
    if isinstance(value, str) and not _PLAIN_NUMBER.fullmatch(value):
        raise ConfigError(f"{name}={value[:60]!r} is not an amount of dollars; write digits and a point, as in '0.50'")
    amount = Decimal(value)
    if not amount.is_finite() or amount <= 0:
        raise ConfigError(f"{name}={str(value)[:60]!r}: a limit in dollars is finite and above zero")
    nano = amount * NANO_PER_USD
    if nano > MAX_AMOUNT:
        raise ConfigError(f"{name}={str(value)[:60]!r} is above the largest limit, ${usd(MAX_AMOUNT):,f}")
    if nano != nano.to_integral_value():
        raise ConfigError(f"{name}={str(value)[:60]!r} is finer than one nano-dollar, the smallest amount there is")
    return int(nano)


def parse_count(value: object, name: str) -> int:
    """Read a positive whole number of tokens or calls.

    Raises `TypeError` for anything but an `int`, `ConfigError` for what is not between 1 and 2**53 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is a whole number (int), not {type(value).__name__}")
    if not 0 < value <= MAX_AMOUNT:
        raise ConfigError(f"{name}={value!r}: a limit lies between 1 and {MAX_AMOUNT:,}")
    return value


def usd(nano: int) -> Decimal:
    """Turn nano-dollars into dollars, exactly."""
    return Decimal(nano).scaleb(-9)


def show_usd(nano: int | None) -> str:
    """Write nano-dollars for a person: at least two decimals, at least four significant digits, rounded up."""
    if nano is None:
        return "unknown"
    amount = usd(nano)
    # Rounded up, so that nothing that cost money is ever shown as free.
    decimals = 2 if amount == 0 else min(9, max(2, 3 - amount.adjusted()))
    return f"${amount.quantize(Decimal(1).scaleb(-decimals), ROUND_CEILING):,f}"


def show_count(number: int) -> str:
    """A number in at most five characters, up to 999 million: 950, 9.5k, 84k, 1.2M, 140M."""
    if number < 1_000:
        return str(number)
    if number < 999_500:
        return f"{number / 1_000:.{1 if number < 9_950 else 0}f}k"
    return f"{number / 1_000_000:,.{1 if number < 99_950_000 else 0}f}M"


def show_change(nano: int) -> str:
    """Write a difference in nano-dollars for a person, with its sign."""
    return f"+{show_usd(nano)}" if nano >= 0 else f"-{show_usd(-nano)}"


def nano_from_pico(pico: int) -> int:
    """Round pico-dollars up to whole nano-dollars."""
    return -(-pico // PICO_PER_NANO)
