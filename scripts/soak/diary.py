"""What workers have seen of their runs, one line each in a file that outlives them."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.soak.marks import Mark


class Ended(NamedTuple):
    """A run that ended, whatever its end was. limit_nusd: None where it had none that refuses.

    at_s: when, of the epoch.
    """

    mark: str
    user: str
    hard: bool
    feature: str
    run_id: str
    limit_nusd: int | None
    held_nusd: int
    stopped: str | None
    at_s: float


class Diary:
    """Appends lines; each is one write, so that a death in between loses none of them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(
        self, mark: Mark, feature: str, run_id: str, limit_nusd: int | None, held_nusd: int, stopped: str | None
    ) -> None:
        """Write down a run that ended."""
        ended = Ended(
            mark.name, mark.user, bool(mark.kind), feature, run_id, limit_nusd, held_nusd, stopped, time.time()
        )  # fmt: skip
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, json.dumps(ended).encode() + b"\n")
        finally:
            os.close(handle)

    def read(self) -> list[Ended]:
        """All that was written down."""
        if not self._path.exists():
            return []
        return [Ended(*json.loads(line)) for line in self._path.read_text().splitlines()]
