"""An agent by hand: it calls tools, time passes between calls, the user speaks; the guard judges each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bursar.guards.calls import ToolFact, ToolTraits, call_key, fact, traits_of
from bursar.guards.loop_judge import admit, observe, user_spoke
from bursar.guards.loop_state import LoopState, Spent
from bursar.guards.loops import LoopGuard, LoopVerdict


@dataclass
class Agent:
    guard: LoopGuard = field(default_factory=LoopGuard)
    state: LoopState = field(default_factory=LoopState)
    verdicts: list[LoopVerdict] = field(default_factory=list)
    clock_us: int | None = None
    tokens: int = 0
    limit: int | None = None
    refused: int = 0
    calls: int = 0

    def call(self, tool: str, arguments: Any, result: Any, *, error: bool | None = None, after: float = 0) -> bool:
        """One call, its arguments and its result; whether it was executed."""
        return self.round([(tool, arguments, result)], error=error, after=after)

    def round(self, calls: list[tuple[str, Any, Any]], *, error: bool | None = None, after: float = 0) -> bool:
        """Several calls at once."""
        if self.clock_us is not None:
            self.clock_us += int(after * 1_000_000)
        self.tokens += 100
        facts: list[ToolFact] = []
        for tool, arguments, result in calls:
            traits = traits_of(tool, self.guard.tools)
            key, _ = call_key(tool, arguments, traits)
            refusal = admit(self.guard, self.state, tool, key, self.spent(), self.clock_us)
            if refusal is not None:
                self.refused += 1
                self.verdicts.append(refusal)
                continue
            self.calls += 1
            said = result(self.clock_us) if callable(result) else result
            facts.append(fact(tool, arguments, said, traits, call_id=f"c{self.calls}", is_error=error))
        if facts:
            found = observe(self.guard, self.state, facts, self.spent(), self.clock_us)
            self.verdicts += [found] if found else []
        return bool(facts)

    def user(self) -> None:
        user_spoke(self.state)

    def spent(self) -> Spent:
        return Spent(self.tokens, None, self.limit)

    def actions(self) -> list[str]:
        return [verdict.action for verdict in self.verdicts if verdict.action != "notice"]

    def kinds(self) -> set[str]:
        return {verdict.kind for verdict in self.verdicts if verdict.action != "notice"}


def declared(**tools: ToolTraits) -> LoopGuard:
    named: Mapping[str, ToolTraits] = tools
    return LoopGuard(tools=named)
