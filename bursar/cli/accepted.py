"""Costs that somebody has accepted in `bursar.toml`: nobody is told of them again before their day or condition."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def standing(ledger: Path) -> dict[str, str]:
    """What to say of each workflow whose cost is accepted as of now, instead of what would stop it."""
    from bursar.settings.accepted import Accepted
    from bursar.settings.config import read_settings
    from bursar.tracing.readiness import ReadinessReader

    declared = {
        workflow: table["accepted"]
        for workflow, table in read_settings({}).workflows.items()
        if isinstance(table.get("accepted"), Accepted)
    }
    if not declared or not ledger.exists():
        return {}
    today, now_us = datetime.now(UTC).date(), time.time_ns() // 1_000
    found = {}
    with ReadinessReader(ledger) as reader:
        for workflow, accepted in declared.items():
            measured = reader.measured(workflow, now_us) if accepted.when else {}
            if accepted.due(today, measured) is None:
                until = f", until {accepted.revisit}" if accepted.revisit else ""
                found[workflow] = f"accepted by {accepted.owner}{until}: {accepted.why}"
    return found
