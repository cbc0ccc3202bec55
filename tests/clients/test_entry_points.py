"""Every entry point x every ending, sync and async: one row, charged once, nothing held, nothing free.

The table of what is covered is the table of what is parametrised: `ENTRIES` x `ENDINGS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from tests.clients.endings import World, check_all, world_of
from tests.clients.entries import ENTRIES, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.testing import Provider


def bare(provider: Provider) -> dict[tuple[str, str], Any]:
    """Clients of both SDKs."""
    where: dict[str, Any] = {"api_key": "x", "max_retries": 0}
    gpt = where | {"base_url": provider.openai_url}
    claude = where | {"base_url": provider.anthropic_url}
    return {
        ("openai", "sync"): openai.OpenAI(**gpt),
        ("openai", "async"): openai.AsyncOpenAI(**gpt),
        ("anthropic", "sync"): anthropic.Anthropic(**claude),
        ("anthropic", "async"): anthropic.AsyncAnthropic(**claude),
    }


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with world_of(bare) as made:
        yield made


def cases() -> list[Any]:
    return [pytest.param(entry, way, id=f"{entry}-{way}") for entry in ENTRIES for way in ("sync", "async")]


@pytest.mark.filterwarnings("ignore:.*output_format:DeprecationWarning")  # what older anthropic calls its beta's own
@pytest.mark.parametrize(("entry", "way"), cases())
def test_every_entry_point_is_charged_once_however_it_ends(
    world: World, entry: Entry, way: str, subtests: pytest.Subtests
) -> None:
    """One row, the status of the ending, nothing held, never less than the bill, the exact bill where it is known."""
    if not entry.exists():
        pytest.skip("this SDK has no such entry point")
    check_all(world, entry, way, subtests)
