"""How an attempt's end becomes a charge and a record.

    ended by                                              charged
    usage known                                           the usage, also above the hold
    never left, 4xx, 429, 503 and 529 with an error body  nothing: released
    500, 502, 504                                         the input, unmeasured (bound="hard": the whole hold)
    time-out, reset, cancel after sending, no usage       the bound, unmeasured
    stream cut                                            input, output seen and one chunk, unmeasured

Whatever is not measured is flagged, and never free.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar._events import CREDIT, DECLINED, UNCLEAR, Amounts, CostStatus, Usage, UsageSource, sum_usage
from bursar._money import MAX_AMOUNT
from bursar._records import Beside, ModelCall
from bursar.pricing.price import Cost, add, price, weaker
from bursar.pricing.rates import PriceContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar._call import Attempt, Call, World
    from bursar._events import Answer
    from bursar.pricing.rates import RateCard

CHUNK_TOKENS: Final = 64
"""Tokens that a provider may have generated beyond the last chunk that arrived: one chunk, generously."""

_OPERATIONS: Final = {"embeddings": "embeddings", "completions": "text_completion"}
"""OpenTelemetry's names of what is no chat."""
_STANDARD: Final = frozenset({None, "default", "standard", "auto", "standard_only"})
"""Tiers that everybody gets: no price of their own."""
_NOWHERE: Final = frozenset({None, "", "not_available"})
"""Places that say nothing: Anthropic's word for models that cannot be told where to run."""
_BOUNDED: Final = frozenset({UNCLEAR, DECLINED, CREDIT})
"""What may make the bill smaller than what was counted."""


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
    usage, source = _usage(call, attempt, answer)
    cost, card, flags = _cost(call, attempt, answer, usage, source, world)
    side: tuple[Beside, ...] = ()
    if answer.side or answer.flags:
        cost, side = with_side(cost, answer, call.request.model, card, lambda model: _card(call, answer, model, world))
        usage = sum_usage((usage, *(beside.usage for beside in side)))
    total = min(MAX_AMOUNT, usage.input_tokens + usage.output_tokens)
    amounts = Amounts(
        min(MAX_AMOUNT, cost.nusd or 0),
        total,
        total - usage.cache_read_tokens,
        usage.input_tokens,
        usage.output_tokens,
        0 if call.counted else attempt.estimate.demand.calls,
    )
    if amounts.nusd > attempt.hold.nusd > 0 or amounts.tokens > attempt.hold.tokens:
        flags += ("overrun",)
    amounts = _with_tools(amounts, answer)
    return Charged(usage, source, cost, amounts, answer.flags + flags, side, card)


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
    if cost.nusd is not None and not _BOUNDED.isdisjoint(answer.flags):
        cost = cost._replace(status=weaker(cost.status, CostStatus.UPPER_BOUND))
    return cost, tuple(side)


def record_of(call: Call, attempt: Attempt, answer: Answer, charged: Charged, world: World) -> ModelCall:
    """Write down one attempt."""
    request, frame, cost = call.request, call.frame, charged.cost
    shape: tuple[str, ...] = (attempt.shape,) if attempt.shape in ("lowered", "clamped") else ()
    if request.cap is None and attempt.cap is None and call.path:
        shape += ("uncapped",)
    return ModelCall(
        call_id=attempt.call_id,
        op_id=call.op_id,
        attempt=attempt.number,
        ts_us=attempt.ts_us,
        who=frame.who,
        provider=request.provider,
        request_model=request.model,
        path=request.deferred or ("stream" if request.stream else "sync"),
        run_id=frame.run.id if frame.run else None,
        step=call.step,
        operation=_OPERATIONS.get(request.api, "chat"),
        response_model=answer.response_model,
        host=request.host,
        tier_requested=request.service_tier,
        tier_served=answer.tier_served,
        speed=answer.speed or request.speed,
        latency_us=world.clock.monotonic_us() - attempt.started_us,
        ttft_us=answer.ttft_us,
        queue_us=attempt.queue_us,
        response_id=answer.response_id,
        request_id=answer.request_id,
        status=answer.status,
        error_type=answer.error_type,
        http_status=answer.http_status,
        finish_reason=answer.finish_reason,
        retry_reason=answer.retry_reason,
        usage=charged.usage,
        usage_source=charged.source,
        tool_calls=answer.tool_calls,
        messages=len(request.transcript.tokens),
        tools_offered=request.tools_offered,
        max_tokens=request.cap,
        sent_max_tokens=request.cap if attempt.cap is None else attempt.cap,
        est_input_tokens=attempt.estimate.input_likely,
        held_nusd=attempt.hold.nusd if attempt.card is not None else None,
        held_tokens=attempt.hold.tokens,
        bound=attempt.bound,
        flags=charged.flags + shape + call.flags,
        cost_nusd=cost.nusd,
        cost_status=cost.status,
        cost_input_nusd=cost.input_nusd,
        cost_output_nusd=cost.output_nusd,
        cost_cache_read_nusd=cost.cache_read_nusd,
        cost_cache_write_nusd=cost.cache_write_nusd,
        cost_fees_nusd=cost.fees_nusd,
        price_version=charged.card.version if charged.card is not None else None,
        region=_region(call, answer),
        side_usage=charged.side,
        attempt_source=attempt.source,
        fallback_from=call.lineage.fallback_from,
        backoff_us=attempt.backoff_us,
        trimmed_tokens=call.trimmed_tokens,
        system_hash=request.transcript.system_hash,
        tools_hash=request.transcript.tools_hash,
    )


def _with_tools(amounts: Amounts, answer: Answer) -> Amounts:
    # A call of a decorated tool is counted and charged when it runs, any other when it is asked for.
    later = sum(ask.declared for ask in answer.asked)
    fees = sum(ask.nusd or 0 for ask in answer.asked if not ask.declared)
    return amounts._replace(nusd=min(MAX_AMOUNT, amounts.nusd + fees), tool_calls=max(0, answer.tool_calls - later))


def _usage(call: Call, attempt: Attempt, answer: Answer) -> tuple[Usage, UsageSource]:
    if answer.charge == "usage" and answer.usage is not None:
        return answer.usage, UsageSource.PROVIDER
    hold = attempt.hold
    if answer.charge == "input" and not call.frame.hard:
        return Usage(input_tokens=attempt.estimate.demand.input_practical), UsageSource.ESTIMATED
    if answer.charge == "seen":
        seen = answer.output_seen + CHUNK_TOKENS
        if not attempt.outgrown:
            seen = min(hold.output_tokens, seen)
        known = answer.usage or Usage(input_tokens=hold.input_tokens)
        return known._replace(output_tokens=max(seen, known.output_tokens)), UsageSource.STREAM_PARTIAL
    return Usage(input_tokens=hold.input_tokens, output_tokens=hold.output_tokens), UsageSource.ESTIMATED


def _cost(
    call: Call, attempt: Attempt, answer: Answer, usage: Usage, source: UsageSource, world: World
) -> tuple[Cost, RateCard | None, tuple[str, ...]]:
    measured = source is UsageSource.PROVIDER
    if answer.billed_model is not None:
        card = _card(call, answer, answer.billed_model, world)
        return price(usage, card, measured=measured), card, ()
    card = _served(call, attempt, answer, world)
    cost = price(usage, card, measured=measured)
    flags: tuple[str, ...] = ()
    other = answer.response_model
    if other is not None and other != call.request.model:
        second = _card(call, answer, other, world)
        if second is not None and (card is None or second.model != card.model):
            # What answered is not what was asked for, and only the invoice will say which was billed.
            flags = ("model_drift",)
            dearer = price(usage, second, measured=measured)
            if (dearer.nusd or 0) > (cost.nusd or 0):
                cost, card = dearer, second
    if not measured and cost.nusd is not None and answer.charge not in {"seen", "input"}:
        # The hold is the stated bound: an unknown end is charged at it, in its dearest bucket.
        held = attempt.hold.nusd
        cost = Cost(held, CostStatus.ESTIMATED, held, 0, 0, 0, 0) if held > cost.nusd else cost
    return cost, card, flags


def _served(call: Call, attempt: Attempt, answer: Answer, world: World) -> RateCard | None:
    request = call.request
    asked = context_of(request.service_tier, request.speed, place_of(request.provider, request.region))
    if _context(call, answer) == asked and request.service_tier != "flex":
        return attempt.card
    return _card(call, answer, request.model, world)


def _card(call: Call, answer: Answer, model: str, world: World) -> RateCard | None:
    context = _context(call, answer)
    return world.prices.card(call.request.provider, model, context=context, day=world.clock.today())


def _context(call: Call, answer: Answer) -> PriceContext:
    request = call.request
    return context_of(
        answer.tier_served or request.service_tier,
        answer.speed or request.speed,
        place_of(request.provider, _region(call, answer)),
    )


def _region(call: Call, answer: Answer) -> str | None:
    # Vertex and OpenAI are told where by their address; only Anthropic says it in the answer.
    request = call.request
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
