"""What workers have seen of their runs, one line each in a file that outlives them."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Made(NamedTuple):
    """A gated tool that ran, as it says itself; its arguments as JSON."""

    name: str
    arguments: str


class Diary:
    """Appends lines; each is one write, so that a death in between loses none of them."""

    def __init__(self, path: Path) -> None:
        self._path, self._made = path, path.with_suffix(".made")

    def note(
        self, mark: Mark, feature: str, run_id: str, limit_nusd: int | None, held_nusd: int, stopped: str | None
    ) -> None:
        """Write down a run that ended."""
        run = (mark.name, mark.user, bool(mark.kind), feature, run_id, limit_nusd, held_nusd, stopped)
        _append(self._path, Ended(*run, time.time()))

    def made(self, name: str, **arguments: object) -> None:
        """Write down that a gated tool runs."""
        _append(self._made, Made(name, json.dumps(arguments, sort_keys=True)))

    def read(self) -> list[Ended]:
        """All runs that ended."""
        return [Ended(*fields) for fields in _lines(self._path)]

    def read_made(self) -> list[Made]:
        """All gated tools that ran."""
        return [Made(*fields) for fields in _lines(self._made)]


def _append(path: Path, fields: tuple[object, ...]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, json.dumps(fields).encode() + b"\n")
    finally:
        os.close(handle)


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
