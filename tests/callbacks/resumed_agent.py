"""An agent that asks before it uses its tool: run once to the question, and once more, elsewhere, from there on."""

from __future__ import annotations

import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command, interrupt

import bursar
from bursar import Budget
from bursar.callbacks import BursarMiddleware
from tests.callbacks.models import KEY


@tool
def pay(amount: int) -> str:
    """Pay somebody."""
    return f"paid {amount}: {interrupt('pay?')}"


def run(url: str, checkpoints: str, door: str, asked: Any) -> bursar.Run:
    """Run it, until it asks or to its end."""
    from langchain_anthropic import ChatAnthropic

    model: Any = ChatAnthropic(model="claude-sonnet-5-5", max_tokens=300, base_url=url, api_key=KEY)  # type: ignore[call-arg]
    model = bursar.wrap(model) if door == "wrapped" else model
    middleware = [BursarMiddleware()] if door == "middleware" else []
    with SqliteSaver.from_conn_string(checkpoints) as saver:
        agent: Any = create_agent(model, [pay], middleware=middleware, checkpointer=saver)
        with bursar.run("payer", Budget(usd="1")) as opened:
            agent.invoke(asked, {"configurable": {"thread_id": "1"}})
    return opened


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], Command(resume="yes"))
