"""A deep agent that calls a sub-agent, under a handler: `python examples/deep_agent.py`, with or without a key.

The handler is for where no `with` can be written: it opens a run for the invocation and gives it back.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from deepagents import create_deep_agent
from langchain_anthropic import ChatAnthropic

from bursar import Budget
from bursar.callbacks import BursarCallbackHandler
from bursar.testing import Provider, Reply, ToolUse, scripted

ASK = ToolUse("task", {"description": "Find one fact about bees.", "subagent_type": "researcher"})
SCRIPT = [
    Reply(text="I ask my researcher.", tool_calls=(ASK,)),
    Reply(text="Bees see ultraviolet."),
    Reply(text="My researcher says that bees see ultraviolet."),
]


def main() -> None:
    """Run the agent under half a dollar, and say which of its agents were served."""
    with ExitStack() as stack:
        options: dict[str, Any] = {}
        if "ANTHROPIC_API_KEY" not in os.environ:
            provider = stack.enter_context(Provider(latency_s=0.0, replies=scripted(SCRIPT)))
            options = {"base_url": provider.anthropic_url, "api_key": "none"}
        model = ChatAnthropic(model="claude-haiku-5-5", max_tokens=1_000, **options)
        researcher = {"name": "researcher", "description": "Finds facts.", "system_prompt": "Find one fact."}
        agent = create_deep_agent(model, subagents=[researcher])
        handler = BursarCallbackHandler("deep", Budget(usd="0.50"), user="u-17")
        answer = agent.invoke({"messages": [("user", "Tell me of bees.")]}, {"callbacks": [handler]})
    print(answer["messages"][-1].text)
    print(handler.last_run)


if __name__ == "__main__":
    main()
