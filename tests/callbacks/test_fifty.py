"""Fifty calls at once through LangChain, under a budget that is worth ten and a half of them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import StructuredTool

import bursar
from bursar import Budget
from bursar.callbacks import BursarMiddleware
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.events import NOTHING
from bursar.words.money import usd
from tests.callbacks.models import claude, gpt

OUT, CALLS, AFFORDABLE = 200, 50, 10
TEXT = "Where is the order of customer 17? Answer in one paragraph. " * 8
Asked = list[Any]


def replies(_: Any) -> Reply:
    return Reply(output_tokens=OUT)


def prompts() -> list[str]:
    # The number comes first, so that the provider's prompt cache makes no call cheaper than another.
    return [f"{number:04d} {TEXT}" for number in range(CALLS)]


def invoke(target: Any, asked: Asked, run: Any) -> None:
    with ThreadPoolExecutor(CALLS) as pool:
        list(pool.map(run.bind(lambda each: quietly(lambda: target.invoke(each))), asked))


def stream(target: Any, asked: Asked, run: Any) -> None:
    with ThreadPoolExecutor(CALLS) as pool:
        list(pool.map(run.bind(lambda each: quietly(lambda: list(target.stream(each)))), asked))


def batch(target: Any, asked: Asked, run: Any) -> None:
    target.batch(asked, {"max_concurrency": CALLS}, return_exceptions=True)


def ainvoke(target: Any, asked: Asked, run: Any) -> None:
    async def everything() -> None:
        await asyncio.gather(*(target.ainvoke(each) for each in asked), return_exceptions=True)

    asyncio.run(everything())


def astream(target: Any, asked: Asked, run: Any) -> None:
    async def one(each: Any) -> None:
        async for _ in target.astream(each):
            pass

    async def everything() -> None:
        await asyncio.gather(*(one(each) for each in asked), return_exceptions=True)

    asyncio.run(everything())


def abatch(target: Any, asked: Asked, run: Any) -> None:
    asyncio.run(target.abatch(asked, return_exceptions=True))


def quietly(call: Any) -> None:
    try:
        call()
    except bursar.BudgetExceeded:
        return


THREADS = {"invoke": invoke, "batch": batch, "stream": stream}
LOOP = {"ainvoke": ainvoke, "abatch": abatch, "astream": astream}
VENDORS = pytest.mark.parametrize("make", [claude, gpt], ids=["claude", "gpt"])


def prepared(make: Any, provider: Provider, cap: int) -> BaseChatModel:
    named = "max_tokens" if make is claude else "max_completion_tokens"
    model: BaseChatModel = make(provider, **{named: cap}, **({"stream_usage": True} if make is gpt else {}))
    return model


def price_of_one(make: Any) -> int:
    with Provider(latency_s=0.0, replies=replies) as provider:
        prepared(make, provider, OUT).invoke(prompts()[0])
        return provider.billed_nusd


def served(make: Any, target: Any, way: Any, asked: Asked, cap: int) -> int:
    """How many are served; what must hold in every case is checked here."""
    limit = price_of_one(make) * 21 // 2
    with Provider(latency_s=0.01, replies=replies) as provider:
        called = target(prepared(make, provider, cap))
        with bursar.run("fifty", Budget(usd=usd(limit))) as run:
            way(called, asked, run)
        assert provider.billed_nusd <= limit
        assert run.spend.settled.nusd == provider.billed_nusd
        assert run.spend.held == NOTHING
        return len(provider.charges)


@VENDORS
@pytest.mark.parametrize("way", [*THREADS.values(), *LOOP.values()], ids=[*THREADS, *LOOP])
def test_a_wrapped_model_serves_exactly_ten(make: Any, way: Any) -> None:
    """Whatever way it is called, with a cap far above what is used, ten of fifty are served."""
    assert served(make, bursar.wrap, way, prompts(), 6 * OUT) == AFFORDABLE


@VENDORS
@pytest.mark.parametrize("way", [*THREADS.values(), *LOOP.values()], ids=[*THREADS, *LOOP])
def test_the_middleware_serves_exactly_ten(make: Any, way: Any) -> None:
    """Fifty runs of an agent whose model is not wrapped: ten calls are served."""
    asked: Asked = [{"messages": [("user", prompt)]} for prompt in prompts()]

    def agent(model: Any) -> Any:
        return create_agent(model, middleware=[BursarMiddleware(on_stop="raise")])

    assert served(make, agent, way, asked, 6 * OUT) == AFFORDABLE


@VENDORS
@pytest.mark.parametrize("way", THREADS.values(), ids=THREADS)
def test_the_handler_alone_serves_exactly_ten_in_threads(make: Any, way: Any) -> None:
    """In threads it waits for what others hold: ten of fifty, with the cap that the calls need."""
    assert served(make, lambda model: model, way, prompts(), OUT) == AFFORDABLE


@VENDORS
@pytest.mark.parametrize("way", LOOP.values(), ids=LOOP)
def test_the_handler_alone_refuses_at_once_on_a_loop(make: Any, way: Any) -> None:
    """On an event loop it cannot wait: five to ten of fifty are served, never more, and nothing hangs."""
    assert 5 <= served(make, lambda model: model, way, prompts(), OUT) <= AFFORDABLE


@VENDORS
@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("door", ["wrapped", "middleware"])
def test_fifty_sub_agents_of_one_turn(make: Any, door: str, how: str) -> None:
    """One answer asks for fifty sub-agents: ten of their calls are served beside the turn's own, and no more billed."""
    turn = Reply(output_tokens=5, tool_calls=tuple(ToolUse("research", {"about": text}) for text in prompts()))

    def reply(request: Any) -> Reply:
        return turn if "LEAD" in str(request.body) else replies(request)

    def limited(model: Any, *tools: Any) -> Any:
        mine = [BursarMiddleware(on_stop="raise")] if door == "middleware" else []
        return create_agent(bursar.wrap(model) if door == "wrapped" else model, list(tools), middleware=mine)

    def team(provider: Provider) -> Any:
        worker = limited(prepared(make, provider, 6 * OUT))

        def research(about: str) -> str:
            """Find out about something."""
            return str(worker.invoke({"messages": [("user", about)]})["messages"][-1].text)

        async def aresearch(about: str) -> str:
            return str((await worker.ainvoke({"messages": [("user", about)]}))["messages"][-1].text)

        tool = StructuredTool.from_function(research, aresearch)
        return limited(prepared(make, provider, 60 * OUT), tool)

    asked: Any = {"messages": [("user", "LEAD the research.")]}
    with Provider(latency_s=0.0, replies=reply) as provider, bursar.run("turn", Budget(model_calls=1)) as run:
        with pytest.raises(bursar.BudgetExceeded):
            team(provider).invoke(asked)
        of_the_turn = provider.billed_nusd
    limit = of_the_turn + price_of_one(make) * 21 // 2
    with Provider(latency_s=0.01, replies=reply) as provider:
        with pytest.raises(bursar.BudgetExceeded), bursar.run("fifty", Budget(usd=usd(limit))) as run:
            asyncio.run(team(provider).ainvoke(asked)) if how == "async" else team(provider).invoke(
                asked, {"max_concurrency": CALLS}
            )
        assert len(provider.charges) == 1 + AFFORDABLE
        assert provider.billed_nusd <= limit
        assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING
