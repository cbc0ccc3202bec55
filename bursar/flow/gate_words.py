"""What gates say: the question that a person is asked, the verdicts beside the call, the error where it is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from bursar.flow.refusals import note
from bursar.words.errors import ApprovalDenied, ApprovalTimeout
from bursar.words.money import MAX_AMOUNT, show_usd
from bursar.words.questions import Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.flow.call import Call, ToolStep, World
    from bursar.flow.gates import Gated
    from bursar.guards.gate_rules import Ruling, Subject
    from bursar.words.ports import Effect, Room
    from bursar.words.questions import Decision

_TENTH: Final = 10


def question_of(
    call: Call | ToolStep,
    gate: Gated,
    subject: Subject,
    group: Sequence[Ruling],
    rooms: Sequence[Room],
    binding: str,
    sure: str,
) -> Question:
    """What is asked about a call by these rules."""
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


def refused(call: Call | ToolStep, subject: Subject, rule: str, decision: Decision) -> ApprovalDenied:
    """The error of a call whose question was answered with a no, or not at all."""
    kind = ApprovalTimeout if decision.state == "timeout" else ApprovalDenied
    why = decision.reason or ("nobody answered in time" if decision.state == "timeout" else "no reason was given")
    return denied(call, subject, rule, why, kind, decision.by, decision.approval_id)


def denied(
    call: Call | ToolStep,
    subject: Subject,
    rule: str,
    why: str,
    kind: type[ApprovalDenied] = ApprovalDenied,
    by: str | None = None,
    approval_id: str | None = None,
) -> ApprovalDenied:
    """The error of a call that a gate refuses."""
    what = "was not called" if subject.kind == "tool" else "was not asked"
    who = f" by {by}" if by else ""
    at_most = "at an unknown price" if subject.bound_nusd is None else f"for up to {show_usd(subject.bound_nusd)}"
    return kind(
        f"{subject.kind} {shown_name(subject.name)} {what}, {at_most}: refused{who}: {why}. Nothing was sent. The gate "
        f"is {rule}. To go on: catch bursar.Stopped and do without it, or change the gate.",
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


def said_of(decision: Decision) -> str:
    """Through whom it was decided, by whom, why, and how long that took."""
    parts = [decision.via or "", decision.by or "", decision.reason or ""]
    if decision.grant_id is not None:
        parts.append(f"grant {decision.grant_id[:8]}")
    elif decision.approval_id is not None:
        parts.append(f"{decision.approval_id[:8]}, after {decision.wait_us / 1_000_000:.1f} s")
    return ": ".join(part for part in parts if part)


def verdict(call: Call | ToolStep, subject: Subject, ruling: Ruling, action: str, reason: str, world: World) -> Effect:
    """What a rule says of a call, or has come of its question."""
    numbers = {
        "scope": f"{subject.kind} {subject.name}",
        "unit": "usd",
        "limit": ruling.limit_nusd,
        "needed": subject.bound_nusd,
        "nusd": subject.likely_nusd,
    }
    return note(call, world, {"denied": "deny"}.get(action, action), reason, numbers, guard="gate")


def shown_name(name: str) -> str:
    """A name in quotes, harmless and not too long."""
    return repr(name[:80].encode("unicode_escape").decode()) if not name.isascii() or len(name) > 80 else repr(name)
