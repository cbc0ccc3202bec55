"""A provider on loopback, a client of it, and no tools declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bursar.words.tools import declared

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    """A process without tools: declarations are a process's."""
    declared.clear()
    yield
    declared.clear()
