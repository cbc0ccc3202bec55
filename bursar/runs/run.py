"""One agent loop, and a limit inside it, while they are open: what they have spent, what is left, how they ended."""

from __future__ import annotations

import contextvars
import functools
import sys
import threading
import warnings
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from bursar.runs import hook as _hook
from bursar.runs.scoped import FinalOpener, open_runs
from bursar.words.asks import Asks
from bursar.words.clock import new_id
from bursar.words.errors import BursarWarning, ConfigError, Stopped
from bursar.words.money import show_usd
from bursar.words.records import Outcome, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from bursar.runs.accounts import Account, Spend
    from bursar.runs.process import Process
    from bursar.runs.reopened import Before
    from bursar.words.events import CostStatus
    from bursar.words.records import ModelCall, Who

P = ParamSpec("P")
R = TypeVar("R")

_SDKS = ("anthropic", "openai", "langchain_core")


class Run:
    """One agent loop: its spend, its limits and how it ended. Made by `bursar.run`."""

    def __init__(self, who: Who, account: Account, parent: Run | None, owner: Process) -> None:
        self.id = account.scope.name.partition(" ")[0]
        self.who = who
        self.asks: Asks = Asks(None if parent is None else parent.asks)
        self.stop_reason: str | None = None
        self.fetched = False  # a wrapped client has read results inside, of work that was ordered before
        self.seen = False
        """Whether a framework has called a model in it, were it one whose answer was at hand already."""
        self.unfinished: dict[int, Callable[[], None]] = {}
        """How to close what a framework has begun in this run and not ended, by a key of the framework's."""
        self._account, self._parent, self._owner = account, parent, owner
        self._lock = threading.Lock()
        self._started_us = owner.world.clock.wall_us()
        self._steps = self._unpriced = 0
        self._statuses: set[CostStatus] = set()
        self._ended_us: int | None = None
        self._span = _current_span()

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
    def limits(self) -> dict[str, int]:
        """The limits of this run itself, by unit; `usd` in nano-dollars."""
        return dict(self._account.limits)

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

    def outcome(self, name: str, count: int = 1) -> None:
        """Record what the run brought about: `run.outcome("ticket_resolved")`, also after it has ended.

        `bursar report` divides all that a workflow spent, runs that failed included, by these. Raises `ConfigError` for
        a name that is no text or empty, and for a count that is no whole number above zero.
        """
        named: object = name
        counted: object = count
        if not isinstance(named, str) or not named.strip():
            raise ConfigError(f"an outcome needs a name, as in run.outcome('ticket_resolved'), not {name!r}")
        if not isinstance(counted, int) or isinstance(counted, bool) or counted < 1:
            raise ConfigError(f"an outcome is counted in whole numbers from 1 on, not {count!r}")
        at_us = self._owner.world.clock.wall_us()
        self._owner.desk.sink.write(Outcome(new_id(), self.id, self.who, at_us, name, count))

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
        unpriced = record.cost_nusd is None
        if unpriced or record.cost_status not in self._statuses or record.step > self._steps:
            with self._lock:
                self._unpriced += unpriced
                self._statuses.add(record.cost_status)
                if record.run_id == self.id:
                    self._steps = max(self._steps, record.step)
        if self._parent is not None:
            self._parent.tally(record)
        if self._ended_us is not None:
            self.spent_late()

    def spent_late(self) -> None:
        """Write the run down again where it has ended: what outlives it is charged to it, and its row says so."""
        if self._ended_us is not None:
            self._owner.desk.sink.write(self.record(self._ended_us))

    def go_on(self, before: Before) -> None:
        """Count on from what there is of it."""
        self._started_us, self._steps, self._unpriced = before.started_us, before.steps, before.unpriced
        self._statuses = set(before.statuses)

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
            trace_id=self._span[0],
            span_id=self._span[1],
        )

    def open(self) -> None:
        """Write the run down."""
        _hook.attach()
        open_runs.add(self.id)
        self._owner.desk.sink.write(self.record(None))

    def end(self, error: BaseException | None, *, watched: bool = False) -> None:
        """Close what is unfinished in it and write down how the run ended.

        `watched`: whoever opened it saw every call that it could have had.
        """
        open_runs.discard(self.id)
        for conclude in list(self.unfinished.values()):
            conclude()
        unhooked = not watched and self._parent is None and _hook.is_missing()
        if isinstance(error, Stopped):
            self.stop_reason = error.reason
        elif error is not None:
            self.stop_reason = type(error).__name__
        elif self.stop_reason is None:
            self.stop_reason = "unhooked" if unhooked else "finished"
        self._owner.adopt()
        self._ended_us = self._owner.world.clock.wall_us()
        self._owner.desk.sink.write(self.record(self._ended_us))
        self._owner.keep_learned()
        used = self._steps or self.fetched or self.seen or self._account.balance().settled.tool_calls
        if unhooked:
            _warn_unhooked(self)
        elif not (used or watched) and self._parent is None and error is None:
            _warn_unseen(self)


class BudgetScope:
    """A limit inside a run: what was spent under it and what is left. Made by `bursar.budget`."""

    def __init__(self, run: Run, account: Account) -> None:
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


def _current_span() -> tuple[str | None, str | None]:
    """The ids of the OpenTelemetry span that is open here, where anybody traces in this process."""
    telemetry = sys.modules.get("opentelemetry.trace")
    try:
        context = telemetry.get_current_span().get_span_context() if telemetry is not None else None
        if context is None or not context.is_valid:
            return None, None
        return f"{context.trace_id:032x}", f"{context.span_id:016x}"
    except Exception:  # noqa: BLE001 - whatever traces here, a run opens all the same
        return None, None


def _warn_unhooked(run: Run) -> None:
    # Not an error: what was answered inside is paid for, and an error here would throw it away.
    _hook.attach()
    warnings.warn(
        f"LangChain was imported after run {run.workflow!r} was opened, past everything that watches for it, so "
        "nothing that its models did in this run was limited or recorded, unless they were wrapped. Import it before "
        "the run is opened (or bursar.callbacks.hook).",
        BursarWarning,
        stacklevel=4,
    )


def _warn_unseen(run: Run) -> None:
    loaded = [name for name in _SDKS if name in sys.modules]
    if loaded:
        warnings.warn(
            f"run {run.workflow!r} ended and saw no model call, though {' and '.join(loaded)} is loaded: calls of a "
            "client that is not wrapped are neither limited nor recorded. Add: client = bursar.wrap(client)",
            BursarWarning,
            stacklevel=4,
        )
