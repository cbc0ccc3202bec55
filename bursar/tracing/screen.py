"""Read all that the first screen shows in one go: the ledger is opened and folded once."""

from __future__ import annotations

from bursar.tracing.changes import Changes
from bursar.tracing.overview import OverviewReader


class ScreenReader(OverviewReader, Changes):
    """Reads a day of a ledger, the week before it, and what two weeks are compared by."""
