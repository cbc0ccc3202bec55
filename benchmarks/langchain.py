"""CPU that guarding a LangChain call adds to it, beside other handlers; and many runs, whose memory must stay flat.

    python -m benchmarks.langchain              # tables
    python -m benchmarks.langchain --quick      # fewer rounds, for a look
    python -m benchmarks.langchain --runs       # 10,000 runs, a third cancelled, a third abandoned
    python -m benchmarks.langchain --json       # for a program

A chat model that answers at once, bare and with each handler attached in the way that its documentation shows; blocks
of calls take turns, and the median of the differences counts. Times are CPU of the calling thread: what a library does
later on a thread of its own is not in them, and what it sends goes nowhere. Ours writes its row to the ledger,
committed, before the call returns. `agent` is a one-call run of `create_agent`, for the middlewares.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import gc
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

import bursar
from benchmarks.common import as_json, facts, own_ledger, show_facts, spread, table
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.callbacks.calls import calls
from bursar.callbacks.roots import roots
from bursar.runs.process import process

PROMPT = "Where is the order of customer 17, and when will it arrive? Answer in one paragraph. " * 10
ASK: Any = {"messages": [("user", PROMPT)]}
PLENTY = Budget(usd="100000")
BLOCK = 20


class Instant(BaseChatModel):
    """A model that answers at once, with usage."""

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_model_type": "chat", "ls_max_tokens": 400}

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        usage: Any = {"input_tokens": 180, "output_tokens": 200, "total_tokens": 380}
        message = AIMessage("Monday.", usage_metadata=usage, response_metadata={"model_name": "gpt-4o"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(3600)
        raise NotImplementedError


def langfuse_handler() -> Any:
    """Langfuse's handler, whose client sends nothing anywhere."""
    os.environ.setdefault("LANGFUSE_TRACING_ENVIRONMENT", "benchmark")
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler
    from opentelemetry.sdk.trace import TracerProvider

    Langfuse(public_key="pk", secret_key="sk", base_url="http://127.0.0.1:9", tracer_provider=TracerProvider())
    return CallbackHandler()


def openinference_handler() -> Any:
    """The tracer that OpenInference's instrumentor attaches, with an exporter that keeps nothing."""
    from openinference.instrumentation import OITracer, TraceConfig
    from openinference.instrumentation.langchain._tracer import OpenInferenceTracer
    from opentelemetry.sdk.trace import TracerProvider

    tracer = OITracer(TracerProvider().get_tracer("benchmark"), config=TraceConfig())
    return OpenInferenceTracer(tracer, separate_trace_from_runtime_context=False)


HANDLERS: dict[str, Callable[[], Any]] = {
    "bursar, in a run": lambda: None,
    "bursar handler, a run each": lambda: BursarCallbackHandler("bench", PLENTY),
    "UsageMetadataCallbackHandler": UsageMetadataCallbackHandler,
    "langfuse": langfuse_handler,
    "openinference": openinference_handler,
}


def block(call: Callable[[], Any]) -> float:
    """CPU of one call of a block, in microseconds."""
    began = time.thread_time_ns()
    for _ in range(BLOCK):
        call()
    return (time.thread_time_ns() - began) / BLOCK / 1_000


def added(bare: Callable[[], Any], with_it: Callable[[], Any], rounds: int) -> dict[str, float]:
    """What the second costs more than the first, block by block."""
    for call in (bare, with_it):
        block(call)
    plain, more = [], []
    for _ in range(rounds):
        one, other = block(bare), block(with_it)
        plain.append(one)
        more.append(other - one)
    return {"bare": statistics.median(plain), **spread(more)}


def handlers(rounds: int) -> dict[str, dict[str, float]]:
    """What each handler adds to `model.invoke`."""
    model, found = Instant(), {}
    for name, make in HANDLERS.items():
        try:
            handler = make()
        except ImportError:
            continue
        if handler is None:
            found[name] = in_a_run(lambda: model.invoke(PROMPT), rounds)
        else:
            config: Any = {"callbacks": [handler]}
            found[name] = added(lambda: model.invoke(PROMPT), lambda c=config: model.invoke(PROMPT, c), rounds)  # type: ignore[misc]
    return found


def in_a_run(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    """What a run that is open adds to a call. Both sides copy a context: the bare ones are outside of the run."""
    outside = contextvars.copy_context()
    with bursar.run("bench", PLENTY) as run:
        return added(lambda: outside.copy().run(call), run.bind(call), rounds)


def middlewares(rounds: int) -> dict[str, dict[str, float]]:
    """What each middleware adds to a run of an agent with one call."""
    bare, ours = bare_agent(), bare_agent(BursarMiddleware(PLENTY))
    limited = bare_agent(ModelCallLimitMiddleware(run_limit=5))
    few = max(3, rounds // 4)
    return {
        "ModelCallLimitMiddleware": added(lambda: bare.invoke(ASK), lambda: limited.invoke(ASK), few),
        "BursarMiddleware": added(lambda: bare.invoke(ASK), lambda: ours.invoke(ASK), few),
    }


def bare_agent(*middleware: Any) -> Any:
    """An agent that makes one call."""
    return create_agent(Instant(), middleware=middleware)


async def many(runs: int) -> None:
    """A third finished, a third cancelled, a third abandoned."""
    model, agent = Instant(), bare_agent()
    for number in range(runs):
        config: Any = {"callbacks": [BursarCallbackHandler("many", PLENTY)]}
        if number % 3 == 0:
            model.invoke("hi", config)
        elif number % 3 == 1:
            task = asyncio.create_task(model.ainvoke("hi", config))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            next(agent.stream({"messages": [("user", "hi")]}, config))


def runs(count: int) -> dict[str, Any]:
    """Memory after a warm-up of a tenth, and after all."""
    asyncio.run(many(count // 10))
    gc.collect()
    before = rss_mb()
    asyncio.run(many(count))
    gc.collect()
    process().adopt()
    kept = {"calls": len(calls), "parts": len(roots), "held": len(process().memory._books._held)}
    return {"runs": count, "rss_before_mb": before, "rss_after_mb": rss_mb(), **kept}


def rss_mb() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--runs", action="store_true", help="10,000 runs (1,000 with --quick) instead")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    asked = parser.parse_args()
    found: dict[str, Any] = {"facts": facts()}
    with own_ledger():
        if asked.runs:
            found["runs"] = runs(1_000 if asked.quick else 10_000)
        else:
            rounds = 10 if asked.quick else 75
            found |= {"invoke": handlers(rounds), "agent": middlewares(rounds)}
    if asked.json:
        print(as_json(found))
        return
    print(show_facts(found.pop("facts")))
    for name, figures in found.items():
        if name == "runs":
            print(figures)
        else:
            keys = ("bare", "median", "min", "p90")
            rows = [[each, *(f"{figure[key]:.0f}" for key in keys)] for each, figure in figures.items()]
            print(f"\n{name}: us of CPU added to one call\n{table(['', 'bare', 'added', 'least', 'p90'], rows)}")


if __name__ == "__main__":
    main()
