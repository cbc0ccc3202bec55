"""Where an operation is not sent again: a cap on retries, a wait that is too long, a deadline that comes before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.flow.refusals import note, refuse_late, stop
from bursar.guards.budget import amounts
from bursar.guards.retries import judge
from bursar.words.errors import RetriesExhausted
from bursar.words.events import AttemptSource, Status
from bursar.words.money import show_usd

if TYPE_CHECKING:
    from collections.abc import Generator

    from bursar.flow.call import Attempt, Call, World
    from bursar.guards.retries import RetryLimits, TooMany
    from bursar.pricing.estimate import Estimate
    from bursar.words.events import Answer
    from bursar.words.ports import Effect
    from bursar.words.records import ModelCall

LONG_WAIT_US: Final = 120_000_000
"""A wait that is worth a word where nobody has set a cap: the longest that openai's SDK keeps (3.54)."""
LONG_WAIT: Final = "long_retry_after"
"""The flag of an attempt after which the provider asks for a longer one."""
_GRACE_US: Final = 9_000_000
"""An SDK that was not told how long to wait waits 8 seconds at most: both SDKs, old and new. And one to spare."""
_SPARE_US: Final = 1_000_000
# An enumeration's own look-up of a member is a function of Python's.
_OK: Final = Status.OK
_HARNESS: Final = AttemptSource.HARNESS


def refuse_retry(call: Call, estimate: Estimate, limits: RetryLimits, world: World) -> Generator[Effect, Any, None]:
    """Refuse an attempt that the cap on retries leaves no room for. Raises `RetriesExhausted` before it is sent."""
    if not call.attempts:
        call.lineage = world.earlier.find(call, world.clock.monotonic_us())
    demand = estimate.demand
    tokens = demand.input_hard if call.frame.hard else demand.input_practical
    bound = None if demand.price is None else amounts(demand, tokens, demand.cap, hard=call.frame.hard).nusd
    many = judge(limits, call.sent_before, call.failed_before_nusd, bound)
    if many is not None:
        yield from _refuse(call, many, world)


def refuse_wait(call: Call, answer: Answer, world: World) -> Generator[Effect, Any, None]:
    """Refuse to wait for as long as the provider asks before the next attempt of an operation.

    Raises `RetriesExhausted` above a cap's `max_retry_after`, whoever would wait; `BudgetExceeded` where the SDK would
    wait until after the deadline.
    """
    wait_us, limits, frame = answer.retry_after_us, call.frame.retries, call.frame
    if wait_us is None or not answer.retryable:
        return
    if limits is not None and wait_us > limits.wait_us:
        numbers = {"unit": "seconds", "limit": limits.wait_us, "settled": 0, "held": 0, "needed": wait_us}
        yield note(call, world, "deny", "retry_after", numbers, guard="retries")
        if not frame.observe:
            stop(call, RetriesExhausted.reason)
            raise _exhausted(
                call,
                "retry_after",
                limits.wait_us,
                f"the provider asks to wait {wait_us / 1_000_000:,.1f} s before it is tried again "
                f"(RetryCap(max_retry_after={limits.wait_us / 1_000_000:g}))",
                wait_us,
            )
    if frame.deadline is not None and retries_left(call):
        yield from refuse_late(call, world, ahead_us=wait_us)


def retries_left(call: Call) -> bool:
    """Whether the SDK has a retry left for what was just sent."""
    return call.attempts <= call.retries


def remarks(answer: Answer) -> Answer:
    """The answer, with a flag where the provider asks for a long wait."""
    if (answer.retry_after_us or 0) <= LONG_WAIT_US:
        return answer
    return answer._replace(flags=(*answer.flags, LONG_WAIT))


def follow(call: Call, world: World, began_us: int, now_us: int) -> tuple[AttemptSource | None, int | None]:
    """An attempt is about to leave: who sends it again, and how long after the end of what it follows he asked to."""
    if call.attempts:
        world.earlier.again(call, now_us)
        return AttemptSource.SDK, None if call.ended_us is None else max(0, began_us - call.ended_us)
    call.lineage = world.earlier.begin(call, now_us)
    source, after, repeated = call.lineage
    if source is _HARNESS:
        call.flags += ("resubmitted",)
    if repeated:
        call.flags += ("repeated",)
    return source, None if after is None else max(0, began_us - after.ended_us)


def remember(call: Call, attempt: Attempt, answer: Answer, record: ModelCall, world: World) -> None:
    """An attempt ended: keep how, for whatever follows it."""
    call.ended_us = attempt.started_us + record.latency_us
    call.last_reason = answer.retry_reason
    if answer.status is _OK and answer.error_type is None:
        world.earlier.answered(call, call.ended_us)
        return
    call.failed_nusd += record.cost_nusd or 0
    ready_us = call.ended_us
    if answer.retryable and retries_left(call):
        ready_us += _GRACE_US if answer.retry_after_us is None else answer.retry_after_us + _SPARE_US
    world.earlier.failed(call, call.ended_us, ready_us)


def _refuse(call: Call, many: TooMany, world: World) -> Generator[Effect, Any, None]:
    numbers = {"unit": many.unit, "limit": many.limit, "settled": many.settled, "held": 0, "needed": many.needed}
    yield note(call, world, "deny", many.why, numbers, guard="retries")
    if call.frame.observe:
        return
    what = {
        "attempts": f"it was sent {many.settled} times, and RetryCap(attempts={many.limit}) allows no more",
        "usd": f"its failed attempts were charged {show_usd(many.settled)}, the next may cost "
        f"{show_usd(many.needed)}, and RetryCap(usd=...) allows {show_usd(many.limit)} in all",
        "price_unknown": "no price is known for its model, and RetryCap(usd=...) is set",
    }[many.why]
    stop(call, RetriesExhausted.reason)
    raise _exhausted(call, many.why, many.limit, what)


def _exhausted(call: Call, why: str, limit: int, what: str, wait_us: int | None = None) -> RetriesExhausted:
    same, reason = call.lineage.resubmits, call.last_reason
    last = reason or (same.reason if same is not None else None)
    failed = f" (the last attempt failed: {last.replace('_', ' ')})" if last else ""
    return RetriesExhausted(
        f"{call.request.model[:80].encode('unicode_escape').decode()} is not asked again{failed}: {what}. The attempt "
        "was not sent. To go on: wait and ask later, raise the cap, or catch bursar.Stopped and finish with what you "
        "have.",
        why=why,
        attempts=call.sent_before,
        spent=call.failed_before_nusd,
        limit=limit,
        last_reason=last,
        retry_after=None if wait_us is None else wait_us / 1_000_000,
        run=call.frame.run,
    )
