"""Open runs and budgets: `run` opens one agent loop, `budget` adds a limit inside it.

Both are `with`, `async with` and decorator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.guards.budget import Budget
from bursar.runs.accounts import Account
from bursar.runs.frames import check_guards, make_who, narrow, run_frame
from bursar.runs.process import process
from bursar.runs.run import BudgetScope, Run
from bursar.runs.scoped import Opener, open_runs, scoped_frame
from bursar.words.clock import new_id
from bursar.words.errors import ConfigError
from bursar.words.ports import Scope
from bursar.words.records import Who

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.runs.frames import Spec
    from bursar.runs.process import Process
    from bursar.runs.reopened import Before
    from bursar.runs.scoped import ScopedFrame


class RunOpener(Opener):
    """What `bursar.run` returns."""

    def __init__(
        self, who: Who, guards: Sequence[Spec], *, observe: bool | None, run_id: str | None = None, shared: bool = False
    ) -> None:
        super().__init__()
        self._who, self._guards, self._observe, self._id, self._shared = who, guards, observe, run_id, shared

    def __enter__(self) -> Run:
        return self._enter()

    async def __aenter__(self) -> Run:
        return self._enter()

    def _enter(self) -> Run:
        outer = scoped_frame()
        owner = outer.owner if outer else process()
        owner.adopt()
        before = None if self._id is None else _before(self._id, outer, owner)
        who = self._who if outer is None else _within(self._who, outer.who)
        frame = run_frame(who, self._guards, outer, owner, observe=self._observe, before=before, shared=self._shared)
        assert frame.run is not None
        frame.run.open()
        self._push(frame, frame.run)
        return frame.run

    def _again(self) -> RunOpener:
        return RunOpener(self._who, self._guards, observe=self._observe, run_id=self._id, shared=self._shared)


def _within(who: Who, outer: Who) -> Who:
    # For whom it is: what limits a user, a session or a tenant counts what is done for them in parts as well.
    tags = who.tags if who.tags.tenant is not None else who.tags._replace(tenant=outer.tags.tenant)
    return Who(tags, who.user or outer.user, who.session or outer.session)


def _before(run_id: str, outer: ScopedFrame | None, owner: Process) -> Before:
    from bursar.runs.reopened import find_before

    if outer is not None:
        raise ConfigError(f"id={run_id!r:.80}: a run goes on by itself, not inside of another one")
    if run_id in open_runs:
        raise ConfigError(f"id={run_id!r}: this run is open in this process; calls inside of it belong to it")
    return find_before(owner, run_id)


class BudgetOpener(Opener):
    """What `bursar.budget` returns."""

    def __init__(self, spec: Budget) -> None:
        super().__init__()
        self._spec = spec

    def __enter__(self) -> BudgetScope:
        return self._enter()

    async def __aenter__(self) -> BudgetScope:
        return self._enter()

    def _enter(self) -> BudgetScope:
        outer = scoped_frame()
        owner = outer.owner if outer else process()
        opened: Run | None = None
        if outer is None:
            outer = run_frame(Who(), [Budget.unlimited()], None, owner, observe=None)
            opened = outer.run
            assert opened is not None
            opened.open()
        run = outer.run
        assert run is not None
        account = Account(Scope("budget", f"{run.id}.{new_id()[-6:]}"), self._spec, owner)
        self._push(narrow(outer, [(self._spec, account)]), opened)
        return BudgetScope(run, account)

    def _again(self) -> BudgetOpener:
        return BudgetOpener(self._spec)


def run(
    workflow: str,
    *guards: Spec,
    id: str | None = None,  # noqa: A002 - the word that everybody expects
    shared: bool = False,
    user: str | None = None,
    feature: str | None = None,
    owner: str | None = None,
    session: str | None = None,
    tenant: str | None = None,
    prompt_version: str | None = None,
    promise: str | None = None,
    mode: str | None = None,
    **tags: str,
) -> RunOpener:
    """Open one agent loop: `with bursar.run("triage", Budget(usd="0.50")) as run: ...`.

    Every wrapped client called inside is limited and recorded under these tags. A run within a run is for the same
    user, session and tenant, unless it names others. Without a budget of its own or
    of a run around it, a run gets the safe default ($5 and 200 model calls) and says so once. `mode="observe"`
    judges and records but stops nothing. `id` is the `run.id` of a run before, which goes on, in whatever process:
    its budgets count what its calls have cost so far; what was in flight when a process died is not known. With
    `shared` its budget lies in the ledger file: other processes of the machine that open it too (`id=run.id,
    shared=True`, with the same budget) spend of the same, at the same time, and what a process that died had in flight
    is charged. Raises `StoreUnavailable` where that cannot be had, and
    `ConfigError` for an unknown mode, an empty workflow, a tag that is no text or an id that the ledger does not have;
    inside, calls raise `Stopped` before anything is sent that does not fit.
    """
    if mode not in (None, "enforce", "observe"):
        raise ConfigError(f"mode={mode!r} is neither 'enforce' nor 'observe'")
    who = make_who(
        workflow,
        user=user,
        session=session,
        feature=feature,
        owner=owner,
        tenant=tenant,
        prompt_version=prompt_version,
        promise=promise,
        **tags,
    )
    judged = None if mode is None else mode == "observe"
    return RunOpener(who, check_guards(guards), observe=judged, run_id=id, shared=shared)


def budget(**limits: Any) -> BudgetOpener:
    """Add a limit inside the current run (outside of one, open one): `with bursar.budget(usd="0.10") as b: ...`.

    Takes what `Budget` takes. Nothing is reserved when it opens; calls inside hold on it and on all around it.
    """
    return BudgetOpener(Budget(**limits))


def current_run() -> Run | None:
    """The innermost open run of this context."""
    frame = scoped_frame()
    return frame.run if frame else None
