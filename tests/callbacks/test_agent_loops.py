"""The loop guard in an agent of LangChain: told where the model reads it, refused, ended with its work, remembered."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import bursar
from bursar import Budget, LoopDetected, LoopGuard, ToolTraits
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.guards import loop_judge
from bursar.guards.loop_notes import NOTE_MARK
from bursar.testing import Provider, ReceivedRequest, Reply, ToolUse
from bursar.words.rows import VerdictRow
from tests.callbacks.models import claude, gpt
from tests.clients.books import rows_of, verdicts_of
from tests.clients.looping_agents import forbidden, told, until

ASK: Any = {"messages": [("user", "look for it")]}
CONFIG: Any = {"configurable": {"thread_id": "1"}, "recursion_limit": 150}
MODELS = {
    "claude": claude,
    "gpt": gpt,
    "responses": lambda provider: gpt(provider, use_responses_api=True),
    "wrapped claude": lambda provider: bursar.wrap(claude(provider)),
    "wrapped gpt": lambda provider: bursar.wrap(gpt(provider)),
}
EACH = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
HOW = pytest.mark.parametrize("how", ["sync", "async"])


class Looker:
    """A tool that finds nothing, and notes each time that it ran."""

    def __init__(self, result: str = "nothing on this page") -> None:
        self.ran: list[int] = []
        self.result = result

    def tool(self) -> Any:
        def look(page: int) -> str:
            """Look at a page."""
            self.ran.append(page)
            return self.result

        return look


def invoke(agent: Any, how: str = "sync", asked: Any = None, config: Any = None) -> Any:
    asked, config = asked or ASK, config or CONFIG
    return asyncio.run(agent.ainvoke(asked, config)) if how == "async" else agent.invoke(asked, config)


def verdicts(run: bursar.Run) -> list[VerdictRow]:
    return [row for row in verdicts_of(run) if row.guard == "loops"]


def history(request: ReceivedRequest) -> list[Any]:
    found: list[Any] = request.body.get("messages") or request.body["input"]
    return found


def no_orphans(messages: list[Any]) -> None:
    """Each call of the agent's own messages has one result."""
    asked = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    assert asked == [message.tool_call_id for message in messages if isinstance(message, ToolMessage)]


@EACH
@HOW
def test_a_looping_agent_is_told(make: Any, how: str) -> None:
    """The model asks for one page until a note stands right after the third equal result; the agent answers then."""
    looker = Looker()
    with Provider(latency_s=0.0, replies=until(told)) as provider:
        agent = create_agent(make(provider), [looker.tool()], middleware=[BursarMiddleware()])
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            answer = invoke(agent, how)
        assert len(provider.requests) == 4
        assert run.spend.settled.nusd == provider.billed_nusd
    assert answer["messages"][-1].text == "what I have is this"
    assert not any(NOTE_MARK in str(message.content) for message in answer["messages"])
    assert [(row.action, row.streak) for row in verdicts(run)] == [("notice", 1), ("nudge", 2)]
    assert verdicts(run)[1].tokens
    assert verdicts(run)[1].nusd
    assert run.stop_reason == "finished"


@EACH
@HOW
def test_a_loop_that_goes_on_is_refused_and_ended(make: Any, how: str) -> None:
    """The tool runs five times, two calls are refused in messages, the last answer may not call tools: the agent ends
    with it, its tools are still in the request, every call has its result, and nothing is judged twice."""
    looker = Looker()
    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        agent = create_agent(make(provider), [looker.tool()], middleware=[BursarMiddleware()])
        with bursar.run("look", Budget(usd="50"), LoopGuard()) as run:
            answer = invoke(agent, how)
        requests = list(provider.requests)
    assert answer["messages"][-1].text == "what I have is this"
    no_orphans(answer["messages"])
    assert len(looker.ran) == 5
    assert len(requests) == 8
    assert requests[-1].body["tools"] == requests[0].body["tools"]
    assert [(row.action, row.streak) for row in verdicts(run)] == [
        ("notice", 1), ("nudge", 2), ("notice", 3), ("block", 4), ("block", 5), ("finish", 6),
    ]  # fmt: skip
    assert run.stop_reason == "loop"


@EACH
def test_a_loop_that_is_ended_costs_a_fraction(make: Any) -> None:
    """Less than a quarter of what forty steps of it are billed at."""
    costs = []
    for guards in ((), (LoopGuard(),)):
        with Provider(latency_s=0.0, replies=until(lambda r: forbidden(r) or len(history(r)) > 80)) as provider:
            agent = create_agent(make(provider), [Looker().tool()], middleware=[BursarMiddleware()])
            with bursar.run("look", Budget(usd="50"), *guards):
                invoke(agent)
            costs.append(provider.billed_nusd)
    assert costs[1] < 0.25 * costs[0]


@EACH
def test_notes_stay_where_they_are(make: Any) -> None:
    """Every request begins with the one before it: each note keeps its place, so the provider's cache stays warm."""
    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        agent = create_agent(make(provider), [Looker().tool()], middleware=[BursarMiddleware()])
        with bursar.run("look", Budget(usd="50"), LoopGuard()):
            invoke(agent)
        sent = [json.dumps(history(request)) for request in provider.requests]
    for before, after in pairwise(sent):
        assert after.startswith(before[:-1])
    assert sent[-1].count(NOTE_MARK) == 4


@EACH
@pytest.mark.parametrize("on_stop", ["finish", "raise"])
def test_a_model_that_cannot_stop_is_stopped(make: Any, on_stop: str) -> None:
    """Tools are called where they are forbidden: the agent ends with a message of ours, or with LoopDetected."""
    with Provider(latency_s=0.0, replies=until(lambda _: False)) as provider:
        agent = create_agent(make(provider), [Looker().tool()], middleware=[BursarMiddleware(on_stop=on_stop)])
        with bursar.run("look", Budget(usd="50"), LoopGuard()) as run:
            if on_stop == "raise":
                with pytest.raises(LoopDetected) as stopped:
                    invoke(agent)
                assert (stopped.value.kind, stopped.value.streak) == ("identical_result", 7)
            else:
                answer = invoke(agent)
                no_orphans(answer["messages"])
                assert answer["messages"][-1].response_metadata["stop"] == "loop"
        assert len(provider.requests) == 8
    assert run.stop_reason == "loop"
    assert verdicts(run)[-1].action == "deny"


def test_raise_at_once_asks_for_no_last_answer() -> None:
    """`LoopGuard(on_loop="raise")`: the last rung ends the agent, though its last calls were refused."""
    with Provider(latency_s=0.0, replies=until(lambda _: False)) as provider:
        agent = create_agent(claude(provider), [Looker().tool()], middleware=[BursarMiddleware(on_stop="raise")])
        with bursar.run("x", Budget(usd="50"), LoopGuard(on_loop="raise")), pytest.raises(LoopDetected):
            invoke(agent)
        assert len(provider.requests) == 7
        assert not any(forbidden(request) for request in provider.requests)


@pytest.mark.parametrize("resumed", [1, 4, 5, 6])
def test_a_loop_is_remembered_by_the_checkpointer(resumed: int) -> None:
    """Interrupted before any step and resumed by another middleware, as another process would: the same verdicts."""
    looker, saver = Looker(), InMemorySaver()

    def agent(provider: Provider) -> Any:
        return create_agent(
            claude(provider), [looker.tool()], middleware=[BursarMiddleware()], checkpointer=saver,
            interrupt_after=["tools"],
        )  # fmt: skip

    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        made, found = agent(provider), list[VerdictRow]()
        for step in range(20):
            made = agent(provider) if step == resumed else made
            with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
                answer = made.invoke(None if step else ASK, CONFIG)
            found += verdicts(run)
            if not made.get_state(CONFIG).next:
                break
        assert len(provider.requests) == 8
    assert answer["messages"][-1].text == "what I have is this"
    assert [(row.action, row.streak) for row in found] == [
        ("notice", 1), ("nudge", 2), ("notice", 3), ("block", 4), ("block", 5), ("finish", 6),
    ]  # fmt: skip
    # Tokens since the onset are of all the runs that the thread went through, and each adds some.
    spent = [row.tokens or 0 for row in found]
    assert spent == sorted(spent)
    assert spent[-1] > spent[1] > 0
    assert "bursar_memory" not in answer


def test_what_another_version_remembered_stops_nothing() -> None:
    """A memory that cannot be read is none: the agent goes on, and what comes is judged."""
    saver = InMemorySaver()
    with Provider(latency_s=0.0, replies=until(told)) as provider:
        made: Any = create_agent(
            claude(provider), [Looker().tool()], middleware=[BursarMiddleware()], checkpointer=saver,
            interrupt_after=["tools"],
        )  # fmt: skip
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            made.invoke(ASK, CONFIG)
            old = {"token": "old", "version": 7, "loops": {"state": {"unheard": 1}}}
            made.update_state(CONFIG, {"bursar_memory": {"BursarMiddleware": old}}, as_node="tools")
            while made.get_state(CONFIG).next:
                made.invoke(None, CONFIG)
        assert made.get_state(CONFIG).values["messages"][-1].text == "what I have is this"
    assert "nudge" in [row.action for row in verdicts(run)]


def test_another_thread_and_another_question_begin_anew() -> None:
    """Two threads of one middleware know nothing of each other, and the user may ask the same again."""
    looker = Looker()
    replies = iter([Reply(text="", tool_calls=[ToolUse("look", {"page": 1})]), Reply(text="this")] * 8)
    with Provider(latency_s=0.0, replies=lambda _: next(replies)) as provider:
        agent = create_agent(
            claude(provider), [looker.tool()], middleware=[BursarMiddleware()], checkpointer=InMemorySaver()
        )
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            for thread in ("a", "b", "a", "b", "a", "b", "a", "b"):
                invoke(agent, config={"configurable": {"thread_id": thread}})
    assert verdicts(run) == []
    assert len(looker.ran) == 8


def write(answers: list[Any], calls: int) -> Any:
    """A model that orders the same as often as it gets results, up to a number of them."""

    def reply(request: ReceivedRequest) -> Reply:
        made = json.dumps(history(request)).count('"tool_use_id"')
        answers.append(made)
        return Reply(text="done") if made >= calls else Reply(text="", tool_calls=[ToolUse("order", {"what": "tea"})])

    return reply


@pytest.mark.parametrize("answer", [True, False, None])
@HOW
def test_a_write_that_was_done_is_asked_about_or_refused(answer: bool | None, how: str) -> None:
    """The second identical order is made only where somebody says yes; without anybody to ask it is not made."""
    sent: list[str] = []
    asked: list[tuple[str, object]] = []

    def order(what: str) -> str:
        """Order something."""
        sent.append(what)
        return "ordered"

    def approve(name: str, arguments: object) -> bool:
        asked.append((name, arguments))
        return bool(answer)

    guard = LoopGuard(approve=None if answer is None else approve, tools={"order": ToolTraits(effect="write")})
    with Provider(latency_s=0.0, replies=write([], 2)) as provider:
        agent = create_agent(claude(provider), [order], middleware=[BursarMiddleware(guard)])
        with bursar.run("shop", Budget(usd="5")) as run:
            final = invoke(agent, how)
    assert sent == (["tea", "tea"] if answer else ["tea"])
    assert asked == ([] if answer is None else [("order", {"what": "tea"})])
    no_orphans(final["messages"])
    assert [row.action for row in verdicts(run) if row.reason == "repeated_write"] == [
        {True: "approved", False: "ask", None: "block"}[answer]
    ]


@pytest.mark.parametrize("answer", [True, False])
@HOW
def test_a_write_may_be_asked_about_by_an_interrupt(answer: bool, how: str) -> None:
    """`approve` may interrupt the graph: the answer comes when the agent is resumed, and is the approver's."""
    sent: list[str] = []

    def order(what: str) -> str:
        """Order something."""
        sent.append(what)
        return "ordered"

    guard = LoopGuard(
        approve=lambda name, args: interrupt({name: args}) is True, tools={"order": ToolTraits(effect="write")}
    )

    async def both(agent: Any) -> tuple[Any, Any]:
        return await agent.ainvoke(ASK, CONFIG), await agent.ainvoke(Command(resume=answer), CONFIG)

    with Provider(latency_s=0.0, replies=write([], 2)) as provider:
        agent: Any = create_agent(
            claude(provider), [order], middleware=[BursarMiddleware(guard)], checkpointer=InMemorySaver()
        )
        with bursar.run("shop", Budget(usd="5")):
            if how == "async":
                paused, final = asyncio.run(both(agent))
            else:
                paused, final = invoke(agent), invoke(agent, asked=Command(resume=answer))
    assert paused["__interrupt__"][0].value == {"order": {"what": "tea"}}
    assert sent == (["tea", "tea"] if answer else ["tea"])
    assert final["messages"][-1].text == "done"


def test_a_decorated_tool_is_judged_once() -> None:
    """`bursar.tool` inside of an agent: the approver is asked once for a call, and refused calls are counted once."""
    sent: list[int] = []
    asked: list[str] = []

    @bursar.tool(name="look", effect="write")
    def look(page: int) -> str:
        """Look at a page."""
        sent.append(page)
        return "done"

    def approve(name: str, arguments: object) -> bool:
        asked.append(name)
        return True

    with Provider(latency_s=0.0, replies=until(lambda _: len(sent) >= 2)) as provider:
        agent = create_agent(claude(provider), [look], middleware=[BursarMiddleware(LoopGuard(approve=approve))])
        with bursar.run("x", Budget(usd="5")):
            invoke(agent)
    assert (sent, asked) == ([1, 1], ["look"])


def test_a_call_that_is_not_of_the_loop_goes_through() -> None:
    """Only the calls of the loop are refused; parallel calls beside them are made, each with its own result."""
    looker = Looker()

    def reply(request: ReceivedRequest) -> Reply:
        if len(looker.ran) > 8 or forbidden(request):
            return Reply(text="what I have is this")
        refused = f"{NOTE_MARK}Not done" in json.dumps(request.body)
        calls = [ToolUse("look", {"page": 1})] + ([ToolUse("look", {"page": len(looker.ran)})] if refused else [])
        return Reply(text="", tool_calls=calls)

    with Provider(latency_s=0.0, replies=reply) as provider:
        agent = create_agent(claude(provider), [looker.tool()], middleware=[BursarMiddleware()])
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            answer = invoke(agent)
    no_orphans(answer["messages"])
    assert looker.ran[:5] == [1] * 5
    assert len(set(looker.ran[5:])) > 1
    assert run.stop_reason == "finished"


def test_polls_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A declared poll is never spoken to. One that is not declared is told and refused, and let through after a while:
    the job's end is seen."""
    looker = Looker("running")
    with Provider(latency_s=0.0, replies=until(lambda _: len(looker.ran) >= 12)) as provider:
        guard = LoopGuard(tools={"look": ToolTraits(effect="poll")})
        agent = create_agent(claude(provider), [looker.tool()], middleware=[BursarMiddleware(guard)])
        with bursar.run("poll", Budget(usd="5")) as run:
            invoke(agent)
        assert verdicts(run) == []

    monkeypatch.setattr(loop_judge, "PATIENCE_US", 1)
    monkeypatch.setattr(loop_judge, "HURRY_US", 0)
    looks: list[int] = []

    def status(page: int) -> str:
        """Look at a page."""
        looks.append(page)
        return "done" if len(looks) > 5 else "running"

    state = {"done": False}

    def reply(request: ReceivedRequest) -> Reply:
        state["done"] = state["done"] or '"done"' in json.dumps(request.body)
        ended = state["done"] or forbidden(request)
        return Reply(text="it is done") if ended else Reply(text="", tool_calls=[ToolUse("status", {"page": 1})])

    with Provider(latency_s=0.0, replies=reply) as provider:
        agent = create_agent(claude(provider), [status], middleware=[BursarMiddleware(LoopGuard())])
        with bursar.run("poll", Budget(usd="5")) as run:
            invoke(agent)
    assert state["done"]
    assert run.stop_reason == "finished"


def test_observing_says_and_does_nothing() -> None:
    """mode="observe": what would have been said is recorded, requests and tools are as the agent made them."""
    looker = Looker()
    with Provider(latency_s=0.0, replies=until(lambda request: len(history(request)) > 20)) as provider:
        agent = create_agent(claude(provider), [looker.tool()], middleware=[BursarMiddleware()])
        with bursar.run("look", Budget(usd="5"), LoopGuard(), mode="observe") as run:
            invoke(agent)
        assert not any(told(request) or forbidden(request) for request in provider.requests)
        assert len(looker.ran) == len(provider.requests) - 1
    assert {row.action for row in verdicts(run)} >= {"nudge", "block", "finish"}
    assert not any(row.acted for row in verdicts(run))


@EACH
def test_the_handler_alone_observes_and_ends(make: Any) -> None:
    """A bare handler records what would have been said and refused, and ends the run at the last rung."""
    handler = BursarCallbackHandler("look", Budget(usd="5"), LoopGuard())
    wrapped = make not in (claude, gpt, MODELS["responses"])
    with Provider(latency_s=0.0, replies=until(lambda _: False)) as provider:
        agent: Any = create_agent(make(provider), [Looker().tool()])
        with pytest.raises(LoopDetected) as stopped:
            agent.invoke(ASK, {**CONFIG, "callbacks": [handler]})
        # A wrapped model is steered by its client, to which a last answer is worth a request.
        assert len(provider.requests) == (8 if wrapped else 7)
    run = handler.last_run
    assert run is stopped.value.run
    assert run is not None
    assert run.stop_reason == "loop"
    if not wrapped:
        acted = {row.action: row.acted for row in verdicts(run)}
        assert acted == {"notice": False, "nudge": False, "block": False, "deny": True}


def test_a_handler_beside_the_middleware_judges_nothing_again() -> None:
    """With both there is one verdict of each rung, whoever has the guard."""
    for guards, own in (((LoopGuard(),), ()), ((), (LoopGuard(),))):
        handler = BursarCallbackHandler("look", Budget(usd="5"), *guards)
        with Provider(latency_s=0.0, replies=until(told)) as provider:
            agent: Any = create_agent(claude(provider), [Looker().tool()], middleware=[BursarMiddleware(*own)])
            agent.invoke(ASK, {**CONFIG, "callbacks": [handler]})
            assert len(provider.requests) == 4
        assert handler.last_run is not None
        assert [row.action for row in verdicts(handler.last_run)] == ["notice", "nudge"]


def test_a_person_in_the_loop_stands_outside() -> None:
    """HumanInTheLoopMiddleware interrupts for each call; what was approved by a person is judged all the same."""
    looker = Looker()
    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        person: Any = HumanInTheLoopMiddleware(interrupt_on={"look": True})
        agent: Any = create_agent(
            claude(provider), [looker.tool()], middleware=[person, BursarMiddleware()], checkpointer=InMemorySaver()
        )
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            answer = invoke(agent)
            while "__interrupt__" in answer:
                answer = invoke(agent, asked=Command(resume={"decisions": [{"type": "approve"}]}))
    assert len(looker.ran) == 5
    no_orphans(answer["messages"])
    assert run.stop_reason == "loop"
    assert [row.streak for row in verdicts(run)] == [1, 2, 3, 4, 5, 6]


REPEATING = "I will try again now. " * 2_000


@pytest.mark.parametrize("way", ["model", "wrapped", "agent"])
@pytest.mark.parametrize("make", [claude, gpt])
def test_a_stream_that_repeats_itself_is_cut(make: Any, way: str) -> None:
    """The same sentence for a thousand tokens: the stream is closed, what came is kept, and the call is charged."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(text=REPEATING, output_tokens=12_000)) as provider:
        model = make(provider, **{"max_tokens" if make is claude else "max_completion_tokens": 16_000})
        with bursar.run("x", Budget(usd="5"), LoopGuard()) as run:
            if way == "agent":
                agent: Any = create_agent(model, [Looker().tool()], middleware=[BursarMiddleware()])
                said = "".join(chunk.text for chunk, _ in agent.stream(ASK, CONFIG, stream_mode="messages"))
            else:
                with pytest.raises(LoopDetected) as stopped:
                    list((bursar.wrap(model) if way == "wrapped" else model).stream("go on"))
                said = stopped.value.partial or ""
                assert stopped.value.kind == "repeated_text"
                assert stopped.value.sent
    assert REPEATING.startswith(said[:3_900])
    assert len(said) < len(REPEATING) / 4
    assert [row.status for row in rows_of(run)] == ["blocked"]
    assert rows_of(run)[0].nusd
    assert [(row.action, row.reason) for row in verdicts(run)] == [("cut", "repeated_text")]
    with Provider(latency_s=0.0, replies=lambda _: Reply(text=REPEATING, output_tokens=12_000)) as provider:
        model = make(provider, **{"max_tokens" if make is claude else "max_completion_tokens": 16_000})
        with bursar.run("x", Budget(usd="5"), LoopGuard(cut_streams=False)):
            assert sum(len(chunk.text) for chunk in model.stream("go on")) == len(REPEATING)
