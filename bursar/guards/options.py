"""What a budget does beside refusing: a deadline, a mark to speak at, a part set aside. Read and checked here."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from bursar.words.errors import ConfigError
from bursar.words.money import parse_usd

if TYPE_CHECKING:
    from collections.abc import Mapping

_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", re.ASCII)


def parse_share(value: object, name: str) -> Decimal:
    """Read a share such as "80%". Raises `ConfigError` with the name and the value."""
    read = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    share = Decimal(read[1]) / 100 if read else Decimal(0)
    if not 0 < share <= 1:
        raise ConfigError(f"{name}={str(value)[:60]!r}: a share lies between 0 and 100, as in '80%'")
    return share


def parse_warn_at(value: object, limits: Mapping[str, int]) -> dict[str, int]:
    """Read "80%" (of every limit) or dollars as the amounts to speak at, by unit; `usd` in nano-dollars.

    Raises `TypeError` for a float, `ConfigError` for what is no share and no amount of the limits that there are.
    """
    if isinstance(value, str) and value.endswith("%"):
        share = parse_share(value, "warn_at")
        if not limits:
            raise ConfigError(f"warn_at={value!r} needs a limit to be a share of, and seconds is none that is spent")
        return {unit: int((limit * share).to_integral_value(ROUND_CEILING)) for unit, limit in limits.items()}
    amount, limit = parse_usd(value, "warn_at"), limits.get("usd")
    if limit is None or amount > limit:
        raise ConfigError(f"warn_at={value!r} is dollars and needs a limit usd=... that is not smaller")
    return {"usd": amount}


def parse_reserve(value: object, limits: Mapping[str, int]) -> dict[str, int]:
    """What ordinary calls may use when `value` is set aside: "auto" or dollars; by unit.

    Dollars take the same share of every other limit, and one model call. "auto" takes one model call here, and the
    rest when the size of a call is known. Raises `TypeError` for a float, `ConfigError` with the value.
    """
    if not limits:
        raise ConfigError(
            f"reserve_final={value!r} is a part of a limit, and there is none: name usd=... or tokens=..."
        )
    if limits.get("model_calls") == 1:
        raise ConfigError(f"reserve_final={value!r} is one model call, and model_calls=1 leaves no other")
    usd = limits.get("usd")
    share = Decimal(0)
    if value != "auto":
        amount = parse_usd(value, "reserve_final")
        if usd is None or amount >= usd:
            raise ConfigError(
                f"reserve_final={value!r} is dollars, or 'auto', and needs a limit usd=... that is larger"
            )
        share = Decimal(amount) / usd
    kept = {}
    for unit, limit in limits.items():
        less = Decimal(limit) * share
        kept[unit] = limit if unit == "tool_calls" else limit - int(less.to_integral_value(ROUND_CEILING))
    if "model_calls" in kept:
        kept["model_calls"] = limits["model_calls"] - 1
    return kept
