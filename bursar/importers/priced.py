"""A row of the ledger from what somebody else wrote down, at the list price of its own day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.flow.charge import context_of, place_of, with_side
from bursar.pricing.price import UNKNOWN, Cost, price, weaker
from bursar.tracing.imports import IMPORTED
from bursar.tracing.redact import cleaned
from bursar.tracing.tags import AGGREGATE
from bursar.words.events import CostStatus, Usage, UsageSource, sum_usage
from bursar.words.records import ModelCall, Who

if TYPE_CHECKING:
    from datetime import date

    from bursar.pricing.rates import PriceContext, PriceList, RateCard
    from bursar.words.events import Answer


UNFINISHED: Final = "unfinished"
"""Flag: the log has the usage of an answer as it was while it was being written."""


class Bucket(NamedTuple):
    """What a provider has added up. requests: of how many calls, None where it does not say.

    above, most: how many tokens of prompt each of them had; `most` None where the export sets no end to it.
    """

    provider: str
    model: str
    ts_us: int
    usage: Usage
    requests: int | None
    tier: str | None = None
    speed: str | None = None
    region: str | None = None
    above: int = 0
    most: int | None = None


class Pricer:
    """Makes rows of what was found."""

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices

    def answered(self, answer: Answer, provider: str, ts_us: int, who: Who) -> ModelCall:
        """The row of one answer. Its usage must be known."""
        assert answer.usage is not None
        model = answer.response_model or ""
        region = place_of(provider, answer.region)
        context, day = context_of(answer.tier_served, answer.speed, region), day_of(ts_us)
        card = self._prices.card(provider, answer.billed_model or model, context=context, day=day)
        cost, side = with_side(
            price(answer.usage, card), answer, model, card, lambda other: self._card(provider, other, context, day)
        )
        call = _row(
            provider, model, ts_us, who, sum_usage((answer.usage, *(beside.usage for beside in side))), cost, card
        )
        return cleaned_row(
            replace(
                call, response_model=answer.response_model, response_id=answer.response_id,
                request_id=answer.request_id, status=answer.status, finish_reason=answer.finish_reason,
                tool_calls=answer.tool_calls, tier_served=answer.tier_served, speed=answer.speed, region=answer.region,
                flags=answer.flags, side_usage=side,
            )
        )  # fmt: skip

    def summed(self, bucket: Bucket, who: Who) -> ModelCall:
        """The row of many calls that were added up.

        Above some size of prompt a call costs more, and how long each was the sum does not say: the mean does not
        decide it. Where a tier begins within what the export leaves open, the cost is a lower bound.
        """
        context = context_of(bucket.tier, bucket.speed, place_of(bucket.provider, bucket.region))
        card = self._card(bucket.provider, bucket.model, context, day_of(bucket.ts_us))
        cost = UNKNOWN
        if card is not None:
            cost = price(bucket.usage, replace(card, base=card.at(bucket.above + 1), tiers=()))
            if any(start > bucket.above and start < (bucket.most or start + 1) for start, _ in card.tiers):
                cost = cost._replace(status=weaker(cost.status, CostStatus.LOWER_BOUND))
        call = _row(bucket.provider, bucket.model, bucket.ts_us, who, bucket.usage, cost, card)
        path = "batch" if bucket.tier == "batch" else IMPORTED
        return cleaned_row(
            replace(
                call, tier_served=bucket.tier, speed=bucket.speed, region=bucket.region, path=path, flags=(AGGREGATE,)
            )
        )

    def _card(self, provider: str, model: str, context: PriceContext, day: date) -> RateCard | None:
        return self._prices.card(provider, model, context=context, day=day)


def billed(provider: str, item: str, ts_us: int, nusd: int, who: Who) -> ModelCall:
    """The row of an amount that a provider has billed for an item: its cost is known, its tokens are not."""
    cost = Cost(nusd, CostStatus.PROVIDER, fees_nusd=nusd)
    call = _row(provider, item, ts_us, who, Usage(), cost, None)
    return cleaned_row(replace(call, usage_source=UsageSource.NONE, flags=(AGGREGATE,)))


def at_least(call: ModelCall) -> ModelCall:
    """The row of an answer whose output was not counted to its end: it cost this much or more."""
    status = call.cost_status if call.cost_nusd is None else weaker(call.cost_status, CostStatus.LOWER_BOUND)
    return replace(call, usage_source=UsageSource.STREAM_PARTIAL, cost_status=status, flags=(*call.flags, UNFINISHED))


def day_of(ts_us: int) -> date:
    """The day of UTC, by which prices are dated."""
    return datetime.fromtimestamp(ts_us / 1_000_000, UTC).date()


def cleaned_row(call: ModelCall) -> ModelCall:
    """The row without secrets, as rows of our own calls are."""
    found = cleaned(call)
    assert isinstance(found, ModelCall)
    return found


def _row(provider: str, model: str, ts_us: int, who: Who, usage: Usage, cost: Cost, card: RateCard | None) -> ModelCall:
    return ModelCall(
        call_id="", op_id="", attempt=0, ts_us=ts_us, who=who, provider=provider, request_model=model, path=IMPORTED,
        usage=usage, usage_source=UsageSource.PROVIDER, cost_nusd=cost.nusd, cost_status=cost.status,
        cost_input_nusd=cost.input_nusd, cost_output_nusd=cost.output_nusd,
        cost_cache_read_nusd=cost.cache_read_nusd, cost_cache_write_nusd=cost.cache_write_nusd,
        cost_fees_nusd=cost.fees_nusd, price_version=None if card is None else card.version,
    )  # fmt: skip
