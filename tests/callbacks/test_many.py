"""Many runs, a third cancelled, a third abandoned: nothing stays held, and nothing is kept of them."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from bursar import Budget
from bursar.callbacks import BursarCallbackHandler
from bursar.callbacks.calls import calls
from bursar.callbacks.roots import roots
from bursar.db import open_ledger
from bursar.runs.process import process

RUNS = 300


class Slow(BaseChatModel):
    """A model that never answers."""

    @property
    def _llm_type(self) -> str:
        return "slow"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(60)
        raise NotImplementedError


async def cancelled(number: int, config: Any) -> None:
    """Half of them a bare model, half a chain round it."""
    chain: Any = Slow() if number % 2 else RunnableLambda(Slow().ainvoke)
    task = asyncio.create_task(chain.ainvoke("hi", config))
    await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def graph() -> Any:
    model = FakeListChatModel(responses=["yes"])
    built: Any = StateGraph(MessagesState)
    built.add_node("one", lambda state: {"messages": [model.invoke("hi")]})
    built.add_node("two", lambda state: {"messages": [model.invoke("ho")]})
    built.add_edge(START, "one")
    built.add_edge("one", "two")
    return built.compile()


async def everything(runs: int) -> None:
    """A third finished, a third cancelled, a third abandoned: a stream of a graph, left after its first step."""
    built = graph()
    for number in range(runs):
        config: Any = {"callbacks": [BursarCallbackHandler("many", Budget(tokens=1_000_000))]}
        if number % 3 == 0:
            FakeListChatModel(responses=["yes"]).invoke("hi", config)
        elif number % 3 == 1:
            await cancelled(number, config)
        else:
            next(built.stream({"messages": []}, config))


def test_many_runs_leave_nothing_behind() -> None:
    """Each run has ended as what it was, nothing is held, and no call, root or account is kept."""
    asyncio.run(everything(RUNS))
    gc.collect()
    process().adopt()
    gc.collect()
    assert calls == {}
    assert roots == {}
    assert process().memory._books._held == {}
    database = open_ledger(Path(process().ledger.path), read_only=True)
    counted = dict(database.execute("SELECT stop_reason, count(*) FROM run GROUP BY stop_reason"))
    open_runs = database.execute("SELECT count(*) FROM run WHERE ended_us IS NULL")
    database.close()
    assert open_runs == [(0,)]
    assert counted.pop("finished") == RUNS / 3
    assert counted == {"cancelled": RUNS / 6, "abandoned": RUNS / 2}
