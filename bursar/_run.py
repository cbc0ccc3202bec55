"""Runs and budgets: where a call finds its limits and its tags.

`run` opens one agent loop, `budget` adds a limit inside it. Both are `with`, `async with` and decorator. The
innermost one is in a context variable; asyncio tasks and `asyncio.to_thread` inherit it, raw threads do not
(`Run.bind` carries it there).
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import os
import sys
import threading
import warnings
import weakref
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from bursar._call import Frame
from bursar._clock import CLOCK, new_id
from bursar._drive import owner_id
from bursar._errors import BursarWarning, ConfigError, Stopped
from bursar._events import UNITS, Amounts, CostStatus
from bursar._money import show_usd, usd
from bursar._ports import Balance, Scope
from bursar._process import Process, process
from bursar._records import UNATTRIBUTED, RunRecord, Tags, Who
from bursar._shares import Shares
from bursar._terms import Deadline, Reserve, Term
from bursar.guards.budget import Budget, Unlimited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from bursar._records import ModelCall

P = ParamSpec("P")
R = TypeVar("R")

_frame: contextvars.ContextVar[ScopedFrame | None] = contextvars.ContextVar("bursar_frame", default=None)
_NAMED_TAGS = frozenset(Tags._fields) - {"workflow", "extra"}
_SDKS = ("anthropic", "openai", "langchain_core")
_said: set[str] = set()
_open_runs: set[str] = set()
"""Ids of the runs that are open in this process, in whatever context. A forked child has none of its parent's."""
os.register_at_fork(after_in_child=_open_runs.clear)


@dataclass(frozen=True, slots=True)
class Spend:
    """What a scope has spent. `settled` includes `unmeasured`: what was charged at a bound, not at a usage."""

    settled: Amounts
    held: Amounts
    unmeasured: Amounts

    @property
    def usd(self) -> Decimal:
        """Dollars settled so far, exactly."""
        return self.settled.usd


class _Account:
    """A scope in the store, there as long as anything refers to it: a late settle still finds it."""

    def __init__(
        self, scope: Scope, spec: Budget | None, owner: Process, limits: Mapping[str, int] | None = None
    ) -> None:
        self.scope, self._store = scope, owner.memory
        self.limits = dict(limits) if limits is not None else spec.limits() if spec is not None else {}
        # A limit that refuses nothing is not the store's business: the flow looks at what is spent.
        soft = spec is not None and spec.over_limit().soft
        owner.memory.define(scope, {} if soft else self.limits)
        wait_us = spec.deadline_us() if spec is not None else None
        self.deadline = None if wait_us is None else Deadline(scope, wait_us, CLOCK.monotonic_us() + wait_us)
        self.stated = self.limits if wait_us is None else {**self.limits, "seconds": wait_us}
        self.reserves: tuple[Reserve, ...] = ()
        weakref.finalize(self, owner.memory.drop, scope).atexit = False

    def balance(self) -> Balance:
        return self._store.balance(self.scope)

    def spend(self) -> Spend:
        balance = self.balance()
        return Spend(balance.settled, balance.held, balance.unmeasured)

    def remaining(self) -> dict[str, Decimal | int]:
        balance = self.balance()
        left: dict[str, Decimal | int] = {}
        for unit, limit in self.limits.items():
            i = UNITS.index(unit)
            amount = limit - balance.settled[i] - balance.held[i]
            left[unit] = usd(amount) if unit == "usd" else amount
        if self.deadline is not None:
            left["seconds"] = Decimal(max(0, self.deadline.ends_us - CLOCK.monotonic_us())).scaleb(-6)
        return left


@dataclass(slots=True)
class ScopedFrame(Frame):
    """A frame that keeps the accounts on its path alive."""

    accounts: tuple[_Account, ...] = ()
    owner: Process = field(default_factory=process)
    shares: Shares | None = None


class Run:
    """One agent loop: its spend, its limits and how it ended. Made by `bursar.run`."""

    def __init__(self, who: Who, account: _Account, parent: Run | None, owner: Process, *, default: bool) -> None:
        self.id = account.scope.name
        self.who = who
        self.stop_reason: str | None = None
        self._account, self._parent, self._owner, self._default = account, parent, owner, default
        self._lock = threading.Lock()
        self._started_us = owner.world.clock.wall_us()
        self._steps = self._unpriced = 0
        self._statuses: set[CostStatus] = set()
        self._ended_us: int | None = None

    @property
    def workflow(self) -> str:
        """The workflow that the run was opened for."""
        return self.who.tags.workflow

    @property
    def spend(self) -> Spend:
        """What the run and everything nested in it has spent."""
        return self._account.spend()

    @property
    def remaining(self) -> dict[str, Decimal | int]:
        """What each limit of this run still has: limit - settled - held, below zero after an overrun.

        What is set aside for `final` is part of it; "seconds" is what is left until the deadline.
        """
        return self._account.remaining()

    @property
    def steps(self) -> int:
        """Model calls so far (retries are part of one)."""
        return self._steps

    @property
    def unpriced(self) -> int:
        """Attempts whose price is unknown: they are not in `spend.usd`."""
        return self._unpriced

    def bind(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Carry the run (and all of the current context) into a raw thread: `Thread(target=run.bind(work))`."""
        context = contextvars.copy_context()

        @functools.wraps(fn)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            # A copy for each call: one context cannot be entered by two threads at once.
            return context.copy().run(fn, *args, **kwargs)

        return bound

    def final(self) -> FinalOpener:
        """Let one last call draw on what `Budget(reserve_final=...)` set aside: `with run.final(): ...`.

        Works after `Stopped` was caught inside the run. Its output is clamped to what fits, and it cannot ask for
        tools. A second call raises `BudgetExceeded` (`why="final_used"`); one that was refused or never left does
        not count. Raises `ConfigError` where nothing was set aside, or outside of the run.
        """
        return FinalOpener(self._account)

    def summary(self) -> str:
        """One line: how the run ended, what it used, what it cost, how sure that is."""
        spent = self.spend.settled
        limit = self._account.limits.get("usd")
        cost = show_usd(spent.nusd) + (f" of {show_usd(limit)}" if limit is not None else "")
        sure = ", ".join(sorted(status.replace("_", " ") for status in self._statuses)) or "no calls"
        state = {None: "open", "finished": "finished"}.get(self.stop_reason, f"stopped ({self.stop_reason})")
        return (
            f"{self.workflow} {self.id[:10]} {state} · {spent.model_calls} model + {spent.tool_calls} tool calls · "
            f"{spent.tokens:,} tokens · {cost} · {sure}, {self._unpriced} unpriced"
        )

    __str__ = summary

    def tally(self, record: ModelCall) -> None:
        """Take in a finished attempt of this run or of one nested in it."""
        with self._lock:
            self._steps = max(self._steps, record.step) if record.run_id == self.id else self._steps
            self._unpriced += record.cost_nusd is None
            self._statuses.add(record.cost_status)
        if self._parent is not None:
            self._parent.tally(record)
        if self._ended_us is not None:
            # A stream that outlives its run is charged to it all the same, and its row says so.
            self._owner.desk.sink.write(self.record(self._ended_us))

    def next_step(self) -> int:
        """Number the next operation of this run, from 1."""
        with self._lock:
            self._steps += 1
            return self._steps

    def record(self, ended_us: int | None) -> RunRecord:
        """The ledger row of this run as it stands."""
        balance = self._account.balance()
        return RunRecord(
            run_id=self.id,
            parent_run_id=self._parent.id if self._parent else None,
            who=self.who,
            started_us=self._started_us,
            ended_us=ended_us,
            stop_reason=self.stop_reason,
            steps=self._steps,
            tool_calls=balance.settled.tool_calls,
            tokens=balance.settled.tokens,
            cost_nusd=balance.settled.nusd,
            unpriced=self._unpriced,
            unmeasured_nusd=balance.unmeasured.nusd,
            limits=tuple(self._account.stated.items()),
        )

    def open(self) -> None:
        """Write the run down."""
        _open_runs.add(self.id)
        self._owner.desk.sink.write(self.record(None))

    def end(self, error: BaseException | None) -> None:
        """Write down how the run ended."""
        _open_runs.discard(self.id)
        if isinstance(error, Stopped):
            self.stop_reason = error.reason
        elif error is not None:
            self.stop_reason = type(error).__name__
        elif self.stop_reason is None:
            self.stop_reason = "finished"
        self._owner.adopt()
        self._ended_us = self._owner.world.clock.wall_us()
        self._owner.desk.sink.write(self.record(self._ended_us))
        self._owner.ledger.save_calibration(self._owner.world.estimator.dump())
        if self._steps == 0 and self._parent is None and error is None:
            _warn_unseen(self)


class BudgetScope:
    """A limit inside a run: what was spent under it and what is left. Made by `bursar.budget`."""

    def __init__(self, run: Run, account: _Account) -> None:
        self.run = run
        self._account = account

    @property
    def spend(self) -> Spend:
        """What was spent under this limit."""
        return self._account.spend()

    @property
    def remaining(self) -> dict[str, Decimal | int]:
        """What each limit still has: limit - settled - held; "seconds" until the deadline."""
        return self._account.remaining()

    def final(self) -> FinalOpener:
        """Let one last call draw on what `reserve_final` set aside; see `Run.final`."""
        return FinalOpener(self._account)


class _Opener:
    """A `with`, an `async with` and a decorator; each use opens anew."""

    def __init__(self) -> None:
        # Several threads and tasks may be inside one opener at once: each leaves what it has entered.
        self._open: list[tuple[int, contextvars.Token[ScopedFrame | None], Run | None]] = []

    def _enter(self) -> Any:
        raise NotImplementedError

    def _push(self, frame: ScopedFrame, run: Run | None) -> None:
        self._open.append((owner_id(), _frame.set(frame), run))

    def __enter__(self) -> Any:
        return self._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me = owner_id()
        # What was entered by a task that is over is left by whoever leaves.
        entry = next((entry for entry in reversed(self._open) if entry[0] == me), self._open[-1])
        self._open.remove(entry)
        _, token, run = entry
        with contextlib.suppress(ValueError):
            # Entered in another context, as a test's fixture may be: there is nothing to restore in this one.
            _frame.reset(token)
        if run is not None:
            run.end(error)

    async def __aenter__(self) -> Any:
        return self._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _again(self) -> _Opener:
        raise NotImplementedError

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{fn.__qualname__} is a generator: a run opened in it would leak to its caller between two yields; "
                "open the run round the loop that consumes it"
            )
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self._again():
                    return await fn(*args, **kwargs)

            return awaited  # type: ignore[return-value]  # a coroutine function for a coroutine function

        @functools.wraps(fn)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return fn(*args, **kwargs)

        return called


class RunOpener(_Opener):
    """What `bursar.run` returns."""

    def __init__(self, who: Who, budgets: Sequence[Budget | Unlimited], *, observe: bool | None) -> None:
        super().__init__()
        self._who, self._budgets, self._observe = who, budgets, observe

    def __enter__(self) -> Run:
        return self._enter()

    async def __aenter__(self) -> Run:
        return self._enter()

    def _enter(self) -> Run:
        outer = scoped_frame()
        owner = outer.owner if outer else process()
        owner.adopt()
        frame = _run_frame(self._who, self._budgets, outer, owner, observe=self._observe)
        assert frame.run is not None
        frame.run.open()
        self._push(frame, frame.run)
        return frame.run

    def _again(self) -> RunOpener:
        return RunOpener(self._who, self._budgets, observe=self._observe)


class BudgetOpener(_Opener):
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
            outer = _run_frame(Who(), [Budget.unlimited()], None, owner, observe=None)
            opened = outer.run
            assert opened is not None
            opened.open()
        run = outer.run
        assert run is not None
        account = _Account(Scope("budget", f"{run.id}.{new_id()[-6:]}"), self._spec, owner)
        self._push(_narrow(outer, [(self._spec, account)]), opened)
        return BudgetScope(run, account)

    def _again(self) -> BudgetOpener:
        return BudgetOpener(self._spec)


class FinalOpener(_Opener):
    """What `Run.final` and `BudgetScope.final` return."""

    def __init__(self, account: _Account) -> None:
        super().__init__()
        self._account = account
        if not account.reserves:
            raise ConfigError(
                f"final() on {account.scope}, where nothing is set aside: open it with Budget(reserve_final='auto')"
            )

    def _enter(self) -> None:
        frame, reserves = scoped_frame(), self._account.reserves
        inner = {reserve.inner for reserve in reserves}
        if frame is None or not inner.issubset(frame.path):
            raise ConfigError(
                f"final() on {self._account.scope} is for inside of it, once: here it is not open, or its final() is"
            )
        self._push(
            replace(
                frame,
                path=tuple(scope for scope in frame.path if scope not in inner),
                reserves=tuple(reserve for reserve in frame.reserves if reserve not in reserves),
                final=frame.final + reserves,
            ),
            None,
        )

    def _again(self) -> FinalOpener:
        return FinalOpener(self._account)


def run(
    workflow: str,
    *guards: Budget | Unlimited,
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

    Every wrapped client called inside is limited and recorded under these tags. Without a budget of its own or
    of a run around it, a run gets the safe default ($5 and 200 model calls) and says so once. `mode="observe"`
    judges and records but stops nothing. Raises `ConfigError` for an unknown mode, an empty workflow or a tag
    that is no text; inside, calls raise `Stopped` before anything is sent that does not fit.
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
    return RunOpener(who, check_guards(guards), observe=None if mode is None else mode == "observe")


def budget(**limits: Any) -> BudgetOpener:
    """Add a limit inside the current run (outside of one, open one): `with bursar.budget(usd="0.10") as b: ...`.

    Takes what `Budget` takes. Nothing is reserved when it opens; calls inside hold on it and on all around it.
    """
    return BudgetOpener(Budget(**limits))


def current_run() -> Run | None:
    """The innermost open run of this context."""
    frame = scoped_frame()
    return frame.run if frame else None


def scoped_frame() -> ScopedFrame | None:
    """Where a call made now is charged; None outside of any run, and in a forked child of one."""
    frame = _frame.get()
    return None if frame is None or frame.owner.forked else frame


def has_lost_run(policy: str) -> bool:
    """Whether a call that is outside of any run is so because its thread has lost the context of an open one.

    A guess that names no run: other threads have runs open, and this one, which is not the main one, has none. Where
    the policy lets such calls go, it is said once.
    """
    if not _open_runs or threading.current_thread() is threading.main_thread():
        return False
    if policy == "allow" and "lost_context" not in _said:
        _said.add("lost_context")
        warnings.warn(
            "a call on a thread outside of any run while a run is open: it is recorded as unattributed and not limited "
            "by the run. Start the thread as Thread(target=run.bind(work)), or set lost_context='deny'.",
            BursarWarning,
            stacklevel=5,
        )
    return True


def make_who(workflow: str | None, *, user: str | None = None, session: str | None = None, **tags: str | None) -> Who:
    """Check tags and put them in their places. Raises `ConfigError` that names the tag and its value."""
    named = {"user": user, "session": session, "workflow": workflow, **tags}
    for name, value in named.items():
        if value is not None and (value.__class__ is not str or not value.strip()):
            raise ConfigError(f"{name}={value!r}: a tag is a text that is not empty")
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


def check_guards(guards: Sequence[Budget | Unlimited]) -> list[Budget | Unlimited]:
    """Refuse what is no guard; the same object given twice counts once."""
    kept: list[Budget | Unlimited] = []
    for guard in guards:
        if not isinstance(guard, Budget | Unlimited):
            raise TypeError(f"{guard!r} is not a guard; a limit is written Budget(usd='0.50')")
        if not any(guard is other for other in kept):
            kept.append(guard)
    return kept


def client_frame(who: Who, budgets: Sequence[Budget | Unlimited]) -> ScopedFrame:
    """The frame of a wrapped client outside of any run."""
    for spec in budgets:
        for name in ("seconds", "reserve_final"):
            if getattr(spec, name, None) is not None:
                raise ConfigError(
                    f"{name}={getattr(spec, name)!r} is for what ends, and a wrapped client does not: give it to "
                    "bursar.run(...) or bursar.budget(...)"
                )
    owner = process()
    frame = ScopedFrame(who, observe=owner.settings.mode == "observe", owner=owner, shares=_shares(who, owner))
    added = [(spec, _Account(Scope("client", new_id()), spec, owner)) for spec in budgets if isinstance(spec, Budget)]
    return _narrow(frame, added) if added else frame


def merged_frame(client: ScopedFrame, inner: ScopedFrame) -> ScopedFrame:
    """The frame of a client's call inside a run: the run's tags first, the client's limits as well."""
    tags, own = inner.who.tags, client.who.tags
    filled = {name: value for name, value in own._asdict().items() if getattr(tags, name) is None}
    extra = tuple(sorted({**dict(own.extra), **dict(tags.extra)}.items()))
    who = Who(
        tags._replace(**{**filled, "extra": extra}),
        inner.who.user or client.who.user,
        inner.who.session or client.who.session,
    )
    frame = inner if who == inner.who else replace(inner, who=who, shares=_shares(who, inner.owner))
    if not client.accounts or client.owner is not inner.owner:
        # After `configure` a run that is still open goes on with the parts that it was opened with.
        return frame
    return replace(
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


def _run_frame(
    who: Who, budgets: Sequence[Budget | Unlimited], outer: ScopedFrame | None, owner: Process, *, observe: bool | None
) -> ScopedFrame:
    specs = [spec for spec in budgets if isinstance(spec, Budget)]
    declared = owner.settings.workflows.get(who.tags.workflow, {})
    if "usd_per_run" in declared:
        specs.append(Budget(usd=declared["usd_per_run"]))
    default = not budgets and not specs and (outer is None or not outer.limits)
    if default:
        specs = [_default_budget(owner, who)]
    run_id = new_id()
    first = _Account(Scope("run", run_id), specs[0] if specs else None, owner)
    parent = outer.run if outer else None
    opened = Run(who, first, parent, owner, default=default)
    added: list[tuple[Budget | None, _Account]] = [(specs[0] if specs else None, first)]
    for n, spec in enumerate(specs[1:], 2):
        added.append((spec, _Account(Scope("budget", f"{run_id}.{n}"), spec, owner)))
    base = outer or ScopedFrame(who, owner=owner)
    judged = owner.settings.mode == "observe" if observe is None else observe
    base = replace(base, who=who, run=opened, shares=_shares(who, owner), observe=judged or base.observe)
    frame = _narrow(base, added, lenient=default)
    # The run's own `final` draws on whatever any of its budgets has set aside.
    first.reserves = tuple(reserve for _, account in added for reserve in account.reserves)
    return frame


def _shares(who: Who, owner: Process) -> Shares | None:
    return Shares(who, owner) if owner.settings.limits else None


def _narrow(
    frame: ScopedFrame, added: Sequence[tuple[Budget | None, _Account]], *, lenient: bool = False
) -> ScopedFrame:
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
            accounts.append(_Account(reserve.inner, None, frame.owner, reserve.kept))
    stated = {account.scope: account.stated for account in accounts if account.stated}
    return replace(
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


def _wait(specs: Sequence[Budget]) -> float:
    return min((spec.max_wait for spec in specs), default=60.0)


def _default_budget(owner: Process, who: Who) -> Budget:
    settings = owner.settings
    if "default" not in _said:
        _said.add("default")
        warnings.warn(
            f"run {who.tags.workflow!r} has no budget: it gets the default, ${settings.default_usd} and "
            f"{settings.default_model_calls} model calls. Give it one, as in bursar.run({who.tags.workflow!r}, "
            "Budget(usd='0.50')), or Budget.unlimited().",
            BursarWarning,
            stacklevel=5,
        )
    return Budget(usd=settings.default_usd, model_calls=settings.default_model_calls)


def _warn_unseen(run: Run) -> None:
    loaded = [name for name in _SDKS if name in sys.modules]
    if loaded:
        warnings.warn(
            f"run {run.workflow!r} ended and saw no model call, though {' and '.join(loaded)} is loaded: calls of a "
            "client that is not wrapped are neither limited nor recorded. Add: client = bursar.wrap(client)",
            BursarWarning,
            stacklevel=4,
        )


__all__ = ["BudgetScope", "Run", "Spend", "budget", "current_run", "run"]
