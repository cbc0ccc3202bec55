"""What a window of time cost: one number, quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.db import open_ledger
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.words.windows import Window


NUSD_BETWEEN: Final = "SELECT CAST(total(cost_nusd) AS INTEGER) FROM attempt WHERE call_id >= ? AND call_id < ?"
"""Nano-dollars of the calls between two ids, the second not included."""


def day_nusd(path: Path, window: Window) -> int:
    """Nano-dollars of all calls that began in a window and have a price. Raises `LedgerError`."""
    import apsw

    database = open_ledger(path, read_only=True)
    try:
        rows = database.execute(NUSD_BETWEEN, (first_id(window.since_us), first_id(window.until_us)))
    except apsw.Error as error:
        raise LedgerError(f"the ledger {path} cannot be read ({error})") from None
    finally:
        database.close()
    return int(rows[0][0])
