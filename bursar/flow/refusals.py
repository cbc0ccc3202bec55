"""Refusals that need no arithmetic: too late, nobody's, the last call made already. And the verdict each leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.flow.terms import shown
from bursar.words.errors import BudgetExceeded, LoopDetected, Unattributed
from bursar.words.money import usd
from bursar.words.ports import Write
from bursar.words.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from bursar.flow.call import Call, Operation, World
    from bursar.flow.terms import Reserve
    from bursar.guards.loop_text import Repeated
    from bursar.guards.loops import LoopVerdict
    from bursar.runs.loops import Look
    from bursar.words.ports import Denied, Effect


def note(
    call: Operation,
    world: World,
    action: str,
    reason: str,
    numbers: Mapping[str, Any] | None = None,
    guard: str = "budget",
) -> Write:
    """A verdict on this call; `numbers` are the fields of `Verdict` that say how much."""
    run = call.frame.run
    verdict = Verdict(world.clock.wall_us(), run.id if run else None, call.op_id, guard, action, reason)
    verdict.acted = not call.frame.observe
    for name, value in (numbers or {}).items():
        setattr(verdict, name, value)
    return Write(verdict)


def refuse_late(call: Operation, world: World, *, ahead_us: int = 0) -> Generator[Effect, Any, None]:
    """Refuse a call that has not begun by its deadline, or would begin later than it in `ahead_us`.

    Raises `BudgetExceeded` in microseconds.
    """
    frame, deadline = call.frame, call.frame.deadline
    if deadline is None:
        return
    late_us = world.clock.monotonic_us() + ahead_us - deadline.ends_us
    if late_us < 0:
        return
    numbers: dict[str, Any] = {
        "scope": str(deadline.scope),
        "unit": "seconds",
        "limit": deadline.limit_us,
        "settled": deadline.limit_us + late_us - ahead_us,
        "held": 0,
        "needed": max(1, ahead_us),
    }
    yield note(call, world, "deny", "deadline", numbers)
    if frame.observe:
        return
    stop(call, BudgetExceeded.reason)
    limit = f"{deadline.limit_us / 1_000_000:g} seconds"
    if ahead_us:
        what = f"the provider asks to wait {ahead_us / 1_000_000:,.1f} s, and its {limit} are over before that"
    else:
        what = f"its {limit} are over (since {late_us / 1_000_000:.1f} s)"
    raise BudgetExceeded(
        f"{deadline.scope}: {what}; a call that has not begun by then is not made. Nothing was sent. To go on: raise "
        "Budget(seconds=...), or catch bursar.Stopped and finish with what you have.",
        **numbers,
        why="deadline",
        run=frame.run,
    )


def refuse_unattributed(call: Operation, world: World) -> Generator[Effect, Any, None]:
    """Refuse a call that lacks a tag, or the run that its thread has lost. Raises `Unattributed`."""
    missing = call.missing
    lost = "run" in missing
    yield note(call, world, "deny", "lost_context" if lost else "missing " + ", ".join(missing), guard="attribution")
    if call.frame.observe:
        return
    stop(call, Unattributed.reason)
    if lost:
        what = (
            "this thread has lost the context of the run that it was started in, and lost_context='deny' is set. "
            "Nothing was sent. To go on: start it as Thread(target=run.bind(work))."
        )
    else:
        what = (
            f"the call has no {' and no '.join(missing)}, and require={list(call.required)} is set. Nothing was sent. "
            "To go on: name it where the run is opened, as in bursar.run('triage', owner='support'), or in wrap(...)."
        )
    raise Unattributed(what, missing=missing, run=call.frame.run)


def note_loop(call: Operation, world: World, verdict: LoopVerdict, action: str, *, acted: bool = True) -> Write:
    """What the loop guard says of a call, of a model or of a tool, and whether it can be done here."""
    numbers: dict[str, Any] = {
        "scope": verdict.tool or None,
        "streak": verdict.streak,
        "onset": verdict.onset,
        "tokens": verdict.tokens,
        "nusd": verdict.nusd,
        "acted": acted and not call.frame.observe,
    }
    return note(call, world, action, verdict.kind, numbers, guard="loops")


def refuse_loop(call: Call, loops: Look, world: World) -> Generator[Effect, Any, None]:
    """Note what the loop guard says; end the run where its last answer was asked for and the model goes on.

    Raises `LoopDetected`.
    """
    run = call.frame.run
    for verdict in loops.verdicts:
        is_end = verdict is loops.end
        yield note_loop(call, world, verdict, "deny" if is_end else verdict.action, acted=loops.acts or is_end)
    if call.frame.observe:
        return
    if run is not None and (loops.last or run.stop_reason == LoopDetected.reason):
        # The run ends with its last answer, and says why; one that gets on after all is as any other.
        run.stop_reason = LoopDetected.reason if loops.last else None
    end = loops.end
    if end is None:
        return
    raise LoopDetected(
        f"the model goes round in circles: {end.kind.replace('_', ' ')}, {end.streak} in a row since tool call "
        f"{end.onset}, {end.tokens:,} tokens since. Nothing was sent. To go on: finish with what you have, give the "
        "model other tools or information, or declare the tool, as in LoopGuard(tools={'status': "
        "ToolTraits(effect='poll')}).",
        kind=end.kind,
        streak=end.streak,
        onset=end.onset,
        tokens=end.tokens,
        usd=None if end.nusd is None else usd(end.nusd),
        run=run,
    )


def refuse_growth(call: Call, denied: Denied, world: World, partial: Callable[[], str]) -> Generator[Effect, Any, None]:
    """Cut a stream that has used more than it could hold. Raises `BudgetExceeded` with what has come of it."""
    numbers: dict[str, Any] = {
        "scope": str(denied.scope),
        "unit": denied.unit,
        "limit": denied.limit,
        "settled": denied.settled,
        "held": denied.held,
        "needed": denied.needed,
    }
    yield note(call, world, "cut", "grew", numbers)
    if call.frame.observe:
        return
    stop(call, BudgetExceeded.reason)
    left = max(0, denied.limit - denied.settled - denied.held)
    raise BudgetExceeded(
        f"{denied.scope}: a stream has used more than was held for it; it needs {shown(denied.unit, denied.needed)} "
        f"more, and {shown(denied.unit, left)} of {shown(denied.unit, denied.limit)} is left. It was closed, and is "
        "charged for what had come: that is in .partial. To go on: raise the limit, or finish with what you have.",
        **numbers,
        why="grew",
        run=call.frame.run,
        partial=partial(),
    )


def refuse_repeats(
    call: Call, repeated: Repeated, world: World, partial: Callable[[], str]
) -> Generator[Effect, Any, None]:
    """Cut a stream that says one thing again and again. Raises `LoopDetected` with what has come of it."""
    numbers = {"streak": repeated.times, "tokens": repeated.characters // 4}
    yield note(call, world, "cut", "repeated_text", numbers, guard="loops")
    if call.frame.observe:
        return
    stop(call, LoopDetected.reason)
    raise LoopDetected(
        f"the model says the same {repeated.piece:,} characters again and again: {repeated.times:,} times so far. The "
        "stream was closed, and is charged for what had come: that is in .partial. To go on: finish with what you "
        "have, ask in other words, or let such texts pass with LoopGuard(cut_streams=False).",
        kind="repeated_text",
        streak=repeated.times,
        onset=0 if call.loops is None else call.loops.conversation.state.steps,
        tokens=repeated.characters // 4,
        usd=None,
        run=call.frame.run,
        partial=partial(),
    )


def claim_last(call: Call, world: World) -> Generator[Effect, Any, None]:
    """Draw on what was set aside for one last operation. Raises `BudgetExceeded` for a second one."""
    for reserve in call.frame.final:
        if not reserve.claim(call.op_id):
            numbers = {"scope": str(reserve.scope), "unit": "model_calls", "limit": 1, "settled": 1, "held": 0}
            yield from _refuse_second(call, reserve, {**numbers, "needed": 1}, world)


def give_back(call: Call) -> None:
    """Undo the claim of a call that was refused or never left, unless an attempt of it was charged."""
    if call.counted:
        return
    for reserve in call.frame.final:
        reserve.give_back(call.op_id)


def _refuse_second(call: Call, reserve: Reserve, numbers: dict[str, Any], world: World) -> Generator[Effect, Any, None]:
    yield note(call, world, "deny", "final_used", numbers)
    if call.frame.observe:
        return
    stop(call, BudgetExceeded.reason)
    raise BudgetExceeded(
        f"{reserve.scope}: what was set aside is for one last call, and that was made. Nothing was sent. To go on: "
        "finish with what you have, or raise the limit.",
        **numbers,
        why="final_used",
        run=call.frame.run,
    )


def stop(call: Operation, reason: str) -> None:
    """Note on the run, where there is one, why it was stopped."""
    if call.frame.run is not None:
        call.frame.run.stop_reason = reason
