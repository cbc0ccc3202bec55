"""A provider on loopback, a client of it, and no tools declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anthropic
import pytest

from bursar.testing import Provider
from bursar.words.tools import declared

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


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    """A process without tools: declarations are a process's."""
    declared.clear()
    yield
    declared.clear()
