"""What workers have seen of their runs, one line each in a file that outlives them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.soak.marks import Mark

KILLED: Final = "killed"
"""How a run has ended whose process was killed, in the words of whoever goes on with its thread."""


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


class Begun(NamedTuple):
    """A run that began on a mark on which others go on when its process is killed; as in `Ended`."""

    mark: str
    user: str
    hard: bool
    feature: str
    run_id: str
    limit_nusd: int | None
    at_s: float


class Made(NamedTuple):
    """A gated tool that ran, as it says itself; its arguments as JSON."""

    name: str
    arguments: str


class Diary:
    """Appends lines; each is one write, so that a death in between loses none of them."""

    def __init__(self, path: Path) -> None:
        self._path, self._made, self._begun = path, path.with_suffix(".made"), path.with_suffix(".begun")
        self._waiting: list[Ended] | None = None

    def begun(self, mark: Mark, feature: str, run_id: str, limit_nusd: int | None) -> None:
        """Write down a run that begins."""
        append(self._begun, Begun(mark.name, mark.user, bool(mark.kind), feature, run_id, limit_nusd, time.time()))

    def note(
        self, mark: Mark, feature: str, run_id: str, limit_nusd: int | None, held_nusd: int, stopped: str | None
    ) -> None:
        """Write down a run that ended."""
        run = (mark.name, mark.user, bool(mark.kind), feature, run_id, limit_nusd, held_nusd, stopped)
        ended = Ended(*run, time.time())
        if self._waiting is None:
            append(self._path, ended)
        else:
            self._waiting.append(ended)

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Write down at its end what is noted in it: meanwhile no file may grow, this one included."""
        waiting: list[Ended] = []
        self._waiting = waiting
        try:
            yield
        finally:
            self._waiting = None
            for ended in waiting:
                append(self._path, ended)

    def made(self, name: str, **arguments: object) -> None:
        """Write down that a gated tool runs."""
        append(self._made, Made(name, json.dumps(arguments, sort_keys=True)))

    def read(self) -> list[Ended]:
        """All runs that ended, and those that were killed before or after others that went on with their threads."""
        ended = [Ended(*fields) for fields in lines(self._path)]
        told, marks = {each.run_id for each in ended}, {each.mark for each in ended}
        begun = (Begun(*fields) for fields in lines(self._begun))
        # Of a mark of which no run has told its end nothing can be judged by itself.
        killed = [each for each in begun if each.run_id not in told and each.mark in marks]
        return [*ended, *(Ended(*each[:6], 0, KILLED, each.at_s) for each in killed)]

    def read_made(self) -> list[Made]:
        """All gated tools that ran."""
        return [Made(*fields) for fields in lines(self._made)]


def append(path: Path, fields: tuple[object, ...]) -> None:
    """Write one line, in one write."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, json.dumps(fields).encode() + b"\n")
    finally:
        os.close(handle)


def lines(path: Path) -> list[Any]:
    """All lines of a file that may be missing."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
