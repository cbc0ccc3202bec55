"""A graph that sends out sub-agents, all in one budget: `python examples/sub_agents.py`, with or without a key.

Nothing is passed to the models: inside of `bursar.run` each of their calls is gated and metered. Twenty sub-agents
start at once; those that the budget has no room for are refused before anything is sent.
"""

from __future__ import annotations

import operator
import os
from contextlib import ExitStack
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from langgraph.types import Send

import bursar
from bursar import Budget
from bursar.testing import Provider


class State(TypedDict):
    """What the sub-agents have found."""

    found: Annotated[list[str], operator.add]


def main() -> None:
    """Send out twenty sub-agents under a budget for eight calls."""
    with ExitStack() as stack:
        options: dict[str, Any] = {}
        if "OPENAI_API_KEY" not in os.environ:
            provider = stack.enter_context(Provider(latency_s=0.0))
            options = {"base_url": provider.openai_url, "api_key": "none"}
        worker = create_agent(ChatOpenAI(model="gpt-4o", max_tokens=300, **options), name="worker")

        def work(state: Any) -> dict[str, list[str]]:
            try:
                answer = worker.invoke({"messages": [("user", f"Find one fact about the number {state['number']}.")]})
            except bursar.BudgetExceeded:
                return {"found": []}
            return {"found": [answer["messages"][-1].text]}

        graph: Any = StateGraph(State)
        graph.add_node("work", work)
        graph.add_conditional_edges(START, lambda _: [Send("work", {"number": n}) for n in range(20)], ["work"])
        with bursar.run("facts", Budget(model_calls=8)) as run:
            found = graph.compile().invoke({"found": []}, {"max_concurrency": 20})["found"]
    print(f"{len(found)} of 20 sub-agents were served")
    print(run)


if __name__ == "__main__":
    main()
