"""Declarations are a process's: each test begins with none, and ends with none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bursar._tools import declared
from bursar.testing import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    """A process without tools."""
    declared.clear()
    yield
    declared.clear()


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that answers at once."""
    with Provider(latency_s=0.0) as provider:
        yield provider
