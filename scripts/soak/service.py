"""A FastAPI service whose every endpoint is an agent loop that uses one feature: `uvicorn scripts.soak.service:app`.

Plain functions run in FastAPI's threads, coroutines on its loop; each opens a run for the user of the request, and
writes down how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI

import bursar
from bursar import Budget, ContextWindow, LoopGuard, RetryCap
from scripts.soak.calls import FAILURES, PROMPT, READS, Calls
from scripts.soak.house import House
from scripts.soak.marks import HARD, Mark, new_mark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from bursar import Run

PATIENCE_S: Final = 5.0
"""How long somebody asks for the end of what he ordered."""
_TOOL: Final = {"name": "look_up", "description": "Where an order is.", "input_schema": {"type": "object"}}

warnings.simplefilter("ignore")
house = House.here()
dice = random.Random()
calls = Calls(house.clients(), dice)


@bursar.tool(usd="0.0001")
def look_up(order: int) -> str:
    """Say where an order is, and fail now and then."""
    if order % 7 == 0:
        raise LookupError(order)
    return "on its way"


@contextlib.contextmanager
def agent(feature: str, user: str, *guards: Any, limit: Budget | None = None, hard: bool = False) -> Iterator[Any]:
    """Open a run with a mark, and write down its end. `limit` is the one that refuses."""
    mark, stopped = new_mark(user, HARD if hard else ""), None
    run: Run
    try:
        with bursar.run(f"soak {feature}", *((limit,) if limit else ()), *guards, user=user, feature=feature) as run:
            yield run, mark
    except bursar.Stopped as stop:
        stopped = type(stop).__name__
    finally:
        limits = {} if limit is None else limit.limits()
        house.diary.note(mark, feature, run.id, limits.get("usd"), run.spend.held.nusd, stopped or run.stop_reason)


def small(**options: Any) -> Budget:
    """Mostly too little for all that an agent wants."""
    return Budget(usd=f"0.{dice.randint(10, 120):03d}", **options)


def several(mark: Mark, count: int = 6, **options: Any) -> None:
    """Call until the budget says no."""
    for _ in range(count):
        try:
            calls.call(mark, **options)
        except FAILURES:
            continue


async def aseveral(mark: Mark, count: int = 4, **options: Any) -> None:
    """As `several`, awaiting."""
    for _ in range(count):
        with contextlib.suppress(*FAILURES, TimeoutError):
            await calls.acall(mark, **options)


def quietly(work: Callable[..., None], *given: Any) -> None:
    """Run it in a thread of its own, which a stop ends."""
    with contextlib.suppress(bursar.Stopped):
        work(*given)


async def aquietly(work: Awaitable[None]) -> None:
    """Run it in a task of its own, which a stop ends."""
    with contextlib.suppress(bursar.Stopped):
        await work


def threads(user: str) -> None:
    """Four threads in one run, each with nested budgets, tools, retries under a cap."""
    hard = dice.random() < 0.5
    limit = small(bound="hard" if hard else "practical")
    with agent("threads", user, RetryCap(attempts=2), LoopGuard(), limit=limit, hard=hard) as (run, mark):
        workers = [threading.Thread(target=run.bind(quietly), args=(_nested, mark)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def _nested(mark: Mark) -> None:
    for _ in range(4):
        with bursar.budget(tokens=6_000):
            several(mark, 1)
        with contextlib.suppress(LookupError):
            look_up(dice.randint(1, 50))


async def tasks(user: str) -> None:
    """Four tasks in one run, some cancelled, and a run nested in it."""
    hard = dice.random() < 0.5
    limit = small(bound="hard" if hard else "practical")
    with agent("tasks", user, limit=limit, hard=hard) as (_, mark):
        await asyncio.gather(*(aquietly(aseveral(mark)) for _ in range(4)))
        async with bursar.run("soak nested", Budget(usd="0.02")):
            await aseveral(mark)


def raw(user: str) -> None:
    """Raw and streaming responses, read in every way."""
    with agent("raw", user, limit=small()) as (_, mark):
        for read in READS[2:]:
            several(mark, 2, read=read)


async def raw_awaited(user: str) -> None:
    """The same on the loop."""
    with agent("raw awaited", user, limit=small()) as (_, mark):
        for read in READS[2:]:
            await aseveral(mark, 2, read=read)


def pictures(user: str) -> None:
    """Pictures and PDFs, for both vendors."""
    with agent("pictures", user, limit=Budget(usd="0.10")) as (_, mark):
        several(mark, 4, attached=True)


async def pictures_awaited(user: str) -> None:
    """The same on the loop."""
    with agent("pictures", user, limit=Budget(usd="0.10")) as (_, mark):
        await aseveral(mark, 4, attached=True)


def window(user: str) -> None:
    """A conversation that grows beyond its window, cut now and then, with calls of a tool and a loop in it."""
    said: list[dict[str, Any]] = []
    with agent("window", user, ContextWindow(tokens=1_500), LoopGuard(), limit=Budget(usd="0.15")) as (_, mark):
        for turn in range(10):
            said.append({"role": "user", "content": f"{mark} {turn} " + PROMPT * dice.randint(5, 25)})
            with contextlib.suppress(*FAILURES):
                asked = {"model": "claude-haiku-5-5", "max_tokens": 500, "tools": [_TOOL], "messages": said}
                answer: Any = calls.clients["messages"].messages.create(**asked)
                said.append({"role": "assistant", "content": [block.model_dump() for block in answer.content]})
                used = [block.id for block in answer.content if block.type == "tool_use"]
                if used:
                    said.append({"role": "user", "content": [_result(each) for each in used]})
                continue
            said.pop()


def _result(call_id: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "on its way"}


def final(user: str) -> None:
    """Work until the budget ends, then one last call from what was set aside."""
    with agent("final", user, limit=Budget(usd="0.03", reserve_final="auto")) as (run, mark):
        quietly(several, mark, 20)
        with run.final(), contextlib.suppress(*FAILURES):
            calls.call(mark, "plain")


async def throttled(user: str) -> None:
    """A limit that slows down."""
    with agent("throttled", user, Budget(model_calls=2, over="throttle:5/s")) as (_, mark):
        await aseveral(mark, 6)


def warned(user: str) -> None:
    """A limit that warns."""
    with agent("warned", user, Budget(usd="0.01", over="warn")) as (_, mark):
        several(mark, 4)


def orders(user: str) -> None:
    """A background response and a batch, and what came of them."""
    with agent("orders", user, limit=small()) as (_, mark):
        with contextlib.suppress(*FAILURES):
            _background(mark)
        with contextlib.suppress(*FAILURES):
            _batch(mark)


def _background(mark: Mark) -> None:
    responses: Any = calls.clients["openai"].responses
    answer = responses.create(**calls.request("responses", mark), background=True)
    until = time.monotonic() + PATIENCE_S
    while answer.status in ("queued", "in_progress") and time.monotonic() < until:
        time.sleep(0.05)
        answer = responses.retrieve(answer.id)


def _batch(mark: Mark) -> None:
    batches: Any = calls.clients["messages"].messages.batches
    batch = batches.create(requests=[{"custom_id": f"c{n}", "params": calls.request("messages", mark)} for n in (1, 2)])
    until = time.monotonic() + PATIENCE_S
    while batch.processing_status != "ended" and time.monotonic() < until:
        time.sleep(0.05)
        batch = batches.retrieve(batch.id)
    if batch.processing_status == "ended":
        list(batches.results(batch.id))


def vectors(user: str) -> None:
    """Embeddings."""
    with agent("vectors", user, limit=Budget(usd="0.001")) as (_, mark):
        for _ in range(5):
            with contextlib.suppress(*FAILURES):
                texts = [f"{mark} {PROMPT}"] * dice.randint(1, 5)
                calls.clients["openai"].embeddings.create(model="text-embedding-3-small", input=texts)


FEATURES: Final = (
    threads, tasks, raw, raw_awaited, pictures, pictures_awaited, window, final, throttled, warned, orders, vectors,
)  # fmt: skip


def names() -> list[str]:
    """What there is."""
    return [str(route.name) for route in app.routes if "POST" in getattr(route, "methods", ())]


app = FastAPI()
app.add_api_route("/", names)
for feature in FEATURES:
    app.add_api_route(f"/{feature.__name__}", feature, methods=["POST"])
