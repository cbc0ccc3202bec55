"""Where a soak takes place, as its processes are told. Light: those at the inbox are killed often, and start soon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PLACE: Final = "BURSAR_SOAK"
"""The variable of the environment that names the directory."""


def ledger_of(place: Path) -> Path:
    """The ledger of a soak in this directory."""
    return place / "ledger.db"


def here() -> Path:
    """The directory of the soak that this process was started in."""
    return Path(os.environ[PLACE])
