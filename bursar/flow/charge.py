"""How an attempt's end becomes a charge and a record.

    ended by                                              charged
    usage known                                           the usage, also above the hold
    never left, 4xx, 429, 503 and 529 with an error body  nothing: released
    500, 502, 504                                         the input, unmeasured (bound="hard": the whole hold)
    time-out, reset, cancel after sending, no usage       the bound, unmeasured
    stream cut                                            input, output seen and one chunk, unmeasured
                                                          (bound="hard": input and the output held, all of it)

Whatever is not measured is flagged, and never free: `flow/unmeasured.py` says how much it is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.flow.unmeasured import dearest, presumed
from bursar.pricing.price import Cost, add, as_stated, price, weaker
from bursar.pricing.rates import PriceContext
from bursar.words.events import (
    CREDIT,
    DECLINED,
    IN_PART,
    UNCLEAR,
    Amounts,
    Answer,
    CostStatus,
    ModelRequest,
    Usage,
    UsageSource,
    filled,
    parts_of,
    sum_usage,
)
from bursar.words.money import MAX_AMOUNT
from bursar.words.records import Beside, ModelCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.flow.call import Attempt, Call, World
    from bursar.pricing.rates import RateCard

_SHAPES: Final = frozenset({"lowered", "clamped"})
"""What may have been made of an output cap, for the flags of a row."""
_PROVIDER: Final = UsageSource.PROVIDER
_new: Final = object.__new__
# Many fields of a named tuple at once, each of which would be looked up by its name.
_ASKED: Final = parts_of(
    ModelRequest, "provider", "model", "api", "stream", "transcript", "cap", "host", "service_tier", "speed",
    "tools_offered", "deferred",
)  # fmt: skip
_ANSWERED: Final = parts_of(
    Answer, "status", "response_model", "response_id", "request_id", "http_status", "error_type", "retry_reason",
    "finish_reason", "tool_calls", "tier_served", "ttft_us", "speed",
)  # fmt: skip
_OPERATIONS: Final = {"embeddings": "embeddings", "completions": "text_completion"}
"""OpenTelemetry's names of what is no chat."""
_STANDARD: Final = frozenset({None, "default", "standard", "auto", "standard_only"})
"""Tiers that everybody gets: no price of their own."""
_NOWHERE: Final = frozenset({None, "", "not_available"})
"""Places that say nothing: Anthropic's word for models that cannot be told where to run."""
_BOUNDED: Final = frozenset({UNCLEAR, DECLINED, CREDIT})
"""What may make the bill smaller than what was counted."""

_SAY_COSTS: Final = frozenset({"openrouter", "perplexity", "x_ai"})
"""Sellers whose usage has what they charge in it."""


class Charged(NamedTuple):
    """What an attempt is charged: tokens, who counted them, cost, and the amounts for the budget, tools included.

    `usage` is everything that is billed; `side` is the part of it that is not the call's own answer, each with its
    price.
    """

    usage: Usage
    source: UsageSource
    cost: Cost
    amounts: Amounts
    flags: tuple[str, ...]
    side: tuple[Beside, ...] = ()
    card: RateCard | None = None


def charge(call: Call, attempt: Attempt, answer: Answer, world: World) -> Charged:
    """Apply the table above."""
    if answer.charge == "release":
        return Charged(
            Usage(),
            UsageSource.NONE,
            Cost(0, CostStatus.LIST_PRICE, 0, 0, 0, 0, 0),
            Amounts(),
            answer.flags,
            (),
            attempt.card,
        )
    if answer.charge == "usage" and answer.usage is not None:
        usage, source = answer.usage, _PROVIDER
    else:
        usage, source = presumed(call, attempt, answer)
    cost, card, flags = _cost(call, attempt, answer, usage, world, measured=source is _PROVIDER)
    side: tuple[Beside, ...] = ()
    if answer.side or answer.flags:
        context = _context(call.request, answer)
        cost, side = with_side(
            cost, answer, call.request.model, card, lambda model: _card(call.request, model, context, world)
        )
        usage = sum_usage((usage, *(beside.usage for beside in side)))
    if answer.stated_nusd is not None and source is _PROVIDER and call.request.provider in _SAY_COSTS:
        cost, said = as_stated(cost, answer.stated_nusd, free=call.request.model.endswith(":free"))
        flags += said
    input_tokens, output_tokens, cached = usage[:3]
    total, nusd = input_tokens + output_tokens, cost.nusd or 0
    if total > MAX_AMOUNT or nusd > MAX_AMOUNT:
        total, nusd = min(MAX_AMOUNT, total), min(MAX_AMOUNT, nusd)
    calls = 0 if call.counted else attempt.estimate.demand.calls
    amounts = filled(Amounts, (nusd, total, total - cached, input_tokens, output_tokens, calls, 0))
    hold = attempt.hold
    if total > hold.tokens or nusd > hold.nusd > 0:
        flags += ("overrun",)
    if answer.tool_calls or answer.asked:
        amounts = _with_tools(amounts, answer)
    return filled(Charged, (usage, source, cost, amounts, answer.flags + flags, side, card))


def with_side(
    cost: Cost, answer: Answer, asked: str, own: RateCard | None, find: Callable[[str], RateCard | None]
) -> tuple[Cost, tuple[Beside, ...]]:
    """Add what a call caused beside its answer, each at the price of the model that did it.

    `asked` is the model of the request, `own` the card that the answer itself was priced by.
    """
    side: list[Beside] = []
    for each in answer.side:
        models = (each.model,) if each.model else (asked, answer.billed_model or asked)
        costs = [price(each.usage, find(model)) for model in models]
        beside = max(costs, key=lambda found: found.nusd or 0)
        if any(found.nusd is None for found in costs):
            # Something is charged for it, as if the call's own model had done it; it may well have cost more.
            beside = price(each.usage, own)
            beside = beside if beside.nusd is None else beside._replace(status=CostStatus.LOWER_BOUND)
        side.append(Beside(each.kind, each.model, each.usage, beside.nusd))
        cost = add(cost, beside)
    if cost.nusd is not None and IN_PART in answer.flags:
        cost = cost._replace(status=weaker(cost.status, CostStatus.LOWER_BOUND))
    if cost.nusd is not None and not _BOUNDED.isdisjoint(answer.flags):
        cost = cost._replace(status=weaker(cost.status, CostStatus.UPPER_BOUND))
    return cost, tuple(side)


def record_of(call: Call, attempt: Attempt, answer: Answer, charged: Charged, world: World) -> ModelCall:
    """Write down one attempt."""
    request, frame, hold, card = call.request, call.frame, attempt.hold, charged.card
    provider, model, api, stream, script, cap, host, tier, speed, tools_offered, deferred = _ASKED(request)
    # Field by field, and each once: fifty arguments, or fifty defaults that are then written over, take longer.
    row: ModelCall = _new(ModelCall)
    row.call_id, row.op_id, row.attempt, row.ts_us = attempt.call_id, call.op_id, attempt.number, attempt.ts_us
    row.who, row.provider, row.request_model, row.host = frame.who, provider, model, host
    row.path = deferred or ("stream" if stream else "sync")
    row.run_id = None if frame.run is None else frame.run.id
    row.step = call.step
    row.operation = _OPERATIONS.get(api, "chat")
    row.latency_us = world.clock.monotonic_us() - attempt.started_us
    row.queue_us = attempt.queue_us
    (
        row.status, row.response_model, row.response_id, row.request_id, row.http_status, row.error_type,
        row.retry_reason, row.finish_reason, row.tool_calls, row.tier_served, row.ttft_us, served_speed,
    ) = _ANSWERED(answer)  # fmt: skip
    row.tier_requested = tier
    row.speed = served_speed or speed
    row.usage, row.usage_source, row.side_usage = charged.usage, charged.source, charged.side
    row.messages = len(script.tokens)
    row.tools_offered = tools_offered
    row.max_tokens = cap
    row.sent_max_tokens = cap if attempt.cap is None else attempt.cap
    row.est_input_tokens = attempt.estimate.input_likely
    row.held_nusd = None if attempt.card is None else hold.nusd
    row.held_tokens = hold.tokens
    row.bound = attempt.bound
    row.flags = charged.flags + call.flags
    if attempt.shape in _SHAPES or cap is None:
        row.flags = charged.flags + _shape(call, attempt) + call.flags
    row.cost_nusd, row.cost_status, row.cost_input_nusd, row.cost_output_nusd, read, write, fees = charged.cost
    row.cost_cache_read_nusd, row.cost_cache_write_nusd, row.cost_fees_nusd = read, write, fees
    row.price_version = None if card is None else card.version
    row.region = _region(request, answer)
    row.attempt_source = attempt.source
    row.fallback_from = None if attempt.source is None else call.lineage.fallback_from
    row.backoff_us = attempt.backoff_us
    row.trimmed_tokens = call.trimmed_tokens
    row.system_hash, row.tools_hash = script.system_hash, script.tools_hash
    return row


def _shape(call: Call, attempt: Attempt) -> tuple[str, ...]:
    """What was made of the output cap, as flags."""
    shape: tuple[str, ...] = (attempt.shape,) if attempt.shape in _SHAPES else ()
    if call.request.cap is None and attempt.cap is None and call.path:
        shape += ("uncapped",)
    return shape


def _with_tools(amounts: Amounts, answer: Answer) -> Amounts:
    # A call of a decorated tool is counted and charged when it runs, any other when it is asked for.
    later = sum(ask.declared for ask in answer.asked)
    fees = sum(ask.nusd or 0 for ask in answer.asked if not ask.declared)
    return amounts._replace(nusd=min(MAX_AMOUNT, amounts.nusd + fees), tool_calls=max(0, answer.tool_calls - later))


def _cost(
    call: Call, attempt: Attempt, answer: Answer, usage: Usage, world: World, *, measured: bool
) -> tuple[Cost, RateCard | None, tuple[str, ...]]:
    request = call.request
    plain = answer.tier_served in _STANDARD and request.service_tier in _STANDARD
    if plain and answer.speed is None and answer.region is None and attempt.context is not None:
        # Served as it was asked for, and priced so.
        context, card = attempt.context, attempt.card
    else:
        context = _context(request, answer)
        card = attempt.card
        if context != attempt.context or request.service_tier == "flex":
            card = _card(request, request.model, context, world)
    if answer.billed_model is not None:
        card = _card(request, answer.billed_model, context, world)
        return price(usage, card, measured=measured), card, ()
    cost = price(usage, card, measured=measured)
    flags: tuple[str, ...] = ()
    other = answer.response_model
    if other is not None and other != request.model:
        second = _card(request, other, context, world)
        if second is not None and (card is None or second.model != card.model):
            # What answered is not what was asked for, and only the invoice will say which was billed.
            flags = ("model_drift",)
            dearer = price(usage, second, measured=measured)
            if (dearer.nusd or 0) > (cost.nusd or 0):
                cost, card = dearer, second
    if measured:
        return cost, card, flags
    told = answer.charge == "seen" and answer.usage is not None
    if cost.nusd is not None and not told and (answer.charge != "input" or call.frame.hard):
        least = dearest(call, attempt, answer, usage)
        cost = Cost(least, CostStatus.ESTIMATED, least, 0, 0, 0, 0) if least > cost.nusd else cost
    return cost, card, flags


def _card(request: ModelRequest, model: str, context: PriceContext, world: World) -> RateCard | None:
    return world.prices.card(request.provider, model, context=context, day=world.clock.today())


def _context(request: ModelRequest, answer: Answer) -> PriceContext:
    return context_of(
        answer.tier_served or request.service_tier,
        answer.speed or request.speed,
        place_of(request.provider, _region(request, answer)),
    )


def _region(request: ModelRequest, answer: Answer) -> str | None:
    # Vertex and OpenAI are told where by their address; only Anthropic says it in the answer.
    return answer.region or request.region if request.provider == "anthropic" else request.region


def place_of(provider: str, region: str | None) -> str | None:
    """The place as far as it can matter: "global" is what Anthropic does by itself, and a choice elsewhere."""
    return None if region == "global" and provider == "anthropic" else region


@lru_cache(maxsize=256)
def context_of(tier: str | None, speed: str | None, region: str | None = None) -> PriceContext:
    """Say under which of a model's prices a call falls, in the vendors' words for tier, speed and place."""
    region = None if region in _NOWHERE else region
    speed = None if speed == "standard" else speed
    if tier == "batch":
        return PriceContext(None, "batch", speed, region)
    return PriceContext(None if tier in _STANDARD else tier, None, speed, region)
