"""A provider on loopback, no tools declared, and what LangChain's shared HTTP clients leave behind."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from langchain_anthropic import _client_utils as anthropic_clients
from langchain_openai.chat_models import _client_utils as openai_clients

from bursar.words.tools import declared

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The async HTTP clients of LangChain are shared and never closed: their sockets outlive the loop of a test.
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None, object, object]:
    ended = yield
    for made in (*vars(openai_clients).values(), *vars(anthropic_clients).values()):
        # They are shared by address: one whose loop has ended would serve a later test that is given the same port.
        if hasattr(made, "cache_clear"):
            made.cache_clear()
    # Their sockets are gone before the tests of another room begin. A fixture of the room would end with the session:
    # a folder that is no package has no scope of its own.
    if nextitem is None or HERE not in nextitem.path.parents:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    return ended


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    """A process without tools: declarations are a process's."""
    declared.clear()
    yield
    declared.clear()
