"""Calls that only the provider keeps are seen as far as their answers went by: loops with `previous_response_id`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, LoopGuard
from bursar.guards.loop_notes import NOTE_MARK
from bursar.testing import Provider
from tests.clients.books import verdicts_of
from tests.clients.looping_agents import SCHEMA, forbidden, told, until

TOOLS: Any = [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}]
WAYS = ["plain", "stream", "async", "conversation"]


def loop(provider: Provider, way: str) -> str:
    """Send results alone: what was asked for is in the answer that the request names."""
    given: Any = "look for it"
    known: dict[str, Any] = {"conversation": "conv_1"} if way == "conversation" else {}
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(20):
            asked: Any = {"model": "gpt-4o", "input": given, "tools": TOOLS, **known}
            if way == "async":
                answer: Any = asyncio.run(once(provider, asked))
            elif way == "stream":
                answer = list(client.responses.create(**asked, stream=True))[-1].response
            else:
                answer = client.responses.create(**asked)
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                return str(answer.output_text)
            given = [{"type": "function_call_output", "call_id": call.call_id, "output": "nothing"} for call in calls]
            known = known if way == "conversation" else {"previous_response_id": answer.id}
    return ""


async def once(provider: Provider, asked: Any) -> Any:
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        return await bursar.wrap(bare).responses.create(**asked)


@pytest.mark.parametrize("way", WAYS)
def test_a_loop_is_told_beside_the_result(way: str) -> None:
    """The note goes out once, behind the result that it is about: the provider keeps it with the rest."""
    with Provider(latency_s=0.0, replies=until(told)) as provider:
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            assert loop(provider, way) == "what I have is this"
        sent = [json.dumps(request.body["input"]) for request in provider.requests]
    assert len(sent) == 4
    assert [NOTE_MARK in text for text in sent] == [False, False, False, True]
    assert [row.action for row in verdicts_of(run) if row.guard == "loops"] == ["notice", "nudge"]


def test_a_loop_that_goes_on_is_ended() -> None:
    """At the seventh result the model may not call tools, and each note was sent once."""
    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            assert loop(provider, "plain") == "what I have is this"
        sent = [json.dumps(request.body["input"]).count(NOTE_MARK) for request in provider.requests]
    assert len(sent) == 8
    assert sum(sent) == 3
    assert run.stop_reason == "loop"


def test_a_branch_is_not_counted_twice() -> None:
    """Two requests that name the same answer with the same result, as a retry or a second sample does."""
    with Provider(latency_s=0.0, replies=until(lambda _: False)) as provider:
        with (
            bursar.run("look", Budget(usd="5"), LoopGuard()) as run,
            openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare,
        ):
            client = bursar.wrap(bare)
            first: Any = client.responses.create(model="gpt-4o", input="go", tools=TOOLS)
            result: Any = [{"type": "function_call_output", "call_id": first.output[0].call_id, "output": "nothing"}]
            for _ in range(5):
                client.responses.create(model="gpt-4o", input=result, previous_response_id=first.id, tools=TOOLS)
    assert [row for row in verdicts_of(run) if row.guard == "loops"] == []
