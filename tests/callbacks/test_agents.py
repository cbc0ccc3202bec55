"""The middleware: an agent's calls wait, are clamped and counted, and a stop becomes an end, an error or a pause."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.testing import Provider, Reply, ToolUse, scripted
from bursar.words.events import NOTHING
from tests.callbacks.models import claude, gpt
from tests.clients.books import rows_of

ASK: Any = {"messages": [("user", "hi")]}


def look(city: str) -> str:
    """Look a city up."""
    return "sunny"


LOOK = Reply(output_tokens=5, tool_calls=(ToolUse("look", {"city": "Faro"}),))


def forever() -> Provider:
    """A model that calls a tool in every answer, as long as it has tools."""

    def reply(request: Any) -> Reply:
        choice = request.body.get("tool_choice")
        none = choice == "none" or (isinstance(choice, dict) and choice.get("type") == "none")
        return Reply(text="That is all.") if none else LOOK

    return Provider(latency_s=0.0, replies=reply)


def run_agent(agent: Any, how: str, config: Any = None) -> Any:
    return asyncio.run(agent.ainvoke(ASK, config)) if how == "async" else agent.invoke(ASK, config)


MODELS = {
    "claude": claude,
    "gpt": gpt,
    "wrapped claude": lambda provider: bursar.wrap(claude(provider)),
    "wrapped gpt": lambda provider: bursar.wrap(gpt(provider)),
}
EACH = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
HOW = pytest.mark.parametrize("how", ["sync", "async"])


@EACH
@HOW
def test_an_agent_is_charged_what_it_is_billed(make: Any, how: str) -> None:
    """Under the middleware each model call of an agent is charged once, and the thread's state says how much."""
    with Provider(latency_s=0.0, replies=scripted([LOOK, Reply()])) as provider:
        agent = create_agent(make(provider), [look], middleware=[BursarMiddleware()], checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        with bursar.run("x", Budget(usd="1")) as run:
            answer = run_agent(agent, how, config)
        assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.settled.model_calls == 2
    assert run.spend.held == NOTHING
    spent = agent.get_state(config).values["bursar_spent"]
    assert (spent["nusd"], spent["model_calls"]) == (provider.billed_nusd, 2)
    assert "bursar_spent" not in answer


@EACH
@HOW
def test_finish_answers_once_more_from_the_reserve(make: Any, how: str) -> None:
    """When the budget ends the agent gives a last answer without tools, out of what was set aside, and is done."""
    with forever() as provider:
        agent = create_agent(make(provider), [look], middleware=[BursarMiddleware()])
        with bursar.run("x", Budget(model_calls=4, reserve_final="auto")) as run:
            answer = run_agent(agent, how)
        assert run.spend.settled.nusd == provider.billed_nusd
    assert answer["messages"][-1].text == "That is all."
    assert run.spend.settled.model_calls == 4


@HOW
def test_finish_without_a_reserve_says_why(how: str) -> None:
    """Where nothing was set aside the agent ends with a message of ours, and no call is made for it."""
    with forever() as provider:
        agent = create_agent(claude(provider), [look], middleware=[BursarMiddleware()])
        with bursar.run("x", Budget(model_calls=2)):
            answer = run_agent(agent, how)
        assert len(provider.charges) == 2
    last = answer["messages"][-1]
    assert isinstance(last, AIMessage)
    assert last.response_metadata["stop"] == "budget"
    assert "Nothing was sent" in last.text


@EACH
@HOW
def test_raise_lets_the_stop_leave_the_agent(make: Any, how: str) -> None:
    """With on_stop="raise" the agent ends with BudgetExceeded, whose run is the one that was stopped."""
    with forever() as provider:
        agent = create_agent(make(provider), [look], middleware=[BursarMiddleware(on_stop="raise")])
        with pytest.raises(bursar.BudgetExceeded) as caught, bursar.run("x", Budget(model_calls=2)) as run:
            run_agent(agent, how)
        assert len(provider.charges) == 2
    assert caught.value.run is run


@HOW
def test_pause_drains_and_goes_on(how: str) -> None:
    """With on_stop="pause" the graph drains, keeps its checkpoint, and goes on under another run where it stood."""
    errors = pytest.importorskip("langgraph.errors")
    if not hasattr(errors, "GraphDrained"):
        pytest.skip("this LangGraph cannot drain")
    with Provider(latency_s=0.0, replies=scripted([LOOK, LOOK, Reply(text="Done.")])) as provider:
        pause = BursarMiddleware(on_stop="pause")
        agent: Any = create_agent(claude(provider), [look], middleware=[pause], checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        with bursar.run("x", Budget(model_calls=2)), pytest.raises(errors.GraphDrained) as caught:
            run_agent(agent, how, config)
        assert isinstance(caught.value.__cause__, bursar.BudgetExceeded)
        with bursar.run("y", Budget(model_calls=2)) as run:
            answer = agent.invoke(None, config)
        assert answer["messages"][-1].text == "Done."
        assert len(provider.charges) == 3
        assert run.spend.settled.model_calls == 1
        assert agent.get_state(config).values["bursar_spent"]["nusd"] == provider.billed_nusd


def test_its_own_guards_limit_all_calls_of_the_agent() -> None:
    """A budget given to the middleware holds over its life, in runs and outside of any."""
    with forever() as provider:
        own = BursarMiddleware(Budget(model_calls=3), on_stop="raise")
        agent = create_agent(claude(provider), [look], middleware=[own])
        with pytest.raises(bursar.BudgetExceeded):
            agent.invoke(ASK)
        with pytest.raises(bursar.BudgetExceeded), bursar.run("x", Budget(usd="1")):
            agent.invoke(ASK)
        assert len(provider.charges) == 3


def test_retries_of_another_middleware_are_each_charged(provider: Provider) -> None:
    """A ModelRetry inside of ours calls the model anew: each call is charged, the failed one as it failed."""
    replies = scripted([Reply(status=500), Reply()])
    with Provider(latency_s=0.0, replies=replies) as flaky:
        retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
        agent = create_agent(claude(flaky), middleware=[BursarMiddleware(), retry])
        with bursar.run("x", Budget(usd="1")) as run:
            agent.invoke(ASK)
    assert [row.http_status for row in rows_of(run)] == [500, 200]
    assert run.spend.held == NOTHING


def test_a_call_that_is_answered_without_the_model_costs_nothing() -> None:
    """What another middleware answers by itself is not charged, and nothing stays held."""

    class Short(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return AIMessage("short")

    with Provider(latency_s=0.0) as provider:
        agent = create_agent(claude(provider), middleware=[BursarMiddleware(), Short()])
        with bursar.run("x", Budget(usd="1")) as run:
            agent.invoke(ASK)
    assert run.spend.settled == NOTHING
    assert run.spend.held == NOTHING


@HOW
def test_little_room_clamps_the_answer(how: str) -> None:
    """What is left is less than the cap: the model is sent a lower one, through LangChain."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=200)) as provider:
        agent = create_agent(claude(provider, max_tokens=4_000), middleware=[BursarMiddleware()])
        with bursar.run("x", Budget(output_tokens=700)) as run:
            run_agent(agent, how)
    [row] = rows_of(run)
    assert (row.max_tokens, row.sent_max_tokens) == (4_000, 700)
    assert "clamped" in row.flags


def test_a_handler_on_the_agent_and_the_middleware_count_once(provider: Provider) -> None:
    """The handler's run is the one that the middleware's calls are charged to."""
    handler = BursarCallbackHandler("x", Budget(usd="1"))
    agent = create_agent(claude(provider), middleware=[BursarMiddleware()])
    agent.invoke(ASK, {"callbacks": [handler]})
    assert handler.last_run is not None
    assert handler.last_run.spend.settled.nusd == provider.billed_nusd > 0


def test_two_of_them_need_two_names() -> None:
    """The name is the caller's to give, so that an agent takes two."""
    with Provider(latency_s=0.0) as provider:
        two = [BursarMiddleware(), BursarMiddleware(name="inner")]
        agent = create_agent(claude(provider), middleware=two)
        with bursar.run("x", Budget(usd="1")) as run:
            agent.invoke(ASK)
        assert run.spend.settled.nusd == provider.billed_nusd


def test_an_unknown_way_to_stop_is_refused() -> None:
    """Another on_stop raises ConfigError with the value."""
    with pytest.raises(bursar.ConfigError, match="'explode'"):
        BursarMiddleware(on_stop="explode")
