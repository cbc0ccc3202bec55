"""What is ordered now and counted later: batches and background responses.

The call that orders it is charged at its bound, flagged `presumed`, and written down with what its provider calls it.
Whoever reads a result through a wrapped client, in whatever process, puts the truth in place of its part of the bound:
once for each result, in the ledger and its shared limits; the run that ordered it, where it is still in this process,
has its budget back as well.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.answers import of_message
from bursar.clients.batches import Outcome, bulk_of, outcome, requests_of
from bursar.clients.receipts import keep
from bursar.flow.call import Attempt, Call, Frame
from bursar.flow.charge import charge, context_of, place_of, record_of
from bursar.pricing.estimate import Estimate
from bursar.tracing.redact import redact
from bursar.words.clock import new_id
from bursar.words.demand import Demand
from bursar.words.errors import BursarWarning
from bursar.words.events import NOTHING, Amounts, Answer, CostStatus, ModelRequest, Status, Transcript, UsageSource
from bursar.words.records import Item, Order, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.runs.process import Process
    from bursar.runs.scoped import ScopedFrame
    from bursar.words.records import ModelCall

FINAL: Final = ("completed", "incomplete", "failed", "cancelled")
"""Ends of a background response, in OpenAI's words."""
_MOST_HERE: Final = 1_024
_NO_DEMAND: Final = Demand(0, 0, 0, 0, 0, None, 1, clampable=False, calls=1, price=None)


@dataclass(slots=True)
class _Here:
    """An order that this process has made: the frame that keeps its run's scopes, and what they are charged for it."""

    owner: Process
    call_id: str
    frame: Frame
    bounds: dict[str, Amounts]
    read: set[str]


_here: OrderedDict[str, _Here] = OrderedDict()


def in_bulk(call: Call, body: Any, owner: Process) -> None:
    """Estimate what the batch of a call asks for."""
    request = call.request
    # What is set aside for a last call is measured by the calls of a run, not by its batches.
    call.frame = replace(call.frame, reserves=())
    asked = requests_of(request, body)
    call.bulk = bulk_of(call, asked, owner.world)
    if call.bulk.items is None:
        call.flags += ("unreserved",)
    elif not request.model and asked:
        call.request = request._replace(model=_unpriced(asked, call, owner) or asked[0].request.model)


def presumed(answer: Answer) -> Answer:
    """The answer to an order: its usage is not known yet, so its bound is charged."""
    if answer.charge in ("release", "input") or _counted(answer):
        return answer
    # A stream that is cut is cut here: there it goes on.
    flags = tuple(flag for flag in answer.flags if flag != "usage_missing")
    return answer._replace(charge="bound", usage=None, flags=(*flags, "presumed"))


def ordered(call: Call, attempt: Attempt, answer: Answer, record: ModelCall, owner: Process) -> None:
    """Write down what was ordered, so that its results find it. Never raises."""
    if answer.response_id is None or answer.charge == "release":
        return
    ref = f"{call.request.provider}:{answer.response_id}"
    items = _items(call, attempt, record)
    order = Order(
        ref=ref,
        kind=str(call.request.deferred),
        provider=call.request.provider,
        host=call.request.host,
        call_id=record.call_id,
        who=record.who,
        run_id=record.run_id,
        step=record.step,
        ts_us=record.ts_us,
        tier=call.request.service_tier,
        region=call.request.region,
        path=tuple((scope.kind, scope.name, scope.window) for scope in call.shared),
        items=items,
    )
    try:
        # What has ended at once is written down too: whoever fetches it again finds it counted.
        owner.orders.place(order, read=_counted(answer))
    except Exception as error:  # noqa: BLE001 - the order is made, and it is charged
        _say(f"{ref} is charged at its bound, and was not written down", error)
    if _counted(answer):
        return
    bounds = {item.name: item.bound for item in items or ()}
    _here[ref] = _Here(owner, record.call_id, call.frame, bounds, set())
    if len(_here) > _MOST_HERE:
        _here.popitem(last=False)


class Settling:
    """Takes in the results of one order, as whoever has this frame reads them. Nothing here raises."""

    def __init__(self, frame: ScopedFrame, provider: str, host: str | None, ref: str) -> None:
        self._frame, self._owner = frame, frame.owner
        self._provider, self._host = provider, host
        self.ref = f"{provider}:{ref}"
        self._order: Order | None = None
        self._some = False
        if frame.run is not None:
            frame.run.fetched = True

    def lines(self, lines: Sequence[Any]) -> None:
        """Take in lines of a batch's results."""
        found = [result for line in lines if (result := outcome(line)) is not None]
        if found:
            self._some = self._some or any(each.body is not None for each in found)
            self._try(lambda: self._settle("batch", found))

    def read_out(self) -> None:
        """Take note that the lines have been read to their end."""
        if self._some:
            # A file of errors has an end too, and says nothing of the answers that lie in another.
            self._try(lambda: self._owner.orders.finish(self.ref))

    def responses(self, bodies: Sequence[Any]) -> None:
        """Take in a response as it is now, again and again: once it has ended, if it was made in the background."""
        for body in bodies:
            if isinstance(body, dict) and body.get("background") is True and body.get("status") in FINAL:
                self._try(partial(self._settle, "background", [Outcome("", None, "responses", body)]))

    def name_files(self, files: Sequence[str]) -> None:
        """Note that these files hold the results."""
        self._try(lambda: self._owner.orders.name_files(self.ref, [f"{self._provider}:{file}" for file in files]))

    def unanswered(self, *, named: bool) -> None:
        """Take note that a batch has ended without an answer; `named` where a file says of each request why.

        What nobody will ever read a result of costs nothing from now on.
        """

        def settle() -> None:
            left = [] if named else self._owner.orders.unread(self.ref)
            if left:
                over = [Outcome(name, None, "chat", None, Status.CANCELLED, "batch_ended") for name in left]
                self._settle("batch", over)
            self._owner.orders.finish(self.ref)

        self._try(settle)

    def _try(self, work: Any) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - what the caller reads is his, whatever becomes of our books
            _say(f"results of {self.ref} could not be taken in, and stay charged at their bound", error)

    def _settle(self, kind: str, outcomes: Sequence[Outcome]) -> None:
        owner = self._owner
        order = self._found(kind)
        results = [self._result(order, each) for each in outcomes]
        for call in owner.orders.settle(order, results, owner.world.clock.wall_us()):
            owner.recorder.tell(call)
            keep(call)
            run = self._frame.run
            if order.call_id is None and self._frame.path and order.run_id == (run.id if run else None):
                actual = next(result.actual for result in results if result.call is call)
                measured = next(result.measured for result in results if result.call is call)
                owner.memory.settle(call.call_id, self._frame.path, actual, measured=measured)
        for result in results:
            _give_back(self.ref, result, owner)

    def _found(self, kind: str) -> Order:
        if self._order is None:
            self._order = self._owner.orders.find(self.ref)
        if self._order is None:
            # Nobody ordered it through us: it is his who reads it.
            frame, now_us = self._frame, self._owner.world.clock.wall_us()
            run_id = None if frame.run is None else frame.run.id
            shared = () if frame.shares is None else frame.shares.at(now_us).scopes
            path = tuple((scope.kind, scope.name, scope.window) for scope in shared)
            self._order = Order(
                ref=self.ref,
                kind=kind,
                provider=self._provider,
                host=self._host,
                call_id=None,
                who=frame.who,
                run_id=run_id,
                step=0,
                ts_us=now_us,
                tier="batch" if kind == "batch" else None,
                path=path,
            )
        return self._order

    def _result(self, order: Order, outcome: Outcome) -> Result:
        item = self._owner.orders.item(self.ref, outcome.name)
        answer = _answer(order, outcome)
        model = item.model if item is not None and item.model else answer.response_model or ""
        bound = NOTHING if item is None else item.bound
        request = ModelRequest(
            order.provider, model, outcome.api, stream=False, transcript=Transcript(), cap=None, cap_default=0,
            host=order.host, clampable=False, service_tier=order.tier, region=order.region,
            deferred=order.kind,
        )  # fmt: skip
        world = self._owner.world
        call = Call(new_id(), request, Frame(order.who))
        context = context_of(request.service_tier, None, place_of(order.provider, order.region))
        card = world.prices.card(order.provider, model, context=context, day=world.clock.today())
        attempt = Attempt(
            call_id=f"{call.op_id}/0",
            number=0,
            started_us=world.clock.monotonic_us(),
            ts_us=order.ts_us,
            cap=None,
            hold=bound,
            reserved=False,
            bound="practical",
            shape="unheld",
            estimate=Estimate(bound.input_tokens, 0, _NO_DEMAND, 1),
            card=card,
        )
        charged = charge(call, attempt, answer, world)
        record = record_of(call, attempt, answer, charged, world)
        record.run_id, record.step, record.latency_us = order.run_id, order.step, 0
        if bound == NOTHING:
            record.held_nusd = record.held_tokens = None
            record.flags = tuple(flag for flag in record.flags if flag != "overrun")
            if charged.source is UsageSource.ESTIMATED:
                # It has cost something, and there is no saying what.
                record.cost_nusd, record.cost_status = None, CostStatus.UNKNOWN
        measured = charged.source is not UsageSource.ESTIMATED
        return Result(outcome.name, outcome.mark, record, charged.amounts, measured)


def _answer(order: Order, outcome: Outcome) -> Answer:
    if outcome.body is None:
        return Answer(outcome.status, error_type=outcome.error_type, charge="release")
    answer = of_message(outcome.api, outcome.body)
    # What a batch is billed at does not depend on what the answer says of its tier.
    return answer._replace(tier_served="batch") if order.kind == "batch" else answer


def _items(call: Call, attempt: Attempt, record: ModelCall) -> tuple[Item, ...] | None:
    usage = record.usage
    total = usage.input_tokens + usage.output_tokens
    calls = attempt.estimate.demand.calls
    whole = Amounts(record.cost_nusd or 0, total, total, usage.input_tokens, usage.output_tokens, calls, 0)
    if call.bulk is None:
        return (Item("", record.call_id, call.request.model, whole),)
    items, demand = call.bulk.items, attempt.estimate.demand
    if not items:
        return items
    if usage.input_tokens > demand.input_practical:
        # There was room for what bytes bound, and that is what was held.
        items = tuple(item._replace(bound=hard) for item, hard in zip(items, call.bulk.hard, strict=True))
    # What was charged may differ a little from the sum of what was estimated: the first one takes the rest.
    first, *others = items
    rest = whole
    for item in others:
        rest = Amounts(*(left - part for left, part in zip(rest, item.bound, strict=True)))
    return (first._replace(bound=rest), *others)


def _counted(answer: Answer) -> bool:
    return answer.charge == "usage" and answer.usage is not None


def _give_back(ref: str, result: Result, owner: Process) -> None:
    here = _here.get(ref)
    if here is None or here.owner is not owner or owner.forked or result.name in here.read:
        return
    here.read.add(result.name)
    bound, actual = here.bounds.get(result.name, NOTHING), result.actual
    delta = Amounts(*(new - old for new, old in zip(actual, bound, strict=True)))
    doubt = Amounts(*((0 if result.measured else new) - old for new, old in zip(actual, bound, strict=True)))
    if here.frame.path:
        owner.memory.correct(here.call_id, here.frame.path, delta, doubt)
    if here.bounds and here.bounds.keys() <= here.read:
        del _here[ref]


def _unpriced(asked: Sequence[Any], call: Call, owner: Process) -> str | None:
    if call.bulk is None or call.bulk.card is not None:
        return None
    world = owner.world
    for each in asked:
        request = each.request
        context = context_of("batch", request.speed, place_of(request.provider, request.region))
        if world.prices.card(request.provider, request.model, context=context, day=world.clock.today()) is None:
            model: str = request.model
            return model
    return None


def _say(what: str, error: Exception) -> None:
    # Where warnings are errors what the caller reads is his all the same.
    with contextlib.suppress(BursarWarning):
        warnings.warn(f"{what} ({redact(f'{type(error).__name__}: {error}')})", BursarWarning, stacklevel=3)
