"""Each test has a ledger of its own; prices are compiled once and kept for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anthropic
import pytest
from hypothesis import HealthCheck, settings

from bursar.testing import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# How long inputs take to be made says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def price_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A price cache that is nobody's own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("BURSAR_CACHE_DIR", str(tmp_path_factory.mktemp("prices")))
    # Empty names no file: none that lies above the checkout is found.
    patch.setenv("BURSAR_CONFIG", "")
    for name in (
        "MODE",
        "ENV",
        "RELEASE",
        "DEFAULT_USD",
        "DEFAULT_MODEL_CALLS",
        "TRACE",
        "CONTENT",
        "KEEP_CONTENT",
        "MAX_PRICE_AGE",
    ):
        patch.delenv(f"BURSAR_{name}", raising=False)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def no_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody to trust: loopback speaks no TLS, and reading all roots is most of what making a client costs."""
    patch = pytest.MonkeyPatch()
    patch.delenv("SSL_CERT_FILE", raising=False)
    patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("authorities")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh ledger file, and a process that has learned nothing."""
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("BURSAR_LEDGER", str(path))
    yield path
    from bursar.runs import process as _process
    from bursar.runs import scoped as _scoped

    left = _scoped.opened_frame()
    assert left is None, f"a test left {left} open: whatever comes after it would run inside"

    if _process._process is not None:
        _process._process.close()
    _process._process = None
    _process._given.clear()


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
