"""Admit one attempt: grant, lower its cap, let it wait its turn, clamp it, or refuse it.

Where there is plenty the store holds at once what the attempt can cost at most, and that is all. Elsewhere the loop
looks at what every limit on the path has left, asks the budget guard what to do about it, and does that. Learning helps
whoever waits: the estimate is made anew at each turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from bursar.flow.helpers import with_helpers
from bursar.flow.refusals import refuse_late
from bursar.flow.terms import RESERVED, shown
from bursar.guards.budget import PLENTY, alone, amounts, decide
from bursar.words.errors import BudgetExceeded, PriceUnknown
from bursar.words.events import NOTHING, UNITS
from bursar.words.ports import Count, Held, Join, Limit, Peek, Reserve, Take, Wait, Write
from bursar.words.records import Verdict
from bursar.words.verdicts import Deny, Grant, Queue

if TYPE_CHECKING:
    from collections.abc import Generator

    from bursar.flow.call import Call, Frame, Operation, World
    from bursar.pricing.estimate import Estimate
    from bursar.pricing.rates import PriceContext, RateCard
    from bursar.words.demand import Demand
    from bursar.words.events import Amounts
    from bursar.words.ports import Denied, Effect, Room, Scope, Ticket

LOOK_AGAIN_S: Final = 0.05
"""Between two looks at a limit that other processes share."""
_ADVICE = {
    "no_room": "raise the limit, or catch bursar.Stopped and finish with what you have",
    "waited": "raise Budget(max_wait=...) or run fewer calls at once",
    "would_deadlock": "close the stream that this task has open, or call from a thread that may wait",
    "frozen": "have it thawed with `bursar limits thaw`; raising the limit does not help",
    "reserved": "catch bursar.Stopped and make one last call inside final(): the rest is set aside for that",
}


@dataclass(slots=True)
class Admission:
    """An attempt on its way to a hold: its estimate, its place in a queue, what the provider counted."""

    call: Call
    call_id: str
    context: PriceContext
    card: RateCard | None
    world: World
    began_us: int
    estimate: Estimate
    crowd: int = 1
    ticket: Ticket | None = None
    seat: Scope | None = None
    exact: int | None = None

    def renew(self) -> None:
        """Estimate anew: other calls have ended since."""
        self.estimate = _exactly(estimate_of(self.call, self.card, self.world), self.exact)

    def left_s(self) -> float:
        """Seconds that this attempt may still wait."""
        return self.call.frame.left_s(self.began_us, self.world.clock.monotonic_us())


def set_aside(frame: Frame, demand: Demand) -> Generator[Effect, Any, None]:
    """Keep what the last call may need, on the context of this one, out of the reach of ordinary calls."""
    for reserve in frame.reserves:
        limits = reserve.resize(demand, hard=frame.hard)
        if limits is not None:
            yield Limit(reserve.inner, limits)


def unheld(demand: Demand) -> Grant:
    """For a call that no limit applies to."""
    return Grant(None, amounts(demand, demand.input_practical, demand.cap, hard=False), "unheld", "practical")


def much(crowd: int) -> int:
    """For how many calls alike there must be room where there is plenty; `crowd` usually come at once."""
    return max(PLENTY, crowd)


def ask_much(wish: Admission, path: tuple[Scope, ...]) -> Take:
    """All that the attempt can cost, for where there is plenty of everything: the usual case."""
    demand = wish.estimate.demand
    return Take(wish.call_id, path, amounts(demand, demand.input_hard, demand.cap), much(wish.estimate.crowd))


def as_asked(wish: Admission, held: Held) -> Grant:
    """There was plenty: the call goes as it is."""
    wish.crowd = held.crowd
    return Grant(None, held.amounts, "as_asked", "hard")


def admit(wish: Admission, path: tuple[Scope, ...]) -> Generator[Effect, Any, Grant | Deny]:
    """Hold what the attempt may cost and say how it is sent, or why it is not. Raises `BudgetExceeded` when it is late.

    Where a gate may be asked for more, a denial is first in the line of the limit in its way.
    """
    frame = wish.call.frame
    while True:
        if frame.deadline is not None and wish.ticket is not None:
            yield from refuse_late(wish.call, wish.world)
        rooms: tuple[Room, ...] = yield Peek(path, wish.ticket)
        wish.crowd = max((room.crowd for room in rooms), default=0) + (wish.ticket is None)
        decision = decide(wish.estimate.demand, rooms, wish.estimate.crowd, hard=frame.hard)
        if frame.observe and not (isinstance(decision, Grant) and decision.shape == "as_asked"):
            return (yield from _observe(wish, decision))
        if isinstance(decision, Queue):
            turn = yield from _wait_turn(wish, decision.scope, rooms)
            if turn is None:
                continue
            decision = turn
        if isinstance(decision, Deny):
            if (yield from _counted(wish, rooms)) or (yield from _line_up(wish, decision, rooms)):
                continue
            return decision
        assert isinstance(decision, Grant)
        answer: Held | Denied = yield Reserve(wish.call_id, path, decision.amounts)
        if isinstance(answer, Held):
            if decision.shape == "clamped":
                yield Write(_verdict(wish.call, "clamp", f"output cap {decision.cap}", None, wish.world))
            return decision


def estimate_of(call: Call, card: RateCard | None, world: World) -> Estimate:
    """Estimate the next attempt of a call."""
    workflow = call.frame.who.tags.workflow
    if call.bulk is None:
        estimate = world.estimator.estimate(call.request, workflow, call.conversation(), card)
        if call.request.helpers:
            estimate = with_helpers(estimate, call.request, world, hard=call.frame.hard)
    else:
        estimate = call.bulk.estimate
    if call.attempts:
        # The bytes of a retry are those of the first attempt: its cap is no longer ours to change.
        cap = estimate.demand.cap if call.cap is None else call.cap
        demand = estimate.demand._replace(cap=cap, clampable=False, calls=0 if call.counted else estimate.demand.calls)
        return estimate._replace(demand=demand)
    return estimate


def refuse_unpriced(
    call: Call, card: RateCard | None, world: World, model: str | None = None
) -> Generator[Effect, Any, None]:
    """A limit in dollars cannot be kept without a price that is trusted: refuse, or note what would have been.

    `model` is what has none, where that is another than the one that is asked.
    """
    if card is not None and not world.prices.is_outdated(card):
        return
    request, frame = call.request, call.frame
    yield Write(_verdict(call, "deny", PriceUnknown.reason, None, world))
    if frame.observe:
        return
    if frame.run is not None:
        frame.run.stop_reason = PriceUnknown.reason
    shown = (model or request.model)[:80].encode("unicode_escape").decode()
    if card is None:
        what = f"no price is known for {shown!r} of {request.provider}"
        mend = "Name a model that `bursar prices` knows, or limit tokens or model_calls instead of usd."
    else:
        what = f"the list price of {shown!r} is of {card.version}, older than max_price_age allows"
        mend = "Fetch newer ones with `bursar prices update`, set one, or allow older ones."
    raise PriceUnknown(
        f"{what}, and a limit in dollars applies; nothing was sent. {mend}",
        provider=request.provider,
        model=model or request.model,
        run=frame.run,
    )


def _wait_turn(wish: Admission, scope: Scope, rooms: tuple[Room, ...]) -> Generator[Effect, Any, Grant | Deny | None]:
    if wish.seat != scope:
        # In line first, then one more look: what is settled in between must not be missed.
        wish.ticket, wish.seat = (yield Join(scope)), scope
        if wish.ticket is not None:
            return None
    left_s = wish.left_s()
    if wish.ticket is not None and left_s > 0:
        # Nobody here is told when another process makes room.
        yield Wait(wish.ticket, min(left_s, LOOK_AGAIN_S) if scope.window else left_s)
        wish.renew()
        return None
    why = "waited" if wish.ticket is not None else "would_deadlock"
    return alone(wish.estimate.demand, rooms, hard=wish.call.frame.hard, why=why)


def _line_up(wish: Admission, deny: Deny, rooms: tuple[Room, ...]) -> Generator[Effect, Any, bool]:
    # Of many calls without room one asks for more; the others wait for what comes of that, and look again.
    gates, scope = wish.call.frame.gates, deny.room.scope
    if gates is None or not gates.asks_full:
        return False
    behind = any(room.behind for room in rooms if room.scope == scope)
    if deny.why != "no_room" or (wish.seat == scope and not behind):
        return False
    return (yield from _wait_turn(wish, scope, rooms)) is None


def _counted(wish: Admission, rooms: tuple[Room, ...]) -> Generator[Effect, Any, bool]:
    # A cold bound alone never denies: where the likely size fits, the provider is asked once, for free.
    call = wish.call
    if wish.exact is not None or not call.countable or call.frame.hard:
        return False
    if call.request.summed or call.request.helpers:
        # The count is of one reading of the context, and there may be more.
        return False
    likely = wish.estimate.demand._replace(input_practical=wish.estimate.input_likely)
    if not isinstance(alone(likely, rooms, hard=False), Grant):
        return False
    wish.exact = yield Count()
    call.countable = False
    wish.estimate = _exactly(wish.estimate, wish.exact)
    return wish.exact is not None


def _exactly(estimate: Estimate, tokens: int | None) -> Estimate:
    if tokens is None:
        return estimate
    # The vendors call their count an estimate: two per cent and a frame are kept for that.
    bound = min(estimate.demand.input_hard, tokens + tokens // 50 + 16)
    return estimate._replace(input_likely=tokens, demand=estimate.demand._replace(input_practical=bound))


def _observe(wish: Admission, decision: Grant | Queue | Deny) -> Generator[Effect, Any, Grant]:
    call, demand = wish.call, wish.estimate.demand
    if isinstance(decision, Deny):
        yield Write(_verdict(call, "deny", decision.why, decision, wish.world))
    elif isinstance(decision, Queue):
        yield Write(_verdict(call, "queue", f"behind others on {decision.scope}", None, wish.world))
    elif decision.shape == "clamped":
        yield Write(_verdict(call, "clamp", f"output cap {decision.cap}", None, wish.world))
    held = amounts(demand, demand.input_practical, demand.cap, hard=False)
    return Grant(None, held, "observed", "practical")


def refuse(call: Operation, deny: Deny, world: World, said: str = "") -> Generator[Effect, Any, NoReturn]:
    """Refuse a call that does not fit; `said`: what came of asking for more.

    Raises `BudgetExceeded` with the numbers of the limit in its way.
    """
    if deny.room.scope.name.endswith(RESERVED):
        deny = deny._replace(why="reserved")
    if deny.room.idle == NOTHING:
        # No limit that is used up leaves nothing in every unit, those without a limit included.
        deny = deny._replace(why="frozen")
    yield Write(_verdict(call, "deny", deny.why, deny, world))
    if call.frame.run is not None:
        call.frame.run.stop_reason = BudgetExceeded.reason
    room, unit = deny.room, deny.unit
    free, idle, limit = _of(room.free, unit), _of(room.idle, unit), _limit(room, unit)
    held = f", {shown(unit, idle - free)} held by calls in flight" if idle > free else ""
    wanted = f"the next call may use up to {shown(unit, deny.needed)}"
    left = f"{shown(unit, max(0, free))} of {shown(unit, limit)} is left{held}"
    what = "somebody has frozen it, and every call is refused" if deny.why == "frozen" else f"{wanted}, and {left}"
    raise BudgetExceeded(
        f"{room.scope}: {what}. Nothing was sent.{said} To go on: {_ADVICE[deny.why]}.",
        scope=str(room.scope),
        unit=unit,
        limit=limit,
        settled=limit - idle,
        held=idle - free,
        needed=deny.needed,
        why=deny.why,
        run=call.frame.run,
    )


def _verdict(call: Operation, action: str, reason: str, deny: Deny | None, world: World) -> Verdict:
    run = call.frame.run
    verdict = Verdict(world.clock.wall_us(), run.id if run else None, call.op_id, "budget", action, reason)
    verdict.acted = not call.frame.observe
    if deny is not None:
        idle, free = _of(deny.room.idle, deny.unit), _of(deny.room.free, deny.unit)
        verdict.scope, verdict.unit, verdict.needed = str(deny.room.scope), deny.unit, deny.needed
        verdict.limit = _limit(deny.room, deny.unit)
        verdict.settled, verdict.held = verdict.limit - idle, idle - free
    return verdict


def _limit(room: Room, unit: str) -> int:
    # A scope that was frozen refuses in every unit, limited or not.
    return room.limits.get(unit, 0)


def _of(amount: Amounts, unit: str) -> int:
    return amount[UNITS.index(unit)]
