"""Hold a recorded run against gates: which of its calls somebody would have been asked about, and which refused.

A call is taken at what it cost: of a live one the bound, which `deny_above_usd` judges, is higher by all that its
answer might have been longer. Every question is taken to be answered yes, once; a refused model call ends the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.guards.gate_rules import FULL, Subject, judge
from bursar.words.money import show_usd
from bursar.words.tools import rule_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bursar.guards.gate_rules import Rule
    from bursar.replay.recording import Recording
    from bursar.words.tools import ToolRule


class GateVerdict(NamedTuple):
    """What gates say of one call, and in which step (from 1) it was made. action: "ask" or "deny".

    nusd: what it cost, None where no price is known. rules: those that ask, or the one that denies, as written.
    """

    step: int
    action: str
    kind: str
    name: str
    nusd: int | None
    why: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateFinding:
    """What gates make of a recorded run. `stopped_at` is the step whose model call would have been refused."""

    verdicts: tuple[GateVerdict, ...] = ()
    stopped_at: int | None = None

    @property
    def asked(self) -> int:
        """How often somebody would have been asked."""
        return sum(verdict.action == "ask" for verdict in self.verdicts)

    @property
    def denied(self) -> int:
        """How many calls would have been refused."""
        return len(self.verdicts) - self.asked


NO_GATES: Final = GateFinding()
"""Of a run without any."""


class Priced(NamedTuple):
    """A recorded run with its prices: of each step, the model and whether it is one of the dearest of its vendor.

    limit_nusd: of the budget of the run; full_at: the step at which that has no room; None where there is none.
    """

    recording: Recording
    costs: Sequence[int | None]
    model: str
    top: bool
    limit_nusd: int | None
    full_at: int | None


def find_gates(run: Priced, rules: Sequence[Rule], tools: tuple[ToolRule, ...]) -> GateFinding:
    """Judge the calls of a run in their order, until it would have ended."""
    verdicts: list[GateVerdict] = []
    for step, subject in _subjects(run, tools):
        full = step == run.full_at and subject.kind == "model"
        found = _judged(step, subject._replace(full=_full(subject, run)) if full else subject, rules)
        if found is not None:
            verdicts.append(found)
        if subject.kind == "model" and found is not None and found.action == "deny":
            return GateFinding(tuple(verdicts), step)
        if full and not any(rule.ask == FULL and "model" in rule.kinds for rule in rules):
            break
    return GateFinding(tuple(verdicts))


def _subjects(run: Priced, tools: tuple[ToolRule, ...]) -> Iterator[tuple[int, Subject]]:
    spent = 0
    events = [event for event in run.recording.events if event.facts]
    for step, cost in enumerate(run.costs, 1):
        left = None if run.limit_nusd is None else run.limit_nusd - spent
        yield step, Subject("model", run.model, cost, cost, left, top=run.top)
        spent += cost or 0
        while events and events[0].step <= step:
            event = events.pop(0)
            for made, arguments in zip(event.facts, event.arguments or (None,) * len(event.facts), strict=True):
                known = rule_for(tools, made.tool)
                left = None if run.limit_nusd is None else run.limit_nusd - spent
                yield step, Subject("tool", made.tool, known.nusd, known.nusd, left, known.effect, arguments)
                spent += known.nusd or 0


def _judged(step: int, subject: Subject, rules: Sequence[Rule]) -> GateVerdict | None:
    rulings = judge(rules, subject)
    if not rulings:
        return None
    said = [ruling for ruling in rulings if ruling.action == rulings[0].action]
    said = said[:1] if said[0].action == "deny" else said
    why = "; ".join(dict.fromkeys(ruling.why for ruling in said))
    texts = tuple(dict.fromkeys(ruling.rule.text for ruling in said))
    return GateVerdict(step, said[0].action, subject.kind, subject.name, subject.likely_nusd, why, texts)


def _full(subject: Subject, run: Priced) -> str:
    return f"it costs {_usd(subject.likely_nusd)}, and {_usd(subject.left_nusd)} of {_usd(run.limit_nusd)} is left"


def _usd(nusd: Any) -> str:
    return "unknown" if nusd is None else show_usd(max(0, nusd))
