"""An agent that pays when it may: run to its question, and in another process from there on."""

from __future__ import annotations

import json
import sys
import uuid
import warnings
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from pydantic import SecretStr

import bursar
from bursar import Budget, CostGate
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware

KEY = SecretStr("x")
GATES = {
    "tool": CostGate(tool="pay", ask="always", approver="interrupt"),
    "model": CostGate(model="*", ask="always", approver="interrupt"),
    "full": CostGate(ask="full", approver="interrupt"),
}


def agent_of(url: str, paid: Path, door: str) -> tuple[Any, list[Any]]:
    """The agent and its middleware."""

    def pay(amount: int) -> str:
        """Pay somebody."""
        with paid.open("a") as file:
            file.write(f"{amount}\n")
        return f"paid {amount}"

    @tool
    def changing(amount: int) -> str:
        """Pay somebody, and never the same."""
        inner = bursar.tool(name="pay")(lambda amount, note: pay(amount))
        return str(inner(amount, uuid.uuid4().hex))

    made: Any = bursar.tool(pay) if door == "decorated" else pay
    asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "base_url": url, "api_key": KEY}
    model = ChatAnthropic(**asked)
    return model, [changing if door == "changing" else tool(made)]


def run(url: str, checkpoints: str, paid: str, door: str, gate: str, resume: str) -> dict[str, Any]:
    """Run it, or go on with it; how it stands then."""
    model, tools = agent_of(url, Path(paid), door)
    middleware = [BursarMiddleware(GATES[gate])] if "middleware" in door else []
    said = json.loads(resume)
    asked: Any = {"messages": [("user", "pay")]} if said is None else Command(resume=said)
    config: Any = {"configurable": {"thread_id": "1"}}
    guards = [] if middleware else [GATES[gate]]
    with SqliteSaver.from_conn_string(checkpoints) as saver:
        agent: Any = create_agent(model, tools, middleware=middleware, checkpointer=saver)
        if door == "handler":
            config["callbacks"] = [BursarCallbackHandler("payer", Budget(usd="1"), *guards)]
            state = agent.invoke(asked, config)
        else:
            limit = Budget(usd="0.00001" if gate == "full" else "1")
            with bursar.run("payer", limit, *guards):
                state = agent.invoke(asked, config)
    stops = state.get("__interrupt__", ())
    messages = state["messages"]
    return {
        "asked": stops[0].value if stops else None,
        "said": messages[-1].text,
        "read": [message.text for message in messages if message.type == "tool"],
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(run(*sys.argv[1:7])))
