"""A house of the soaks for a test: furnished, with the settings that it sets undone afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bursar
from scripts.soak.house import House

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from bursar.testing import Provider


def furnished(served: Provider, place: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    # Set here, so that what the house sets is undone.
    for name in ("BURSAR_SOAK", "BURSAR_SOAK_ANTHROPIC", "BURSAR_SOAK_OPENAI", "BURSAR_CONFIG"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("BURSAR_LEDGER")
    house = House(place, served.anthropic_url, served.openai_url)
    house.furnish()
    bursar.configure(config=str(place / "bursar.toml"))
    return house
