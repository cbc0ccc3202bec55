"""Whose turn it is to write to a ledger: a lock file beside it, at which the writers of all processes take turns.

SQLite's own waiting lets one of several busy writers starve for seconds. A lock that is only tried again and again goes
to whoever has just given it away; so a writer that has waited for long says so in the file, and one that has been lucky
many times on end looks there and lets it go first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

_TRY: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
_NAP_S: Final = (0.0002, 0.001)
"""Between two looks at a lock that another process has: at first, and at most."""
_LUCK: Final = 32
"""Turns had at once after which it is looked whether somebody waits."""
_LONG_S: Final = 0.02
"""How long one waits before it is said in the file."""
_COURTESY_S: Final = 0.02
"""How long others hold back for one who said so; it may have died since."""


class Turn:
    """One process's place at the lock file of a ledger; of its threads one at a time uses it."""

    def __init__(self, ledger: Path) -> None:
        path = f"{ledger}.lock"
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"the lock {path} cannot be used ({error.strerror}); remove it") from None
        self._luck = 0

    def take(self, patience_s: float) -> bool:
        """Wait for the turn, at most so long; whether it was had."""
        self._luck += 1
        if self._luck > _LUCK:
            self._luck = 0
            if self._another_waits() and not self._hold_back(patience_s):
                return False
        try:
            fcntl.flock(self._handle, _TRY)
        except BlockingIOError:
            self._luck = 0
            return patience_s > 0 and self._wait(patience_s)
        return True

    def give(self) -> None:
        """Let the next one have it."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Leave, in a forked child without letting go of what the parent has."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _wait(self, patience_s: float) -> bool:
        began, nap, said = time.monotonic(), _NAP_S[0], False
        while True:
            time.sleep(nap)
            try:
                fcntl.flock(self._handle, _TRY)
            except BlockingIOError:
                waited = time.monotonic() - began
            else:
                break
            if waited > patience_s:
                return False
            if waited > _LONG_S:
                self._say(time.monotonic_ns())
                said = True
            nap = _NAP_S[0] if said else min(2 * nap, _NAP_S[1])
        if said:
            # Others who wait say it again.
            self._say(0)
        return True

    def _hold_back(self, patience_s: float) -> bool:
        if patience_s <= 0:
            return False
        until = time.monotonic() + _COURTESY_S
        while self._another_waits() and time.monotonic() < until:
            time.sleep(_NAP_S[1])
        return True

    def _another_waits(self) -> bool:
        said = int.from_bytes(os.pread(self._handle, 8, 0), "little")
        return said != 0 and 0 <= time.monotonic_ns() - said < _COURTESY_S * 1e9

    def _say(self, ns: int) -> None:
        # Where it cannot be written it is a courtesy less.
        with contextlib.suppress(OSError):
            os.pwrite(self._handle, ns.to_bytes(8, "little"), 0)
