"""Beside what else LangChain has in the way: middlewares that call models of their own, retries, caches."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents import middleware as shipped
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache as NodeCache
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.callbacks.calls import calls
from bursar.callbacks.roots import roots
from bursar.runs.process import process
from bursar.testing import Provider, Reply, ToolUse, scripted
from bursar.tracing.queries import Reader
from bursar.tracing.tags import NONE
from bursar.words.events import NOTHING
from tests.callbacks.models import claude, gpt
from tests.clients.books import rows_of

LONG = "The bees see ultraviolet, and the flowers know. " * 40
DOORS = pytest.mark.parametrize("door", ["bare", "wrapped", "middleware"])
HOW = pytest.mark.parametrize("how", ["sync", "async"])
WRAPPED = pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    """No call and no part of an invocation is kept after a test."""
    yield
    assert calls == {}
    assert roots == {}


@tool
def look(about: str) -> str:
    """Look something up."""
    return f"{about} is blue"


@tool
def weigh(about: str) -> str:
    """Weigh something."""
    return f"{about} is light"


def door_of(model: Any, door: str) -> tuple[Any, list[Any]]:
    """The model and the middlewares of ours behind a door."""
    return (
        bursar.wrap(model) if door == "wrapped" else model,
        [BursarMiddleware(on_stop="raise")] if door == "middleware" else [],
    )


def run(target: Any, asked: Any, how: str) -> Any:
    return asyncio.run(target.ainvoke(asked)) if how == "async" else target.invoke(asked)


def summarising(model: Any) -> Any:
    return shipped.SummarizationMiddleware(model=model, trigger=("messages", 4), keep=("messages", 2))


def selecting(model: Any) -> Any:
    return shipped.LLMToolSelectorMiddleware(model=model, max_tools=1)


def answer(request: Any) -> Reply:
    """A choice of tools where one is asked for, else words."""
    body = str(request.body)
    if "ToolSelectionResponse" in body or "structured_output" in body or "selected" in body:
        return Reply(text='{"tools": ["look"]}')
    return Reply(output_tokens=9)


@DOORS
@HOW
@pytest.mark.parametrize("other", [summarising, selecting], ids=["Summarization", "ToolSelector"])
def test_calls_of_other_middlewares_are_charged_once(other: Any, door: str, how: str) -> None:
    """What they ask their own model passes no middleware of ours: it is charged and limited as the agent's own call."""
    asked: Any = {"messages": [("user" if n % 2 == 0 else "ai", f"{n} {LONG}") for n in range(7)]}
    for limit in (2, 1):
        with Provider(latency_s=0.0, replies=answer) as provider:
            model, ours = door_of(gpt(provider), door)
            agent = create_agent(model, [look, weigh], middleware=[other(model), *ours])
            stopped: Any = nullcontext() if limit == 2 else pytest.raises(bursar.BudgetExceeded)
            with stopped, bursar.run("both", Budget(usd="1", model_calls=limit)) as both:
                run(agent, asked, how)
            assert len(provider.charges) == len(rows_of(both)) == both.spend.settled.model_calls == limit
            assert both.spend.settled.nusd == provider.billed_nusd
        assert both.spend.held == NOTHING
        with Reader(Path(process().ledger.path)) as reader:
            # What a row of an import says of itself is none of theirs.
            assert {row.key for row in reader.spend_by("source")} == {NONE}
            if other is summarising:
                assert "summarization" in {row.key for row in reader.spend_by("purpose")}


@HOW
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
@pytest.mark.parametrize("other", [summarising, selecting], ids=["Summarization", "ToolSelector"])
def test_under_a_handler_and_the_middleware_each_call_is_charged_once(other: Any, wrapped: bool, how: str) -> None:
    """All doors at once, and no `with`: the handler's run has every call one time, its own limit and theirs."""
    asked: Any = {"messages": [("user" if n % 2 == 0 else "ai", f"{n} {LONG}") for n in range(7)]}
    handler = BursarCallbackHandler("both", Budget(usd="1", model_calls=2))
    with Provider(latency_s=0.0, replies=answer) as provider:
        model = bursar.wrap(gpt(provider)) if wrapped else gpt(provider)
        agent = create_agent(model, [look, weigh], middleware=[other(model), BursarMiddleware(on_stop="raise")])
        run(agent.with_config(callbacks=[handler]), asked, how)
        both = handler.last_run
        assert both is not None
        assert len(provider.charges) == len(rows_of(both)) == both.spend.settled.model_calls == 2
        assert both.spend.settled.nusd == provider.billed_nusd
    assert both.spend.held == NOTHING
    assert both.stop_reason == "finished"


@DOORS
@HOW
def test_an_emulated_tool_is_a_model_call(door: str, how: str) -> None:
    """LLMToolEmulator asks a model in place of the tool: that is charged as what it is, once, and so is the tool call."""
    script = [Reply(output_tokens=5, tool_calls=(ToolUse("look", {"about": "sky"}),)), *[Reply(output_tokens=9)] * 2]
    with Provider(latency_s=0.0, replies=scripted(script)) as provider:
        model, ours = door_of(claude(provider), door)
        emulator = shipped.LLMToolEmulator(tools=["look"], model=model)
        agent = create_agent(model, [look], middleware=[emulator, *ours])
        with bursar.run("emulated", Budget(usd="1")) as both:
            run(agent, {"messages": [("user", "hi")]}, how)
        assert len(provider.charges) == len(rows_of(both)) == both.spend.settled.model_calls == 3
        assert both.spend.settled.nusd == provider.billed_nusd
    assert both.spend.settled.tool_calls == 1
    assert both.spend.held == NOTHING


@DOORS
@HOW
def test_a_fallback_after_a_failure_is_charged_beside_it(door: str, how: str) -> None:
    """The first model fails after it was billed, the second answers: both are on the record, at no less than the bill."""
    replies = scripted([Reply(fault="reset_after_billing"), Reply(output_tokens=9)])
    with Provider(latency_s=0.0, replies=replies) as provider:
        model, ours = door_of(claude(provider), door)
        other, _ = door_of(gpt(provider), door)
        agent = create_agent(model, middleware=[shipped.ModelFallbackMiddleware(other), *ours])
        with bursar.run("fallback", Budget(usd="1")) as both:
            run(agent, {"messages": [("user", "hi")]}, how)
        rows = rows_of(both)
        assert [row.request_model for row in rows] == ["claude-sonnet-5-5", "gpt-4o"]
        assert rows[1].nusd == provider.charges[1].nusd
        assert both.spend.settled.nusd >= provider.billed_nusd
        assert both.spend.settled.model_calls == 2
    assert both.spend.held == NOTHING


class Broken(Exception):
    """What a tool or a node fails with."""


@DOORS
@HOW
@pytest.mark.parametrize("catching", ["ToolRetry", "ToolError"])
def test_model_calls_of_a_tool_that_fails_are_each_charged(catching: str, door: str, how: str) -> None:
    """A tool asks the model and then fails, and is tried again or excused: what it has asked is charged each time."""
    if not hasattr(shipped, f"{catching}Middleware"):
        pytest.skip(f"this langchain has no {catching}")
    use = Reply(output_tokens=5, tool_calls=(ToolUse("think", {"about": "it"}),))
    inner = [Reply(output_tokens=7)] * (3 if catching == "ToolRetry" else 1)
    failures = iter([True, True, False] if catching == "ToolRetry" else [True])
    with Provider(latency_s=0.0, replies=scripted([use, *inner, Reply(output_tokens=9)])) as provider:
        model, ours = door_of(claude(provider), door)

        @tool
        def think(about: str) -> str:
            """Think about something."""
            said = str(model.invoke(about).text)
            if next(failures):
                raise Broken
            return said

        options: Any = {"max_retries": 3, "initial_delay": 0.0, "jitter": False}
        if catching == "ToolError":
            options = {"on_error": lambda *_: "handled"}
        caught = getattr(shipped, f"{catching}Middleware")(**options)
        agent = create_agent(model, [think], middleware=[caught, *ours])
        with bursar.run("tool", Budget(usd="1")) as both:
            run(agent, {"messages": [("user", "hi")]}, how)
        assert len(provider.charges) == len(rows_of(both)) == 2 + len(inner)
        assert both.spend.settled.nusd == provider.billed_nusd
    assert both.spend.settled.tool_calls == 1
    assert both.spend.held == NOTHING


@WRAPPED
@HOW
def test_a_node_that_is_run_again_is_charged_again(wrapped: bool, how: str) -> None:
    """A node fails after its model call and is retried by its policy: two calls, both charged; the handler's run ends well."""
    failures = iter([True, False])
    handler = BursarCallbackHandler("node", Budget(usd="1"))
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=9)) as provider:
        model = bursar.wrap(claude(provider)) if wrapped else claude(provider)

        def ask(state: Any) -> Any:
            said = model.invoke("hi")
            if next(failures):
                raise Broken
            return {"messages": [said]}

        graph: Any = StateGraph(MessagesState)
        graph.add_node("ask", ask, retry_policy=RetryPolicy(max_attempts=2, initial_interval=0.01, retry_on=Broken))
        graph.add_edge(START, "ask")
        run(graph.compile().with_config(callbacks=[handler]), {"messages": []}, how)
        assert handler.last_run is not None
        assert len(provider.charges) == len(rows_of(handler.last_run)) == 2
        assert handler.last_run.spend.settled.nusd == provider.billed_nusd
    assert handler.last_run.stop_reason == "finished"
    assert handler.last_run.spend.held == NOTHING


@HOW
def test_an_error_handler_of_a_node_is_asked_for_no_stop(provider: Provider, how: str) -> None:
    """A node's `error_handler` takes an error of its own work; a stop leaves the graph all the same."""
    if "error_handler" not in StateGraph.add_node.__annotations__:
        pytest.skip("this langgraph has no error handlers of nodes")
    asked: list[str] = []

    def ask(state: Any) -> Any:
        return {"messages": [claude(provider).invoke("hi")]}

    def handle(state: Any) -> Any:
        asked.append("handled")
        return {"messages": []}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("ask", ask, error_handler=handle)
    graph.add_edge(START, "ask")
    with pytest.raises(bursar.BudgetExceeded), bursar.run("node", Budget(tokens=1)):
        run(graph.compile(), {"messages": []}, how)
    assert asked == []
    assert provider.requests == []


READS: dict[str, Any] = {
    "invoke": lambda model: model.invoke("hi"),
    "stream": lambda model: list(model.stream("hi")),
    "batch": lambda model: model.batch(["hi", "hi"]),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hi")),
    "abatch": lambda model: asyncio.run(model.abatch(["hi", "hi"])),
    "generate": lambda model: model.generate([[HumanMessage("hi")], [HumanMessage("new")]]),
}


@WRAPPED
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_only_what_was_sent_is_charged_beside_a_response_cache(read: Any, wrapped: bool) -> None:
    """Whatever way a cached answer is read, what the provider billed is what is charged, and nothing stays held."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=9)) as provider:
        model = bursar.wrap(claude(provider)) if wrapped else claude(provider)
        set_llm_cache(InMemoryCache())
        try:
            with bursar.run("cached", Budget(usd="1")) as first:
                model.invoke("hi")
            billed = provider.billed_nusd
            with bursar.run("cached", Budget(usd="1")) as again:
                read(model)
        finally:
            set_llm_cache(None)
        assert first.spend.settled.nusd == billed
        assert again.spend.settled.nusd == provider.billed_nusd - billed
        assert again.spend.settled.model_calls == len(provider.charges) - 1
    assert again.spend.held == NOTHING


@DOORS
@HOW
def test_a_node_that_a_cache_answers_is_free(door: str, how: str) -> None:
    """LangGraph's node cache answers in place of the node, be it an agent: no call is begun, none is charged."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=9)) as provider:
        model, ours = door_of(claude(provider), door)
        agent: Any = create_agent(model, middleware=ours)

        def ask(state: Any) -> Any:
            return {"messages": [agent.invoke({"messages": [("user", "hi")]})["messages"][-1]]}

        async def aask(state: Any) -> Any:
            answered = await agent.ainvoke({"messages": [("user", "hi")]})
            return {"messages": [answered["messages"][-1]]}

        graph: Any = StateGraph(MessagesState)
        graph.add_node("ask", aask if how == "async" else ask, cache_policy=CachePolicy())
        graph.add_edge(START, "ask")
        compiled = graph.compile(cache=NodeCache())
        handler = BursarCallbackHandler("handled", Budget(usd="1"))
        with bursar.run("cached", Budget(model_calls=1)) as both:
            for _ in range(2):
                run(compiled.with_config(callbacks=[handler]), {"messages": []}, how)
        assert len(provider.charges) == len(rows_of(both)) == both.spend.settled.model_calls == 1
        assert both.spend.settled.nusd == provider.billed_nusd
    assert both.spend.held == NOTHING
