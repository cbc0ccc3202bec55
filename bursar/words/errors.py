"""What can go wrong, in one tree.

BursarError
├── Stopped                 a guard ended the run; nothing was sent for the call that raised it (but see `sent`)
│   ├── BudgetExceeded      a limit has no room left for the call, or for the rest of a stream
│   ├── RetriesExhausted    the same was sent often enough, for enough, or is to wait too long to be sent again
│   ├── LoopDetected        a model goes on in a loop after its last answer was asked for
│   ├── ApprovalDenied      a gate, or the person that it asked, said no
│   │   └── ApprovalTimeout nobody answered a gate's question in time
│   ├── PriceUnknown        a limit in dollars, and a model without a price
│   ├── Unattributed        a call without a tag that is required, or on a thread that lost its run
│   └── StoreUnavailable    a shared limit cannot be read or written just now
├── StoreError              a store was asked for something impossible; nothing was changed
│   ├── Conflict            the same call id came with other amounts
│   ├── UnknownScope        a scope that was never defined
│   ├── InvalidAmount       an amount that is not a whole number between 0 and 2**53 - 1
│   └── AlreadyCommitted    a release of a call that has been charged
├── RecordingError          a file is no recorded run that can be replayed
├── PriceDataError          price data cannot be fetched, or cannot be right
├── LedgerError             the ledger file cannot be used
└── ConfigError             a limit, a setting or an argument that cannot be meant

Each carries its numbers as attributes; the message is made from them and says what to do next.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from decimal import Decimal

    from bursar.runs.run import Run

Kind = TypeVar("Kind", bound="type[Stopped]")


class BursarError(Exception):
    """Everything that this library raises on purpose."""


class BursarWarning(UserWarning):
    """What the library has to say without stopping anything."""


class Stopped(BursarError):
    """A guard ended the run before the call was sent, or a stream on its way.

    Attributes: `run` (the run that was stopped, or None outside any), `reason` (one word), `sent` (whether
    anything of it left for the provider: True where a stream was cut, and where earlier attempts had failed).

    Where `langgraph` is loaded each is also a `langgraph.errors.GraphBubbleUp`, which its retries, fallbacks and tool
    error handlers let pass; `except bursar.BudgetExceeded` catches it all the same.
    """

    reason = "stopped"

    def __new__(cls, *args: object, **_: object) -> Self:
        """Make the subclass that frameworks let pass, where one of them is loaded."""
        return super().__new__(_passing(cls), *args)

    def __init__(self, message: str, *, run: Run | None = None, sent: bool = False) -> None:
        super().__init__(message)
        self.run = run
        self.sent = sent

    def __reduce__(self) -> tuple[Any, ...]:
        # A run holds locks: an error that crosses a process boundary leaves it behind.
        state = {**self.__dict__, "run": None}
        return _rebuild, (vars(type(self)).get(_PLAIN, type(self)), self.args, state)


class BudgetExceeded(Stopped):
    """A limit has no room for the call.

    Attributes, in nano-dollars for `usd`, microseconds for `seconds`, else in the unit itself: `scope`, `unit`,
    `limit`, `settled`, `held`, `needed`; `remaining` is `limit - settled - held`. `why` says which rule refused:
    "no_room", "waited", "would_deadlock", "deadline", "frozen" (by hand, whatever is left), "reserved" (what is left
    is set aside for `final()`), "final_used" (it has been used) or "grew": a stream used more than it could hold and
    was cut. Then `partial` is the text that had come until then (None in every other case), and the call is charged
    for it.
    """

    reason = "budget"

    def __init__(
        self,
        message: str,
        *,
        scope: str,
        unit: str,
        limit: int,
        settled: int,
        held: int,
        needed: int,
        why: str = "no_room",
        run: Run | None = None,
        partial: str | None = None,
    ) -> None:
        super().__init__(message, run=run, sent=why == "grew")
        self.scope, self.unit, self.limit, self.partial = scope, unit, limit, partial
        self.settled, self.held, self.needed, self.why = settled, held, needed, why

    @property
    def remaining(self) -> int:
        """What the limit still had, below zero after an overrun."""
        return self.limit - self.settled - self.held


class RetriesExhausted(Stopped):
    """An operation is not sent again: a `RetryCap` ends its retries, the SDK's and the caller's own.

    Attributes: `why` ("attempts", "usd", "price_unknown" or "retry_after"), `attempts` (how often it was sent, with
    what it repeats), `spent` (nano-dollars that the failed attempts were charged), `limit` (attempts, nano-dollars, or
    for "retry_after" microseconds), `last_reason` (why the last attempt failed, in the ledger's words, or None),
    `retry_after` (seconds that the provider asks to wait, or None). `sent` is True: its earlier attempts were.
    """

    reason = "retries"

    def __init__(
        self,
        message: str,
        *,
        why: str,
        attempts: int,
        spent: int,
        limit: int,
        last_reason: str | None,
        retry_after: float | None = None,
        run: Run | None = None,
    ) -> None:
        super().__init__(message, run=run, sent=True)
        self.why, self.attempts, self.spent, self.limit = why, attempts, spent, limit
        self.last_reason, self.retry_after = last_reason, retry_after


class LoopDetected(Stopped):
    """A model goes round in circles, and has gone on when it was asked for a last answer (or `on_loop="raise"`).

    Attributes: `kind` (what repeats, as in the verdicts), `streak` (how often in a row), `onset` (which tool call of
    the conversation was the first wasted one, from 0), `tokens` and `usd` (spent by the run since then; `usd` None
    where a price is unknown), `partial` (of a stream that said the same again and again and was cut: what had come of
    it; `tokens` are then of what repeats, about; else None).
    """

    reason = "loop"

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        streak: int,
        onset: int,
        tokens: int,
        usd: Decimal | None,
        run: Run | None = None,
        partial: str | None = None,
    ) -> None:
        super().__init__(message, run=run)
        self.kind, self.streak, self.onset, self.tokens, self.usd = kind, streak, onset, tokens, usd
        self.partial, self.sent = partial, partial is not None


class ApprovalDenied(Stopped):
    """A gate, or the person that it asked, said no: the call was not made.

    Attributes: `kind` ("model" or "tool"), `name` (of the model or tool), `rule` (what the gate says), `likely` and
    `bound` (nano-dollars that the call would probably cost and could cost at most, None where unknown), `answer` (why
    not, in words that a model can read), `by` (who said so, None where a rule did), `approval_id` (of the question in
    the ledger, None where nobody was asked).
    """

    reason = "approval_denied"

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        name: str,
        rule: str,
        likely: int | None,
        bound: int | None,
        answer: str,
        by: str | None = None,
        approval_id: str | None = None,
        run: Run | None = None,
    ) -> None:
        super().__init__(message, run=run)
        self.kind, self.name, self.rule, self.likely, self.bound = kind, name, rule, likely, bound
        self.answer, self.by, self.approval_id = answer, by, approval_id


class ApprovalTimeout(ApprovalDenied):
    """Nobody answered a gate's question in time, which is a no."""

    reason = "approval_timeout"


class PriceUnknown(Stopped):
    """A limit in dollars cannot be kept for a model without a price. Attributes: `provider`, `model`."""

    reason = "price_unknown"

    def __init__(self, message: str, *, provider: str, model: str, run: Run | None = None) -> None:
        super().__init__(message, run=run)
        self.provider, self.model = provider, model


class StoreUnavailable(Stopped):
    """A shared limit cannot be kept just now: where it lives cannot be read or written. Calls are refused until it can.

    `configure(on_store_error="allow")` lets them go instead, flagged, within the limits of the run.
    """

    reason = "store_unavailable"


class Unattributed(Stopped):
    """A call lacks what says whom it is for. Attribute: `missing`, the tags, or "run" on a thread that lost it."""

    reason = "unattributed"

    def __init__(self, message: str, *, missing: tuple[str, ...], run: Run | None = None) -> None:
        super().__init__(message, run=run)
        self.missing = missing


class StoreError(BursarError):
    """A store was asked for something impossible; it changed nothing."""


class Conflict(StoreError):
    """The same call id came again with other amounts."""


class UnknownScope(StoreError):
    """A scope that was never defined: it is an error, never unlimited."""


class InvalidAmount(StoreError):
    """An amount that is not a whole number between 0 and 2**53 - 1."""


class AlreadyCommitted(StoreError):
    """A release of a call that has already been charged."""


class RecordingError(BursarError):
    """A file or a line of it is no recorded run. Attributes: `path`, `line` (from 1, None for the whole file)."""

    def __init__(self, path: str, line: int | None, what: str) -> None:
        super().__init__(f"{path}{'' if line is None else f':{line}'}: {what}")
        self.path, self.line = path, line


class LedgerError(BursarError):
    """The ledger file cannot be used. The message names the file and what to do."""


class PriceDataError(BursarError):
    """Price data cannot be fetched, read or believed. The message names the file or address and what to do."""


class ConfigError(BursarError, ValueError):
    """A limit, a setting or an argument that cannot be meant. The message names it and its value."""


_PLAIN = "_bursar_plain"
_passed: dict[type[Stopped], type[Stopped]] = {}


def _passing(kind: Kind) -> Kind:
    # Made only where langgraph is there, and once for each kind: it is named as the kind is.
    bubble = getattr(sys.modules.get("langgraph.errors"), "GraphBubbleUp", None)
    if bubble is None or issubclass(kind, bubble):
        return kind
    made = _passed.get(kind)
    if made is None:
        named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        made = _passed[kind] = type(kind.__name__, (kind, bubble), {**named, _PLAIN: kind})
    return made  # type: ignore[return-value]  # a subclass of the kind


def _rebuild(kind: type[Stopped], args: tuple[Any, ...], state: dict[str, Any]) -> Stopped:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error
