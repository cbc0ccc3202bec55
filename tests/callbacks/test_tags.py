"""What LangChain and LangGraph know of a call reaches its row, and is read as tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.graph import START, MessagesState, StateGraph

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.callbacks.tags import LONGEST, MOST_TAGS, tags_of
from bursar.runs.process import process
from bursar.testing import Provider
from bursar.tracing.queries import Reader
from tests.callbacks.models import claude

ASK: Any = {"messages": [("user", "hi")]}
DOORS = pytest.mark.parametrize("door", ["handler", "wrapped", "middleware"])


def agent(provider: Provider, door: str, **options: Any) -> Any:
    model: Any = bursar.wrap(claude(provider)) if door == "wrapped" else claude(provider)
    middleware = [BursarMiddleware()] if door == "middleware" else []
    return create_agent(model, middleware=middleware, **options)


def extra() -> set[str | None]:
    with Reader(Path(process().ledger.path)) as reader:
        rows = reader._database.execute("SELECT json_extract(extra, '$.team') FROM dimension")
        return {row[0] for row in rows if row[0] is not None}


def values(tag: str) -> set[str | None]:
    with Reader(Path(process().ledger.path)) as reader:
        return {row.key for row in reader.spend_by(tag)}


@DOORS
def test_agent_node_step_and_what_the_user_wrote(provider: Provider, door: str) -> None:
    """Agent, node, step and the caller's metadata are tags of the row, through each door; the run's own tags win."""
    config: Any = {"metadata": {"team": "red", "feature": "inbox", "owner": "somebody"}}
    with bursar.run("triage", Budget(usd="1"), owner="support"):
        agent(provider, door, name="researcher").invoke(ASK, config)
    assert values("workflow") == {"triage"}
    assert values("owner") == {"support"}
    assert values("feature") == {"inbox"}
    assert extra() == {"red"}
    assert values("agent") == {"researcher"}
    assert values("node") == {"model"}
    assert values("graph_step") == {"1"}


def test_a_run_of_the_handler_is_named_by_the_invocation(provider: Provider) -> None:
    """Without a workflow the name of the invocation is one; thread and user of the config are the run's."""
    handler = BursarCallbackHandler(None, Budget(usd="1"))
    config: Any = {
        "callbacks": [handler],
        "run_name": "nightly",
        "metadata": {"user": "u-7"},
        "configurable": {"thread_id": "t-1"},
    }
    agent(provider, "handler").invoke(ASK, config)
    assert handler.last_run is not None
    who = handler.last_run.who
    assert (who.tags.workflow, who.user, who.session) == ("nightly", "u-7", "t-1")


def test_a_limit_of_a_user_holds_for_users_in_metadata(provider: Provider, tmp_path: Path) -> None:
    """A shared limit per user counts a call for the user that LangChain's metadata names."""
    config = tmp_path / "bursar.toml"
    config.write_text('[[limit]]\nper = "user"\nwindow = "day"\nmodel_calls = 1\n')
    bursar.configure(config=str(config))
    try:
        with bursar.run("x", Budget(usd="1")):
            claude(provider).invoke("hi", {"metadata": {"user": "u-1"}})
            claude(provider).invoke("hi", {"metadata": {"user": "u-2"}})
            with pytest.raises(bursar.BudgetExceeded):
                claude(provider).invoke("hi", {"metadata": {"user": "u-1"}})
    finally:
        bursar.configure(config=None)
    assert len(provider.charges) == 2


def test_nodes_of_a_graph_are_told_apart(provider: Provider) -> None:
    """Two nodes that call one model are two values of the tag."""
    model = claude(provider)
    graph: Any = StateGraph(MessagesState)
    graph.add_node("plan", lambda state: {"messages": [model.invoke("plan")]})
    graph.add_node("write", lambda state: {"messages": [model.invoke("write")]})
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    with bursar.run("x", Budget(usd="1")):
        graph.compile().invoke({"messages": []})
    assert values("node") == {"plan", "write"}


def test_only_what_can_be_a_tag_is_one() -> None:
    """Objects, empty texts and what is LangChain's own are left out; texts are cut, and there are not too many."""
    mine = {f"k{n}": "v" for n in range(2 * MOST_TAGS)}
    found = dict(
        tags_of({"ls_provider": "x", "langgraph_path": ("a",), "a": {"b": 1}, "c": " ", "d": "x" * 999} | mine)
    )
    assert "ls_provider" not in found
    assert "langgraph_path" not in found
    assert "a" not in found
    assert "c" not in found
    assert len(found["d"]) == LONGEST
    assert len(found) <= MOST_TAGS
    assert tags_of(None) == ()


def test_the_users_own_session_wins_over_the_thread() -> None:
    """Whoever names a session means it, in whatever order the keys come."""
    assert dict(tags_of({"thread_id": "t", "session": "s"})) == {"session": "s"}
    assert dict(tags_of({"session": "s", "thread_id": "t"})) == {"session": "s"}
