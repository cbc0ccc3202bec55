"""Agents of LangChain and LangGraph, each using one feature until its work or its budget ends."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import random
import time
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

import anthropic
import httpx2
import openai
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.errors import GraphDrained
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

import bursar
from bursar import Budget, ContextWindow, LoopGuard
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from scripts.soak import lineage
from scripts.soak.marks import HARD, Mark, new_mark
from scripts.soak.models import claude, embeddings, gpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bursar import Run
    from scripts.soak.house import House

FAILURES: Final = (anthropic.APIError, openai.APIError, httpx2.HTTPError, TimeoutError, LookupError)
"""What an agent fails with, its own tools included."""
_SAID: Final = "Where is the order of customer 17, and what has to be paid for it? "


@tool
def look_up(order: int) -> str:
    """Say where an order is."""
    return f"order {order} is on its way. " * (order % 9 + 1)


@bursar.tool(usd="0.0001", effect="read")
def weigh(order: int) -> str:
    """Say what an order weighs."""
    return f"{order} grams"


@tool
def pay(amount: int) -> str:
    """Pay somebody, if a person agrees."""
    return f"paid {amount}: {interrupt('pay?')}"


class Loops:
    """The agents of one process. `asks` are threads of LangGraph that wait for a person, wherever he is."""

    def __init__(self, house: House, seed: int, asks: Any) -> None:
        self.house, self.dice, self.asks = house, random.Random(seed), asks
        self.checkpoints = str(house.place / "checkpoints.db")

    @contextlib.contextmanager
    def run(self, feature: str, limit: Budget, *guards: Any, mark: Mark | None = None) -> Iterator[tuple[Run, Mark]]:
        """Open a run with a mark, and write down its end."""
        hard = limit.bound == "hard"
        mark, stopped = mark or self.mark(hard=hard), None
        run: Run
        try:
            said = lineage.tags(mark)
            with bursar.run(f"soak {feature}", limit, *guards, user=mark.user, feature=feature, **said) as run:
                self.house.diary.begun(mark, feature, run.id, limit.limits().get("usd"))
                yield run, mark
                lineage.report(run, mark)
        except (bursar.Stopped, *FAILURES) as error:
            stopped = type(error).__name__
        finally:
            self._note(mark, feature, run, limit, stopped)

    def mark(self, *, hard: bool = False) -> Mark:
        """Make one for somebody."""
        return new_mark(f"u{int(time.time()) // 30 % 1_000}-{self.dice.randrange(8)}", HARD if hard else "")

    def budget(self, **options: Any) -> Budget:
        """Mostly too little for all that an agent wants."""
        return Budget(usd=f"0.00{self.dice.randint(4, 60):02d}", **options)

    def ask(self, mark: Mark) -> Any:
        """What an agent is asked."""
        return {"messages": [("user", f"{mark} {self.dice.random()} " + _SAID * self.dice.randint(1, 20))]}

    def model(self, *, wrapped: bool = False) -> Any:
        """A model of one vendor or the other."""
        make, retries = self.dice.choice([claude, gpt]), int(wrapped)
        made = make(self.house, retries)
        return bursar.wrap(made) if wrapped else made

    def deep(self) -> None:
        """A deep agent with a sub-agent, under a handler that opens the run."""
        limit, mark = self.budget(), self.mark()
        handler = BursarCallbackHandler(
            "soak deep", limit, LoopGuard(), user=mark.user, feature="deep", **lineage.tags(mark)
        )
        error = self._try(lambda: self._deep_agent().invoke(self.ask(mark), {"callbacks": [handler]}))
        assert handler.last_run is not None
        lineage.report(handler.last_run, mark)
        self._note(mark, "deep", handler.last_run, limit, error)

    async def deep_awaited(self) -> None:
        """The same on the loop, sometimes cancelled."""
        limit, mark = self.budget(), self.mark()
        handler = BursarCallbackHandler(
            "soak deep", limit, user=mark.user, feature="deep awaited", **lineage.tags(mark)
        )
        patience_s = self.dice.uniform(0.1, 2) if self.dice.random() < 0.2 else 60
        error = None
        try:
            async with asyncio.timeout(patience_s):
                await self._deep_agent().ainvoke(self.ask(mark), {"callbacks": [handler]})
        except (bursar.Stopped, *FAILURES) as failed:
            error = type(failed).__name__
        if handler.last_run is not None:
            lineage.report(handler.last_run, mark)
            self._note(mark, "deep awaited", handler.last_run, limit, error)

    def _deep_agent(self) -> Any:
        model = self.model(wrapped=self.dice.random() < 0.5)
        researcher: Any = {"name": "researcher", "description": "Finds facts.", "system_prompt": "Find one fact."}
        return create_deep_agent(model, tools=[look_up], subagents=[researcher])

    def finishing(self) -> None:
        """An agent whose middleware ends it with a last answer from the reserve."""
        middleware = [BursarMiddleware(on_stop="finish"), ModelRetryMiddleware(max_retries=1, initial_delay=0.01)]
        agent = create_agent(self.model(), [look_up], middleware=middleware)
        with self.run("finishing", self.budget(reserve_final="auto")) as (_, mark):
            agent.invoke(self.ask(mark))

    async def finishing_awaited(self) -> None:
        """The same on the loop, with a wrapped model inside a hard limit."""
        agent = create_agent(self.model(wrapped=True), [look_up], middleware=[BursarMiddleware(on_stop="finish")])
        with self.run("finishing awaited", self.budget(bound="hard", reserve_final="auto")) as (_, mark):
            await agent.ainvoke(self.ask(mark))

    def window(self) -> None:
        """A wrapped model in a long conversation that is cut, in nested budgets."""
        agent: Any = create_agent(self.model(wrapped=True), [look_up, weigh])
        with self.run("window", self.budget(), ContextWindow(tokens=1_200), LoopGuard()) as (_, mark):
            said: Any = self.ask(mark)
            for _ in range(4):
                with bursar.budget(tokens=20_000):
                    answered = agent.invoke(said)
                said = {"messages": [*answered["messages"], ("user", _SAID * 20)]}

    def crew(self) -> None:
        """A graph that sends out a dozen sub-agents at once, with nothing passed to them."""
        self._crew(hard=False)

    def hard_crew(self) -> None:
        """The same with wrapped models under a hard limit."""
        self._crew(hard=True)

    def _crew(self, *, hard: bool) -> None:
        worker = create_agent(self.model(wrapped=hard), [look_up], name="worker")

        def work(state: Any) -> dict[str, list[str]]:
            try:
                answer = worker.invoke(self.ask(state["mark"]))
            except (bursar.Stopped, *FAILURES):
                return {"found": []}
            return {"found": [str(answer["messages"][-1].text)]}

        graph: Any = StateGraph(Found)
        graph.add_node("work", work)
        with self.run("crew", self.budget(bound="hard" if hard else "practical")) as (_, mark):
            graph.add_conditional_edges(START, lambda _: [Send("work", {"mark": mark}) for _ in range(12)], ["work"])
            graph.compile().invoke({"found": []}, {"max_concurrency": 12})

    def streamed(self) -> None:
        """Streams of tokens, of a model and of an agent, left in the middle now and then."""
        model = self.model(wrapped=self.dice.random() < 0.5)
        agent = create_agent(model, [look_up])
        with self.run("streamed", self.budget()) as (_, mark):
            for number, _ in enumerate(agent.stream(self.ask(mark), stream_mode="messages")):
                if number > 3 and self.dice.random() < 0.01:
                    break
            for _ in model.stream(str(mark) + _SAID):
                pass

    async def batches(self) -> None:
        """Ten calls at once on the loop, then vectors."""
        model = self.model(wrapped=self.dice.random() < 0.5)
        with self.run("batches", self.budget()) as (_, mark):
            await model.abatch([f"{mark} {n} {_SAID}" for n in range(10)], return_exceptions=True)
            embedder: Any = bursar.wrap(embeddings(self.house))
            await embedder.aembed_documents([f"{mark} {_SAID}"] * 3)

    def paused(self) -> None:
        """An agent that pauses where its budget ends, and goes on in another run."""
        with SqliteSaver.from_conn_string(self.checkpoints) as saver:
            pause = BursarMiddleware(on_stop="pause")
            agent: Any = create_agent(self.model(), [look_up], middleware=[pause], checkpointer=saver)
            mark = self.mark()
            config: Any = {"configurable": {"thread_id": mark.name}}
            for asked in (self.ask(mark), None):
                with (
                    self.run("paused", Budget(usd="0.004", model_calls=2), mark=mark),
                    contextlib.suppress(GraphDrained),
                ):
                    agent.invoke(asked, config)

    def interrupted(self) -> None:
        """An agent that asks a person before it pays; whoever comes next, in any process, answers for him."""
        with SqliteSaver.from_conn_string(self.checkpoints) as saver:
            agent: Any = create_agent(self.model(), [pay], middleware=[BursarMiddleware()], checkpointer=saver)
            asked: Any = None
            with contextlib.suppress(Exception):
                asked = Mark(*self.asks.get_nowait())
            mark = asked or self.mark()
            config: Any = {"configurable": {"thread_id": mark.name}}
            with self.run("interrupted", self.budget(), mark=mark):
                answer = agent.invoke(self.ask(mark) if asked is None else Command(resume="yes"), config)
                if "__interrupt__" in answer:
                    self.asks.put(tuple(mark))

    def _try(self, work: Callable[[], Any]) -> str | None:
        try:
            work()
        except (bursar.Stopped, *FAILURES) as error:
            return type(error).__name__
        return None

    def _note(self, mark: Mark, feature: str, run: Run, limit: Budget, stopped: str | None) -> None:
        limit_nusd = limit.limits().get("usd")
        why = stopped or run.stop_reason
        self.house.diary.note(mark, feature, run.id, limit_nusd, run.spend.held.nusd, why)


class Found(TypedDict):
    """What sub-agents have found."""

    found: Annotated[list[str], operator.add]
