"""Limits that several runs and processes share: which of them apply to a call, and under which names they are kept."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

from bursar.settings.over import Over
from bursar.words.ports import Scope
from bursar.words.records import UNATTRIBUTED, Tags
from bursar.words.windows import WINDOWS, Window, window_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bursar.words.records import Who

_ORDER: Final = ("env", "workflow", "feature", "tenant", "owner", "user", "session")
"""Outer scopes first; other tags come last, by name."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9._/@:+-]{1,128}")


DENY: Final = Over("deny")
RUN: Final = "run"
"""Stands for the window of a limit that each run has for itself."""


class LimitSpec(NamedTuple):
    """A limit as it is configured: on each value of the tag `per`, or only on the value `of`, in each window."""

    per: str
    window: str
    limits: tuple[tuple[str, int], ...]
    over: Over = DENY
    of: str | None = None


class SharedLimit(NamedTuple):
    """A limit as it applies to a call: `tag` and `values` say which rows of the ledger it counts."""

    scope: Scope
    limits: Mapping[str, int]
    over: Over
    window: Window
    tag: str
    values: tuple[str, ...]


def shared_limits(
    specs: Sequence[LimitSpec], who: Who, users: tuple[str, ...], at_us: int, timezone: str
) -> tuple[SharedLimit, ...]:
    """The limits that apply to a call for `who` at a moment, outermost first; several on one scope are made one.

    `users` are the hashes that its user is known as. He is limited under each: processes that know only the older key
    charge him there.
    """
    zone = ZoneInfo(timezone)
    found: dict[Scope, SharedLimit] = {}
    for spec in specs:
        values = users if spec.per == "user" else _values(who, spec.per)
        if not values or spec.of not in (None, who.user if spec.per == "user" else values[0]):
            continue
        window = window_at(spec.window, at_us, zone)
        for value in values:
            scope = Scope(spec.per, scope_name(value), window.key)
            limit = SharedLimit(scope, dict(spec.limits), spec.over, window, spec.per, values)
            found[scope] = limit if scope not in found else _strictest(found[scope], limit)
    return tuple(sorted(found.values(), key=_rank))


def limits_of_run(specs: Sequence[LimitSpec], who: Who) -> list[LimitSpec]:
    """Those of limits on each run that apply to a run for `who`."""
    found = []
    for spec in specs:
        value = who.user if spec.per == "user" else tag_value(who, spec.per)
        if value is not None and spec.of in (None, value):
            found.append(spec)
    return found


def _values(who: Who, tag: str) -> tuple[str, ...]:
    value = tag_value(who, tag)
    return () if value is None else (value,)


def tag_value(who: Who, tag: str) -> str | None:
    """What a call carries under a tag other than its user; no workflow where nobody named one."""
    if tag == "session":
        return who.session
    if tag in Tags._fields:
        value: str | None = getattr(who.tags, tag)
        return None if tag == "workflow" and value == UNATTRIBUTED else value
    return dict(who.tags.extra).get(tag)


def scope_name(value: str) -> str:
    """The name under which a value is kept: itself where it is plain, else a hash of its bytes."""
    if _PLAIN.fullmatch(value):
        return value
    # Values that differ in case or in their Unicode form are different values.
    return "h:" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _strictest(one: SharedLimit, other: SharedLimit) -> SharedLimit:
    limits = dict(one.limits)
    for unit, limit in other.limits.items():
        limits[unit] = min(limit, limits.get(unit, limit))
    return one._replace(limits=limits, over=max(one.over, other.over, key=_strictness))


def _strictness(over: Over) -> tuple[int, int]:
    return ("warn", "throttle", "deny").index(over.kind), over.interval_us or 0


def _rank(limit: SharedLimit) -> tuple[int, str, int]:
    kind = limit.scope.kind
    window = WINDOWS.index(limit.window.key.split(":")[0])
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind, -window)
