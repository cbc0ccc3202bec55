"""Waits for questions to be answered by other processes: one thread looks for all that wait, and wakes them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.db import open_ledger
from bursar.tracing.failures import failures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bursar.db import Database

LOOK_EVERY_S: Final = 0.1
"""How soon an answer is seen, where it was given in another process."""
_IDLE_S: Final = 2.0
"""How long the thread stays when nobody waits."""


class Watcher:
    """Looks at the ledger of one process, on a connection of its own: no writer of this process is ever in its way."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], Any]]] = {}
        self._thread: threading.Thread | None = None

    def wait(self, number: str, seconds: float) -> bool:
        """Wait until a question is no longer open, at most so long; False where it still was."""
        event = threading.Event()
        self._add(number, event.set)
        try:
            return event.wait(seconds)
        finally:
            self._drop(number, event.set)

    async def awaited(self, number: str, seconds: float) -> bool:
        """As `wait`, for a task."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        self._add(number, wake)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            self._drop(number, wake)
        return True

    def _add(self, number: str, wake: Callable[[], Any]) -> None:
        with self._lock:
            self._waiting.setdefault(number, []).append(wake)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="bursar-approvals", daemon=True)
                self._thread.start()

    def _drop(self, number: str, wake: Callable[[], Any]) -> None:
        with self._lock:
            wakes = self._waiting.get(number, [])
            if wake in wakes:
                wakes.remove(wake)
            if not wakes:
                self._waiting.pop(number, None)

    def _look(self) -> None:
        database: Database | None = None
        idle_since = time.monotonic()
        while True:
            time.sleep(LOOK_EVERY_S)
            with self._lock:
                numbers = list(self._waiting)
                if not numbers and time.monotonic() - idle_since > _IDLE_S:
                    self._thread = None
                    break
            if not numbers:
                continue
            idle_since = time.monotonic()
            try:
                database = database or open_ledger(self._path, read_only=True)
                self._wake(database, numbers)
            except failures():
                # Replaced, or not to be read just now: looked at again on a connection of its own.
                if database is not None:
                    database.close()
                database = None
        if database is not None:
            database.close()

    def _wake(self, database: Database, numbers: list[str]) -> None:
        over = database.execute(
            "SELECT id FROM approval WHERE state <> 'asked' AND id IN (SELECT value FROM json_each(?))",
            (orjson.dumps(numbers).decode(),),
        )
        for (number,) in over:
            with self._lock:
                wakes = list(self._waiting.get(number, ()))
            for wake in wakes:
                wake()
