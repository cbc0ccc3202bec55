"""The usual call without a generator: nothing to ask or to tell but the store, one yes, one charge, one row.

`flow/model_call.py` says what happens to a call; a generator that is driven takes its time for that. Most calls need
none of what it can do: they are the first attempt at something, under limits that have plenty left, and their answer
says what it used. For those the same steps are taken here one after the other. Whatever else there is about a call,
these functions change nothing and return None, and the flow decides: both must come to the same end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar.flow.admission import much
from bursar.flow.call import Attempt
from bursar.flow.charge import charge
from bursar.flow.model_call import close, learn, needs_price, open, price_of, recorded, written
from bursar.flow.retries import follow
from bursar.guards.budget import amounts
from bursar.runs.drive import adrive, drive, note_holder, owner_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bursar.flow.call import Call, World
    from bursar.runs.drive import Desk
    from bursar.words.events import Answer
    from bursar.words.ports import Store
    from bursar.words.records import ModelCall


def admit(call: Call, world: World, desk: Desk, count: Callable[[], int | None] | None = None) -> Attempt:
    """Admit the next attempt of a call, blocking where it waits; raises `Stopped`."""
    attempt = open_usual(call, world, desk.store)
    return drive(open(call, world), desk, count) if attempt is None else attempt


async def aadmit(
    call: Call, world: World, desk: Desk, count: Callable[[], Awaitable[int | None]] | None = None
) -> Attempt:
    """As `admit`, awaiting."""
    attempt = open_usual(call, world, desk.hurried)
    return await adrive(open(call, world), desk, count) if attempt is None else attempt


def conclude(call: Call, attempt: Attempt, answer: Answer, world: World, desk: Desk) -> ModelCall:
    """Charge an attempt by how it ended and record it; its row."""
    record = charge_usual(call, attempt, answer, world, desk.store)
    if record is None:
        return drive(close(call, attempt, answer, world), desk)
    desk.sink.write(record)
    learn(call, attempt, answer, world)
    return record


async def aconclude(call: Call, attempt: Attempt, answer: Answer, world: World, desk: Desk) -> ModelCall:
    """As `conclude`, without blocking an event loop; cancelled, it is done to its end before it is gone."""
    record = charge_usual(call, attempt, answer, world, desk.hurried)
    if record is None:
        return await adrive(close(call, attempt, answer, world), desk, whole=True)
    if desk.sink.try_write(record):
        learn(call, attempt, answer, world)
    else:
        await adrive(written(call, attempt, answer, record, world), desk, whole=True)
    return record


def open_usual(call: Call, world: World, store: Store) -> Attempt | None:
    """Admit the first attempt of a call as it was asked for; None where anything but plenty of room is to be said."""
    frame = call.frame
    if call.attempts or call.missing or call.notes or call.loops is not None or call.shared or call.bulk is not None:
        return None
    if frame.retries is not None or frame.gates is not None or frame.deadline is not None:
        return None
    if frame.terms or frame.reserves or frame.final or call.request.helpers:
        return None
    context, card = price_of(call, world)
    if (card is None or world.prices.outdated) and needs_price(call):
        return None
    call_id, path = call.op_id + "/0", frame.path
    estimate = world.estimator.estimate(call.request, frame.who.tags.workflow, call.conversation(), card)
    demand, crowd = estimate.demand, 1
    if path:
        wanted, owner = amounts(demand, demand.input_hard, demand.cap), owner_id()
        held = store.take(call_id, path, wanted, much(estimate.crowd), owner)
        if held is None:
            return None
        crowd = held.crowd
    else:
        wanted = amounts(demand, demand.input_practical, demand.cap, hard=False)
    try:
        if path:
            note_holder(owner)
        # It waited for nobody: it left when it asked.
        now_us = world.clock.monotonic_us()
        source, backoff_us = follow(call, world, now_us, now_us)
        call.attempts = 1
        return Attempt(
            call_id,
            0,
            now_us,
            world.clock.wall_us(),
            call.cap,
            wanted,
            bool(path),
            "hard" if path else "practical",
            "as_asked" if path else "unheld",
            estimate,
            card,
            crowd,
            source,
            backoff_us,
            context,
        )
    except BaseException:
        if path:
            store.release(call_id)
        raise


def charge_usual(call: Call, attempt: Attempt, answer: Answer, world: World, store: Store) -> ModelCall | None:
    """Charge an attempt what its answer says it used; its row, still to be written, and None where it does not say.

    Then, as the flow does after it has written the row, `learn` takes in what it used.
    """
    if attempt.closed or answer.charge != "usage" or answer.usage is None or answer.retry_after_us is not None:
        return None
    if call.shared or call.frame.terms or attempt.grown or answer.asked:
        return None
    attempt.closed = True
    charged = charge(call, attempt, answer, world)
    call.counted = True
    path = call.frame.path
    if path:
        store.settle(attempt.call_id, path, charged.amounts, measured=True)
    return recorded(call, attempt, answer, charged, world)
