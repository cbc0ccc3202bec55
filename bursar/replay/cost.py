"""Price a recorded run, and find the step at which a budget or the loop guard would have stopped it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bursar.guards.budget import decide
from bursar.guards.gate import CostGate
from bursar.guards.loops import LoopGuard
from bursar.pricing.price import price
from bursar.pricing.rank import is_top
from bursar.pricing.rates import PriceList, find_provider
from bursar.replay.gates import NO_GATES, GateFinding, Priced, find_gates
from bursar.replay.loops import find_loops
from bursar.replay.windows import compare, talk_of, windows
from bursar.stores.memory import MemoryStore
from bursar.words.clock import CLOCK
from bursar.words.demand import Demand, Rate
from bursar.words.events import Amounts, CostStatus, Usage
from bursar.words.money import usd
from bursar.words.ports import Scope
from bursar.words.verdicts import Deny, Grant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from bursar.guards.budget import Budget
    from bursar.guards.gate_rules import Rule
    from bursar.pricing.rates import RateCard
    from bursar.replay.loops import LoopFinding
    from bursar.replay.recording import Recording, Step
    from bursar.replay.windows import WindowCost
    from bursar.words.tools import ToolRule


@dataclass(frozen=True, slots=True)
class RunCost:
    """What one recorded run cost, and where a budget would have stopped it.

    `nusd` is nano-dollars, None where a step has no price. cost_status: list_price where the provider counted every
    token, estimated where we did, unknown without a price. `stopped_at_step` counts from 1; `stop_reason` is the
    unit that ran out, or price_unknown. `nusd_not_spent` is the cost of that step and all later ones, 0 where
    nothing stopped, None where unpriced. `loops` is what the loop guard would have said, `windows` what the run costs
    under each strategy of a context window, where one was asked for. `gates` is what gates would have said.
    """

    id: str
    model: str | None
    success: bool | None
    steps: int
    input_tokens: int
    output_tokens: int
    nusd: int | None
    cost_status: CostStatus
    stopped_at_step: int | None
    stop_reason: str | None
    nusd_not_spent: int | None
    loops: LoopFinding
    source: str
    windows: tuple[WindowCost, ...] = ()
    gates: GateFinding = NO_GATES

    def as_json(self) -> dict[str, Any]:
        """The run as plain data; dollars as decimal text, null where unknown."""
        return {
            "id": self.id,
            "model": self.model,
            "success": self.success,
            "steps": self.steps,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "usd": _dollars(self.nusd),
            "cost_status": self.cost_status.value,
            "stopped_at_step": self.stopped_at_step,
            "stop_reason": self.stop_reason,
            "usd_not_spent": _dollars(self.nusd_not_spent),
            "loop_touched_at": self.loops.touched_at,
            "loop_stopped_at": self.loops.stopped_at,
            "loop_kind": self.loops.kind,
            "tokens_after_loop": self.loops.tokens_after,
            "usd_after_loop": _dollars(self.loops.nusd_after),
            "gate_asks": self.gates.asked,
            "gate_denials": self.gates.denied,
            "gate_stopped_at": self.gates.stopped_at,
            **({"windows": [window.as_json() for window in self.windows]} if self.windows else {}),
        }


class Pricer:
    """Prices recordings at the list prices of one day, under one budget."""

    def __init__(
        self,
        budget: Budget | None,
        *,
        model: str | None,
        day: date | None,
        loops: LoopGuard | None = None,
        window: int | None = None,
        gates: Sequence[CostGate | Rule] = (),
        tools: tuple[ToolRule, ...] = (),
    ) -> None:
        self._rules = [gate.rule() if isinstance(gate, CostGate) else gate for gate in gates]
        self._tools = tools
        self._windows = [] if window is None else windows(window)
        self._guard = loops or LoopGuard()
        self._limits = {} if budget is None else budget.limits()
        self._model = model
        self._day = day or CLOCK.today()
        self._prices = PriceList()
        self._cards: dict[str, RateCard | None] = {}

    def price(self, recording: Recording) -> RunCost:
        """Price one run and hold it against the budget, with the guard and the store that a live run has."""
        model = recording.model or self._model
        card = self._card(model) if model else None
        costs = [price(Usage(step.input_tokens, step.output_tokens), card).nusd for step in recording.steps]
        total = None if any(cost is None for cost in costs) or card is None else sum(cost or 0 for cost in costs)
        stopped, reason = self._stop(recording.steps, costs, card)
        spared: int | None = 0
        if stopped is not None:
            spared = None if total is None else sum(cost or 0 for cost in costs[stopped - 1 :])
        measured = all(step.measured for step in recording.steps)
        status = card.status if card is not None and measured else CostStatus.ESTIMATED
        return RunCost(
            recording.id,
            model,
            recording.success,
            len(recording.steps),
            sum(step.input_tokens for step in recording.steps),
            sum(step.output_tokens for step in recording.steps),
            total,
            CostStatus.UNKNOWN if total is None else status,
            stopped,
            reason,
            spared if total is not None else None,
            find_loops(recording, self._guard, costs, self._limits),
            recording.source,
            tuple(compare(talk_of(recording.raw), self._windows, card)) if self._windows else (),
            self._gated(recording, costs, model, stopped),
        )

    def _gated(
        self, recording: Recording, costs: list[int | None], model: str | None, stopped: int | None
    ) -> GateFinding:
        if not self._rules:
            return NO_GATES
        vendor, name = self._vendor(model or "")
        top = is_top(self._prices, vendor, name, self._day)
        run = Priced(recording, costs, model or "(none)", top, self._limits.get("usd"), stopped)
        return find_gates(run, self._rules, self._tools)

    def _vendor(self, model: str) -> tuple[str, str]:
        # Recorders write "vendor/model".
        vendor, _, name = model.rpartition("/")
        known = find_provider(model)
        return (known, model) if known is not None else (vendor, name)

    def _stop(
        self, steps: tuple[Step, ...], costs: list[int | None], card: RateCard | None
    ) -> tuple[int | None, str | None]:
        if not self._limits or not steps:
            return None, None
        if "usd" in self._limits and card is None:
            return 1, "price_unknown"
        store, scope = MemoryStore(), Scope("run", "replayed")
        store.define(scope, self._limits)
        for number, (step, cost) in enumerate(zip(steps, costs, strict=True), 1):
            verdict = decide(_demand(step, card), store.peek((scope,), frozenset(), None), 1, hard=True)
            if isinstance(verdict, Deny):
                return number, verdict.unit
            assert isinstance(verdict, Grant)
            call_id = str(number)
            store.reserve(call_id, (scope,), verdict.amounts, 1)
            total = step.input_tokens + step.output_tokens
            spent = Amounts(cost or 0, total, total, step.input_tokens, step.output_tokens, 1, 0)
            store.settle(call_id, (scope,), spent, measured=step.measured)
        return None, None

    def _card(self, model: str) -> RateCard | None:
        if model not in self._cards:
            self._cards[model] = self._find(model)
        return self._cards[model]

    def _find(self, model: str) -> RateCard | None:
        # Recorders write "vendor/model"; the vendor then says whose price list to look into.
        vendor, _, name = model.rpartition("/")
        for provider, candidate in ((find_provider(model), model), (vendor or None, name)):
            if provider is not None:
                card = self._prices.card(provider, candidate, day=self._day)
                if card is not None:
                    return card
        return None


def _dollars(nusd: int | None) -> str | None:
    return None if nusd is None else f"{usd(nusd):f}"


def _demand(step: Step, card: RateCard | None) -> Demand:
    rates = None if card is None else card.at(step.input_tokens)
    rate = Rate(0, 0, 0) if rates is None else Rate(0, rates.input, rates.output)
    return Demand(step.input_tokens, step.input_tokens, step.output_tokens, 0, 0, None, 1, False, 1, (rate, rate))  # noqa: FBT003
