"""In which way a model is dearer than it was to be: than those its workflow declares, or than the one that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar.flow.gate_words import shown_name
from bursar.pricing.estimate import rate
from bursar.pricing.rates import find_provider
from bursar.words.money import show_usd

if TYPE_CHECKING:
    from bursar.flow.call import Call, World
    from bursar.flow.gates import Gates
    from bursar.pricing.estimate import Estimate


def dearer(call: Call, estimate: Estimate, gates: Gates, likely: int | None, world: World) -> str | None:
    """Say it in words; None where it is not, or no rule asks."""
    if likely is None or not any(rule.ask == "dearer" for rule in gates.rules):
        return None
    request = call.request
    call.lineage = world.earlier.find(call, world.clock.monotonic_us())
    before = call.lineage.fallback_from
    if before is not None:
        cost = _cost_of(call, estimate, before, world)
        if cost is not None and likely > cost:
            return (
                f"it takes the place of {shown_name(before)}, which would cost {show_usd(cost)}, not {show_usd(likely)}"
            )
    declared = gates.declared.get(call.frame.who.tags.workflow, ())
    if not declared or request.model in declared:
        return None
    costs = [cost for name in declared if (cost := _cost_of(call, estimate, name, world)) is not None]
    if costs and likely <= max(costs):
        return None
    return f"the workflow declares {', '.join(declared)}, and {shown_name(request.model)} is dearer: {show_usd(likely)}"


def _cost_of(call: Call, estimate: Estimate, model: str, world: World) -> int | None:
    card = world.prices.card(find_provider(model) or call.request.provider, model, day=world.clock.today())
    if card is None:
        return None
    of_it = rate(call.request, card, estimate.demand.input_practical)
    return of_it.bound(estimate.input_likely, estimate.output_likely * estimate.demand.choices)
