"""Draft."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from bursar._ports import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar._config import Settings
    from bursar._records import Who


class Over(NamedTuple):
    kind: str = "deny"
    interval_us: int | None = None


class LimitSpec(NamedTuple):
    per: str
    window: str
    limits: Mapping[str, int]
    over: Over = Over()


class SharedLimit(NamedTuple):
    scope: Scope
    limits: Mapping[str, int]
    over: Over
    span: tuple[int, int]
    column: str
    value: str


def shared_limits(settings: Settings, who: Who, user_hash: str | None, at_us: int) -> tuple[SharedLimit, ...]:
    zone = ZoneInfo(settings.timezone)
    now = datetime.fromtimestamp(at_us / 1e6, zone)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    span = (int(start.timestamp() * 1e6), int((start + timedelta(days=1)).timestamp() * 1e6))
    found = []
    for spec in settings.limits:
        value = user_hash if spec.per == "user" else getattr(who.tags, spec.per)
        if value is not None:
            scope = Scope(spec.per, value, f"day:{start:%Y-%m-%d}")
            found.append(SharedLimit(scope, spec.limits, spec.over, span, spec.per, value))
    return tuple(found)
