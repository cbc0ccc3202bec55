"""A provider on loopback, and clients of both SDKs that talk to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from bursar.testing import Provider
from tests.clients.orders import Client, Open

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gpt(provider: Provider) -> Iterator[openai.OpenAI]:
    """A client that is not wrapped yet."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens wrapped clients for batches and background responses, and closes them at the end."""
    clients: list[Client] = []

    def open_client(*args: Any, **options: Any) -> Client:
        clients.append(Client(*args, **options))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def ask(client: Any, **options: Any) -> Any:
    """One plain question to Claude."""
    asked = {"model": "claude-sonnet-5-5", "max_tokens": 400, "messages": [{"role": "user", "content": "hi"}]}
    return client.messages.create(**(asked | options))
