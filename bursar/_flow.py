"""The life of a model call, written once.

`open` ends with an admitted attempt, perhaps with a lowered output cap; `close` charges it and records it. They
are apart because a stream, a callback pair or the garbage collector may stand between them. Both are generators:
they yield what they need done (`_ports.Effect`), and a driver (`_drive.py`) does it, waiting or awaiting.

An operation is what the caller asked for once; an attempt is one HTTP send of it. The hold belongs to the attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from bursar._charge import charge, context_of, record_of
from bursar._errors import BudgetExceeded, PriceUnknown
from bursar._events import UNITS, UsageSource
from bursar._money import show_usd
from bursar._ports import Count, Held, Join, Peek, Release, Reserve, Settle, Wait, Write
from bursar._records import Verdict
from bursar._verdicts import Deny, Grant, Queue
from bursar.guards.budget import alone, amounts, decide

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from bursar._demand import Demand
    from bursar._events import Amounts, Answer, ModelRequest
    from bursar._ports import Clock, Denied, Effect, Room, Scope, Ticket
    from bursar._records import ModelCall, Who
    from bursar._run import Run
    from bursar.pricing.estimate import Estimate, Estimator
    from bursar.pricing.rates import PriceList, RateCard


class World(NamedTuple):
    """What the flow is given: time, prices, and what was learned so far."""

    clock: Clock
    prices: PriceList
    estimator: Estimator


@dataclass(slots=True)
class Frame:
    """Where a call happens: the budget path, the tags, and how its guards behave. Made once for a run or budget."""

    who: Who
    path: tuple[Scope, ...] = ()
    run: Run | None = None
    limits_usd: bool = False
    lenient_usd: bool = False
    hard: bool = False
    max_wait: float = 60.0
    observe: bool = False
    limits: Mapping[Scope, Mapping[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One operation: the request as asked, and what has become of it so far.

    `cap` is the output cap that was put into the request; retries send the same bytes again. `countable`: the
    provider has a free counting endpoint for it. `step` counts the operations of the run.
    """

    op_id: str
    request: ModelRequest
    frame: Frame
    step: int = 0
    attempts: int = 0
    counted: bool = False
    cap: int | None = None
    countable: bool = False
    waited_us: int = 0


@dataclass(slots=True)
class Attempt:
    """One admitted send of a call. `cap` is the output cap to put into the request, None to leave it alone.

    `hold` is what it may cost at most, reserved where `reserved` says so; `estimate` what the bound was made of.
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
    queue_us: int = 0
    closed: bool = False


def open(call: Call, world: World) -> Generator[Effect, Any, Attempt]:  # noqa: A001 - the pair is open and close
    """Admit the next attempt of a call, or raise `Stopped` before anything is sent."""
    frame, request = call.frame, call.request
    context = context_of(request.service_tier, request.speed)
    card = world.prices.card(request.provider, request.model, context=context, day=world.clock.today())
    if card is None and frame.limits_usd and not frame.lenient_usd:
        yield from _refuse_unpriced(call, world)
    call_id = f"{call.op_id}/{call.attempts}"
    began_us = world.clock.monotonic_us()
    estimate = _estimate(call, card, world)
    if frame.path:
        grant, crowd, estimate = yield from _admit(call, call_id, card, estimate, began_us, world)
    else:
        demand, crowd = estimate.demand, 1
        held = amounts(demand, demand.input_practical, demand.cap, hard=False)
        grant = Grant(None, held, "unheld", "practical")
    started_us = world.clock.monotonic_us()
    if grant.cap is not None:
        call.cap = grant.cap
    call.attempts += 1
    call.waited_us += started_us - began_us
    return Attempt(
        call_id,
        call.attempts - 1,
        started_us,
        world.clock.wall_us(),
        call.cap,
        grant.amounts,
        grant.shape not in ("unheld", "observed"),
        grant.bound,
        grant.shape,
        estimate,
        card,
        crowd,
        started_us - began_us,
    )


def close(call: Call, attempt: Attempt, answer: Answer, world: World) -> Generator[Effect, Any, ModelCall]:
    """Charge an attempt by how it ended, record it, and learn from it. Happens once for an attempt."""
    if attempt.closed:
        raise RuntimeError(f"attempt {attempt.call_id} was closed twice")
    attempt.closed = True
    frame = call.frame
    charged = charge(call, attempt, answer, world)
    if frame.path and answer.charge == "release" and attempt.reserved:
        yield Release(attempt.call_id)
    elif frame.path and answer.charge != "release":
        yield Settle(attempt.call_id, frame.path, charged.amounts, charged.source is UsageSource.PROVIDER)
    if answer.charge != "release":
        call.counted = True
    record = record_of(call, attempt, answer, charged, world)
    if frame.run is not None:
        frame.run.tally(record)
    yield Write(record)
    if charged.source is UsageSource.PROVIDER:
        cut = answer.truncated and attempt.cap is not None
        world.estimator.learn(call.request, frame.who.tags.workflow, conversation(call), answer, attempt.crowd, cut=cut)
    return record


def conversation(call: Call) -> int:
    """Tell apart conversations of the same text in different sessions and runs."""
    frame = call.frame
    return hash((frame.who.session or (frame.run.id if frame.run else None), call.request.transcript.key))


def _estimate(call: Call, card: RateCard | None, world: World) -> Estimate:
    estimate = world.estimator.estimate(call.request, call.frame.who.tags.workflow, conversation(call), card)
    if call.attempts:
        # The bytes of a retry are those of the first attempt: its cap is no longer ours to change.
        cap = estimate.demand.cap if call.cap is None else call.cap
        demand = estimate.demand._replace(cap=cap, clampable=False, calls=0 if call.counted else 1)
        return estimate._replace(demand=demand)
    return estimate


def _admit(
    call: Call, call_id: str, card: RateCard | None, estimate: Estimate, began_us: int, world: World
) -> Generator[Effect, Any, tuple[Grant, int, Estimate]]:
    frame = call.frame
    ticket: Ticket | None = None
    seat: Scope | None = None
    exact: int | None = None
    while True:
        rooms: tuple[Room, ...] = yield Peek(frame.path, ticket)
        crowd = max((room.crowd for room in rooms), default=0) + (ticket is None)
        decision = decide(estimate.demand, rooms, estimate.crowd, hard=frame.hard)
        if frame.observe and not (isinstance(decision, Grant) and decision.shape == "as_asked"):
            return (yield from _observe(call, decision, estimate, world)), crowd, estimate
        if isinstance(decision, Queue):
            if seat != decision.scope:
                # In line first, then one more look: what is settled in between must not be missed.
                ticket, seat = (yield Join(decision.scope)), decision.scope
                if ticket is not None:
                    continue
            left_s = frame.max_wait - (world.clock.monotonic_us() - began_us) / 1_000_000
            if ticket is not None and left_s > 0:
                yield Wait(ticket, left_s)
                estimate = _exactly(_estimate(call, card, world), exact)
                continue
            why = "waited" if ticket is not None else "would_deadlock"
            decision = alone(estimate.demand, rooms, hard=frame.hard, why=why)
        if isinstance(decision, Deny):
            if exact is None and call.countable and not frame.hard and _worth_counting(estimate, rooms):
                exact = yield Count()
                if exact is not None:
                    estimate = _exactly(estimate, exact)
                    continue
                call.countable = False
            yield from _deny(call, decision, world)
        assert isinstance(decision, Grant)
        answer: Held | Denied = yield Reserve(call_id, frame.path, decision.amounts)
        if isinstance(answer, Held):
            if decision.shape == "clamped":
                yield Write(_verdict(call, "clamp", f"output cap {decision.cap}", None, world))
            return decision, crowd, estimate


def _worth_counting(estimate: Estimate, rooms: tuple[Room, ...]) -> bool:
    likely = estimate.demand._replace(input_practical=estimate.input_likely)
    return isinstance(alone(likely, rooms, hard=False), Grant)


def _exactly(estimate: Estimate, tokens: int | None) -> Estimate:
    if tokens is None:
        return estimate
    # The vendors call their count an estimate; it was never seen off by more than a few tokens of framing.
    bound = min(estimate.demand.input_hard, tokens + tokens // 50 + 16)
    return estimate._replace(input_likely=tokens, demand=estimate.demand._replace(input_practical=bound))


def _observe(call: Call, decision: Grant | Queue | Deny, estimate: Estimate, world: World) -> Generator[Effect, Any, Grant]:
    demand = estimate.demand
    if isinstance(decision, Deny):
        yield Write(_verdict(call, "deny", decision.why, decision, world))
    elif isinstance(decision, Grant) and decision.shape == "clamped":
        yield Write(_verdict(call, "clamp", f"output cap {decision.cap}", None, world))
    elif isinstance(decision, Queue):
        yield Write(_verdict(call, "queue", f"behind others on {decision.scope}", None, world))
    return Grant(None, amounts(demand, demand.input_practical, demand.cap, hard=False), "observed", "practical")


def _deny(call: Call, deny: Deny, world: World) -> Generator[Effect, Any, NoReturn]:
    yield Write(_verdict(call, "deny", deny.why, deny, world))
    if call.frame.run is not None:
        call.frame.run.stop_reason = BudgetExceeded.reason
    room, unit = deny.room, deny.unit
    free, idle = _of(room.free, unit), _of(room.idle, unit)
    limit = call.frame.limits[room.scope][unit]
    show = show_usd if unit == "usd" else f"{{:,}} {unit}".format
    held = f", {show(idle - free)} held by calls in flight" if idle > free else ""
    advice = {
        "no_room": "raise the limit, or catch bursar.Stopped and finish with what you have",
        "waited": "raise Budget(max_wait=...) or run fewer calls at once",
        "would_deadlock": "close the stream that this task has open, or call from a thread that may wait",
    }[deny.why]
    raise BudgetExceeded(
        f"{room.scope}: the next call may use up to {show(deny.needed)}, and {show(max(0, free))} of "
        f"{show(limit)} is left{held}. Nothing was sent. To go on: {advice}.",
        scope=str(room.scope),
        unit=unit,
        limit=limit,
        settled=limit - idle,
        held=idle - free,
        needed=deny.needed,
        why=deny.why,
        run=call.frame.run,
    )


def _refuse_unpriced(call: Call, world: World) -> Generator[Effect, Any, None]:
    request, frame = call.request, call.frame
    action = Verdict(
        world.clock.wall_us(), frame.run.id if frame.run else None, call.op_id, "budget", "deny", "price_unknown"
    )
    action.acted = not frame.observe
    yield Write(action)
    if not frame.observe:
        if frame.run is not None:
            frame.run.stop_reason = PriceUnknown.reason
        shown = request.model[:80].encode("unicode_escape").decode()
        raise PriceUnknown(
            f"no price is known for {shown!r} of {request.provider}, and a limit in dollars applies; nothing was "
            "sent. Name a model that `bursar prices` knows, or limit tokens or model_calls instead of usd.",
            provider=request.provider,
            model=request.model,
            run=frame.run,
        )


def _verdict(call: Call, action: str, reason: str, deny: Deny | None, world: World) -> Verdict:
    run = call.frame.run
    verdict = Verdict(world.clock.wall_us(), run.id if run else None, call.op_id, "budget", action, reason)
    verdict.acted = not call.frame.observe
    if deny is not None:
        idle, free = _of(deny.room.idle, deny.unit), _of(deny.room.free, deny.unit)
        limit = call.frame.limits[deny.room.scope][deny.unit]
        verdict.scope, verdict.unit, verdict.needed = str(deny.room.scope), deny.unit, deny.needed
        verdict.limit, verdict.settled, verdict.held = limit, limit - idle, idle - free
    return verdict


def _of(amount: Amounts, unit: str) -> int:
    return amount[UNITS.index(unit)]
