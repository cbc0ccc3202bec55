"""An agent that asks before it uses its tool, or pauses where its limit is reached; it goes on elsewhere from there."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command, interrupt
from pydantic import SecretStr

import bursar
from bursar import Budget
from bursar.callbacks import BursarMiddleware

KEY = SecretStr("x")
THREAD: Any = {"configurable": {"thread_id": "1"}}
FIRST: Any = {"messages": [("user", "pay")]}


@tool
def pay(amount: int) -> str:
    """Pay somebody, after asking."""
    return f"paid {amount}: {interrupt('pay?')}"


@tool(pay.name)
def paid(amount: int) -> str:
    """Pay somebody at once."""
    return f"paid {amount}"


def run(url: str, checkpoints: str, door: str, asked: Any, *, asks: bool = True, model_calls: int = 9) -> bursar.Run:
    """Run it, until it asks, pauses, or to its end."""
    model: Any = ChatAnthropic(model="claude-sonnet-5-5", max_tokens=300, base_url=url, api_key=KEY, max_retries=0)  # type: ignore[call-arg]
    model = bursar.wrap(model) if door == "wrapped" else model
    guarded = {"middleware": "finish", "pause": "pause"}
    middleware = [BursarMiddleware(on_stop=guarded[door])] if door in guarded else []
    with SqliteSaver.from_conn_string(checkpoints) as saver:
        agent: Any = create_agent(model, [pay if asks else paid], middleware=middleware, checkpointer=saver)
        with bursar.run("payer", Budget(usd="1", model_calls=model_calls)) as opened, contextlib.suppress(_drained()):
            agent.invoke(asked, THREAD)
    return opened


def _drained() -> type[Exception]:
    from langgraph import errors

    return getattr(errors, "GraphDrained", errors.GraphInterrupt)


if __name__ == "__main__":
    where, kept, door, what = sys.argv[1:]
    given = {"answer": Command(resume="yes"), "begin": FIRST, "go on": None}
    run(where, kept, door, given[what], asks=what == "answer")
