"""One process full of agents: threads in one half of it, an event loop in the other; and those that are asked about."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import warnings
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

import bursar
from bursar import Budget, CostGate
from bursar.callbacks import BursarMiddleware
from bursar.runs.process import process
from scripts.soak.approvers import gate, resumption
from scripts.soak.house import House
from scripts.soak.loops import Loops, look_up
from scripts.soak.marks import Mark
from scripts.soak.outcomes import Outcomes
from scripts.soak.threads import Threads
from scripts.soak.ways import Ways


@bursar.tool(usd="0.0003", effect="write", name="wire")
def _wired(amount: int, nonce: str) -> str:
    House.here().diary.made("wire", amount=amount, nonce=nonce)
    return f"sent {amount}"


@tool
def wire(amount: int, nonce: str) -> str:
    """Send money, where somebody has said yes to just that."""
    return _wired(amount=amount, nonce=nonce)


class GatedLoops(Loops):
    """Those that are asked about too. `gates` are threads of LangGraph that a gate has interrupted."""

    def __init__(self, house: House, seed: int, asks: Any, gates: Any) -> None:
        super().__init__(house, seed, asks)
        self.gates = gates

    def gated(self) -> None:
        """An agent whose every step is asked about."""
        gates = gate(self.dice, tool="wire", ask="always"), gate(self.dice, model="*", ask_above_usd="0.0000001")
        agent = create_agent(self.model(), [wire], middleware=[BursarMiddleware(*gates)])
        with self.run("gated", self.budget()) as (_, mark):
            agent.invoke(self.ask(mark))

    async def gated_awaited(self) -> None:
        """The same on the loop, sometimes cancelled."""
        gates = gate(self.dice, tool="wire", ask="always"), gate(self.dice, model="*", ask_above_usd="0.0000001")
        agent = create_agent(self.model(), [wire], middleware=[BursarMiddleware(*gates)])
        with self.run("gated awaited", self.budget()) as (_, mark):
            async with asyncio.timeout(self.dice.choice([0.3, 60, 60])):
                await agent.ainvoke(self.ask(mark))

    def raised(self) -> None:
        """An agent whose budget somebody may raise, over and over."""
        agent = create_agent(self.model(wrapped=self.dice.random() < 0.5), [look_up], middleware=[BursarMiddleware()])
        with self.run("raised", Budget(usd="0.0002"), gate(self.dice, ask="full")) as (_, mark):
            for _ in range(3):
                agent.invoke(self.ask(mark))

    def resumed(self) -> None:
        """An agent whose gates interrupt its graph: whoever comes next, in any process, has an answer to it."""
        with SqliteSaver.from_conn_string(self.checkpoints) as saver:
            gates = (
                CostGate(tool="wire", ask="always", approver="interrupt"),
                CostGate(ask="full", approver="interrupt"),
            )
            middleware = [BursarMiddleware(*gates, on_stop="raise")]
            agent: Any = create_agent(self.model(), [wire], middleware=middleware, checkpointer=saver)
            asked: Any = None
            with contextlib.suppress(Exception):
                asked = Mark(*self.gates.get_nowait())
            mark = asked or self.mark()
            config: Any = {"configurable": {"thread_id": mark.name}}
            with self.run("resumed", Budget(usd="0.0005"), mark=mark):
                given = self.ask(mark) if asked is None else Command(resume=resumption(self.dice))
                if "__interrupt__" in agent.invoke(given, config):
                    self.gates.put(tuple(mark))


def main(seconds: float, seed: int, asks: Any, gates: Any) -> None:
    """Run agents until the time is over."""
    warnings.simplefilter("ignore")
    house, until = House.here(), time.monotonic() + seconds
    outcomes = Outcomes(house.place)
    bursar.configure(config=str(house.place / "bursar.toml"))
    first, second = GatedLoops(house, seed, asks, gates), GatedLoops(house, seed + 1_000, asks, gates)
    ways, awaited_ways = Ways(house, seed + 2_000, asks), Ways(house, seed + 3_000, asks)
    threads = Threads(house, seed + 4_000, asks)
    from scripts.soak.tenants import any_of_them

    blocking = (
        any_of_them, any_of_them, any_of_them,
        first.deep, first.finishing, first.window, first.crew, first.hard_crew, first.streamed, first.paused,
        first.interrupted, first.gated, first.raised, first.resumed, first.resumed, threads.returned, threads.returned,
        ways.batched, ways.cached, ways.formed, ways.neighbours, ways.team, ways.instance, ways.thrice, ways.embedded,
        ways.selected, ways.remembered,
    )  # fmt: skip
    awaited = (
        second.deep_awaited, second.finishing_awaited, second.batches, second.gated_awaited,
        awaited_ways.events, awaited_ways.awaited,
    )  # fmt: skip

    def block() -> None:
        while time.monotonic() < until:
            with outcomes.caught():
                first.dice.choice(blocking)()

    async def one() -> None:
        with outcomes.caught():
            await second.dice.choice(awaited)()

    async def loop() -> None:
        while time.monotonic() < until:
            await asyncio.gather(one(), one())

    thread = threading.Thread(target=block)
    thread.start()
    asyncio.run(loop())
    thread.join()
    process().close()
