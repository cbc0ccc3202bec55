"""Read a test's ledger back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bursar.runs.process import process
from bursar.tracing.queries import Reader

if TYPE_CHECKING:
    from bursar import Run
    from bursar.words.rows import CallRow, VerdictRow


def rows_of(run: Run) -> list[CallRow]:
    """The attempts of a run as the ledger has them."""
    with Reader(Path(process().ledger.path)) as reader:
        return reader.calls(reader.family(run.id))


def verdicts_of(run: Run) -> list[VerdictRow]:
    """The verdicts of a run as the ledger has them."""
    with Reader(Path(process().ledger.path)) as reader:
        return reader.verdicts(reader.family(run.id))
