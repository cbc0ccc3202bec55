"""A ReAct agent on a budget: `python examples/react_agent.py`, with ANTHROPIC_API_KEY set or without any key.

It loops until its budget ends, and then answers once more from what was set aside for that.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic

import bursar
from bursar import Budget
from bursar.callbacks import BursarMiddleware
from bursar.testing import Provider, Reply, ToolUse


def look_up(city: str) -> str:
    """Say what the weather is in a city."""
    return f"sunny in {city}"


def endless(request: object) -> Reply:
    """What the provider on loopback answers: a tool call, for ever, unless tools are forbidden."""
    body = getattr(request, "body", {})
    if (body.get("tool_choice") or {}).get("type") == "none":
        return Reply(text="It is sunny wherever I looked.")
    return Reply(text="Let me look.", tool_calls=(ToolUse("look_up", {"city": "Faro"}),))


def main() -> None:
    """Run the agent under five cents, or as little as the loopback provider needs."""
    with ExitStack() as stack:
        options = {}
        if "ANTHROPIC_API_KEY" not in os.environ:
            provider = stack.enter_context(Provider(latency_s=0.0, replies=endless))
            options = {"base_url": provider.anthropic_url, "api_key": "none"}
        model = bursar.wrap(ChatAnthropic(model="claude-haiku-5-5", max_tokens=500, **options))
        agent = create_agent(model, [look_up], middleware=[BursarMiddleware(on_stop="finish")])
        run = stack.enter_context(bursar.run("weather", Budget(usd="0.05", model_calls=8, reserve_final="auto")))
        answer = agent.invoke({"messages": [("user", "Where is it sunny?")]})
        print(answer["messages"][-1].text)
    print(run)


if __name__ == "__main__":
    main()
