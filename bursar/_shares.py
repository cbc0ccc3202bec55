"""The limits that a call shares with other processes, window by window."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bursar._limits import shared_limits
from bursar.tracing.spent import spent

if TYPE_CHECKING:
    from bursar._limits import SharedLimit
    from bursar._ports import Scope
    from bursar._process import Process
    from bursar._records import Who


class Shares:
    """The shared limits that apply to one `Who`. Made once for a frame."""

    def __init__(self, who: Who, owner: Process) -> None:
        self._who, self._owner = who, owner
        self._since_us = self._until_us = 0
        self._limits: tuple[SharedLimit, ...] = ()

    def at(self, now_us: int) -> tuple[SharedLimit, ...]:
        """The limits in force at a moment, known to the stores. Raises `StoreUnavailable`."""
        if not self._since_us <= now_us < self._until_us:
            self._renew(now_us)
        return self._limits

    def _renew(self, now_us: int) -> None:
        owner, who = self._owner, self._who
        user = None if who.user is None else owner.ledger.user_hash(who.user)
        settings = owner.settings
        limits = shared_limits(settings.limits, who, user, now_us, settings.timezone)
        for limit in limits:
            seed = partial(
                spent, tag=limit.tag, value=limit.value, since_us=limit.window.since_us, until_us=limit.window.until_us
            )
            owner.shared.define(limit.scope, limit.limits, soft=limit.over.soft, seed=seed)
        self._limits = limits
        self._since_us = max((limit.window.since_us for limit in limits), default=0)
        self._until_us = min((limit.window.until_us for limit in limits), default=2**63)


def scopes(limits: tuple[SharedLimit, ...]) -> tuple[Scope, ...]:
    """Where a call under these limits is held."""
    return tuple(limit.scope for limit in limits)
