"""What happens beyond a limit: refuse, warn, or go on slowly."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from bursar.words.errors import ConfigError

_RATE: Final = re.compile(r"throttle:([0-9]{1,9})/(s|min|h|day)", re.ASCII)
_SPAN_US: Final = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "day": 86_400_000_000}


class Over(NamedTuple):
    """kind: "deny", "warn" or "throttle"; `interval_us` is the time between two calls of the last, else None."""

    kind: str
    interval_us: int | None = None

    @property
    def soft(self) -> bool:
        """Whether calls go on beyond the limit."""
        return self.kind != "deny"


def parse_over(text: object) -> Over:
    """Read "deny", "warn" or "throttle:N/UNIT" (s, min, h, day). Raises `ConfigError` with the value."""
    if isinstance(text, str) and text in ("deny", "warn"):
        return Over(text)
    rate = _RATE.fullmatch(text) if isinstance(text, str) else None
    calls = int(rate[1]) if rate else 0
    if rate is None or calls == 0:
        raise ConfigError(
            f"over={str(text)[:60]!r} is none of 'deny', 'warn' and 'throttle:RATE', as in 'throttle:6/min' "
            "(whole calls a second, minute, hour or day: s, min, h, day)"
        )
    return Over("throttle", -(-_SPAN_US[rate[2]] // calls))
