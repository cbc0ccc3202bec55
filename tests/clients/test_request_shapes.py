"""What is remembered of the requests to an API is what reading each of them for the first time would say."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.clients import shapes
from bursar.clients.requests import read
from bursar.pricing.tokens import COUNTER, _Book
from bursar.words.events import ModelRequest

TOOL: Any = {"type": "function", "function": {"name": "f", "description": "find it", "parameters": {"type": "object"}}}
CLAUDES: Any = {"name": "f", "description": "find it", "input_schema": {"type": "object"}}
KEPT = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
HI: Any = {"role": "user", "content": "hi"}
LONG: Any = {"role": "user", "content": "where is it? " * 40}
HEARD: Any = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}}]}
MARKED: Any = {"role": "user", "content": [{"type": "text", "text": "hi", **KEPT}]}
ASKED: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {"messages": [HI]},
        {"messages": [HI, LONG], "max_tokens": 9, "n": 3},
        {"messages": [{"role": "system", "content": "be brief"}, HI], "tools": [TOOL], "functions": [{"name": "g"}]},
        {"messages": [HEARD], "modalities": ["text", "audio"]},
        {"messages": (HI,), "response_format": {"type": "json_object"}, "stream": True, "service_tier": "flex"},
        {"messages": None, "web_search_options": {}, "max_completion_tokens": -1},
    ],
    "messages": [
        {"messages": [HI], "max_tokens": 0},
        {"messages": [HI, LONG], "max_tokens": 9, "system": "be brief", "tools": [CLAUDES]},
        {"messages": [MARKED], "max_tokens": 9},
        {"messages": [HI], "max_tokens": 9, "system": [{"type": "text", "text": "be brief", **KEPT}]},
        {"messages": [HI], "tools": [CLAUDES | KEPT], "thinking": {"type": "enabled", "budget_tokens": 1_024}},
        {"messages": [HI], "tools": [{"type": "web_search_20250305", "name": "w", "max_uses": 2}], "speed": "fast"},
        {"messages": [HI], "max_tokens": 9, "fallbacks": [{"model": "claude-opus-5-5"}]},
        {"messages": [HI], "max_tokens": 9, "tools": [{"type": "advisor_20260301", "model": "claude-opus-5-5"}]},
    ],
    "responses": [
        {"input": "hi"},
        {"input": [HI, LONG], "instructions": "be brief", "tools": [{"type": "web_search"}]},
        {"input": [HI, LONG], "tools": [{"type": "web_search"}], "max_tool_calls": 20},
        {"input": "hi", "previous_response_id": "resp_1"},
        {"input": "hi", "conversation": {"id": "conv_1"}, "background": True},
        {"input": "hi", "text": {"format": {"type": "json_schema"}}, "prompt": {"id": "pmpt_1"}},
    ],
}


def first_time(api: str, body: dict[str, Any]) -> ModelRequest:
    """The request as it is read where nothing is remembered."""
    shapes._shapes._known.clear()
    return read(api, body, "api.example.org")


@pytest.mark.parametrize("api", ASKED)
@pytest.mark.parametrize("model", ["gpt-4o", "o3", "claude-sonnet-5-5"])
def test_what_is_remembered_is_what_is_read(api: str, model: str) -> None:
    """Each body after all the others, twice over: every field as it was read alone."""
    COUNTER.count("load the ranks")
    bodies: list[dict[str, Any]] = [{"model": model, **asked} for asked in ASKED[api]]
    alone = [first_time(api, body) for body in bodies]
    shapes._shapes._known.clear()
    for _ in range(2):
        assert [read(api, body, "api.example.org") for body in bodies] == alone
    assert len(shapes._shapes._known) > 2


def test_messages_say_what_the_shape_does_not() -> None:
    """Marks for the cache and sound are of one request, also where the rest is remembered."""
    claude = {"model": "claude-sonnet-5-5", "max_tokens": 9}
    lives = [read("messages", {**claude, "messages": [said]}, None).cache_write for said in (HI, MARKED, HI)]
    assert lives == [None, "1h", None]
    heard = [read("chat", {"model": "gpt-4o", "messages": [said]}, None).heard for said in (HI, HEARD, HI)]
    assert heard == [False, True, False]
    stored = [
        read("responses", {"model": "gpt-4o", "input": "hi", **more}, None).transcript
        for more in ({}, {"previous_response_id": "a"}, {"previous_response_id": "b"})
    ]
    assert [script.unbounded for script in stored] == [False, True, True]
    assert len({script.key for script in stored}) == 3


def test_what_is_alike_and_not_the_same_is_told_apart() -> None:
    """A true is no one, a text no number, a host and a seller are part of it, and so is a tool that was added since."""
    tools: list[Any] = [TOOL]
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [HI], "max_tokens": 1, "tools": tools}
    assert [read("chat", {**body, "max_tokens": cap}, None).cap for cap in (1, True, "1", 1.0, 1)] == [
        1,
        None,
        None,
        None,
        1,
    ]
    assert [read("chat", body, None, seller).provider for seller in (None, "azure", None)] == [
        "openai",
        "azure",
        "openai",
    ]
    assert [read("chat", body, host).region for host in (None, "eu.api.openai.com", None)] == [None, "eu", None]
    few = read("chat", body, None)
    tools.append({"type": "function", "function": {"name": "g", "description": "long " * 50}})
    many = read("chat", body, None)
    assert many.transcript.fixed_tokens > few.transcript.fixed_tokens + 40
    assert (few.tools_offered, many.tools_offered) == (1, 2)


def test_no_word_of_a_request_is_kept() -> None:
    """Of a description of a tool and of an answer's format only sizes and hashes stay."""
    secret = {"type": "json_schema", "json_schema": {"name": "hushhush"}}
    tool = {"type": "function", "function": {"name": "f", "description": "hushhush"}}
    read("chat", {"model": "gpt-4o", "messages": [HI], "tools": [tool], "response_format": secret}, None)
    assert len(shapes._shapes._known) > 0
    assert "hushhush" not in repr(shapes._shapes._known)


def test_a_guess_at_tools_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was estimated before the ranks were there is counted when they are."""
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [HI], "tools": [TOOL]}
    COUNTER.count("load the ranks")
    counted = first_time("chat", body)
    shapes._shapes._known.clear()
    with monkeypatch.context() as before:
        before.setattr(COUNTER, "_book", _Book(None, {}))
        read("chat", body, "api.example.org")
        assert not shapes._shapes._known
    assert read("chat", body, "api.example.org") == counted


def test_what_cannot_be_written_as_json_is_read_each_time() -> None:
    """An object of the caller's among the options is no reason to refuse, and none to remember."""
    shapes._shapes._known.clear()
    body = {"model": "gpt-4o", "messages": [HI], "n": 2, "service_tier": object()}
    assert [read("chat", body, None).choices for _ in range(2)] == [2, 2]
    assert not shapes._shapes._known


@pytest.mark.parametrize(
    ("most", "tools", "searches"),
    [
        (None, ["web_search"], 5),
        (20, ["web_search"], 20),
        (1, ["web_search", "file_search"], 1),
        (0, ["web_search"], 0),
        (True, ["web_search"], 5),
        (10**30, ["web_search"], 10**6),
        (20, ["file_search"], 0),
    ],
)
def test_searches_are_as_many_as_the_request_allows(most: Any, tools: list[str], searches: int) -> None:
    """OpenAI is told how many calls of all built-in tools there may be; where it is not, a few are taken."""
    body = {"model": "gpt-5", "input": "hi", "tools": [{"type": kind} for kind in tools], "max_tool_calls": most}
    assert first_time("responses", body).searches == searches
