"""The life of a tool call, beside that of a model call: `open_tool` before the tool runs, `close_tool` after.

What a tool call takes is known before it begins: its price and one tool call. So it is charged when it begins and holds
nothing while it runs: nobody can wait for it to cost less. Limits that processes share hold it until its row is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.flow.admission import LOOK_AGAIN_S
from bursar.flow.call import ToolUse
from bursar.flow.gating import pass_full_tool, pass_tool_gates, still_approved
from bursar.flow.notices import pass_soft_limits, speak
from bursar.flow.refusals import note, refuse_late, refuse_unattributed
from bursar.guards.budget import decide_fixed
from bursar.words.events import Amounts, Status
from bursar.words.ports import Held, Join, Peek, Posted, Posting, Reserve, Sent, Settle, Wait, Write
from bursar.words.records import ToolCall
from bursar.words.verdicts import Deny, Queue

if TYPE_CHECKING:
    from collections.abc import Generator

    from bursar.flow.call import Call, ToolStep, World
    from bursar.words.events import Answer
    from bursar.words.ports import Effect, Room, Scope, Ticket


def open_tool(step: ToolStep, world: World) -> Generator[Effect, Any, ToolUse]:
    """Admit a tool call and charge it, or raise `Stopped` before the tool runs."""
    if step.missing:
        yield from refuse_unattributed(step, world)
    frame, clock = step.frame, world.clock
    if frame.gates is not None:
        yield from pass_tool_gates(step, world)
    began_us = clock.monotonic_us()
    need = Amounts(nusd=step.nusd or 0, tool_calls=0 if step.counted else 1)
    call_id = f"{step.op_id}/0"
    held = bool(step.path) and (yield from _admit(step, call_id, need, began_us, world))
    if frame.terms or step.terms:
        yield from pass_soft_limits(step, need, need if held else Amounts(), world)
    if frame.gates is not None:
        yield from still_approved(step, call_id if held else None, world)
    if held and step.shared and step.reached:
        yield Sent(call_id)
    if step.path:
        yield Settle(call_id, step.path, need, measured=True)
    started_us = clock.monotonic_us()
    return ToolUse(call_id, started_us, clock.wall_us(), need, started_us - began_us)


def close_tool(
    step: ToolStep, use: ToolUse, status: Status, error_type: str | None, world: World
) -> Generator[Effect, Any, ToolCall]:
    """Record how a tool call ended. Happens once for a use."""
    frame, result = step.frame, use.result
    same = None
    if frame.run is not None and frame.asks is not None:
        same = frame.asks.end(step.name, step.args_hash, None if result is None else result.hash)
    flags = step.flags if result is None or result.whole else (*step.flags, "result_lossy")
    record = ToolCall(
        call_id=use.call_id,
        op_id=step.op_id,
        ts_us=use.ts_us,
        who=frame.who,
        tool_name=step.name,
        run_id=frame.run.id if frame.run else None,
        step=step.step,
        tool_call_id=step.tool_call_id,
        requested_by=step.requested_by,
        args_hash=step.args_hash,
        result_bytes=None if result is None else result.size,
        result_hash=None if result is None else result.hash,
        repeat_index=step.repeat_index,
        same_result=same,
        effect=step.effect,
        status=status,
        error_type=error_type,
        latency_us=world.clock.monotonic_us() - use.started_us,
        queue_us=use.queue_us,
        fee_nusd=step.nusd,
        fee_status=fee_status(step.nusd, status),
        flags=flags,
    )
    if step.shared:
        yield Write(record, Posting(use.call_id, step.shared, use.charged, measured=True))
        yield Posted(use.call_id, step.shared)
    else:
        yield Write(record)
    if frame.run is not None:
        frame.run.spent_late()
    if frame.terms:
        yield from speak(step, world)
    return record


def note_asked(call: Call, call_id: str, answer: Answer, world: World) -> Generator[Effect, Any, None]:
    """Remember what an answer asks for; what has a price and nobody decorated is charged with it, and has a row."""
    frame = call.frame
    if frame.asks is not None and answer.asked:
        frame.asks.ask(call_id, call.step, answer.asked)
    priced = [ask for ask in answer.asked if not ask.declared and ask.nusd is not None]
    for number, ask in enumerate(priced):
        record = ToolCall(
            call_id=f"{call_id}/{number}",
            op_id=call.op_id,
            ts_us=world.clock.wall_us(),
            who=frame.who,
            tool_name=ask.name,
            run_id=frame.run.id if frame.run else None,
            step=call.step,
            tool_call_id=ask.tool_call_id,
            requested_by=call_id,
            args_hash=ask.args_hash,
            effect=ask.effect,
            status=Status.ASKED,
            fee_nusd=ask.nusd,
            fee_status=fee_status(ask.nusd, Status.ASKED),
        )
        yield Write(record)


def fee_status(nusd: int | None, status: Status) -> str:
    """How sure a fee is: a call that failed, or that may not have been made, costs its price at most."""
    if nusd is None:
        return "unknown"
    return "declared" if status is Status.OK else "upper_bound"


def _admit(step: ToolStep, call_id: str, need: Amounts, began_us: int, world: World) -> Generator[Effect, Any, bool]:
    """Hold what the call takes; False where guards only observe and would have refused it."""
    frame = step.frame
    ticket: Ticket | None = None
    seat: Scope | None = None
    asks = frame.gates is not None and frame.gates.asks_full and not frame.observe
    while True:
        yield from refuse_late(step, world)
        rooms: tuple[Room, ...] = yield Peek(step.path, ticket)
        decision = decide_fixed(need, rooms)
        if asks and isinstance(decision, Deny) and _is_behind(decision, rooms, seat):
            # Of many calls without room one asks for more; the others wait for what comes of that.
            decision = Queue(decision.room.scope)
        if isinstance(decision, Queue) and not frame.observe:
            if seat != decision.scope:
                # In line first, then one more look: what is settled in between must not be missed.
                ticket, seat = (yield Join(decision.scope)), decision.scope
                if ticket is not None:
                    continue
            left_s = frame.left_s(began_us, world.clock.monotonic_us())
            if ticket is not None and left_s > 0:
                yield Wait(ticket, min(left_s, LOOK_AGAIN_S) if decision.scope.window else left_s)
                continue
            decision = decide_fixed(need, rooms, why="waited" if ticket is not None else "would_deadlock")
        if frame.observe:
            yield from _observed(step, decision, world)
            return False
        if isinstance(decision, Deny):
            yield from pass_full_tool(step, decision, world)
        elif isinstance((yield Reserve(call_id, step.path, need)), Held):
            return True


def _observed(step: ToolStep, decision: Queue | Deny | None, world: World) -> Generator[Effect, Any, None]:
    if isinstance(decision, Deny):
        yield note(step, world, "deny", decision.why)
    elif decision is not None:
        yield note(step, world, "queue", f"behind others on {decision.scope}")


def _is_behind(deny: Deny, rooms: tuple[Room, ...], seat: Scope | None) -> bool:
    scope = deny.room.scope
    return seat != scope or any(room.behind for room in rooms if room.scope == scope)
