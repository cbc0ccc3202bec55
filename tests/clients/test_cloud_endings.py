"""The clouds' clients and the module `openai` x every ending: charged once, nothing held, nothing free.

Of each client one entry point of each kind; which there are is the vendor's (`test_entry_points.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import _module_client

from scripts.soak.clouds import azure, bedrock, foundry, vertex
from tests.clients.clouds import aws, bedrock_openai, google_cloud, mantle, openai_bedrock
from tests.clients.endings import World, check_all, world_of
from tests.clients.entries import CHAT, CLAUDE, EMBEDDINGS, RESPONSES, STREAM, Entry, Rivers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.testing import Provider

CLAUDES: Any = {
    "vertex": (vertex, "claude-sonnet-4-5@20250929"),
    "bedrock": (bedrock, "global.anthropic.claude-haiku-4-5-20251001-v1:0"),
    "mantle": (mantle, "global.anthropic.claude-sonnet-5-5"),
    "foundry": (foundry, "claude-sonnet-5-5"),
    "aws": (aws, "claude-sonnet-5-5"),
    "google-cloud": (google_cloud, "claude-sonnet-5-5"),
}
TERRA: Any = {"model": "global.openai.gpt-6.1-terra"}
GPTS: Any = {
    "azure": (azure, {}),
    "bedrock-openai": (bedrock_openai, TERRA),
    "openai-at-bedrock": (openai_bedrock, TERRA),
}
MADE = {name: made for name, (made, _) in (CLAUDES | GPTS).items()}


def gpts(client: str, model: Any) -> Iterator[Entry]:
    """What OpenAI's clients and the module have; Bedrock has no embeddings of OpenAI's."""
    chat, responses = CHAT | model, RESPONSES | model
    yield Entry(client, "chat.completions.create", "object", chat)
    yield Entry(client, "chat.completions.create", "events", chat | STREAM)
    yield Entry(client, "chat.completions.stream", "helper", chat)
    yield Entry(client, "chat.completions.parse", "object", chat | {"response_format": Rivers})
    yield Entry(client, "responses.with_raw_response.create", "parse", responses)
    yield Entry(client, "responses.with_streaming_response.create", "lines", responses | STREAM)
    if not model:
        yield Entry(client, "embeddings.create", "object", EMBEDDINGS)


def claudes(client: str, model: str) -> Iterator[Entry]:
    """What Anthropic's clients have; less of those that send the same to another address."""
    asked = CLAUDE | {"model": model}
    yield Entry(client, "messages.create", "object", asked)
    yield Entry(client, "messages.create", "events", asked | STREAM)
    yield Entry(client, "messages.with_streaming_response.create", "pieces", asked | STREAM)
    if client in ("vertex", "bedrock", "foundry"):
        yield Entry(client, "messages.with_raw_response.create", "parse", asked)
        yield Entry(client, "messages.with_streaming_response.create", "body", asked)
        yield Entry(client, "beta.messages.create", "object", asked)
        yield Entry(client, "messages.stream", "helper", asked)
        yield Entry(client, "messages.with_raw_response.create", "parsed events", asked | STREAM)


ENTRIES = [
    *(
        (entry, way)
        for client, (_, model) in GPTS.items()
        for entry in gpts(client, model)
        for way in ("sync", "async")
    ),
    *((entry, "sync") for entry in gpts("module", {})),
    *(
        (entry, way)
        for client, (_, model) in CLAUDES.items()
        for entry in claudes(client, model)
        for way in ("sync", "async")
    ),
]


def clouds(provider: Provider) -> dict[tuple[str, str], Any]:
    """A client of each cloud, sync and async, and the module as a program would configure it."""
    clients = {
        (name, way): made(provider, is_async=way == "async", max_retries=0)
        for name, made in MADE.items()
        for way in ("sync", "async")
    }
    openai.base_url = f"{provider.openai_url}/"
    return clients | {("module", "sync"): openai}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("api_key", "x"), ("base_url", None), ("max_retries", 0), ("http_client", None)):
            patch.setattr(openai, name, value)
        for holder in (openai, _module_client):
            patch.setattr(holder, "_load_client", openai._load_client)
        openai._reset_client()
        with world_of(clouds) as made:
            yield made
        openai._reset_client()


@pytest.mark.parametrize(("entry", "way"), [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in ENTRIES])
def test_a_call_of_a_cloud_is_charged_once_however_it_ends(
    world: World, entry: Entry, way: str, subtests: pytest.Subtests
) -> None:
    """As the vendor's own: one row, nothing held, never less than the bill, the exact bill where it is known."""
    check_all(world, entry, way, subtests)
