"""Beside LangSmith's own tracer, whose client sends to a server here: its traces are whole, and we charge once."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_core.tracers.context import tracing_v2_enabled
from langchain_core.tracers.langchain import LangChainTracer

import bursar
from bursar import Budget, CostGate
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.events import NOTHING
from tests.callbacks.langsmith_server import LangSmith, langsmith
from tests.callbacks.models import claude
from tests.clients.books import rows_of

if TYPE_CHECKING:
    from langsmith import Client

ASK: Any = {"messages": [("user", "hi")]}
PLACES = ("first", "last", "twice", "config and model and scope", "scope alone", "their scope and ours")
DOORS = pytest.mark.parametrize("door", ["bare", "wrapped", "middleware"])


@tool
def look(about: str) -> str:
    """Look something up."""
    return f"{about} is blue"


def replies(request: Any) -> Reply:
    """A tool call first, an answer then."""
    answered = "is blue" in str(request.body)
    return Reply(output_tokens=7, tool_calls=() if answered else (ToolUse("look", {"about": "sky"}),))


def agent(provider: Provider, door: str, *, model_callbacks: Any = None, **limits: Any) -> Any:
    bare = claude(provider, callbacks=model_callbacks)
    middleware = [BursarMiddleware(on_stop="raise", **limits)] if door == "middleware" else []
    return create_agent(bursar.wrap(bare) if door == "wrapped" else bare, [look], middleware=middleware)


def traced(place: str, provider: Provider, door: str, client: Client) -> bursar.Run:
    """Run the agent with tracer and handler in these places."""
    tracer, handler = LangChainTracer(client=client, project_name="x"), BursarCallbackHandler("h", Budget(usd="1"))
    lists: dict[str, list[Any]] = {
        "first": [handler, tracer],
        "last": [tracer, handler],
        "twice": [handler, tracer, handler],
        "config and model and scope": [tracer, handler],
        "scope alone": [tracer],
        "their scope and ours": [],
    }
    on_model = [BursarCallbackHandler("m", Budget(usd="1"))] if place.startswith("config") else None
    scope: Any = tracing_v2_enabled("x", client=client) if place.startswith("their") else nullcontext()
    with bursar.run("outer", Budget(usd="1")) as run, scope:
        agent(provider, door, model_callbacks=on_model).invoke(ASK, {"callbacks": lists[place]})
    return run


def check_whole(kept: LangSmith) -> None:
    """One tree: each run is begun and ended once, under a parent that is there."""
    assert sorted(kept.begun) == sorted(kept.ended) == sorted(kept.runs)
    roots = [run for run in kept.runs.values() if not run.get("parent_run_id")]
    assert len(roots) == 1
    for run in kept.runs.values():
        assert run["trace_id"] == roots[0]["id"]
        assert run["end_time"] >= run["start_time"]
        if run is not roots[0]:
            assert run["parent_run_id"] in kept.runs


@DOORS
@pytest.mark.parametrize("place", PLACES)
def test_their_trace_is_whole_and_we_charge_once(place: str, door: str) -> None:
    """An agent with a tool: every part of their tree with its end and no error, both answers with their usage; two rows
    of ours, as they were billed."""
    with Provider(latency_s=0.0, replies=replies) as provider, langsmith() as (kept, client):
        run = traced(place, provider, door, client)
        client.flush(30)
        check_whole(kept)
        assert not [each for each in kept.runs.values() if each.get("error")]
        assert {each["run_type"] for each in kept.runs.values()} >= {"chain", "llm", "tool"}
        told = [each["outputs"]["generations"][0][0]["message"]["kwargs"]["usage_metadata"] for each in kept.models()]
        assert sum(each["output_tokens"] for each in told) == run.spend.settled.output_tokens > 0
        assert len(rows_of(run)) == len(provider.charges) == 2
        assert run.spend.settled.nusd == provider.billed_nusd


@DOORS
@pytest.mark.parametrize("first", [True, False], ids=["tracer first", "tracer last"])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_their_trace_is_whole_where_a_stop_leaves(door: str, first: bool, how: str) -> None:
    """The second model call is refused: what was begun for them is ended, with the stop as its error."""
    with Provider(latency_s=0.0, replies=replies) as provider, langsmith() as (kept, client):
        tracer = LangChainTracer(client=client, project_name="x")
        handler = BursarCallbackHandler("h", Budget(model_calls=1))
        config: Any = {"callbacks": [tracer, handler] if first else [handler, tracer]}
        target = agent(provider, door)
        with pytest.raises(bursar.BudgetExceeded):
            asyncio.run(target.ainvoke(ASK, config)) if how == "async" else target.invoke(ASK, config)
        client.flush(30)
        check_whole(kept)
        [root] = [each for each in kept.runs.values() if not each.get("parent_run_id")]
        assert "BudgetExceeded" in root["error"]
        assert handler.last_run is not None
        assert handler.last_run.spend.held == NOTHING
        assert len(provider.charges) == 1


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("alone", [True, False], ids=["model alone", "agent"])
def test_their_scope_is_whole_where_nothing_is_passed(alone: bool, how: str) -> None:
    """Their tracer comes before the handler that a run brings: what that refuses has the stop as its end for them."""
    with Provider(latency_s=0.0, replies=replies) as provider, langsmith() as (kept, client):
        target: Any = claude(provider) if alone else agent(provider, "bare")
        asked = "hi" if alone else ASK
        with tracing_v2_enabled("x", client=client), bursar.run("outer", Budget(tokens=1)) as run:
            with pytest.raises(bursar.BudgetExceeded):
                asyncio.run(target.ainvoke(asked)) if how == "async" else target.invoke(asked)
        client.flush(30)
        check_whole(kept)
        [model] = kept.models()
        assert "BudgetExceeded" in model["error"]
        assert provider.charges == []
        assert run.spend.held == NOTHING


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_tool_that_is_refused_has_an_end_for_them(how: str) -> None:
    """A gate that says no to a tool alone: their trace of it ends with that, and so does the run of the handler."""
    gate = CostGate(tool="look", ask="always", approver=lambda _: False)
    handler = BursarCallbackHandler("h", Budget(usd="1"), gate)
    with langsmith() as (kept, client):
        config: Any = {"callbacks": [LangChainTracer(client=client, project_name="x"), handler]}
        with pytest.raises(bursar.ApprovalDenied):
            asyncio.run(look.ainvoke({"about": "sky"}, config)) if how == "async" else look.invoke(
                {"about": "sky"}, config
            )
        client.flush(30)
        check_whole(kept)
        [refused] = kept.runs.values()
    assert "ApprovalDenied" in refused["error"]
    assert handler.last_run is not None
    assert handler.last_run.stop_reason == "approval_denied"
