"""Forgetting what is old: holds that ended more than two days ago, accounts of windows of more than two months ago."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from bursar.stores import postings
from bursar.stores.postings import now_us

if TYPE_CHECKING:
    from bursar.db import Run
    from bursar.stores.sqlite import SqliteStore

_KEEP_US: Final = 48 * 3_600 * 1_000_000
"""How long an ended hold answers to its id."""
_KEEP_ACCOUNTS_US: Final = 62 * 24 * 3_600 * 1_000_000
"""How long the account of a window is kept."""
_ENDED: Final = "SELECT call_id, ended_us FROM ended WHERE call_id > ? ORDER BY call_id LIMIT ?"
_UNUSED: Final = "SELECT id FROM account WHERE made_us < ? AND window <> 'total' AND holds = 0 LIMIT ?"


class Broom:
    """Looks at a few records at a time, in the order of their ids, round and round.

    Ids begin with the time, so the oldest come first; those that do not are come round to.
    """

    def __init__(self) -> None:
        self._after = ""

    def sweep(self, store: SqliteStore, most: int, *, wait: bool) -> bool:
        """Look at so many ended holds and old accounts; whether accounts were removed."""
        now = now_us()
        seen = store.read(_ENDED, (self._after, most))
        old = [call_id for call_id, ended_us in seen if ended_us < now - _KEEP_US]
        removed = False
        if old or store.read(_UNUSED, (now - _KEEP_ACCOUNTS_US, 1)):
            removed = store.write(partial(_forget, old=old, now=now, most=most), wait=wait)
        self._after = seen[-1][0] if len(seen) == most else ""
        return removed


def _forget(run: Run, old: list[str], now: int, most: int) -> bool:
    for call_id in old:
        # Another process may have swept it, or corrected it, meanwhile.
        if run("SELECT 1 FROM ended WHERE call_id = ? AND ended_us < ?", (call_id, now - _KEEP_US)):
            postings.forget(run, call_id)
    unused = run(_UNUSED, (now - _KEEP_ACCOUNTS_US, most))
    for number in unused:
        run("DELETE FROM account WHERE id = ?", number)
    return bool(unused)
