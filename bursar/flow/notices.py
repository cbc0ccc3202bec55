"""What limits that refuse nothing do to an admitted call, and what a budget says after one: slow down, speak up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.flow.refusals import note, refuse_late
from bursar.flow.terms import shown
from bursar.guards.soft import beyond
from bursar.words.events import NOTHING, UNITS, Amounts
from bursar.words.ports import Look, Sleep, Turn

if TYPE_CHECKING:
    from collections.abc import Generator

    from bursar.flow.call import Operation, World
    from bursar.flow.terms import Term
    from bursar.guards.soft import Beyond
    from bursar.words.ports import Balance, Effect


def pass_soft_limits(call: Operation, least: Amounts, own: Amounts, world: World) -> Generator[Effect, Any, None]:
    """Note, warn or slow down a call that is beyond a limit of that kind.

    `least` is what it takes at its smallest, `own` what it holds itself.
    It holds while it waits: whoever asks after it counts it, so that no two calls take the same last room.
    """
    for term in (*call.frame.terms, *call.terms):
        if not term.over.soft:
            continue
        balance: Balance = yield Look(term.scope)
        # A warning judges by what is spent; a throttle, like a refusal, by what may be.
        others = NOTHING if term.over.interval_us is None else _less(balance.held, own)
        over = beyond(least, term.limits, balance.settled, others)
        if over is None:
            continue
        if term.over.interval_us is None:
            yield from _warn(call, term, over, world)
        else:
            yield from _slow_down(call, term, over, world)


def speak(call: Operation, world: World) -> Generator[Effect, Any, None]:
    """Say which marks the spend has reached, each once; the call is charged and recorded by now."""
    for term in call.frame.terms:
        balance: Balance = yield Look(term.scope)
        for notice in term.crossed(balance.settled):
            numbers = {
                "scope": notice.scope,
                "unit": notice.unit,
                "limit": notice.limit,
                "settled": notice.settled,
                "held": balance.held[UNITS.index(notice.unit)],
                "acted": True,
            }
            yield note(call, world, "warn", f"{shown(notice.unit, notice.warn_at)} reached", numbers)
            term.tell(notice)


def _warn(call: Operation, term: Term, over: Beyond, world: World) -> Generator[Effect, Any, None]:
    yield note(call, world, "over", "no_room", _numbers(term, over))
    if call.frame.observe:
        return
    term.once(
        f"over {over.unit}",
        f"{term.scope} goes beyond {shown(over.unit, over.limit)}: over='warn' refuses nothing, and this is said once",
    )


def _slow_down(call: Operation, term: Term, over: Beyond, world: World) -> Generator[Effect, Any, None]:
    interval_us, clock = term.over.interval_us, world.clock
    assert interval_us is not None
    # Before the wait: between its turn and its sending nothing stands.
    yield note(call, world, "throttle", f"one call each {interval_us / 1_000_000:g} s", _numbers(term, over))
    while not call.frame.observe:
        wait_us: int = yield Turn(term.scope, interval_us, clock.monotonic_us())
        if not wait_us:
            return
        deadline = call.frame.deadline
        left_us = wait_us if deadline is None else deadline.ends_us - clock.monotonic_us()
        yield Sleep(max(0, min(wait_us, left_us)) / 1_000_000)
        yield from refuse_late(call, world)


def _numbers(term: Term, over: Beyond) -> dict[str, Any]:
    return {"scope": str(term.scope), **over._asdict()}


def _less(held: Amounts, own: Amounts) -> Amounts:
    return Amounts(*(max(0, all_ - mine) for all_, mine in zip(held, own, strict=True)))
