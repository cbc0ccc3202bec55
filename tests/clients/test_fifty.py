"""Fifty calls at once under a budget that is worth ten and a half of them: exactly ten are served."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from bursar.words.money import usd

if TYPE_CHECKING:
    from collections.abc import Callable

OUT = 200
CALLS, AFFORDABLE = 50, 10
SHORT = "Where is the order of customer 17? Answer in one paragraph. " * 8
LONG = "The quick brown fox jumps over the lazy dog near the river bank. " * 2_150


def arguments(api: str, prompt: str, cap: int | None, number: int, *, stream: bool) -> dict[str, Any]:
    """One request to either vendor; Claude has no call without a cap, there a missing one is a very large one.

    The number comes first, so that the provider's prompt cache makes no call cheaper than another.
    """
    prompt = f"{number:04d} {prompt}"
    if api == "chat":
        asked: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": prompt}]}
        if cap is not None:
            asked["max_completion_tokens"] = cap
    else:
        asked = {
            "model": "claude-sonnet-5-5",
            # The SDK refuses a plain call with more: it would take longer than ten minutes.
            "max_tokens": cap or 16_000,
            "messages": [{"role": "user", "content": prompt}],
        }
    return asked | ({"stream": True} if stream else {})


def price_of_one(api: str, prompt: str) -> int:
    """What the provider bills for one such call, by its own rules, on its own."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=OUT)) as provider:
        if api == "chat":
            with openai.OpenAI(base_url=provider.openai_url, api_key="x") as client:
                client.chat.completions.create(**arguments(api, prompt, OUT, 0, stream=False))
        else:
            with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x") as claude:
                claude.messages.create(**arguments(api, prompt, OUT, 0, stream=False))
        return provider.billed_nusd


def in_threads(api: str, provider: Provider, run: bursar.Run, ask: Callable[[int], dict[str, Any]]) -> list[Any]:
    client = sync_client(api, provider)

    def one(number: int) -> Any:
        asked = ask(number)
        try:
            answer = create(api, client)(**asked)
            return list(answer) if asked.get("stream") else answer
        except bursar.BudgetExceeded as error:
            return error

    with client, ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(run.bind(one), range(CALLS)))


def in_tasks(api: str, provider: Provider, run: bursar.Run, ask: Callable[[int], dict[str, Any]]) -> list[Any]:
    async def one(client: Any, number: int) -> Any:
        asked = ask(number)
        try:
            answer = await create(api, client)(**asked)
            return [event async for event in answer] if asked.get("stream") else answer
        except bursar.BudgetExceeded as error:
            return error

    async def everything() -> list[Any]:
        async with async_client(api, provider) as client:
            return await asyncio.gather(*(one(client, number) for number in range(CALLS)))

    return asyncio.run(everything())


def sync_client(api: str, provider: Provider) -> Any:
    if api == "chat":
        return bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0))
    return bursar.wrap(anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0))


def async_client(api: str, provider: Provider) -> Any:
    if api == "chat":
        return bursar.wrap(openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0))
    return bursar.wrap(anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0))


def create(api: str, client: Any) -> Any:
    return client.chat.completions.create if api == "chat" else client.messages.create


@pytest.mark.parametrize("cap", [OUT, 6 * OUT, 22 * OUT, None], ids=["1x", "6x", "22x", "absent"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("parallel", [in_threads, in_tasks], ids=["threads", "asyncio"])
@pytest.mark.parametrize("api", ["chat", "messages"])
def test_exactly_what_the_budget_is_worth_is_served(api: str, parallel: Any, stream: bool, cap: int | None) -> None:
    """Ten of fifty are served whatever their cap, the provider bills no more than the limit, nothing stays held."""
    check(api, parallel, SHORT, cap, stream=stream)


@pytest.mark.parametrize("parallel", [in_threads, in_tasks], ids=["threads", "asyncio"])
@pytest.mark.parametrize("api", ["chat", "messages"])
def test_long_prompts_are_bounded_as_well(api: str, parallel: Any) -> None:
    """With thirty thousand tokens in and two hundred out it is the input that counts; ten of fifty all the same."""
    check(api, parallel, LONG, 6 * OUT, stream=False)


def check(api: str, parallel: Any, prompt: str, cap: int | None, *, stream: bool) -> None:
    one = price_of_one(api, prompt)
    limit = one * 21 // 2
    with Provider(latency_s=0.01, replies=lambda _: Reply(output_tokens=OUT)) as provider:
        budget = Budget(usd=usd(limit))
        with bursar.run("fifty", budget) as run:
            answers = parallel(api, provider, run, lambda n: arguments(api, prompt, cap, n, stream=stream))
        refused = [answer for answer in answers if isinstance(answer, bursar.BudgetExceeded)]
        assert len(provider.charges) == CALLS - len(refused) == AFFORDABLE
        assert provider.billed_nusd <= limit
        assert run.spend.settled.nusd == provider.billed_nusd
        assert run.spend.held == NOTHING
