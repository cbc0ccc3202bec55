"""The life of a model call, written once.

`open` ends with an admitted attempt, perhaps with a lowered output cap; `grow` holds more for a stream that uses more
than that; `close` charges the attempt and records it. They are apart because a stream, a callback pair or the garbage
collector may stand between them. All are generators: they yield what they need done (`_ports.Effect`), and a driver
(`runs/drive.py`) does it, waiting or awaiting.

An operation is what the caller asked for once; an attempt is one HTTP send of it. The hold belongs to the attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.flow.admission import Admission, admit, as_asked, ask_much, estimate_of, refuse_unpriced, set_aside, unheld
from bursar.flow.call import Attempt
from bursar.flow.charge import charge, context_of, place_of, record_of
from bursar.flow.gating import pass_full, pass_gates
from bursar.flow.growth import beyond
from bursar.flow.helpers import unpriced
from bursar.flow.notices import pass_soft_limits, speak
from bursar.flow.refusals import claim_last, give_back, refuse_growth, refuse_late, refuse_loop, refuse_unattributed
from bursar.flow.retries import follow, refuse_retry, refuse_wait, remarks, remember
from bursar.flow.tool_call import note_asked
from bursar.guards.budget import smallest
from bursar.words.events import NOTHING, Amounts, ModelRequest, UsageSource, parts_of
from bursar.words.ports import Denied, Posted, Posting, Release, Reserve, Sent, Settle, Write
from bursar.words.verdicts import Deny

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from bursar.flow.call import Call, World
    from bursar.flow.charge import Charged
    from bursar.pricing.rates import PriceContext, RateCard
    from bursar.words.events import Answer, Usage
    from bursar.words.ports import Effect, Held
    from bursar.words.records import ModelCall
    from bursar.words.verdicts import Grant

GROWTH_TOKENS: Final = 128
"""Output tokens that a stream holds beyond what it has shown: a second or two of writing, and not a hold a chunk."""
_PRICED: Final = parts_of(ModelRequest, "provider", "model", "service_tier", "speed", "region")


def open(call: Call, world: World) -> Generator[Effect, Any, Attempt]:
    """Admit the next attempt of a call, or raise `Stopped` before anything is sent."""
    if call.missing or call.notes or call.loops is not None:
        yield from _judge(call, world)
    frame = call.frame
    try:
        if frame.final:
            yield from claim_last(call, world)
        wish, grant = yield from _admitted(call, world)
        if frame.terms or call.terms:
            own = NOTHING if grant.shape == "observed" else grant.amounts
            yield from pass_soft_limits(call, smallest(wish.estimate.demand, hard=frame.hard), own, world)
        reserved = grant.shape not in ("unheld", "observed")
        if reserved and call.shared and call.reached:
            yield Sent(wish.call_id)
        return _sent(wish, grant, world, reserved=reserved)
    except BaseException:
        _give_up(call, world)
        raise


def _admitted(call: Call, world: World) -> Generator[Effect, Any, tuple[Admission, Grant]]:
    """The attempt with a hold, or for which no limit applies; after each raise of a budget it is looked at anew."""
    while True:
        wish = yield from _wish(call, world)
        path = call.path
        if not path:
            return wish, unheld(wish.estimate.demand)
        held: Held | None = yield ask_much(wish, path)
        if held is not None:
            return wish, as_asked(wish, held)
        answer = yield from admit(wish, path)
        if not isinstance(answer, Deny):
            return wish, answer
        yield from pass_full(call, wish.estimate, answer, world)


def _judge(call: Call, world: World) -> Generator[Effect, Any, None]:
    """What is said of an operation whatever it costs: its tags, its notes, its loops."""
    if call.missing:
        yield from refuse_unattributed(call, world)
    notes, call.notes = call.notes, ()
    for verdict in notes:
        yield Write(verdict)
    if call.loops is not None and not call.attempts:
        yield from refuse_loop(call, call.loops, world)


def _wish(call: Call, world: World) -> Generator[Effect, Any, Admission]:
    """What the call asks for, at its price and at its size, where nothing but the budget stands against it."""
    frame = call.frame
    while True:
        began_us = world.clock.monotonic_us()
        context, card = price_of(call, world)
        if (card is None or world.prices.outdated) and needs_price(call):
            yield from refuse_unpriced(call, card, world)
        if call.request.helpers and needs_price(call) and (other := unpriced(call.request, world)) is not None:
            yield from refuse_unpriced(call, None, world, other)
        call_id, estimate = f"{call.op_id}/{call.attempts}", estimate_of(call, card, world)
        wish = Admission(call, call_id, context, card, world, began_us, estimate)
        if frame.retries is None and frame.gates is None and frame.deadline is None and not frame.reserves:
            return wish
        if not (yield from _prepare(wish)):
            return wish


def _prepare(wish: Admission) -> Generator[Effect, Any, bool]:
    """Refuse what comes too often or too late, ask who has to be asked, set aside what a last call may need.

    True where somebody was asked: by now the call may cost something else.
    """
    call, frame, world = wish.call, wish.call.frame, wish.world
    if frame.retries is not None:
        yield from refuse_retry(call, wish.estimate, frame.retries, world)
    if frame.gates is not None and (yield from pass_gates(call, wish.estimate, world)):
        return True
    if not frame.observe:
        yield from set_aside(frame, wish.estimate.demand)
    if call.path:
        yield from refuse_late(call, world)
    return False


def _give_up(call: Call, world: World) -> None:
    if call.frame.final:
        give_back(call)
    if call.attempts:
        world.earlier.over(call)


def needs_price(call: Call) -> bool:
    """Whether a limit in dollars applies; a batch that could not be read has none to look for."""
    frame, bulk = call.frame, call.bulk
    if bulk is not None and bulk.items is None:
        return False
    return call.shares_usd or (frame.limits_usd and not frame.lenient_usd)


def price_of(call: Call, world: World) -> tuple[PriceContext, RateCard | None]:
    """Under which of a model's prices the call falls, and the price that its hold must cover."""
    provider, model, tier, speed, region = _PRICED(call.request)
    place = None if region is None else place_of(provider, region)
    context = context_of(tier, speed, place)
    if call.bulk is not None:
        return context, call.bulk.card
    prices, day = world.prices, world.clock.today()
    card = prices.card(provider, model, context=context, day=day)
    if card is not None and tier == "flex":
        # A cheaper tier that is full may be served, and billed, as the standard one: that is what the hold must cover.
        card = prices.card(provider, model, context=context_of(None, speed, place), day=day)
    return context, card


def _sent(wish: Admission, grant: Grant, world: World, *, reserved: bool) -> Attempt:
    """The attempt as it leaves."""
    call, frame = wish.call, wish.call.frame
    started_us = world.clock.monotonic_us()
    if grant.cap is not None:
        call.cap = grant.cap
    source, backoff_us = follow(call, world, wish.began_us, started_us)
    call.attempts += 1
    return Attempt(
        call_id=wish.call_id,
        number=call.attempts - 1,
        started_us=started_us,
        ts_us=world.clock.wall_us(),
        cap=call.cap,
        hold=grant.amounts,
        reserved=reserved,
        bound=grant.bound,
        shape=grant.shape,
        estimate=wish.estimate,
        card=wish.card,
        crowd=wish.crowd,
        queue_us=started_us - wish.began_us,
        last=bool(frame.final) and not frame.observe,
        source=source,
        backoff_us=backoff_us,
        context=wish.context,
    )


def grow(
    call: Call, attempt: Attempt, usage: Usage | None, output_tokens: int, world: World, partial: Callable[[], str]
) -> Generator[Effect, Any, None]:
    """Hold what a stream has used beyond its hold and a little more, or raise `BudgetExceeded`.

    `usage` is what the provider has said of the input, None where nothing; `output_tokens` what it has written so far.
    Nobody waits for room in the middle of a stream: the provider goes on writing. `partial` is asked for the text so
    far where the stream has to be cut.
    """
    more = beyond(attempt, usage, output_tokens + GROWTH_TOKENS)
    if not attempt.reserved or more == NOTHING or (call.frame.observe and attempt.outgrown):
        return
    attempt.outgrown = attempt.outgrown or output_tokens > attempt.hold.output_tokens
    child = f"{attempt.call_id}+{len(attempt.grown) + 1}"
    answer: Held | Denied = yield Reserve(child, call.path, more)
    if isinstance(answer, Denied):
        yield from refuse_growth(call, answer, world, partial)
        return
    attempt.grown += (child,)
    attempt.hold = Amounts(*(had + got for had, got in zip(attempt.hold, more, strict=True)))
    if call.shared and call.reached:
        yield Sent(child)


def close(call: Call, attempt: Attempt, answer: Answer, world: World) -> Generator[Effect, Any, ModelCall]:
    """Charge an attempt by how it ended, record it, and learn from it. Happens once for an attempt."""
    if attempt.closed:
        raise RuntimeError(f"attempt {attempt.call_id} was closed twice")
    attempt.closed = True
    frame, path = call.frame, call.path
    answer = remarks(answer)
    charged = charge(call, attempt, answer, world)
    measured = charged.source is UsageSource.PROVIDER
    if answer.charge == "release":
        if attempt.reserved:
            yield Release(attempt.call_id)
        give_back(call)
    else:
        call.counted = True
        if path:
            yield Settle(attempt.call_id, path, charged.amounts, measured)
    record = recorded(call, attempt, answer, charged, world)
    if call.shared and answer.charge != "release":
        yield Write(record, Posting(attempt.call_id, call.shared, charged.amounts, measured))
        yield Posted(attempt.call_id, call.shared)
    else:
        yield Write(record)
    if answer.asked:
        yield from note_asked(call, attempt.call_id, answer, world)
    for child in attempt.grown:
        # Only now: what it stood for is part of what was charged.
        yield Release(child)
    if measured:
        learn(call, attempt, answer, world)
    if frame.terms:
        yield from speak(call, world)
    return record


def written(
    call: Call, attempt: Attempt, answer: Answer, record: ModelCall, world: World
) -> Generator[Effect, Any, None]:
    """Write the row of an attempt that was charged what its answer says it used, then learn from it."""
    yield Write(record)
    learn(call, attempt, answer, world)


def recorded(call: Call, attempt: Attempt, answer: Answer, charged: Charged, world: World) -> ModelCall:
    """The row of an attempt, taken in by its run and by what remembers failures."""
    record = record_of(call, attempt, answer, charged, world)
    remember(call, attempt, answer, record, world)
    if call.frame.run is not None:
        call.frame.run.tally(record)
    return record


def heed(call: Call, answer: Answer, world: World) -> Generator[Effect, Any, None]:
    """After a failed attempt: raise `Stopped` in place of a wait that the provider asks for and nobody should keep."""
    try:
        yield from refuse_wait(call, answer, world)
    except BaseException:
        world.earlier.over(call)
        raise


def learn(call: Call, attempt: Attempt, answer: Answer, world: World) -> None:
    """Take in what the provider says that an attempt used."""
    cut = answer.truncated and attempt.cap is not None
    workflow = call.frame.who.tags.workflow
    world.estimator.learn(call.request, workflow, call.conversation(), answer, attempt.crowd, cut=cut)
    if call.window is not None and answer.usage is not None:
        call.window.observe(call.window_estimate, answer.usage.input_tokens)
