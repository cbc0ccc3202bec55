"""A stop against everything in LangChain and LangGraph that catches errors: it leaves on the first raise.

Three doors raise it (the handler, a wrapped client, the middleware); nothing is asked of the model after it.
"""

from __future__ import annotations

import asyncio
import operator
import subprocess
import sys
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents import middleware as shipped
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import RetryPolicy, Send

import bursar
from bursar import Budget
from bursar.callbacks import BursarMiddleware
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.events import NOTHING
from tests.callbacks.models import claude, gpt
from tests.clients.books import verdicts_of

ASK: Any = {"messages": [("user", "hi")]}
DOORS = pytest.mark.parametrize("wrapped", [False, True], ids=["handler", "wrapped"])
HOW = pytest.mark.parametrize("how", ["sync", "async"])


def make(provider: Provider, wrapped: bool) -> Any:
    return bursar.wrap(claude(provider)) if wrapped else claude(provider)


def stopped(target: Any, asked: Any, how: str, **limits: int) -> None:
    """Run it under a budget, else of one token; it must raise on the first try: no guard is asked a second time."""
    budget: Any = limits or {"tokens": 1}
    with pytest.raises(bursar.BudgetExceeded), bursar.run("x", Budget(**budget)) as run:
        if how == "async":
            asyncio.run(target.ainvoke(asked))
        else:
            target.invoke(asked)
    assert [verdict.action for verdict in verdicts_of(run)] == ["deny"]
    assert run.spend.held == NOTHING
    assert run.stop_reason == "budget"


def retries(provider: Provider) -> Any:
    return shipped.ModelRetryMiddleware(max_retries=5, initial_delay=0.0, jitter=False)


def fallback(provider: Provider) -> Any:
    return shipped.ModelFallbackMiddleware(gpt(provider))


@DOORS
@HOW
@pytest.mark.parametrize("catching", [retries, fallback], ids=["ModelRetry", "ModelFallback"])
@pytest.mark.parametrize("guarded", [False, True], ids=["alone", "middleware"])
def test_model_middlewares(provider: Provider, catching: Any, wrapped: bool, how: str, guarded: bool) -> None:
    """ModelRetry does not retry a stop, ModelFallback does not fall back on one, ours inside or not."""
    ours = [BursarMiddleware(on_stop="raise")] if guarded else []
    agent = create_agent(make(provider, wrapped), middleware=[catching(provider), *ours])
    stopped(agent, ASK, how)
    assert provider.requests == []


@DOORS
@HOW
@pytest.mark.parametrize("catching", ["ToolRetry", "ToolError"])
def test_tool_middlewares(catching: str, wrapped: bool, how: str) -> None:
    """A stop inside of a tool is neither retried as a failure of the tool nor told to the model as one."""
    if not hasattr(shipped, f"{catching}Middleware"):
        pytest.skip(f"this langchain has no {catching}")
    reply = Reply(output_tokens=5, tool_calls=(ToolUse("think", {"about": "it"}),))
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        model = make(provider, wrapped)

        @tool
        def think(about: str) -> str:
            """Think about something."""
            return str(model.invoke(about).text)

        options: Any = {"max_retries": 3, "initial_delay": 0.0, "jitter": False}
        if catching == "ToolError":
            options = {"on_error": lambda *_: "handled"}
        caught = getattr(shipped, f"{catching}Middleware")(**options)
        stopped(create_agent(model, [think], middleware=[caught]), ASK, how, model_calls=1)
        assert len(provider.charges) == 1


@DOORS
@HOW
def test_a_tool_node_that_handles_errors(wrapped: bool, how: str) -> None:
    """ToolNode(handle_tool_errors=True) makes a message of any error, but not of a stop."""
    with Provider(latency_s=0.0) as provider:
        model = make(provider, wrapped)

        @tool
        def think(about: str) -> str:
            """Think about something."""
            return str(model.invoke(about).text)

        graph: Any = StateGraph(Messages)
        graph.add_node("tools", ToolNode([think], handle_tool_errors=True))
        graph.add_edge(START, "tools")
        call = {"name": "think", "args": {"about": "it"}, "id": "1", "type": "tool_call"}
        asked = {"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}
        stopped(graph.compile(), _messages(asked), how)
        assert provider.requests == []


@DOORS
@HOW
def test_with_retry(provider: Provider, wrapped: bool, how: str) -> None:
    """`.with_retry()` retries every exception; a stop it lets go at once, without a pause."""
    stopped(make(provider, wrapped).with_retry(stop_after_attempt=3), "hi", how)
    assert provider.requests == []


@DOORS
@HOW
def test_with_fallbacks(provider: Provider, wrapped: bool, how: str) -> None:
    """`.with_fallbacks()` asks no other model after a stop, not even one that would have fitted."""
    cheap = claude(provider, max_tokens=1)
    chained = make(provider, wrapped).with_fallbacks([cheap])
    stopped(chained, "hi", how, tokens=40)
    assert provider.requests == []


@HOW
@pytest.mark.parametrize("streamed", [False, True], ids=["invoke", "stream"])
def test_fallbacks_that_have_a_name_of_their_own(provider: Provider, streamed: bool, how: str) -> None:
    """Whatever the user calls it, alone or behind a prompt: a stop is no error that something else can make good."""
    cheap = claude(provider, max_tokens=1)
    prompt: Any = RunnableLambda(lambda said: f"{said}!")
    chained: Any = (prompt | claude(provider)).with_fallbacks([cheap]).with_config(run_name="mine")

    async def aall() -> None:
        assert [piece async for piece in chained.astream("hi")]

    with pytest.raises(bursar.BudgetExceeded), bursar.run("x", Budget(tokens=40)) as run:
        if how == "async":
            asyncio.run(aall() if streamed else chained.ainvoke("hi"))
        else:
            assert list(chained.stream("hi")) if streamed else chained.invoke("hi")
    assert [verdict.action for verdict in verdicts_of(run)] == ["deny"]
    assert provider.requests == []


@DOORS
@HOW
@pytest.mark.parametrize("exceptions", [False, True], ids=["raised", "returned"])
def test_fallbacks_of_a_batch_that_have_a_name(provider: Provider, wrapped: bool, how: str, exceptions: bool) -> None:
    """The same where several are asked at once, and where the chain is itself a part of one with fallbacks."""
    cheap = claude(provider, max_tokens=1)
    inner: Any = make(provider, wrapped).with_fallbacks([cheap]).with_config(run_name="inner")
    chained: Any = inner.with_fallbacks([cheap]).with_config(run_name="mine")
    with bursar.run("x", Budget(tokens=40)) as run:
        try:
            if how == "async":
                found = asyncio.run(chained.abatch(["a", "b"], return_exceptions=exceptions))
            else:
                found = chained.batch(["a", "b"], return_exceptions=exceptions)
        except bursar.BudgetExceeded as stop:
            found = [stop, stop]
    assert [isinstance(each, bursar.BudgetExceeded) for each in found] == [True, True]
    assert {verdict.action for verdict in verdicts_of(run)} == {"deny"}
    assert provider.requests == []


FIRST = """
import asyncio, bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler
from bursar.testing import Provider
from tests.callbacks.models import claude
with Provider(latency_s=0.0) as provider:
    chained = claude(provider).with_fallbacks([claude(provider, max_tokens=1)]).with_config(run_name="mine")
    handler = BursarCallbackHandler("x", Budget(tokens=40))
    found = asyncio.run(chained.abatch(["a"], {"callbacks": [handler]}, return_exceptions=True))
    print(type(found[0]).__name__, len(provider.requests))
"""


def test_the_first_call_of_a_process_is_no_exception() -> None:
    """With a handler and nothing else that could have been made ready before."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    assert done.stdout == "BudgetExceeded 0\n"


@DOORS
@HOW
def test_a_retry_policy_of_a_node(provider: Provider, wrapped: bool, how: str) -> None:
    """A node's RetryPolicy does not run the node again."""
    model = make(provider, wrapped)
    graph: Any = StateGraph(Messages)

    def ask(state: Any) -> Any:
        return {"messages": [model.invoke("hi")]}

    policy = RetryPolicy(max_attempts=3, initial_interval=0.01, retry_on=Exception)
    graph.add_node("ask", ask, retry_policy=policy)
    graph.add_edge(START, "ask")
    stopped(graph.compile(), {"messages": []}, how)


@pytest.mark.parametrize("how", ["sync"])
@DOORS
def test_fifty_sub_agents_from_one_turn(wrapped: bool, how: str) -> None:
    """Of fifty sub-agents that one step sends out, as many are served as the limit allows, and the stop leaves."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=5)) as provider:
        sub = create_agent(make(provider, wrapped))
        graph: Any = StateGraph(Gathered)
        graph.add_node("sub", lambda state: {"said": [sub.invoke(ASK)["messages"][-1].text]})
        graph.add_conditional_edges(START, lambda state: [Send("sub", {}) for _ in range(50)], ["sub"])
        with pytest.raises(bursar.BudgetExceeded), bursar.run("x", Budget(model_calls=10)) as run:
            graph.compile().invoke({"said": []}, {"max_concurrency": 50})
        assert len(provider.charges) == 10
    assert run.spend.held == NOTHING


class Messages(TypedDict):
    messages: Annotated[list[Any], operator.add]


class Gathered(TypedDict):
    said: Annotated[list[str], operator.add]


def _messages(asked: Any) -> Any:
    from langchain_core.messages import AIMessage

    return {"messages": [AIMessage("", tool_calls=asked["messages"][0]["tool_calls"])]}
