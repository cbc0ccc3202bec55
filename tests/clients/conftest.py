"""A provider on loopback, and clients of both SDKs that talk to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from bursar.testing import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that answers at once."""
    with Provider(latency_s=0.0) as provider:
        yield provider


@pytest.fixture
def claude(provider: Provider) -> Iterator[anthropic.Anthropic]:
    """A client that is not wrapped yet."""
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(provider: Provider) -> Iterator[openai.OpenAI]:
    """A client that is not wrapped yet."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        yield client


def ask(client: Any, **options: Any) -> Any:
    """One plain question to Claude."""
    asked = {"model": "claude-sonnet-5-5", "max_tokens": 400, "messages": [{"role": "user", "content": "hi"}]}
    return client.messages.create(**(asked | options))
