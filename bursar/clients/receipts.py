"""What an answer cost, for whoever has the answer in hand: `bursar.cost(response)`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.answers import of_message
from bursar.clients.usage import get
from bursar.flow.charge import context_of, place_of, with_side
from bursar.pricing.price import price
from bursar.pricing.rates import find_provider
from bursar.runs.process import process
from bursar.words.errors import BursarError
from bursar.words.events import CostStatus, Usage, sum_usage
from bursar.words.money import show_usd, usd

if TYPE_CHECKING:
    from decimal import Decimal

    from bursar.words.records import ModelCall

_MOST: Final = 1_024
_recent: OrderedDict[str, ModelCall] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one answer cost. `usd` is None where the price is unknown; `latency_s` where the call was not seen."""

    usage: Usage | None
    nusd: int | None
    status: CostStatus
    latency_s: float | None = None

    @property
    def usd(self) -> Decimal | None:
        """Dollars, exactly; None where unknown."""
        return None if self.nusd is None else usd(self.nusd)

    def __str__(self) -> str:
        parts = [f"{show_usd(self.nusd)} {self.status.replace('_', ' ')}" if self.nusd is not None else "price unknown"]
        if self.usage is None:
            parts.append("usage unknown")
        else:
            cached = f" (cache {self.usage.cache_read_tokens:,})" if self.usage.cache_read_tokens else ""
            parts += [f"in {self.usage.input_tokens:,}{cached}", f"out {self.usage.output_tokens:,}"]
        if self.latency_s is not None:
            parts.append(f"{self.latency_s:.1f} s")
        return " · ".join(parts)


def keep(record: ModelCall) -> None:
    """Remember the last 1,024 answers by their id."""
    if record.response_id is not None:
        _recent[record.response_id] = record
        if len(_recent) > _MOST:
            _recent.popitem(last=False)


def cost(response: Any) -> Receipt:
    """Say what an answer cost: the typed object an SDK returned, or its JSON.

    An answer of a wrapped client is looked up; any other is priced from its own usage. Raises `BursarError` for
    what is no answer of Anthropic or OpenAI.
    """
    name = get(response, "id")
    found = _recent.get(name) if isinstance(name, str) else None
    if found is not None:
        return Receipt(found.usage, found.cost_nusd, found.cost_status, found.latency_us / 1_000_000)
    api = _api(response)
    answer = of_message(api, response)
    model = answer.response_model or ""
    provider = "anthropic" if api == "messages" else find_provider(model) or "openai"
    if answer.usage is None:
        return Receipt(None, None, CostStatus.UNKNOWN)
    prices, day = process().world.prices, process().world.clock.today()
    context = context_of(answer.tier_served, answer.speed, place_of(provider, answer.region))
    card = prices.card(provider, answer.billed_model or model, context=context, day=day)
    priced, side = with_side(
        price(answer.usage, card),
        answer,
        model,
        card,
        lambda other: prices.card(provider, other, context=context, day=day),
    )
    usage = sum_usage((answer.usage, *(beside.usage for beside in side)))
    return Receipt(usage, priced.nusd, priced.status)


def _api(response: Any) -> str:
    if get(response, "choices") is not None:
        return "chat"
    if get(response, "type") == "message" or get(response, "stop_reason") is not None:
        return "messages"
    if get(response, "object") == "response":
        return "responses"
    raise BursarError(
        f"cost() takes an answer of Anthropic's Messages or OpenAI's Chat Completions or Responses, "
        f"not {type(response).__name__}"
    )
