"""The other ways in which LangChain is called: events, bound callbacks, batches that fail in part, answers in a form."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.callbacks.calls import calls
from bursar.callbacks.roots import roots
from bursar.testing import Provider, Reply, ToolUse, scripted
from bursar.words.events import NOTHING
from tests.callbacks.models import claude, gpt
from tests.clients.books import rows_of

ASK: Any = {"messages": [("user", "hi")]}
MODELS = pytest.mark.parametrize("make", [claude, gpt], ids=["claude", "gpt"])
WRAPPED = pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
DOORS = pytest.mark.parametrize("door", ["bare", "wrapped", "middleware"])
HOW = pytest.mark.parametrize("how", ["sync", "async"])


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    """No call and no part of an invocation is kept after a test."""
    yield
    assert calls == {}
    assert roots == {}


class Place(BaseModel):
    """Where something is."""

    city: str


def agent(model: Any, door: str, **options: Any) -> Any:
    middleware = [BursarMiddleware(on_stop="raise")] if door == "middleware" else []
    return create_agent(bursar.wrap(model) if door == "wrapped" else model, middleware=middleware, **options)


async def ends_of_models(target: Any, asked: Any, config: Any = None) -> int:
    """How many model calls have an end in the events."""
    found = 0
    async for event in target.astream_events(asked, config, version="v2"):
        found += event["event"] == "on_chat_model_end"
    return found


@MODELS
@DOORS
def test_events_of_an_agent_are_charged_once(make: Any, door: str) -> None:
    """`astream_events` streams the model behind the caller's back: it is charged as billed, once, and refused as else."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=20)) as provider:
        options = {"stream_usage": True} if make is gpt else {}
        target = agent(make(provider, **options), door)
        with bursar.run("events", Budget(usd="1", model_calls=1)) as run:
            assert asyncio.run(ends_of_models(target, ASK)) == 1
            with pytest.raises(bursar.BudgetExceeded):
                asyncio.run(ends_of_models(target, ASK))
        assert [bool(request.stream) for request in provider.requests] == [True]
        assert run.spend.settled.nusd == provider.billed_nusd > 0
    assert run.spend.held == NOTHING
    assert len(rows_of(run)) == 1


@WRAPPED
def test_events_that_are_left_are_charged_for_what_was_seen(wrapped: bool) -> None:
    """Whoever leaves the events of a model in the middle pays for what was written, and his run is known as left."""
    reply = Reply(output_tokens=300, chunk_delay_s=0.005)
    handler = BursarCallbackHandler("left", Budget(usd="1"))

    async def leave(target: Any) -> None:
        events = target.astream_events("hi", {"callbacks": [handler]}, version="v2")
        async for event in events:
            if event["event"] == "on_chat_model_stream":
                break
        await events.aclose()

    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        asyncio.run(leave(bursar.wrap(claude(provider)) if wrapped else claude(provider)))
        provider.wait_idle()
        assert handler.last_run is not None
        assert handler.last_run.spend.settled.nusd >= provider.billed_nusd > 0
    assert handler.last_run.spend.held == NOTHING
    assert handler.last_run.stop_reason in ("cancelled", "abandoned")


@HOW
@DOORS
def test_a_handler_that_is_bound_gates_each_invocation(provider: Provider, door: str, how: str) -> None:
    """`.with_config(callbacks=[...])` of an agent: each invocation is a run of the handler's, with its limits."""
    handler = BursarCallbackHandler("bound", Budget(model_calls=1))
    target = agent(claude(provider), door).with_config(callbacks=[handler])
    ended: list[Any] = []

    async def twice(_: Any) -> None:
        for _ in range(2):
            await target.ainvoke(ASK)
            ended.append(handler.last_run)

    def both(_: Any) -> None:
        for _ in range(2):
            target.invoke(ASK)
            ended.append(handler.last_run)

    asyncio.run(twice(None)) if how == "async" else both(None)
    assert [(run.stop_reason, run.steps) for run in ended] == [("finished", 1)] * 2
    assert ended[0] is not ended[1]
    chain: Any = RunnableLambda(both).with_config(callbacks=[handler])
    with pytest.raises(bursar.BudgetExceeded):
        chain.invoke(None)
    assert len(provider.charges) == 3


@MODELS
@WRAPPED
@HOW
def test_a_batch_that_fails_in_part_is_charged_as_billed(make: Any, wrapped: bool, how: str) -> None:
    """Of nine calls a third is refused by the provider, a third fails after it was billed: all as they ended, no hold."""
    # Told by the prompt, since they come in any order.
    ends = {"bad": Reply(status=400), "lost": Reply(fault="reset_after_billing"), "good": Reply(output_tokens=9)}

    def reply(request: Any) -> Reply:
        return next(end for word, end in ends.items() if word in str(request.body))

    asked: Any = [f"{word} {number}" for number in range(3) for word in ends]
    with Provider(latency_s=0.0, replies=reply) as provider:
        model = bursar.wrap(make(provider)) if wrapped else make(provider)
        with bursar.run("batch", Budget(usd="1")) as run:
            if how == "async":
                said = asyncio.run(model.abatch(asked, return_exceptions=True))
            else:
                said = model.batch(asked, return_exceptions=True)
        assert [isinstance(each, Exception) for each in said] == [True, True, False] * 3
        assert run.spend.settled.nusd >= provider.billed_nusd > 0
    rows = rows_of(run)
    good = [row.nusd for row in rows if row.status == "ok"]
    assert sorted(good, key=str) == sorted((each.nusd for each in provider.charges if each.output_tokens == 9), key=str)
    # What was refused by the provider was never billed; of what was lost nobody can know.
    assert sorted(row.nusd == 0 for row in rows) == [False] * 6 + [True] * 3
    assert run.spend.held == NOTHING


@MODELS
@WRAPPED
@HOW
def test_a_batch_of_which_some_do_not_fit(make: Any, wrapped: bool, how: str) -> None:
    """With `return_exceptions=True` what does not fit is a `BudgetExceeded` in its place; the others are answered."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=9)) as provider:
        model = bursar.wrap(make(provider)) if wrapped else make(provider)
        asked = [f"{number} hi" for number in range(6)]
        with bursar.run("batch", Budget(model_calls=4)) as run:
            if how == "async":
                said = asyncio.run(model.abatch(asked, return_exceptions=True))
            else:
                said = model.batch(asked, return_exceptions=True)
        assert sum(isinstance(each, bursar.BudgetExceeded) for each in said) == 2
        assert len(provider.charges) == 4
        assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING


FORMS: dict[str, tuple[Any, str, str]] = {
    "gpt's schema": (gpt, "gpt-4o", "json_schema"),
    "gpt's tool": (gpt, "gpt-4o", "function_calling"),
    "claude's schema": (claude, "claude-sonnet-5-5", "json_schema"),
    "claude's tool": (claude, "claude-haiku-4-5", "function_calling"),
}
PLACED = '{"city": "Faro"}'
AS_TOOL = Reply(output_tokens=5, tool_calls=(ToolUse("Place", {"city": "Faro"}),))


@WRAPPED
@HOW
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_answer_in_a_form_is_charged_once(form: Any, wrapped: bool, how: str) -> None:
    """`with_structured_output`: parsed, charged as billed, limited; nothing clamps a form that would then be cut."""
    make, named, method = form
    reply = AS_TOOL if method == "function_calling" else Reply(text=PLACED)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        model = make(provider, model=named)
        target: Any = (bursar.wrap(model) if wrapped else model).with_structured_output(Place, method=method)
        with bursar.run("form", Budget(usd="1", model_calls=1)) as run:
            answer = asyncio.run(target.ainvoke("where?")) if how == "async" else target.invoke("where?")
            with pytest.raises(bursar.BudgetExceeded):
                target.invoke("where?")
        assert answer == Place(city="Faro")
        assert len(provider.charges) == 1
        assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING
    assert [row.sent_max_tokens for row in rows_of(run)] == [row.max_tokens for row in rows_of(run)]


@DOORS
@HOW
@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
def test_an_agent_that_answers_in_a_form(strategy: Any, door: str, how: str) -> None:
    """`response_format`: the form comes back, each call is charged as billed, a first wrong form and its retry too."""
    wrong = Reply(output_tokens=5, tool_calls=(ToolUse("Place", {"town": "Faro"}),))
    replies = [wrong, AS_TOOL] if strategy is ToolStrategy else [Reply(text=PLACED)]
    with Provider(latency_s=0.0, replies=scripted(replies)) as provider:
        target = agent(gpt(provider), door, response_format=strategy(Place))
        with bursar.run("form", Budget(usd="1")) as run:
            answer = asyncio.run(target.ainvoke(ASK)) if how == "async" else target.invoke(ASK)
        assert answer["structured_response"] == Place(city="Faro")
        assert len(provider.charges) == len(rows_of(run)) == len(replies)
        assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING


@HOW
@WRAPPED
def test_a_refused_part_of_a_batch_leaves_nothing_of_the_others(provider: Provider, wrapped: bool, how: str) -> None:
    """`generate` begins all its calls before it sends one: where one does not fit, none is sent and none is charged."""
    model = bursar.wrap(claude(provider)) if wrapped else claude(provider)
    asked: Any = [[HumanMessage(text)] for text in "abc"]
    before = calls.copy()
    with bursar.run("batch", Budget(model_calls=2)) as run, pytest.raises(bursar.BudgetExceeded):
        asyncio.run(model.agenerate(asked)) if how == "async" else model.generate(asked)
    if wrapped:
        # Its clients admit, one call after the other.
        assert run.spend.settled.nusd == provider.billed_nusd > 0
    else:
        assert provider.requests == []
        assert run.spend.settled == NOTHING
        assert rows_of(run) == []
    assert run.spend.held == NOTHING
    assert calls == before
