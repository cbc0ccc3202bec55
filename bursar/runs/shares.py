"""The limits that a call shares with other processes, window by window."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bursar.flow.terms import Term
from bursar.settings.limits import shared_limits
from bursar.tracing.spent import spent as spent_on
from bursar.words.ports import SHARED, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bursar.guards.budget import Budget
    from bursar.runs.process import Process
    from bursar.words.events import Amounts
    from bursar.words.records import Who


class SharedRun(NamedTuple):
    """A run whose budget all processes that open it have in common; `usd`: calls without a price are refused."""

    scope: Scope
    limits: Mapping[str, int]
    usd: bool


def share_run(owner: Process, run_id: str, specs: Sequence[Budget], spent: Amounts, *, lenient: bool) -> SharedRun:
    """Keep the budgets of a run in the ledger file. `spent` is what it has cost where nobody has shared it before.

    A `lenient` budget does not insist on a price. Raises `StoreUnavailable`.
    """
    # Several budgets of a run are limits on the same calls: the lowest of each unit holds.
    limits: dict[str, int] = {}
    for spec in specs:
        if not spec.over_limit().soft:
            limits.update((unit, min(limit, limits.get(unit, limit))) for unit, limit in spec.limits().items())
    scope = Scope("run", run_id, SHARED)
    owner.share()
    owner.shared.define(scope, limits, seed=lambda _: spent)
    return SharedRun(scope, limits, usd="usd" in limits and not lenient)


class Applied(NamedTuple):
    """Where a call is held, which of these refuse nothing, and whether one of the others limits dollars."""

    scopes: tuple[Scope, ...]
    terms: tuple[Term, ...]
    usd: bool


class Shares:
    """The shared limits that apply to one `Who` within some shared runs. Made once for a frame."""

    def __init__(self, who: Who, owner: Process, runs: tuple[SharedRun, ...] = ()) -> None:
        self._who, self._owner, self.runs = who, owner, runs
        self._since_us = self._until_us = 0
        self._applied = Applied((), (), usd=False)

    def at(self, now_us: int) -> Applied:
        """The limits in force at a moment, known to the stores. Raises `StoreUnavailable`."""
        if not self._since_us <= now_us < self._until_us:
            self._renew(now_us)
        return self._applied

    def _renew(self, now_us: int) -> None:
        owner, who = self._owner, self._who
        users = () if who.user is None else owner.ledger.user_hashes(who.user)
        settings = owner.settings
        limits = shared_limits(settings.limits, who, users, now_us, settings.timezone)
        if limits:
            # A limit that is new counts what was spent before it.
            owner.ledger.gather()
        for limit in limits:
            seed = partial(
                spent_on,
                tag=limit.tag,
                values=limit.values,
                since_us=limit.window.since_us,
                until_us=limit.window.until_us,
            )
            owner.shared.define(limit.scope, limit.limits, soft=limit.over.soft, seed=seed)
        self._applied = Applied(
            (*(limit.scope for limit in limits), *(run.scope for run in self.runs)),
            tuple(Term(limit.scope, limit.limits, limit.over, {}, None) for limit in limits if limit.over.soft),
            usd=any("usd" in limit.limits and not limit.over.soft for limit in limits)
            or any(run.usd for run in self.runs),
        )
        self._since_us = max((limit.window.since_us for limit in limits), default=0)
        self._until_us = min((limit.window.until_us for limit in limits), default=2**63)
