"""Read what a batch asks for and what came of it: Anthropic's Message Batches, OpenAI's Batch API.

Anthropic's requests are in the body of the order. OpenAI's lie in a file: where this process has uploaded it through a
wrapped client they are known, else nobody here can say what the batch may cost.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.requests import api_of, read
from bursar.clients.usage import get
from bursar.clients.wire import parsed
from bursar.flow.call import Bulk
from bursar.flow.charge import context_of, place_of
from bursar.flow.helpers import unpriced, with_helpers
from bursar.guards.budget import amounts
from bursar.pricing.estimate import Estimate
from bursar.pricing.rates import RateCard, Rates
from bursar.words.clock import new_id
from bursar.words.demand import Demand, Rate
from bursar.words.events import Status
from bursar.words.records import Item

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bursar.flow.call import Call, World
    from bursar.words.events import ModelRequest

MOST_UPLOAD: Final = 32 * 1024 * 1024
"""Bytes of an uploaded file that are read for what its batch may cost: seconds. Of a larger one nothing is known."""
_MOST_FILES: Final = 16
_DEAD: Final = {"errored": Status.ERROR, "canceled": Status.CANCELLED, "expired": Status.CANCELLED}
_CANCELLED: Final = ("batch_cancelled", "batch_expired")
_APIS: Final = {
    "chat.completion": "chat",
    "response": "responses",
    "list": "embeddings",
    "text_completion": "completions",
}
"""Which API an answer is of, by what it calls itself."""
_files: OrderedDict[str, tuple[Asked, ...]] = OrderedDict()


class Asked(NamedTuple):
    """One request of a batch."""

    name: str
    request: ModelRequest


class Outcome(NamedTuple):
    """One line of results. `body` is the answer, None where there is none: then it costs nothing.

    mark: the provider's own id of it.
    """

    name: str
    mark: str | None
    api: str
    body: dict[str, Any] | None
    status: Status = Status.OK
    error_type: str | None = None


def requests_of(order: ModelRequest, body: Any) -> tuple[Asked, ...] | None:
    """The requests of an order; None where they are not known."""
    if order.api == "batches":
        return _files.get(str(get(body, "input_file_id")))
    listed = get(body, "requests")
    if not isinstance(listed, list | tuple):
        return ()
    asked = []
    for each in listed:
        request = read("messages", get(each, "params"), order.host)
        if order.region is not None:
            request = request._replace(region=order.region)
        asked.append(Asked(str(get(each, "custom_id")), _batched(request, order.provider)))
    return tuple(asked)


def uploaded(content: bytes, provider: str, host: str | None) -> tuple[Asked, ...]:
    """The requests in a file of OpenAI's: one a line, with the path that it is for. Other lines are left out."""
    asked = []
    for line in content.splitlines():
        order = parsed(line)
        name, body = get(order, "custom_id"), get(order, "body")
        api = api_of(str(get(order, "method") or "POST"), str(get(order, "url")))
        if isinstance(name, str) and isinstance(body, dict) and api is not None:
            asked.append(Asked(name, _batched(read(api, body, host), provider)))
    return tuple(asked)


def keep_file(file: str, asked: tuple[Asked, ...]) -> None:
    """Remember what the last few uploaded files ask for, until batches are made of them."""
    _files[file] = asked
    if len(_files) > _MOST_FILES:
        _files.popitem(last=False)


def bulk_of(call: Call, asked: Sequence[Asked] | None, world: World) -> Bulk:
    """Estimate a batch: the sum of its requests, each at its batch price."""
    if asked is None:
        return Bulk(Estimate(0, 0, _demand((), (0, 0), calls=0), 1), None, None)
    day, workflow = world.clock.today(), call.frame.who.tags.workflow
    items, hard, estimates, cards = [], [], [], []
    for each in asked:
        request = each.request
        place = place_of(request.provider, request.region)
        context = context_of("batch", request.speed, place)
        card = world.prices.card(request.provider, request.model, context=context, day=day)
        estimate = world.estimator.estimate(request, workflow, hash((call.op_id, each.name)), card)
        if request.helpers:
            estimate = with_helpers(estimate, request, world, hard=call.frame.hard)
            card = card if unpriced(request, world) is None else None
        demand = estimate.demand
        bound = amounts(demand, demand.input_practical, demand.cap, hard=False)
        items.append(Item(each.name, f"{new_id()}/0", request.model, bound))
        hard.append(amounts(demand, demand.input_hard, demand.cap, hard=True))
        estimates.append(estimate)
        cards.append(card)
    sums = sum(item.bound.nusd for item in items), sum(bound.nusd for bound in hard)
    demands = [estimate.demand for estimate in estimates]
    whole = Estimate(
        sum(estimate.input_likely for estimate in estimates),
        sum(estimate.output_likely for estimate in estimates),
        _demand(demands, None if None in cards else sums, calls=len(items)),
        1,
    )
    known = [card for card in cards if card is not None]
    average = _average(known[0], demands) if known and len(known) == len(cards) else None
    return Bulk(whole, average, tuple(items), tuple(hard))


def outcome(line: Any) -> Outcome | None:
    """Read one line of results of either vendor; None for what is no result."""
    name = get(line, "custom_id") if isinstance(line, dict) else None
    if not isinstance(name, str):
        return None
    result = line.get("result")
    return _anthropic(name, result) if isinstance(result, dict) else _openai(name, line)


def _anthropic(name: str, result: dict[str, Any]) -> Outcome | None:
    kind, message = result.get("type"), result.get("message")
    if kind == "succeeded" and isinstance(message, dict):
        return Outcome(name, _mark("anthropic", message.get("id")), "messages", message)
    status = _DEAD.get(str(kind))
    if status is None:
        return None
    error = get(get(result.get("error") or {}, "error") or {}, "type") if kind == "errored" else kind
    return Outcome(name, None, "messages", None, status, error if isinstance(error, str) else str(kind))


def _openai(name: str, line: dict[str, Any]) -> Outcome | None:
    response, error = line.get("response"), line.get("error")
    body, mark = get(response or {}, "body"), _mark("openai", line.get("id"))
    api = _APIS.get(str(get(body, "object")), "chat") if isinstance(body, dict) else "chat"
    if isinstance(response, dict) and response.get("status_code") == 200 and isinstance(body, dict):
        return Outcome(name, mark, api, body)
    if not isinstance(response, dict) and not isinstance(error, dict):
        return None
    word = get(error or {}, "code") or get(get(body or {}, "error") or {}, "code")
    status = Status.CANCELLED if word in _CANCELLED else Status.ERROR
    return Outcome(name, mark, api, None, status, word if isinstance(word, str) else "error")


def _mark(vendor: str, name: Any) -> str | None:
    return f"{vendor}:{name}" if isinstance(name, str) and name else None


def _batched(request: ModelRequest, provider: str) -> ModelRequest:
    return request._replace(provider=provider, stream=False, service_tier="batch", deferred="batch")


def _demand(demands: Iterable[Demand], sums: tuple[int, int] | None, *, calls: int) -> Demand:
    each = list(demands)
    output = sum(demand.cap * demand.choices for demand in each)
    return Demand(
        input_practical=sum(demand.input_practical for demand in each),
        input_hard=sum(demand.input_hard for demand in each),
        cap=output,
        floor=output,
        least=output,
        learned=None,
        choices=1,
        clampable=False,
        calls=calls,
        price=None if sums is None else (Rate(sums[0], 0, 0), Rate(sums[1], 0, 0)),
    )


def _average(card: RateCard, demands: Sequence[Demand]) -> RateCard:
    # Rounded down, and the lesser of the two kinds of bound: the whole is never more than what is held for it.
    of_input = min(
        _mean([(each.input_practical, each.price[0].input_pico) for each in demands if each.price]),
        _mean([(each.input_hard, each.price[1].input_pico) for each in demands if each.price]),
    )
    of_output = min(
        _mean([(each.cap * each.choices, each.price[kind].output_pico) for each in demands if each.price])
        for kind in (0, 1)
    )
    rates = Rates(of_input, of_output, *(of_input,) * (len(Rates._fields) - 2))
    return replace(card, model="", base=rates, tiers=(), assumed=(), missing=())


def _mean(weighed: Sequence[tuple[int, int]]) -> int:
    return sum(weight * value for weight, value in weighed) // max(1, sum(weight for weight, _ in weighed))
