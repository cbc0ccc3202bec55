"""The gates of a call, before it takes anything from a budget: who is asked, and what the answer allows.

A yes is to one thing at one price. So after each answer everything is looked at again (what the call says, what it
costs, what the rules say of it), and where that is no longer what was answered, it is asked anew. Nobody is asked about
what cannot be paid anyway.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from bursar.flow.admission import refuse
from bursar.flow.gates import Passed
from bursar.flow.refusals import note, refuse_late, stop
from bursar.guards.arguments import canonical
from bursar.guards.budget import amounts, decide_fixed, smallest
from bursar.guards.gate_rules import Ruling, Subject, judge
from bursar.pricing.estimate import rate
from bursar.pricing.rank import is_top
from bursar.pricing.rates import find_provider
from bursar.words.errors import ApprovalDenied, ApprovalTimeout
from bursar.words.events import Amounts
from bursar.words.money import MAX_AMOUNT, show_usd
from bursar.words.ports import Ask, Peek, Release
from bursar.words.questions import Question
from bursar.words.verdicts import Deny

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from bursar.flow.call import Call, ToolStep, World
    from bursar.flow.gates import Gated, Gates
    from bursar.pricing.estimate import Estimate
    from bursar.words.ports import Effect, Room
    from bursar.words.questions import Decision

CHANGED: Final = "what the call says was changed after it was approved"
_TENTH: Final = 10


def pass_gates(call: Call, estimate: Estimate, world: World) -> Generator[Effect, Any, bool]:
    """Let a model call pass its gates, once for an operation, or raise `ApprovalDenied`.

    True where somebody was asked: then the call is to be looked at anew, and comes here again.
    """
    gates, frame = call.frame.gates, call.frame
    if gates is None or call.gate is None or call.attempts or not gates.of("model"):
        return False
    rooms: tuple[Room, ...] = (yield Peek(call.path, None)) if call.path else ()
    demand = estimate.demand
    likely = bound = None
    if demand.price is not None:
        likely = demand.price[0].bound(estimate.input_likely, estimate.output_likely * demand.choices)
        tokens = demand.input_hard if frame.hard else demand.input_practical
        bound = amounts(demand, tokens, demand.cap, hard=frame.hard).nusd
    request = call.request
    top = gates.by_rank and is_top(world.prices, request.provider, request.model, world.clock.today())
    dearer = _dearer(call, estimate, gates, likely, world)
    subject = Subject("model", request.model, likely, bound, _left(rooms), top=top, dearer=dearer)
    least = smallest(demand._replace(input_practical=min(demand.input_practical, estimate.input_likely)), hard=False)
    learned = "" if estimate.output_likely < demand.cap else ", no answers like it seen yet"
    sure = (
        f"input about {estimate.input_likely:,} tokens, output about {estimate.output_likely:,} of {demand.cap:,} at "
        f"most{learned}"
    )
    return (yield from _pass(call, call.gate, subject, rooms, least, sure, world))


def pass_tool_gates(step: ToolStep, world: World) -> Generator[Effect, Any, None]:
    """Let a tool call pass its gates, or raise `ApprovalDenied`."""
    gates = step.frame.gates
    if gates is None or step.gate is None or not gates.of("tool"):
        return
    # What the answer that asked for it was charged needs no room any more.
    need = Amounts() if step.counted else Amounts(nusd=step.nusd or 0, tool_calls=1)
    sure = "no price is known of it" if step.nusd is None else "its declared price"
    while True:
        rooms: tuple[Room, ...] = (yield Peek(step.path, None)) if step.path else ()
        left, given = _left(rooms), step.gate.arguments
        subject = Subject("tool", step.name, step.nusd, step.nusd, left, step.effect, given)
        if not (yield from _pass(step, step.gate, subject, rooms, need, sure, world)):
            return


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
    raise _denied(step, subject, next(iter(gate.passes[-1].rules)).text, CHANGED)


def _pass(
    call: Call | ToolStep,
    gate: Gated,
    subject: Subject,
    rooms: Sequence[Room],
    least: Amounts,
    sure: str,
    world: World,
) -> Generator[Effect, Any, bool]:
    gates = call.frame.gates
    assert gates is not None
    rulings = judge(gates.of(subject.kind), subject)
    if not rulings:
        return False
    if rulings[0].action == "deny":
        yield _verdict(call, subject, rulings[0], "deny", rulings[0].why, world)
        if call.frame.observe:
            return False
        _stop(call, subject, ApprovalDenied.reason)
        raise _denied(call, subject, rulings[0].rule.text, rulings[0].why)
    binding = _binding(gates, subject.kind, subject.name, gate)
    open_ones = [ruling for ruling in rulings if not _covered(gate, binding, subject, ruling)]
    if not open_ones:
        return False
    if call.frame.observe:
        yield _verdict(call, subject, open_ones[0], "ask", open_ones[0].why, world)
        return False
    yield from refuse_late(call, world)
    short = decide_fixed(least, rooms)
    if isinstance(short, Deny):
        yield from refuse(call, short, world)
    group = _together(open_ones)
    question = _question(call, gate, subject, group, rooms, binding, sure)
    yield _verdict(call, subject, group[0], "ask", question.why, world)
    decision: Decision = yield from _asked(call, gates, question, group, world)
    yield _verdict(call, subject, group[0], decision.state, _said(decision), world)
    if not decision.yes:
        _stop(call, subject, "approval_" + decision.state)
        raise _refused(call, subject, question, decision)
    if decision.arguments is not None:
        gate.edited = json.loads(decision.arguments)
        # What was written in place of the arguments is what was said yes to.
        binding = _binding(gates, subject.kind, subject.name, gate)
    gate.passes.append(Passed(binding, question.ceiling_nusd, frozenset(ruling.rule for ruling in group)))
    return True


def _asked(
    call: Call | ToolStep, gates: Gates, question: Question, group: Sequence[Ruling], world: World
) -> Generator[Effect, Any, Decision]:
    clocks: list[Any] = []
    if not any(ruling.rule.count_wait for ruling in group):
        clocks = [found for account in getattr(call.frame, "accounts", ()) if (found := account.deadline) is not None]
    for clock in clocks:
        clock.pause(world.clock.monotonic_us())
    try:
        decision: Decision = yield Ask(question, gates.asker())
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


def _question(
    call: Call | ToolStep,
    gate: Gated,
    subject: Subject,
    group: Sequence[Ruling],
    rooms: Sequence[Room],
    binding: str,
    sure: str,
) -> Question:
    frame, bound = call.frame, subject.bound_nusd
    text, whole = gate.shown() if gate.edited is None else (json.dumps(gate.edited), True)
    dollars = [room for room in rooms if "usd" in room.limits]
    tightest = min(dollars, key=lambda room: room.free.nusd, default=None)
    times = [ruling.rule.timeout_us for ruling in group if ruling.rule.timeout_us is not None]
    chains = [ruling.rule.approvers for ruling in group if ruling.rule.approvers]
    model = subject.kind == "model"
    return Question(
        kind=subject.kind,
        name=subject.name,
        workflow=frame.who.tags.workflow,
        run_id=frame.run.id if frame.run else None,
        op_id=call.op_id,
        arguments=text,
        whole=whole,
        binding=binding,
        likely_nusd=subject.likely_nusd,
        bound_nusd=bound,
        # An estimate moves a little while a person thinks; a tool's price does not.
        ceiling_nusd=bound if bound is None or not model else min(MAX_AMOUNT, bound + bound // _TENTH),
        sure=sure,
        spent_nusd=None if tightest is None else tightest.limits["usd"] - tightest.idle.nusd,
        left_nusd=None if tightest is None else tightest.free.nusd,
        rules=tuple(dict.fromkeys(ruling.rule.text for ruling in group)),
        why="; ".join(dict.fromkeys(ruling.why for ruling in group)),
        approvers=chains[0] if chains else (),
        timeout_us=min(times, default=None),
        user=frame.who.user,
    )


def _binding(gates: Gates, kind: str, name: str, gate: Gated) -> str:
    told = canonical(gate.edited) if gate.edited is not None else gate.told()
    return gates.asker().bind(kind, name, told)


def _refused(call: Call | ToolStep, subject: Subject, question: Question, decision: Decision) -> ApprovalDenied:
    kind = ApprovalTimeout if decision.state == "timeout" else ApprovalDenied
    why = decision.reason or ("nobody answered in time" if decision.state == "timeout" else "no reason was given")
    return _denied(call, subject, question.rules[0], why, kind, decision.by, decision.approval_id)


def _denied(
    call: Call | ToolStep,
    subject: Subject,
    rule: str,
    why: str,
    kind: type[ApprovalDenied] = ApprovalDenied,
    by: str | None = None,
    approval_id: str | None = None,
) -> ApprovalDenied:
    what = "was not called" if subject.kind == "tool" else "was not asked"
    who = f" by {by}" if by else ""
    at_most = "at an unknown price" if subject.bound_nusd is None else f"for up to {show_usd(subject.bound_nusd)}"
    return kind(
        f"{subject.kind} {_shown(subject.name)} {what}, {at_most}: refused{who}: {why}. Nothing was sent. The gate is "
        f"{rule}. To go on: catch bursar.Stopped and do without it, or change the gate.",
        kind=subject.kind,
        name=subject.name,
        rule=rule,
        likely=subject.likely_nusd,
        bound=subject.bound_nusd,
        answer=why,
        by=by,
        approval_id=approval_id,
        run=call.frame.run,
    )


def _said(decision: Decision) -> str:
    parts = [decision.via or "", decision.by or "", decision.reason or ""]
    if decision.grant_id is not None:
        parts.append(f"grant {decision.grant_id[:8]}")
    elif decision.approval_id is not None:
        parts.append(f"{decision.approval_id[:8]}, after {decision.wait_us / 1_000_000:.1f} s")
    return ": ".join(part for part in parts if part)


def _verdict(call: Call | ToolStep, subject: Subject, ruling: Ruling, action: str, reason: str, world: World) -> Effect:
    numbers = {
        "scope": f"{subject.kind} {subject.name}",
        "unit": "usd",
        "limit": ruling.limit_nusd,
        "needed": subject.bound_nusd,
        "nusd": subject.likely_nusd,
    }
    return note(call, world, {"denied": "deny"}.get(action, action), reason, numbers, guard="gate")


def _stop(call: Call | ToolStep, subject: Subject, reason: str) -> None:
    # A tool that is refused is answered to the model, and the run goes on.
    if subject.kind == "model":
        stop(call, reason)


def _left(rooms: Sequence[Room]) -> int | None:
    return min((room.free.nusd for room in rooms if "usd" in room.limits), default=None)


def _dearer(call: Call, estimate: Estimate, gates: Gates, likely: int | None, world: World) -> str | None:
    """In which way the model is dearer than it was to be."""
    if likely is None or not any(rule.ask == "dearer" for rule in gates.rules):
        return None
    request = call.request
    call.lineage = world.earlier.find(call, world.clock.monotonic_us())
    before = call.lineage.fallback_from
    if before is not None:
        cost = _cost_of(call, estimate, before, world)
        if cost is not None and likely > cost:
            return f"it takes the place of {_shown(before)}, which would cost {show_usd(cost)}, not {show_usd(likely)}"
    declared = gates.declared.get(call.frame.who.tags.workflow, ())
    if not declared or request.model in declared:
        return None
    costs = [cost for name in declared if (cost := _cost_of(call, estimate, name, world)) is not None]
    if costs and likely <= max(costs):
        return None
    return f"the workflow declares {', '.join(declared)}, and {_shown(request.model)} is dearer: {show_usd(likely)}"


def _cost_of(call: Call, estimate: Estimate, model: str, world: World) -> int | None:
    card = world.prices.card(find_provider(model) or call.request.provider, model, day=world.clock.today())
    if card is None:
        return None
    of_it = rate(call.request, card, estimate.demand.input_practical)
    return of_it.bound(estimate.input_likely, estimate.output_likely * estimate.demand.choices)


def _shown(name: str) -> str:
    return repr(name[:80].encode("unicode_escape").decode()) if not name.isascii() or len(name) > 80 else repr(name)
