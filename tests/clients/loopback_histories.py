"""Conversations that real agent loops have had with the provider on loopback: for checkouts without recorded runs."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import openai

from bursar.testing import Provider, ReceivedRequest, Reply, ToolUse
from tests.clients.conversations import clean
from tests.clients.looping_agents import CHAT_TOOLS

WORDS = ["river", "page", "is", "the", "of", "found", "no", "and", "result", "42", "Faro", "again"]


@lru_cache(maxsize=1)
def histories() -> tuple[list[dict[str, Any]], ...]:
    """Six conversations of different lengths: several users' turns, parallel calls, results of all sizes."""
    return tuple(had(seed) for seed in range(6))


def had(seed: int) -> list[dict[str, Any]]:
    """One conversation, as the last request and the last answer have it."""
    dice = random.Random(seed)
    steps = dice.randint(6, 14) * (1 + seed % 4)

    def words(most: int) -> str:
        return " ".join(dice.choices(WORDS, k=dice.randint(1, most)))

    def reply(request: ReceivedRequest) -> Reply:
        results = sum(message["role"] == "tool" for message in request.body["messages"])
        if dice.random() < 0.12 or results > 2 * steps:
            return Reply(text=words(80))
        calls = [ToolUse("look", {"page": dice.randint(1, 99)}) for _ in range(dice.choice([1, 1, 1, 2, 3]))]
        return Reply(text=words(30) if dice.random() < 0.5 else "", tool_calls=calls)

    said: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": words(60)}]
    with (
        Provider(latency_s=0.0, replies=reply) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client,
    ):
        for _ in range(steps):
            message = client.chat.completions.create(model="gpt-4o", messages=said, tools=CHAT_TOOLS).choices[0].message
            said.append(message.model_dump(exclude_none=True))
            said += [
                {"role": "tool", "tool_call_id": call.id, "content": words(dice.choice([20, 200, 700]))}
                for call in message.tool_calls or []
            ]
            if not message.tool_calls:
                said.append({"role": "user", "content": words(40)})
    return clean(said)
