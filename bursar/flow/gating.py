"""The gates of a call, before it takes anything from a budget: who is asked, and what the answer allows.

A yes is to one thing at one price. So after each answer everything is looked at again (what the call says, what it
costs, what the rules say of it), and where that is no longer what was answered, it is asked anew. Nobody is asked about
what cannot be paid anyway, except by a gate that asks just then: its question stands last, in the budget's queue, so
that of many calls without room one asks and the others go on with what the answer brings.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.flow.admission import refuse
from bursar.flow.dearer import dearer
from bursar.flow.gate_words import denied, question_of, refused, said_of, verdict
from bursar.flow.gates import Passed
from bursar.flow.raises import lacking, lift, raisable
from bursar.flow.refusals import note, refuse_late, stop
from bursar.guards.arguments import canonical
from bursar.guards.budget import amounts, decide_fixed, smallest
from bursar.guards.gate_rules import FULL, Ruling, Subject, judge
from bursar.pricing.rank import is_top
from bursar.words.errors import ApprovalDenied
from bursar.words.events import Amounts
from bursar.words.ports import Ask, Peek, Release
from bursar.words.verdicts import Deny

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from bursar.flow.call import Call, ToolStep, World
    from bursar.flow.gates import Gated, Gates
    from bursar.flow.raises import Lack
    from bursar.pricing.estimate import Estimate
    from bursar.words.ports import Effect, Room
    from bursar.words.questions import Decision

CHANGED: Final = "what the call says was changed after it was approved"


class _Case(NamedTuple):
    """A call before its gates. least: what it takes when it is small; sure: how its price is known."""

    call: Call | ToolStep
    gate: Gated
    gates: Gates
    subject: Subject
    rooms: tuple[Room, ...]
    least: Amounts
    sure: str
    world: World


def pass_gates(call: Call, estimate: Estimate, world: World) -> Generator[Effect, Any, bool]:
    """Let a model call pass its gates, once for an operation, or raise `ApprovalDenied`.

    True where somebody was asked: then the call is to be looked at anew, and comes here again.
    """
    gates, gate = call.frame.gates, call.gate
    if gates is None or gate is None or call.attempts or not gates.of("model"):
        return False
    rooms: tuple[Room, ...] = (yield Peek(call.path, None)) if call.path else ()
    return (yield from _pass(_model_case(call, gate, gates, estimate, rooms, world)))


def pass_tool_gates(step: ToolStep, world: World) -> Generator[Effect, Any, None]:
    """Let a tool call pass its gates, or raise `ApprovalDenied`."""
    gates, gate = step.frame.gates, step.gate
    if gates is None or gate is None or not gates.of("tool"):
        return
    while True:
        rooms: tuple[Room, ...] = (yield Peek(step.path, None)) if step.path else ()
        if not (yield from _pass(_tool_case(step, gate, gates, rooms, world))):
            return


def pass_full(call: Call, estimate: Estimate, deny: Deny, world: World) -> Generator[Effect, Any, None]:
    """A model call does not fit: ask whether its budget is to be raised, where a gate asks that, or refuse it.

    Returns where there may be room now. Raises `BudgetExceeded`.
    """
    gates, gate = call.frame.gates, call.gate
    if gates is None or gate is None or call.attempts or deny.why != "no_room" or not gates.asks_full:
        yield from refuse(call, deny, world)
        return
    rooms: tuple[Room, ...] = yield Peek(call.path, None)
    case = _model_case(call, gate, gates, estimate, rooms, world)
    least = smallest(estimate.demand, hard=call.frame.hard)
    yield from _ask_full(case._replace(least=least), deny)


def pass_full_tool(step: ToolStep, deny: Deny, world: World) -> Generator[Effect, Any, None]:
    """As `pass_full`, for a call of a tool."""
    gates, gate = step.frame.gates, step.gate
    if gates is None or gate is None or deny.why != "no_room" or not gates.asks_full:
        yield from refuse(step, deny, world)
        return
    rooms: tuple[Room, ...] = yield Peek(step.path, None)
    yield from _ask_full(_tool_case(step, gate, gates, rooms, world), deny)


def still_approved(step: ToolStep, held: str | None, world: World) -> Generator[Effect, Any, None]:
    """A tool is about to run: raise `ApprovalDenied` where its arguments are no longer those that a yes was for."""
    gates, gate = step.frame.gates, step.gate
    if gates is None or gate is None or not gate.passes:
        return
    binding = _binding(gates, "tool", step.name, gate)
    if any(passed.binding == binding for passed in gate.passes):
        return
    if held is not None:
        yield Release(held)
    yield note(step, world, "deny", CHANGED, {"scope": f"tool {step.name}"}, guard="gate")
    subject = Subject("tool", step.name, step.nusd, step.nusd)
    raise denied(step, subject, next(iter(gate.passes[-1].rules)).text, CHANGED)


def _model_case(
    call: Call, gate: Gated, gates: Gates, estimate: Estimate, rooms: tuple[Room, ...], world: World
) -> _Case:
    demand, request, hard = estimate.demand, call.request, call.frame.hard
    likely = bound = None
    if demand.price is not None:
        likely = demand.price[0].bound(estimate.input_likely, estimate.output_likely * demand.choices)
        tokens = demand.input_hard if hard else demand.input_practical
        bound = amounts(demand, tokens, demand.cap, hard=hard).nusd
    top = gates.by_rank and is_top(world.prices, request.provider, request.model, world.clock.today())
    above = dearer(call, estimate, gates, likely, world)
    subject = Subject("model", request.model, likely, bound, _left(rooms), top=top, dearer=above)
    least = smallest(demand._replace(input_practical=min(demand.input_practical, estimate.input_likely)), hard=False)
    learned = "" if estimate.output_likely < demand.cap else ", no answers like it seen yet"
    sure = (
        f"input about {estimate.input_likely:,} tokens, output about {estimate.output_likely:,} of {demand.cap:,} at "
        f"most{learned}"
    )
    return _Case(call, gate, gates, subject, rooms, least, sure, world)


def _tool_case(step: ToolStep, gate: Gated, gates: Gates, rooms: tuple[Room, ...], world: World) -> _Case:
    subject = Subject("tool", step.name, step.nusd, step.nusd, _left(rooms), step.effect, gate.arguments)
    sure = "no price is known of it" if step.nusd is None else "its declared price"
    return _Case(step, gate, gates, subject, rooms, need_of(step), sure, world)


def need_of(step: ToolStep) -> Amounts:
    """What a tool call takes. What the answer that asked for it was charged needs no room any more."""
    return Amounts() if step.counted else Amounts(nusd=step.nusd or 0, tool_calls=1)


def _pass(case: _Case) -> Generator[Effect, Any, bool]:
    call, gate, gates, subject, world = case.call, case.gate, case.gates, case.subject, case.world
    rulings = judge(gates.of(subject.kind), subject)
    if rulings and rulings[0].action == "deny":
        yield verdict(call, subject, rulings[0], "deny", rulings[0].why, world)
        if call.frame.observe:
            return False
        _stop(call, subject, ApprovalDenied.reason)
        raise denied(call, subject, rulings[0].rule.text, rulings[0].why)
    binding = _binding(gates, subject.kind, subject.name, gate) if rulings else ""
    open_ones = [ruling for ruling in rulings if not _covered(gate, binding, subject, ruling)]
    if not open_ones and not (call.frame.observe and gates.asks_full):
        return False
    short = decide_fixed(case.least, case.rooms)
    lack, full = _full(case) if isinstance(short, Deny) else (None, [])
    if call.frame.observe:
        for ruling in [*open_ones, *full][:1]:
            yield verdict(call, subject, ruling, "ask", ruling.why, world)
        return False
    yield from refuse_late(call, world)
    if isinstance(short, Deny) and not full:
        yield from refuse(call, short, world)
    group = _together([*open_ones, *full])
    decision = yield from _ask(case, group, lack)
    if not decision.yes:
        _stop(call, subject, "approval_" + decision.state)
        raise refused(call, subject, group[0].rule.text, decision)
    return True


def _full(case: _Case) -> tuple[Lack | None, list[Ruling]]:
    """What a call lacks that does not fit, and the rules that ask about that."""
    rules, subject = case.gates.of(case.subject.kind), case.subject
    lack = lacking(case.call.frame, rules, case.rooms, case.least, subject.bound_nusd)
    if lack is None:
        return None, []
    rulings = judge(rules, subject._replace(full=lack.why))
    return lack, [ruling for ruling in rulings if ruling.rule.ask == FULL and ruling.why == lack.why]


def _ask_full(case: _Case, deny: Deny) -> Generator[Effect, Any, None]:
    if not isinstance(decide_fixed(case.least, case.rooms), Deny):
        # There was no room, and now there is: an answer to another call has brought it.
        return
    lack, full = _full(case)
    said = ""
    if full:
        yield from refuse_late(case.call, case.world)
        decision = yield from _ask(case, _together(full), lack)
        if decision.yes:
            return
        if lack is not None and (decision.by is not None or decision.state == "timeout"):
            # Whoever has said no does not want to say so for every other call.
            lack.purse.closed = True
        said = f" Whoever was asked for more said no ({said_of(decision)})."
    yield from refuse(case.call, deny, case.world, said)


def _ask(case: _Case, group: Sequence[Ruling], lack: Lack | None) -> Generator[Effect, Any, Decision]:
    """Put one question for these rules; a yes is kept with the call, and raises the budget that is to be raised."""
    call, gate, gates, subject, world = case.call, case.gate, case.gates, case.subject, case.world
    if all(ruling.rule.ask != FULL for ruling in group):
        lack = None
    rules = [ruling.rule for ruling in group]
    purse = lack.purse if lack is not None else raisable(call.frame, rules, case.rooms)
    binding = _binding(gates, subject.kind, subject.name, gate)
    question = question_of(call, gate, subject, group, case.rooms, binding, case.sure)._replace(
        limit_scope=None if purse is None else str(purse.scope), short_nusd=None if lack is None else lack.short_nusd
    )
    yield verdict(call, subject, group[0], "ask", question.why, world)
    decision: Decision = yield from _asked(call, Ask(question, gates.asker()), group, world)
    yield verdict(call, subject, group[0], decision.state, said_of(decision), world)
    if not decision.yes:
        return decision
    if decision.arguments is not None:
        gate.edited = json.loads(decision.arguments)
        # What was written in place of the arguments is what was said yes to.
        binding = _binding(gates, subject.kind, subject.name, gate)
    gate.passes.append(Passed(binding, question.ceiling_nusd, frozenset(rules)))
    if decision.raise_nusd is not None and purse is not None:
        yield from lift(call, purse, decision.raise_nusd, said_of(decision), world)
    return decision


def _asked(call: Call | ToolStep, ask: Ask, group: Sequence[Ruling], world: World) -> Generator[Effect, Any, Decision]:
    clocks: list[Any] = []
    if not any(ruling.rule.count_wait for ruling in group):
        clocks = [found for account in getattr(call.frame, "accounts", ()) if (found := account.deadline) is not None]
    for clock in clocks:
        clock.pause(world.clock.monotonic_us())
    try:
        decision: Decision = yield ask
    finally:
        for clock in clocks:
            clock.resume(world.clock.monotonic_us())
    return decision


def _covered(gate: Gated, binding: str, subject: Subject, ruling: Ruling) -> bool:
    return any(passed.covers(binding, subject.bound_nusd, ruling.rule) for passed in gate.passes)


def _together(rulings: Sequence[Ruling]) -> list[Ruling]:
    # Rules that ask the same person ask once; those that name nobody ask whom another asks.
    named = [ruling.rule.approvers for ruling in rulings if ruling.rule.approvers]
    first = named[0] if named else ()
    return [ruling for ruling in rulings if ruling.rule.approvers in (first, ())]


def _binding(gates: Gates, kind: str, name: str, gate: Gated) -> str:
    told = canonical(gate.edited) if gate.edited is not None else gate.told()
    return gates.asker().bind(kind, name, told)


def _stop(call: Call | ToolStep, subject: Subject, reason: str) -> None:
    # A tool that is refused is answered to the model, and the run goes on.
    if subject.kind == "model":
        stop(call, reason)


def _left(rooms: Sequence[Room]) -> int | None:
    return min((room.free.nusd for room in rooms if "usd" in room.limits), default=None)
