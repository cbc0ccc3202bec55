"""How the frame of a call is made: tags checked, guards checked, accounts opened, limits of all levels put together."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bursar.flow.gates import Gates
from bursar.flow.terms import Reserve, Term
from bursar.guards.budget import Budget, Unlimited
from bursar.guards.gate import CostGate
from bursar.guards.loops import LoopGuard
from bursar.guards.retries import RetryCap
from bursar.guards.window import ContextWindow
from bursar.runs.accounts import Account
from bursar.runs.budgets import budgets_of
from bursar.runs.context import ContextMemory
from bursar.runs.loops import Loops
from bursar.runs.process import process
from bursar.runs.run import Run
from bursar.runs.scoped import ScopedFrame, changed
from bursar.runs.shares import SharedRun, Shares, share_run
from bursar.words.clock import new_id
from bursar.words.errors import ConfigError
from bursar.words.events import NOTHING
from bursar.words.ports import Scope
from bursar.words.records import UNATTRIBUTED, Tags, Who

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.guards.retries import RetryLimits
    from bursar.runs.process import Process
    from bursar.runs.reopened import Before

Spec = Budget | Unlimited | RetryCap | LoopGuard | ContextWindow | CostGate
"""What a run and a wrapped client can be given."""
_NAMED_TAGS = frozenset(Tags._fields) - {"workflow", "extra"}


def make_who(workflow: str | None, *, user: str | None = None, session: str | None = None, **tags: str | None) -> Who:
    """Check tags and put them in their places. Raises `ConfigError` that names the tag and its value."""
    check_tags(user=user, session=session, workflow=workflow, **tags)
    given = {name: value for name, value in tags.items() if value is not None}
    known = {name: value for name, value in given.items() if name in _NAMED_TAGS}
    extra = tuple(sorted((name, value) for name, value in given.items() if name not in _NAMED_TAGS))
    settings = process().settings
    declared = settings.workflows.get(workflow or "", {})
    for name in ("owner", "promise"):
        if name in declared:
            known.setdefault(name, declared[name])
    known.setdefault("env", settings.env)
    if settings.release is not None:
        known.setdefault("release", settings.release)
    return Who(Tags(workflow=workflow or UNATTRIBUTED, extra=extra, **known), user, session)


def check_tags(**tags: str | None) -> None:
    """Raise `ConfigError` that names the tag and its value, where one is no text."""
    for name, value in tags.items():
        if value is not None and (value.__class__ is not str or not value.strip()):
            raise ConfigError(f"{name}={value!r}: a tag is a text that is not empty")


def check_guards(guards: Sequence[Spec]) -> list[Spec]:
    """Refuse what is no guard, and two for loops or windows; the same object given twice counts once."""
    kept: list[Spec] = []
    for guard in guards:
        if not isinstance(guard, Spec):
            raise TypeError(f"{guard!r} is not a guard; a limit is written Budget(usd='0.50')")
        if not any(guard is other for other in kept):
            kept.append(guard)
    for kind in (LoopGuard, ContextWindow):
        if sum(isinstance(guard, kind) for guard in kept) > 1:
            raise ConfigError(f"two {kind.__name__}s for one run: which one holds is not said; give one")
    return kept


def client_frame(who: Who, guards: Sequence[Spec]) -> ScopedFrame:
    """The frame of a wrapped client outside of any run."""
    for spec in guards:
        for name in ("seconds", "reserve_final"):
            if getattr(spec, name, None) is not None:
                raise ConfigError(
                    f"{name}={getattr(spec, name)!r} is for what ends, and a wrapped client does not: give it to "
                    "bursar.run(...) or bursar.budget(...)"
                )
    owner = process()
    observe = owner.settings.mode == "observe"
    frame = ScopedFrame(
        who, observe=observe, owner=owner, shares=_shares(who, owner), loops=_loops(guards), asks=owner.asks
    )
    frame.retries, frame.context = _retries(guards, who, owner, None), _context(guards)
    frame.gates = _gates(guards, owner, None)
    added = [(spec, Account(Scope("client", new_id()), spec, owner)) for spec in guards if isinstance(spec, Budget)]
    return narrow(frame, added) if added else frame


def merged_frame(client: ScopedFrame, inner: ScopedFrame) -> ScopedFrame:
    """The frame of a client's call inside a run: the run's tags first, the client's limits as well."""
    frame = told(inner, client.who)
    if client.retries is not None:
        frame = changed(frame, retries=client.retries.strictest(inner.retries))
    if client.gates is not None and client.gates is not frame.gates:
        frame = changed(frame, gates=client.gates.with_rules(frame.gates.rules if frame.gates else ()))
    if frame.loops is None and client.loops is not None:
        frame = changed(frame, loops=client.loops)
    if frame.context is None and client.context is not None:
        frame = changed(frame, context=client.context)
    if not client.accounts or client.owner is not inner.owner:
        # After `configure` a run that is still open goes on with the parts that it was opened with.
        return frame
    return changed(
        frame,
        path=client.path + inner.path,
        accounts=client.accounts + inner.accounts,
        limits={**client.limits, **inner.limits},
        terms=client.terms + inner.terms,
        limits_usd=client.limits_usd or inner.limits_usd,
        lenient_usd=(client.lenient_usd or not client.limits_usd) and inner.lenient_usd,
        hard=client.hard or inner.hard,
        max_wait=min(client.max_wait, inner.max_wait),
    )


def told(frame: ScopedFrame, more: Who) -> ScopedFrame:
    """The frame with further tags: what it says already stays."""
    who = frame.who
    filled = Who(_filled(who.tags, more.tags), who.user or more.user, who.session or more.session)
    return frame if filled == who else changed(frame, who=filled, shares=_shares(filled, frame.owner, _runs(frame)))


@lru_cache(maxsize=1_024)
def _filled(tags: Tags, more: Tags) -> Tags:
    fresh: dict[str, Any] = {
        name: value
        for name, had, value in zip(Tags._fields, tags, more, strict=True)
        if had is None and value is not None
    }
    if more.extra:
        fresh["extra"] = tuple(sorted({**dict(more.extra), **dict(tags.extra)}.items()))
    return tags._replace(**fresh) if fresh else tags


def run_frame(
    who: Who,
    guards: Sequence[Spec],
    outer: ScopedFrame | None,
    owner: Process,
    *,
    observe: bool | None,
    before: Before | None = None,
    shared: bool = False,
) -> ScopedFrame:
    """The frame of a run: its own guards, those of the settings, what lies around it, and what there is of it.

    `shared`: what it has spent is kept where other processes that open it find it.
    """
    given = budgets_of(who, guards, owner, alone=outer is None or not outer.limits)
    specs = [*given.specs, *given.of_file]
    # What goes on has accounts of its own: those of before are there as long as anybody has the run of before.
    run_id = new_id() if before is None else f"{before.run_id} {new_id()}"
    head = specs[0] if specs else None
    first = Account(Scope("run", run_id), head, owner, of_file=not given.specs and bool(specs))
    parent = outer.run if outer else None
    opened = Run(who, first, parent, owner)
    added: list[tuple[Budget | None, Account]] = [(head, first)]
    for n, spec in enumerate(specs[1:], 2):
        added.append((spec, Account(Scope("budget", f"{run_id}.{n}"), spec, owner, of_file=n > len(given.specs))))
    judged = owner.settings.mode == "observe" if observe is None else observe
    base = ScopedFrame(who, observe=judged, owner=owner) if outer is None else changed(outer, who=who)
    runs = _runs(outer)
    if shared:
        spent = NOTHING if before is None else before.spent()
        runs += (share_run(owner, opened.id, specs, spent, lenient=given.default),)
        for _, account in added:
            account.share(runs[-1].scope)
    base.run, base.asks, base.shares = opened, opened.asks, _shares(who, owner, runs)
    base.observe = judged or base.observe
    base.retries = _retries(guards, who, owner, base.retries)
    base.gates = _gates(guards, owner, base.gates)
    # Budgets add up; of loop guards and windows the innermost holds.
    base.loops, base.context = _loops(guards) or base.loops, _context(guards) or base.context
    base.judged = None
    frame = narrow(base, added, lenient=given.default)
    # The run's own `final` draws on whatever any of its budgets has set aside.
    first.reserves = tuple(reserve for _, account in added for reserve in account.reserves)
    if before is not None:
        opened.go_on(before)
        owner.memory.settle(f"{run_id} measured", frame.path, before.measured, measured=True)
        owner.memory.settle(f"{run_id} unmeasured", frame.path, before.unmeasured, measured=False)
    return frame


def narrow(frame: ScopedFrame, added: Sequence[tuple[Budget | None, Account]], *, lenient: bool = False) -> ScopedFrame:
    """The frame within further budgets; `lenient` ones do not insist on a price."""
    specs = [spec for spec, _ in added if spec is not None]
    limits_usd = any(spec.usd is not None and spec.over != "warn" for spec in specs)
    strict_before = frame.limits_usd and not frame.lenient_usd
    accounts, deadlines, terms, reserves = [], [frame.deadline], list(frame.terms), list(frame.reserves)
    for spec, account in added:
        accounts.append(account)
        deadlines.append(account.deadline)
        if spec is None:
            continue
        over, marks, kept = spec.over_limit(), spec.marks(), spec.kept()
        if marks or over.kind != "deny":
            terms.append(Term(account.scope, account.limits, over, marks, spec.on_warn))
        if kept is not None:
            reserve = Reserve(account.scope, account.limits, kept, auto=spec.reserve_final == "auto")
            account.reserves = (reserve,)
            reserves.append(reserve)
            accounts.append(Account(reserve.inner, None, frame.owner, reserve.kept))
    stated = {account.scope: account.stated for account in accounts if account.stated}
    return changed(
        frame,
        path=frame.path + tuple(account.scope for account in accounts),
        accounts=frame.accounts + tuple(accounts),
        limits={**frame.limits, **stated, **{reserve.inner: reserve.kept for reserve in reserves}},
        deadline=min((found for found in deadlines if found is not None), key=lambda at: at.ends_us, default=None),
        terms=tuple(terms),
        reserves=tuple(reserves),
        limits_usd=frame.limits_usd or limits_usd,
        lenient_usd=not strict_before and (lenient or (frame.lenient_usd and not limits_usd)),
        hard=frame.hard or any(spec.bound == "hard" for spec in specs),
        max_wait=min([frame.max_wait, *(spec.max_wait for spec in specs)]) if frame.limits else _wait(specs),
    )


def joined(frame: ScopedFrame, guards: Sequence[Spec], added: Sequence[tuple[Budget | None, Account]]) -> ScopedFrame:
    """The frame under the guards of somebody who joins its run; `added` are the accounts of his budgets.

    Budgets add up, of loop guards the innermost holds, of retry caps the strictest, and every gate.
    """
    inner = narrow(frame, added) if added else frame
    retries = inner.retries
    for guard in guards:
        if isinstance(guard, RetryCap):
            retries = guard.limits().strictest(retries)
    gates = _gates(guards, frame.owner, inner.gates)
    return changed(inner, loops=_loops(guards) or inner.loops, retries=retries, gates=gates)


def _loops(guards: Sequence[Spec]) -> Loops | None:
    return next((Loops(guard) for guard in guards if isinstance(guard, LoopGuard)), None)


def _context(guards: Sequence[Spec]) -> ContextMemory | None:
    return next((ContextMemory(guard) for guard in guards if isinstance(guard, ContextWindow)), None)


def _gates(guards: Sequence[Spec], owner: Process, outer: Gates | None) -> Gates | None:
    own = [guard.rule() for guard in guards if isinstance(guard, CostGate)]
    if outer is not None:
        return outer.with_rules(own) if own else outer
    if not own and not owner.rules:
        return None
    declared = {name: said["models"] for name, said in owner.settings.workflows.items() if "models" in said}
    return Gates(owner.rules, declared, lambda: owner.approvals).with_rules(own)


def _shares(who: Who, owner: Process, runs: tuple[SharedRun, ...] = ()) -> Shares | None:
    return Shares(who, owner, runs) if owner.settings.limits or runs else None


def _runs(frame: ScopedFrame | None) -> tuple[SharedRun, ...]:
    return () if frame is None or frame.shares is None else frame.shares.runs


def _retries(guards: Sequence[Spec], who: Who, owner: Process, outer: RetryLimits | None) -> RetryLimits | None:
    caps = [guard for guard in guards if isinstance(guard, RetryCap)]
    declared = owner.settings.workflows.get(who.tags.workflow, {}).get("retries")
    if declared is not None:
        caps.append(RetryCap(**declared))
    for cap in caps:
        outer = cap.limits().strictest(outer)
    return outer


def _wait(specs: Sequence[Budget]) -> float:
    return min((spec.max_wait for spec in specs), default=60.0)
