"""Ways of calling LangChain that the loops leave out, each with what must come of it; what does not is written down."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypedDict

from langchain.agents import create_agent
from langchain.agents import middleware as shipped
from langchain.agents.structured_output import ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool, tool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.cache.memory import InMemoryCache as NodeCache
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy
from pydantic import BaseModel

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from scripts.soak.loops import FAILURES, Loops, look_up, weigh
from scripts.soak.models import claude, embeddings, gpt
from scripts.soak.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_MANY: Final = 50
_SAID: Final = "Where is the order of customer 17, and what has to be paid for it? "


class Order(BaseModel):
    """An order, as a form to be filled in."""

    number: int


class Question(TypedDict):
    """What is asked, and the answer."""

    asked: str
    said: str


class Ways(Loops):
    """The ways of one process."""

    def batched(self) -> None:
        """Ten calls by `batch`, some of which fail or do not fit: each is answered, failed or stopped."""
        model = self.model(wrapped=self.dice.random() < 0.5)
        with self.run("batched", self.budget()) as (run, mark):
            asked = [f"{mark} {number} {_SAID * self.dice.randint(1, 9)}" for number in range(10)]
            said = model.batch(asked, return_exceptions=True)
            answered = sum(isinstance(each, AIMessage) for each in said)
            odd = [each for each in said if not isinstance(each, (AIMessage, bursar.Stopped, *FAILURES))]
            counted = run.spend.settled.model_calls
            self.check(not odd, f"batched {run.id} has come to {odd}")
            self.check(answered <= counted <= 10, f"batched {run.id}: {answered} answers, {counted} calls counted")

    async def events(self) -> None:
        """An agent by `astream_events`, left now and then: no answer comes of a call that is not counted."""
        agent = create_agent(self.model(wrapped=self.dice.random() < 0.5), [look_up])
        answered, most = 0, self.dice.choice([12, 10_000])
        with self.run("events", self.budget()) as (run, mark):
            events: Any = agent.astream_events(self.ask(mark), version="v2")
            async with contextlib.aclosing(events):
                async for number, event in _numbered(events):
                    answered += event["event"] == "on_chat_model_end"
                    if number > most:
                        break
        counted = run.spend.settled.model_calls
        self.check(answered <= counted, f"events {run.id}: {answered} answers, {counted} calls counted")

    async def awaited(self) -> None:
        """The tokens of an agent by `astream`, cancelled now and then."""
        agent = create_agent(self.model(wrapped=self.dice.random() < 0.5), [look_up])
        with self.run("awaited", self.budget()) as (_, mark):
            async with asyncio.timeout(self.dice.choice([0.4, 60])):
                async for _ in agent.astream(self.ask(mark), stream_mode="messages"):
                    pass

    def cached(self) -> None:
        """The same question again beside a response cache: once it is answered, only a stream costs anything."""
        made = self.model(wrapped=self.dice.random() < 0.5)
        model = made.model_copy(update={"cache": InMemoryCache()})
        with self.run("cached", self.budget()) as (run, mark):
            asked = f"{mark} {_SAID}"
            model.invoke(asked)
            paid = run.spend.settled
            model.batch([asked] * 3)
            self.check(run.spend.settled == paid, f"cached {run.id} has paid {run.spend.settled} after {paid}")
            for _ in model.stream(asked):
                pass

    def formed(self) -> None:
        """An answer in a form, of a model and of an agent: it is that form, or an error."""
        model = self.model(wrapped=self.dice.random() < 0.5)
        with self.run("formed", self.budget()) as (run, mark):
            form = model.with_structured_output(Order, method="function_calling").invoke(f"{mark} {_SAID}")
            self.check(isinstance(form, Order), f"formed {run.id} has come to {form!r}")
            middleware = [BursarMiddleware(on_stop="raise")]
            agent: Any = create_agent(model, middleware=middleware, response_format=ToolStrategy(Order))
            form = agent.invoke(self.ask(mark))["structured_response"]
            self.check(isinstance(form, Order), f"formed {run.id}, an agent, has come to {form!r}")

    def neighbours(self) -> None:
        """An agent in which everything retries, falls back and summarises: no stop is taken for a failure."""
        wrapped = self.dice.random() < 0.5
        model, scales = self.model(wrapped=wrapped), _scales(self.dice.random)
        quick: Any = {"initial_delay": 0.01, "jitter": False}
        ours = [BursarMiddleware(on_stop="raise")] if self.dice.random() < 0.5 else []
        with self.run("neighbours", self.budget()) as (_, mark):
            # What is summarised away must not take the mark with it.
            summing: Any = {"summary_prompt": f"{mark} Sum up: {{messages}}", "trigger": ("messages", 4)}
            others = [
                shipped.SummarizationMiddleware(model=model, keep=("messages", 2), **summing),
                shipped.ModelRetryMiddleware(max_retries=2, **quick),
                shipped.ModelFallbackMiddleware(self.model(wrapped=wrapped)),
                shipped.ToolRetryMiddleware(max_retries=2, **quick),
            ]
            tools, said = [look_up, scales], f"{mark} You keep a shop."
            agent: Any = create_agent(model, tools, middleware=[*others, *ours], system_prompt=said)
            agent.invoke(self.ask(mark))

    def selected(self) -> None:
        """An agent whose model first says which tools it wants: that is a call too, and a stop in it ends the agent."""
        model = self.model(wrapped=self.dice.random() < 0.5)
        chosen: list[Any] = [shipped.LLMToolSelectorMiddleware(max_tools=2, on_parsing_failure="all")]
        if self.dice.random() < 0.5:
            chosen.insert(self.dice.randint(0, 1), BursarMiddleware(on_stop="raise"))
        with self.run("selected", self.budget()) as (run, mark):
            agent: Any = create_agent(model, [look_up, weigh], middleware=chosen)
            said = agent.invoke(self.ask(mark))["messages"]
            answers, counted = sum(isinstance(each, AIMessage) for each in said), run.spend.settled.model_calls
            self.check(counted >= 2 * answers, f"selected {run.id}: {answers} answers, {counted} calls counted")

    def remembered(self) -> None:
        """A graph that caches what its node has made: the same question is paid for once, another one again."""
        model = self.model(wrapped=self.dice.random() < 0.5)
        graph: Any = StateGraph(Question)
        ask: Any = RunnableLambda(lambda state: {"said": str(model.invoke(state["asked"]).text)})
        graph.add_node("ask", ask, cache_policy=CachePolicy())
        graph.add_edge(START, "ask")
        asker = graph.compile(cache=NodeCache())
        with self.run("remembered", self.budget()) as (run, mark):
            asked = {"asked": f"{mark} {_SAID}"}
            said, paid = asker.invoke(asked), run.spend.settled
            again = asker.batch([asked] * 3)
            self.check(run.spend.settled == paid, f"remembered {run.id} has paid {run.spend.settled} after {paid}")
            self.check(all(each == said for each in again), f"remembered {run.id} has come to {again} after {said}")
            asker.invoke({"asked": f"{mark} And the one of customer 18?"})
            counted = run.spend.settled.model_calls
            self.check(counted == paid.model_calls + 1, f"remembered {run.id} has made {counted} calls")

    def team(self) -> None:
        """One turn asks for many sub-agents, fifty now and then; those that do not fit end the turn."""
        worker: Any = create_agent(self.model(wrapped=True), name="worker")

        def research(about: str) -> str:
            """Find something out."""
            return str(worker.invoke({"messages": [("user", about)]})["messages"][-1].text)

        many = _MANY if self.dice.random() < 0.2 else 8
        agent: Any = create_agent(self.model(), [StructuredTool.from_function(research)])
        with self.run("team", self.budget()) as (_, mark):
            asked = self.ask(mark)
            asked["messages"].append(("user", f"<research {many}>"))
            agent.invoke(asked, {"max_concurrency": many})

    def instance(self) -> None:
        """A handler that shares one run over all its invocations, in threads and one after the other."""
        limit, mark = self.budget(), self.mark()
        handler = BursarCallbackHandler("soak instance", limit, per="instance", user=mark.user, feature="instance")
        agent = create_agent(self.model(wrapped=self.dice.random() < 0.5), [look_up])
        runs = set()

        def work(_: int) -> str | None:
            error = self._try(lambda: agent.invoke(self.ask(mark), {"callbacks": [handler]}))
            assert handler.last_run is not None
            runs.add(handler.last_run.id)
            return error

        with ThreadPoolExecutor(3) as pool:
            errors = [*pool.map(work, range(3)), work(3)]
        handler.close()
        assert handler.last_run is not None
        self.check(len(runs) == 1, f"instance has made {len(runs)} runs of one")
        self._note(mark, "instance", handler.last_run, limit, next(filter(None, errors), None))

    def thrice(self) -> None:
        """Handlers on config, model and scope at once, behind a tracer: it sees an end of all that it saw begin."""
        limit, tracer = self.budget(), RunCollectorCallbackHandler()
        make, outer = self.dice.choice([claude, gpt]), Budget(usd="1")
        with self.run("thrice", limit) as (run, mark):
            handlers = [BursarCallbackHandler("soak thrice", outer) for _ in range(2)]
            model = make(self.house, 0).model_copy(update={"callbacks": handlers[1:]})
            agent: Any = create_agent(model, [look_up])
            try:
                agent.invoke(self.ask(mark), {"callbacks": [tracer, handlers[0]]})
            finally:
                parts = list(tracer.traced_runs)
                for part in parts:
                    parts += part.child_runs
                open_ones = [part.name for part in parts if part.end_time is None]
                self.check(bool(parts) and not open_ones, f"thrice {run.id}: {open_ones} of {len(parts)} have no end")

    def embedded(self) -> None:
        """Vectors in a chain under a handler alone: charged to its run as billed."""
        limit, mark = self.budget(), self.mark()
        handler = BursarCallbackHandler("soak embedded", limit, user=mark.user, feature="embedded")
        embedder: Any = bursar.wrap(embeddings(self.house))
        chain: Any = RunnableLambda(lambda text: embedder.embed_documents([text] * 3))
        error = self._try(lambda: chain.invoke(f"{mark} {_SAID}", {"callbacks": [handler]}))
        assert handler.last_run is not None
        calls = handler.last_run.spend.settled.model_calls
        self.check(bool(error) or calls == 1, f"embedded {handler.last_run.id}: {calls} calls")
        self._note(mark, "embedded", handler.last_run, limit, error)

    def check(self, holds: bool, said: str) -> None:  # noqa: FBT001
        """Write down what does not hold."""
        Outcomes(self.house.place).check(holds=holds, said=said)


def _scales(chance: Callable[[], float]) -> Any:
    """A tool that fails half of the time."""

    @tool
    def weigh_twice(order: int) -> str:
        """Say what an order weighs, if the scales work."""
        if chance() < 0.5:
            raise LookupError(order)
        return f"{order} grams"

    return weigh_twice


async def _numbered(events: Any) -> AsyncIterator[tuple[int, Any]]:
    number = 0
    async for event in events:
        number += 1
        yield number, event
