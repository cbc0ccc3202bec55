"""A FastAPI service whose every endpoint is an agent loop that uses one feature: `uvicorn scripts.soak.service:app`.

Plain functions run in FastAPI's threads, coroutines on its loop; each opens a run for the user of the request, and
writes down how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI

import bursar
from bursar import Budget, ContextWindow, LoopGuard, RetryCap
from scripts.soak import lineage
from scripts.soak.calls import FAILURES, PROMPT, READS
from scripts.soak.runs import agent, aquietly, aseveral, calls, dice, quietly, several, small
from scripts.soak.service_gates import GATED

if TYPE_CHECKING:
    from scripts.soak.marks import Mark

PATIENCE_S: Final = 5.0
"""How long somebody asks for the end of what he ordered."""
_TOOL: Final = {"name": "look_up", "description": "Where an order is.", "input_schema": {"type": "object"}}

warnings.simplefilter("ignore")


@bursar.tool(usd="0.0001")
def look_up(order: int) -> str:
    """Say where an order is, and fail now and then."""
    if order % 7 == 0:
        raise LookupError(order)
    return "on its way"


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
        async with bursar.run("soak nested", Budget(usd="0.02"), **lineage.tags(mark)):
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
    *GATED,
)  # fmt: skip


def names() -> list[str]:
    """What there is."""
    return [str(route.name) for route in app.routes if "POST" in getattr(route, "methods", ())]


app = FastAPI()
app.add_api_route("/", names)
for feature in FEATURES:
    app.add_api_route(f"/{feature.__name__}", feature, methods=["POST"])
