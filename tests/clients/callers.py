"""One question, asked through each kind of wrapped client: both vendors, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anthropic
import openai

import bursar

if TYPE_CHECKING:
    from bursar.testing import Provider

HI: Any = [{"role": "user", "content": "hi"}]
Ask = Callable[..., Any]


def sync_claude(provider: Provider, **options: Any) -> Any:
    asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": HI} | options
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as client:
        return bursar.wrap(client).messages.create(**asked)


def sync_chat(provider: Provider, **options: Any) -> Any:
    asked: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": HI} | options
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        return bursar.wrap(client).chat.completions.create(**asked)


def sync_responses(provider: Provider, **options: Any) -> Any:
    asked: Any = {"model": "gpt-4o", "max_output_tokens": 300, "input": "hi"} | options
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        return bursar.wrap(client).responses.create(**asked)


async def aclaude(provider: Provider, **options: Any) -> Any:
    asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": HI} | options
    async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as client:
        return await bursar.wrap(client).messages.create(**asked)


async def achat(provider: Provider, **options: Any) -> Any:
    asked: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": HI} | options
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        return await bursar.wrap(client).chat.completions.create(**asked)


async def aresponses(provider: Provider, **options: Any) -> Any:
    asked: Any = {"model": "gpt-4o", "max_output_tokens": 300, "input": "hi"} | options
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        return await bursar.wrap(client).responses.create(**asked)


def awaited(ask: Ask) -> Ask:
    """An async caller that runs a loop of its own, within the run that is open."""
    return lambda provider, **options: asyncio.run(ask(provider, **options))


CALLERS: dict[str, Ask] = {
    "claude": sync_claude,
    "chat": sync_chat,
    "responses": sync_responses,
    "async claude": awaited(aclaude),
    "async chat": awaited(achat),
    "async responses": awaited(aresponses),
}
