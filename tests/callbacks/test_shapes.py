"""What is remembered of the requests of a model is what reading each of them as a whole would say."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler
from bursar.callbacks.agent_tools import schema_of
from bursar.callbacks.calls import calls
from bursar.callbacks.hook import HANDLER
from bursar.callbacks.requests import request_of
from bursar.callbacks.shapes import whole
from bursar.testing import Provider
from bursar.words.events import ModelRequest
from tests.callbacks.models import claude

GPT: Any = {"ls_provider": "openai", "ls_model_name": "gpt-4o"}
CLAUDE: Any = {"ls_provider": "anthropic", "ls_model_name": "claude-sonnet-5-5", "ls_max_tokens": 400}
CACHED = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
SAID: list[list[dict[str, Any]]] = [
    [{"role": "human", "content": "hi"}],
    [{"role": "system", "content": "be kind"}, {"role": "human", "content": "hi"}, {"role": "ai", "content": "ho"}],
    [{"role": "human", "content": CACHED}],
    [{"role": "ai", "content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}]}],
    [{"role": "human", "content": None}],
]
PARAMS: list[dict[str, Any]] = [
    {"model": "gpt-4o"},
    {"max_tokens": 300, "n": 3},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "n": True},
    {"service_tier": "flex", "system": "always", "thinking": {"type": "enabled", "budget_tokens": 1_024}},
    {"response_format": {"type": "json_object"}, "odd": object()},
]


def without_key(request: ModelRequest) -> ModelRequest:
    """Conversations are told apart within one way of reading."""
    return request._replace(transcript=request.transcript._replace(key=0))


@pytest.mark.parametrize("metadata", [GPT, CLAUDE, {}], ids=["gpt", "claude", "nobody"])
@pytest.mark.parametrize("open_ended", [None, True, False])
def test_a_remembered_shape_says_what_the_whole_does(metadata: Any, open_ended: bool | None) -> None:
    """Whatever is asked for and said, the first time and again."""
    made = {"system": SystemMessage, "human": HumanMessage, "ai": AIMessage}
    for params in PARAMS:
        for said in SAID:
            if said[0]["content"] is None:
                messages: list[Any] = said
                expected = whole([{"role": None, "content": None}], params, metadata, open_ended)
            else:
                messages = [made[each["role"]](**{k: v for k, v in each.items() if k != "role"}) for each in said]
                expected = whole(said, params, metadata, open_ended)
            for _ in range(2):
                found = request_of(messages, params, metadata, open_ended=open_ended)
                assert without_key(found) == without_key(expected)


def test_what_is_alike_and_not_the_same_is_told_apart() -> None:
    """One is no true, and tools that were added to the same list since are counted."""
    assert request_of([], {"n": 1}, GPT).choices == 1
    tools: list[Any] = [{"type": "function", "function": {"name": "f"}}]
    few = request_of([], {"tools": tools}, GPT)
    tools.append({"type": "function", "function": {"name": "g", "description": "long " * 50}})
    many = request_of([], {"tools": tools}, GPT)
    assert (few.tools_offered, many.tools_offered) == (1, 2)
    assert many.transcript.fixed_tokens > few.transcript.fixed_tokens + 40
    assert few.transcript.tools_hash != many.transcript.tools_hash


def test_the_schema_of_a_tool_is_made_anew_when_it_says_something_else() -> None:
    """A description that was changed is counted."""

    @tool
    def look(about: str) -> str:
        """Look something up."""
        return about

    before = schema_of(look)
    assert schema_of(look) is before
    look.description = "Look something up, " * 20
    assert schema_of(look)["function"]["description"] == look.description


def test_a_handler_that_comes_after_the_scopes_adds_its_limits(provider: Provider) -> None:
    """A lone call that the run's own handler has begun is refused by the limits of one that is told of it later."""
    strict = BursarCallbackHandler("m", Budget(tokens=1))
    with bursar.run("outer", Budget(usd="1")) as run, pytest.raises(bursar.BudgetExceeded):
        claude(provider).invoke("hi", {"callbacks": [HANDLER, strict]})
    assert provider.requests == []
    assert run.spend.held.nusd == 0
    assert calls == {}
