"""What a gate asks a person, and what the person says: plain data, the same in every process."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.words.errors import ConfigError
from bursar.words.money import parse_usd, usd
from bursar.words.seconds import parse_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from decimal import Decimal

SCOPES: Final = ("once", "run", "tool")
"""What a yes is for: this call alone; this tool or model in this run; this tool or model in this workflow."""
NAMED: Final = ("terminal", "inbox", "interrupt")
"""Approvers that are known by name; others are functions."""


_TIME_OF_DAY: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


class Question(NamedTuple):
    """May this be done at this price? What an approver is given.

    kind: "model" or "tool"; `name` of it. arguments: of a tool as JSON, of a model call what it is about; whole:
    whether nothing of them is left out. likely_nusd, bound_nusd: what it will probably cost and can cost at most
    (None: unknown), `sure` says how that is known. ceiling_nusd: what a yes to it allows. spent_nusd, left_nusd: of
    the dollar limit that has least left, None where there is none. rules: the gates that ask, as they are written;
    why: they do. binding: a keyed hash of the operation, its name and its arguments. limit_scope: whose limit a raise
    would raise, None where there is none that an answer may raise. short_nusd: what it lacks there; then any yes raises
    that limit, by so much at least. None where the call fits.
    """

    kind: str
    name: str
    workflow: str
    run_id: str | None
    op_id: str
    arguments: str
    whole: bool
    binding: str
    likely_nusd: int | None
    bound_nusd: int | None
    ceiling_nusd: int | None
    sure: str
    spent_nusd: int | None
    left_nusd: int | None
    rules: tuple[str, ...]
    why: str
    approvers: tuple[Step, ...]
    timeout_us: int | None
    user: str | None = None
    limit_scope: str | None = None
    short_nusd: int | None = None

    @property
    def likely_usd(self) -> Decimal | None:
        """Dollars that it will probably cost."""
        return None if self.likely_nusd is None else usd(self.likely_nusd)

    @property
    def bound_usd(self) -> Decimal | None:
        """Dollars that it can cost at most."""
        return None if self.bound_nusd is None else usd(self.bound_nusd)

    @property
    def short_usd(self) -> Decimal | None:
        """Dollars that it lacks: a yes raises the limit by so much, or by the answer's `raise_usd`."""
        return None if self.short_nusd is None else usd(self.short_nusd)


class Step(NamedTuple):
    """One approver of a chain: a name of `NAMED`, "python:module:function" or a function; asked for so long at most."""

    who: str | Callable[[Question], Reply | bool | Awaitable[Reply | bool | None] | None]
    most_us: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `Reply(True, scope="run")`, `Reply(False, reason="too dear")`.

    `scope` is one of "once", "run" and "tool" (see `SCOPES`); with "run" or "tool" calls like it are not asked about
    again, up to `up_to_usd` together and `until` a time ("2h", "17:45" of this machine's clock, or a datetime with a
    time zone) where those are given. `raise_usd` raises the limit of the run's own budget by so much, once, before the
    call goes on. `arguments` replaces those of a tool call. `reason` is read by the model where it asked for a tool.
    `by` says who.
    Raises `ConfigError`, `TypeError` for what cannot be meant.
    """

    yes: bool
    reason: str | None = None
    scope: str = "once"
    up_to_usd: str | int | Decimal | None = None
    until: str | datetime | None = None
    arguments: Mapping[str, Any] | None = None
    by: str | None = None
    raise_usd: str | int | Decimal | None = None

    def __post_init__(self) -> None:
        self._check_scope()
        self._check_values()

    def _check_scope(self) -> None:
        if self.yes is not True and self.yes is not False:
            raise TypeError(f"Reply({self.yes!r:.60}): an answer is True or False")
        if self.scope not in SCOPES:
            raise ConfigError(f"scope={self.scope!r} is none of {', '.join(SCOPES)}")
        lasting = self.up_to_usd is not None or self.until is not None
        if self.scope == "once" and lasting:
            raise ConfigError("up_to_usd and until are for a yes that lasts: name scope='run' or scope='tool'")
        more = self.arguments is not None or self.raise_usd is not None
        if not self.yes and (lasting or more or self.scope != "once"):
            raise ConfigError(
                "a no has a reason at most; scope, up_to_usd, until, arguments and raise_usd are parts of a yes"
            )
        if self.arguments is not None and self.scope != "once":
            raise ConfigError("arguments are changed for one call: leave scope out")

    def _check_values(self) -> None:
        if self.up_to_usd is not None:
            parse_usd(self.up_to_usd, "up_to_usd")
        if self.raise_usd is not None:
            parse_usd(self.raise_usd, "raise_usd")
        if isinstance(self.until, datetime):
            if self.until.tzinfo is None:
                raise ConfigError(f"until={self.until!r} has no time zone: datetime.now(UTC) has one")
        elif self.until is not None:
            _until(self.until, 0)
        if self.arguments is not None:
            try:
                json.dumps(dict(self.arguments))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"arguments cannot be written as JSON ({error})") from None

    def until_us(self, now_us: int) -> int | None:
        """When it ends, in microseconds since the epoch."""
        if self.until is None:
            return None
        if isinstance(self.until, datetime):
            return int(self.until.timestamp() * 1_000_000)
        return _until(self.until, now_us)


def _until(text: object, now_us: int) -> int:
    found = _TIME_OF_DAY.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return now_us + parse_duration(text, "until")
    now = datetime.fromtimestamp(now_us / 1_000_000)  # noqa: DTZ006 - the clock on the wall of whoever answers
    then = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    return int((then if then > now else then + timedelta(days=1)).timestamp() * 1_000_000)


class Decision(NamedTuple):
    """How a question ended. state: "approved", "denied" or "timeout"; `reason` in words.

    approval_id: its row; grant_id: of the earlier yes that covers it. arguments: as JSON, where they were changed.
    raise_nusd: by how much the limit is to be raised, None where it is left as it is.
    """

    state: str
    reason: str | None = None
    by: str | None = None
    via: str | None = None
    approval_id: str | None = None
    grant_id: str | None = None
    scope: str = "once"
    arguments: str | None = None
    wait_us: int = 0
    raise_nusd: int | None = None

    @property
    def yes(self) -> bool:
        """Whether the call may be made."""
        return self.state == "approved"
