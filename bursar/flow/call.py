"""A call while it lives: the world it is given, the frame it happens in, the operation and its attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bursar.guards.lineage import NEW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.flow.gates import Gated, Gates
    from bursar.flow.terms import Deadline, Reserve, Term
    from bursar.guards.lineage import Asked, Lineage
    from bursar.guards.retries import RetryLimits
    from bursar.guards.window_state import WindowState
    from bursar.pricing.estimate import Estimate, Estimator
    from bursar.pricing.rates import PriceContext, PriceList, RateCard
    from bursar.runs.context import ContextMemory
    from bursar.runs.earlier import Earlier, Past
    from bursar.runs.loops import Look
    from bursar.runs.run import Run
    from bursar.words.asks import Asks
    from bursar.words.events import Amounts, AttemptSource, ModelRequest, RetryReason
    from bursar.words.ports import Clock, Scope
    from bursar.words.records import Item, Verdict, Who


class World(NamedTuple):
    """What the flow is given: time, prices, what was learned so far, and what was asked a short while ago."""

    clock: Clock
    prices: PriceList
    estimator: Estimator
    earlier: Earlier


@dataclass(slots=True)
class Frame:
    """Where a call happens: the budget path, the tags, and how its guards behave. Made once for a run or budget.

    `reserves` are set aside from the calls of this frame; `final` are those that the last call may draw on. `retries`
    is where the retries of its calls end, `context` the context window of its requests. `asks`: the tool calls that
    answers have asked for here. `gates`: whom its calls have to ask.
    """

    who: Who
    path: tuple[Scope, ...] = ()
    run: Run | None = None
    limits_usd: bool = False
    lenient_usd: bool = False
    hard: bool = False
    max_wait: float = 60.0
    observe: bool = False
    limits: Mapping[Scope, Mapping[str, int]] = field(default_factory=dict)
    deadline: Deadline | None = None
    terms: tuple[Term, ...] = ()
    reserves: tuple[Reserve, ...] = ()
    final: tuple[Reserve, ...] = ()
    retries: RetryLimits | None = None
    context: ContextMemory | None = None
    asks: Asks | None = None
    gates: Gates | None = None

    def left_s(self, began_us: int, now_us: int) -> float:
        """Seconds that something that began to wait then may still wait."""
        left_s = self.max_wait - (now_us - began_us) / 1_000_000
        return left_s if self.deadline is None else min(left_s, (self.deadline.ends_us - now_us) / 1_000_000)


class Operation(Protocol):
    """What refusals and notices know of a call, of a model or of a tool."""

    op_id: str
    required: tuple[str, ...]
    missing: tuple[str, ...]
    shared: tuple[Scope, ...]
    terms: tuple[Term, ...]
    shares_usd: bool
    reached: bool
    flags: tuple[str, ...]

    @property
    def frame(self) -> Frame:
        """Where it happens."""


class Bulk(NamedTuple):
    """What the requests of a batch may cost together. `items` is None where they could not be read.

    card: the average of their prices, None where one of them has none. items: at their practical bounds; hard: the
    bounds that bytes give, in the same order.
    """

    estimate: Estimate
    card: RateCard | None
    items: tuple[Item, ...] | None
    hard: tuple[Amounts, ...] = ()


@dataclass(slots=True)
class Call:
    """One operation: the request as asked, and what has become of it so far.

    `cap` is the output cap that was put into the request; retries send the same bytes again. `countable`: the
    provider has a free counting endpoint for it. `step` counts the operations of the run. `words` is what it asks,
    where content is kept, until that has been done. `shared` are the scopes that other processes share, `terms` those
    of them that refuse nothing, `shares_usd` says whether one limits dollars, `reached` whether holds go there too.
    `missing`: which of the `required` tags it lacks. `flags` go on the rows of its attempts.
    `bulk`: of a batch, what its requests were estimated at. `loops` is what the loop guard says of it, `body` what is
    sent in place of what the caller gave, None where nothing was changed. `window` is the memory that cut it, whose
    estimate of it is `window_estimate`; `trimmed_tokens` are not sent, and of the tool calls in `forgotten` the model
    no longer sees the results. `notes` are verdicts to be written when it is opened, `plan` is what the window has yet
    to do with it.

    `asked` tells it apart from others, `past` is what is remembered of those like it, `lineage` says what it follows.
    Of its attempts so far: what those that failed were charged, when the last one ended (monotonic) and why it failed.
    `retries` is how often its SDK sends it again at most. `gate` is how it stands before its gates.
    """

    op_id: str
    request: ModelRequest
    frame: Frame
    step: int = 0
    asked: Asked | None = None
    countable: bool = False
    retries: int = 0
    loops: Look | None = None
    body: Any = None
    attempts: int = 0
    counted: bool = False
    cap: int | None = None
    words: Any = None
    shared: tuple[Scope, ...] = ()
    terms: tuple[Term, ...] = ()
    shares_usd: bool = False
    reached: bool = True
    required: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    bulk: Bulk | None = None
    window: WindowState | None = None
    window_estimate: int = 0
    trimmed_tokens: int = 0
    forgotten: frozenset[str] = frozenset()
    notes: tuple[Verdict, ...] = ()
    plan: object = None
    past: Past | None = None
    lineage: Lineage = NEW
    failed_nusd: int = 0
    ended_us: int | None = None
    last_reason: RetryReason | None = None
    gate: Gated | None = None

    @property
    def sent_before(self) -> int:
        """How often it was sent, and what it repeats."""
        return self.attempts + (self.lineage.resubmits.attempts if self.lineage.resubmits else 0)

    @property
    def failed_before_nusd(self) -> int:
        """What its failed attempts were charged, and those of what it repeats."""
        return self.failed_nusd + (self.lineage.resubmits.nusd if self.lineage.resubmits else 0)

    @property
    def path(self) -> tuple[Scope, ...]:
        """Where an attempt is held, and charged in this process."""
        return self.shared + self.frame.path if self.shared and self.reached else self.frame.path

    def conversation(self) -> int:
        """Tell apart conversations of the same text in different sessions and runs."""
        frame = self.frame
        return hash((frame.who.session or (frame.run.id if frame.run else None), self.request.transcript.key))


@dataclass(slots=True)
class Attempt:
    """One admitted send of a call. `cap` is the output cap to put into the request, None to leave it alone.

    `hold` is what it may cost at most, reserved where `reserved` says so; `estimate` what the bound was made of.
    `last`: the answer that ends a run; it must not ask for tools. `grown`: ids of the holds that a stream took later;
    `hold` includes them. `outgrown`: the provider wrote more than its cap, so the cap bounds nothing. `source` says who
    sent it again, `backoff_us` how long after the end of what it follows. `card` is the price of `context`, which is
    what the request asks for.
    """

    call_id: str
    number: int
    started_us: int
    ts_us: int
    cap: int | None
    hold: Amounts
    reserved: bool
    bound: str
    shape: str
    estimate: Estimate
    card: RateCard | None
    crowd: int = 1
    source: AttemptSource | None = None
    backoff_us: int | None = None
    context: PriceContext | None = None
    queue_us: int = 0
    last: bool = False
    closed: bool = False
    grown: tuple[str, ...] = ()
    outgrown: bool = False


class Result(NamedTuple):
    """What a tool returned, measured and not kept. `size` in bytes, None where unknown; see `words/canonical.py`."""

    hash: str
    size: int | None
    whole: bool


@dataclass(slots=True)
class ToolStep:
    """One call of a tool: what is known before it runs.

    `nusd` is what it costs, None where nobody said. `counted`: the answer that asked for it has counted it already.
    `requested_by` is the model call whose answer asked for it, None where none did. `repeat_index`: how many calls with
    this name and these arguments the run had before it, None outside of a run. `words`: its arguments, where content is
    kept; `given` the same as JSON, where a loop guard looks at them. The rest is as in `Call`.
    """

    op_id: str
    name: str
    frame: Frame
    args_hash: str
    nusd: int | None = None
    effect: str | None = None
    step: int = 0
    tool_call_id: str | None = None
    requested_by: str | None = None
    counted: bool = False
    repeat_index: int | None = None
    words: str | None = None
    given: str | None = None
    shared: tuple[Scope, ...] = ()
    terms: tuple[Term, ...] = ()
    shares_usd: bool = False
    reached: bool = True
    required: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    gate: Gated | None = None

    @property
    def path(self) -> tuple[Scope, ...]:
        """Where it is held, and charged in this process."""
        return self.shared + self.frame.path if self.shared and self.reached else self.frame.path


@dataclass(slots=True)
class ToolUse:
    """One admitted call of a tool: when it began, what it was charged, and, when it has ended, its result."""

    call_id: str
    started_us: int
    ts_us: int
    charged: Amounts
    queue_us: int = 0
    result: Result | None = None
