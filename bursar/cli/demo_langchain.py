"""The part of the demo that is built with LangChain: the same guards, attached to an agent of `create_agent`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.words.errors import BursarError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.testing import Provider, ReceivedRequest, Reply

_CITIES: Final = ("Lisbon", "Porto", "Faro", "Braga", "Coimbra")


def langchain_run(say: Callable[[str], None], check_books: Callable[[Provider, Any], None]) -> None:
    """Run a LangChain agent that would never stop; its budget keeps one last answer back.

    Says what to install and does nothing where LangChain is not there.
    """
    say("3. The same with LangChain: one middleware, six model calls, and a last answer from the reserve.")
    try:
        from langchain.agents import create_agent
        from langchain_anthropic import ChatAnthropic
    except ImportError as error:
        say(f"   {error.name} is not installed: pip install langchain langchain-anthropic, and run the demo again\n")
        return
    import bursar
    from bursar import Budget
    from bursar.callbacks import BursarMiddleware
    from bursar.testing import Provider

    with Provider(latency_s=0.02, replies=_one_more_city) as provider:
        # Its own short names are not in its types.
        named: Any = {"model": "claude-haiku-5-5", "max_tokens": 500, "api_key": "none"}
        model = ChatAnthropic(**named, base_url=provider.anthropic_url)
        agent: Any = create_agent(bursar.wrap(model), [_weather], middleware=[BursarMiddleware(on_stop="finish")])
        budget = Budget(usd="0.05", model_calls=6, reserve_final="auto")
        with bursar.run("demo langchain", budget, user="ada", feature="weather") as run:
            ended = agent.invoke({"messages": [("user", "Where in Portugal is it warmest?")]})
        say(f"   its last answer: {ended['messages'][-1].text}")
        say(f"   {run}")
        check_books(provider, run)
        say("")
        if run.stop_reason != "budget":
            raise BursarError(f"the demo's agent ended by {run.stop_reason}, not by its budget: please report this")


def _weather(city: str) -> str:
    """The weather in a city this week."""
    return f"{city}: 21 degrees, some clouds."


def _one_more_city(request: ReceivedRequest) -> Reply:
    from bursar.testing import Reply, ToolUse

    if (request.body.get("tool_choice") or {}).get("type") == "none":
        return Reply(text="They are all about as warm, as far as I was allowed to look.")
    turn = len(request.body["messages"]) // 2
    return Reply(text="One more.", tool_calls=[ToolUse("_weather", {"city": _CITIES[turn % len(_CITIES)]})])
