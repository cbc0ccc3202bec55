"""What the tests of the provider share."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.testing.provider_bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Providers and clients, all closed at the end of the test."""
    with ExitStack() as stack:
        yield Bench(stack)
