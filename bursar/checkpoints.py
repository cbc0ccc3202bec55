"""Checkpoints: what is in SQLite's log is moved into the ledger by a thread of its own, never by a caller."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from bursar.turn import Turn
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

_RESTART_S: Final = 0.25
"""How long a checkpoint waits for its turn before it leaves the log's end for the next time."""
_READERS_MS: Final = 20
"""How long it then keeps writers waiting for readers."""
_FORK_WAIT_S: Final = 1.0
"""How long a fork waits for a checkpoint that is under way."""


class Keeper:
    """The thread that shortens the log of one ledger, begun when it is first wanted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._ending = False

    def want(self) -> None:
        """Ask for a checkpoint; there is one thread, so who asks holds a lock of his own."""
        if self._thread is None:
            thread = threading.Thread(target=self._keep, name="bursar-checkpoint", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread is to be had, as when the interpreter ends: what was committed is so all the same.
                return
            self._thread = thread
        self._wanted.set()

    def end(self, wait_s: float) -> None:
        """Let the thread end; a checkpoint that is under way is waited for at most so long."""
        self._ending = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=wait_s)

    def _keep(self) -> None:
        while not self._ending:
            self._wanted.wait()
            self._wanted.clear()
            if not self._ending:
                with _checkpointing:
                    checkpoint(self._path)


def checkpoint(path: Path) -> None:
    """Move what is in the log into the ledger, as far as nobody is in the way."""
    import apsw

    try:
        turn = Turn(path)
    except LedgerError:
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            # A connection that has read nothing does not know of the log, and would checkpoint nothing.
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            # The bulk is done without keeping a writer out; what came meanwhile is done in our turn, so that the log
            # begins anew: under a steady writer it would only grow.
            if turn.take(_RESTART_S):
                connection.set_busy_timeout(_READERS_MS)
                try:
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
                finally:
                    # Not by closing alone: a child that was forked just now would keep it.
                    turn.give()
        finally:
            connection.close()
    except apsw.Error:
        # The next thousand transactions ask again.
        return
    finally:
        turn.close()


_checkpointing = threading.Lock()
_held: list[threading.Lock] = []


def _before_fork() -> None:
    # A child of a process with an open connection loses rows. A lock that is not had in time is left: forking late is
    # worse than the small risk that remains.
    if _checkpointing.acquire(timeout=_FORK_WAIT_S):
        _held.append(_checkpointing)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    global _checkpointing  # noqa: PLW0603
    _held.clear()
    _checkpointing = threading.Lock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
