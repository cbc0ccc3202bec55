"""Read a trace log back: its records, what is torn in it, and what it can be proven to lack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.tracing.log import CLOSED, GAP, LONGEST_LINE, OPENED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_LONGEST: Final = 4 * LONGEST_LINE
"""Bytes that are read of one line; a longer one is none of ours."""


class Torn(NamedTuple):
    """A line that is no record: torn by the death of its writer, or written by somebody else."""

    path: Path
    offset: int
    start: bytes
    """Its first 80 bytes."""


class Gap(NamedTuple):
    """Records of a process that are in none of the files. `confessed`: the process itself said that it failed."""

    boot: str
    first_seq: int
    last_seq: int
    confessed: bool

    @property
    def n(self) -> int:
        """How many they are."""
        return self.last_seq - self.first_seq + 1


@dataclass(slots=True)
class Trace:
    """What `read_trace` found. `unclosed`: processes without a last line; they live, or died, or lost their end."""

    records: list[dict[str, Any]] = field(default_factory=list)
    torn: list[Torn] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Numbers:
    """The numbers seen of one process, as stretches without a hole."""

    stretches: list[list[int]] = field(default_factory=list)
    confessed: list[tuple[int, int]] = field(default_factory=list)
    beginning: int | None = None
    closed_at: int = -1

    def see(self, seq: int, event: object) -> None:
        if event == OPENED and (self.beginning is None or seq < self.beginning):
            self.beginning = seq
        elif event == CLOSED:
            self.closed_at = max(self.closed_at, seq)
        if self.stretches and self.stretches[-1][1] + 1 == seq:
            self.stretches[-1][1] = seq
        else:
            self.stretches.append([seq, seq])

    def missing(self) -> Iterator[tuple[int, int]]:
        first = min((start for start, _ in self.stretches), default=0)
        # The files begin where a log was opened, else with the first record that there ever was.
        after = first if self.beginning == first else 0
        end = max([last for _, last in self.confessed], default=-1) + 1
        for start, last in [*sorted(self.stretches), [end, end - 1]]:
            if start > after:
                yield after, start - 1
            after = max(after, last + 1)


def read_trace(*paths: Path) -> Trace:
    """Read a log, or several that rotation made of one, the oldest first. Raises OSError where one cannot be read.

    Blank lines are passed over; a line that cannot be read is kept as `Torn` with its place. Names of events and
    fields that this version does not know are kept as they are.
    """
    trace, processes = Trace(), dict[str, _Numbers]()
    for path in paths:
        with path.open("rb") as file:
            for offset, line in _lines(file):
                record = _record(line)
                if record is None:
                    trace.torn.append(Torn(path, offset, line[:80]))
                    continue
                numbers = processes.setdefault(record["boot"], _Numbers())
                if record.get("event") == GAP:
                    numbers.confessed.append((record["first_seq"], record["last_seq"]))
                else:
                    numbers.see(record["seq"], record.get("event"))
                    trace.records.append(record)
    for boot, numbers in processes.items():
        for first, last in numbers.missing():
            confessed = any(start <= first and last <= end for start, end in numbers.confessed)
            trace.gaps.append(Gap(boot, first, last, confessed))
        if numbers.closed_at < max((last for _, last in numbers.stretches), default=0):
            trace.unclosed.append(boot)
    return trace


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while line := file.readline(_LONGEST):
        begin, offset = offset, offset + len(line)
        while not line.endswith(b"\n") and (more := file.readline(_LONGEST)):
            # Too long to be ours: read past it, a piece at a time.
            offset += len(more)
            if more.endswith(b"\n"):
                break
        if line != b"\n":
            yield begin, line


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except ValueError:
        return None
    if found.__class__ is not dict or found.get("boot").__class__ is not str:
        return None
    names = ("first_seq", "last_seq") if found.get("event") == GAP else ("seq",)
    return found if all(found.get(name).__class__ is int and found[name] >= 0 for name in names) else None
