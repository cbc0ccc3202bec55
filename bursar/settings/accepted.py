"""A cost that somebody has accepted: why, who, and when to look at it again."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from bursar.words.errors import ConfigError
from bursar.words.money import parse_usd

KEYS: Final = ("why", "owner", "revisit", "revisit_when")
MEASURES: Final = ("usd_per_day", "usd_per_run", "usd_per_outcome")
"""What a condition may speak of: means of the last seven days."""
_CONDITION: Final = re.compile(r"\s*(\w+)\s*>\s*\$?([0-9][0-9.]*)\s*", re.ASCII)


class Accepted(NamedTuple):
    """A decision not to spend less. revisit: the day from which it is open again. when: a measure and nano-dollars."""

    why: str
    owner: str
    revisit: date | None
    when: tuple[str, int] | None

    def due(self, today: date, measured: dict[str, int]) -> str | None:
        """Why it is to be looked at again; None while it stands. `measured` has nano-dollars by measure."""
        if self.revisit is not None and today >= self.revisit:
            return f"was to be revisited on {self.revisit}"
        if self.when is not None and measured.get(self.when[0], 0) > self.when[1]:
            return f"{self.when[0]} is above what was accepted"
        return None


def parse_accepted(value: object, shown: str) -> Accepted:
    """Read a table of `bursar.toml`. Raises `ConfigError`."""
    if not isinstance(value, dict):
        raise ConfigError(f'{shown}={str(value)[:60]!r} is a table, as in {shown} = {{ why = "...", owner = "ana" }}')
    for key in value:
        if key not in KEYS:
            raise ConfigError(f"{key!r} is not a setting of {shown}; known are {', '.join(KEYS)}")
    for key in ("why", "owner"):
        if not isinstance(value.get(key), str) or not value[key].strip():
            raise ConfigError(f"{shown} has {key}, a text that is not empty: what nobody decided is not accepted")
    revisit = value.get("revisit")
    if revisit is not None and (not isinstance(revisit, date) or isinstance(revisit, datetime)):
        raise ConfigError(f"revisit = {str(revisit)[:40]!r} is no day; write it as TOML does: revisit = 2027-03-01")
    when = _when(value["revisit_when"]) if "revisit_when" in value else None
    if revisit is None and when is None:
        raise ConfigError(f"{shown} has revisit, a day, or revisit_when, a condition: nothing is accepted for ever")
    return Accepted(value["why"], value["owner"], revisit, when)


def _when(value: Any) -> tuple[str, int]:
    found = _CONDITION.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[1] not in MEASURES:
        raise ConfigError(
            f"revisit_when = {str(value)[:60]!r} is no condition; write one as in 'usd_per_day > 40', of "
            f"{' or '.join(MEASURES)}"
        )
    return found[1], parse_usd(found[2], "revisit_when")
