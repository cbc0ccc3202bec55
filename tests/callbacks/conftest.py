"""A provider on loopback, no tools declared, and what LangChain's shared HTTP clients leave behind."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bursar.words.tools import declared

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The async HTTP clients of LangChain are shared and never closed: their sockets outlive the loop of a test.
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(scope="package", autouse=True)
def sockets() -> Iterator[None]:
    """Those sockets are gone before the tests of other rooms begin."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    """A process without tools: declarations are a process's."""
    declared.clear()
    yield
    declared.clear()
