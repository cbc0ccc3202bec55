"""What a gate asks a person, and what the person says: plain data, the same in every process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
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


class Question(NamedTuple):
    """May this be done at this price? What an approver is given.

    kind: "model" or "tool"; `name` of it. arguments: of a tool as JSON, of a model call what it is about; whole:
    whether nothing of them is left out. likely_nusd, bound_nusd: what it will probably cost and can cost at most
    (None: unknown), `sure` says how that is known. ceiling_nusd: what a yes to it allows. spent_nusd, left_nusd: of
    the dollar limit that has least left, None where there is none. rules: the gates that ask, as they are written;
    why: they do. binding: a keyed hash of the operation, its name and its arguments.
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

    @property
    def likely_usd(self) -> Decimal | None:
        """Dollars that it will probably cost."""
        return None if self.likely_nusd is None else usd(self.likely_nusd)

    @property
    def bound_usd(self) -> Decimal | None:
        """Dollars that it can cost at most."""
        return None if self.bound_nusd is None else usd(self.bound_nusd)


class Step(NamedTuple):
    """One approver of a chain: a name of `NAMED`, "python:module:function" or a function; asked for so long at most."""

    who: str | Callable[[Question], Reply | bool | Awaitable[Reply | bool | None] | None]
    most_us: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `Reply(True, scope="run")`, `Reply(False, reason="too dear")`.

    `scope` is one of "once", "run" and "tool" (see `SCOPES`); with "run" or "tool" calls like it are not asked about
    again, up to `up_to_usd` together and `until` a time ("2h", or a datetime with a time zone) where those are given.
    `arguments` replaces those of a tool call. `reason` is read by the model where it asked for a tool. `by` says who.
    Raises `ConfigError`, `TypeError` for what cannot be meant.
    """

    yes: bool
    reason: str | None = None
    scope: str = "once"
    up_to_usd: str | int | Decimal | None = None
    until: str | datetime | None = None
    arguments: Mapping[str, Any] | None = None
    by: str | None = None

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
        if not self.yes and (lasting or self.scope != "once" or self.arguments is not None):
            raise ConfigError("a no has a reason at most; scope, up_to_usd, until and arguments are parts of a yes")
        if self.arguments is not None and self.scope != "once":
            raise ConfigError("arguments are changed for one call: leave scope out")

    def _check_values(self) -> None:
        if self.up_to_usd is not None:
            parse_usd(self.up_to_usd, "up_to_usd")
        if isinstance(self.until, datetime):
            if self.until.tzinfo is None:
                raise ConfigError(f"until={self.until!r} has no time zone: datetime.now(UTC) has one")
        elif self.until is not None:
            parse_duration(self.until, "until")
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
        return now_us + parse_duration(self.until, "until")


class Decision(NamedTuple):
    """How a question ended. state: "approved", "denied" or "timeout"; `reason` in words.

    approval_id: its row; grant_id: of the earlier yes that covers it. arguments: as JSON, where they were changed.
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

    @property
    def yes(self) -> bool:
        """Whether the call may be made."""
        return self.state == "approved"
