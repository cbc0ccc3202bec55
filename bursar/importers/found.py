"""What an importer found in a file, and everything in it that it made nothing of, with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.words.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bursar.tracing.imports import Entry

LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes of the longest line that is read; a longer one is named and passed over."""
_EARLIEST_US: Final = 1_420_070_400_000_000
"""2015-01-01: what is dated before was dated wrongly; an id of that time could not be found either."""
_LATEST_US: Final = 4_102_444_800_000_000


@dataclass(slots=True)
class Found:
    """One file, read. `merged` counts lines that were parts or copies of an entry; `skipped` the others, by reason."""

    path: str
    lines: int = 0
    entries: list[Entry] = field(default_factory=list)
    merged: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[RecordingError] = field(default_factory=list)

    def problem(self, line: int | None, what: str) -> None:
        """Name a line that says something which cannot be understood."""
        self.problems.append(RecordingError(self.path, line, what))


class Line(NamedTuple):
    """One line of a file of JSON objects, numbered from 1."""

    number: int
    value: dict[str, Any]
    raw: bytes


def json_lines(path: Path, found: Found) -> Iterator[Line]:
    """The objects of a file, one a line; what is none goes to `found`. Raises `RecordingError` for the whole file."""
    try:
        with path.open("rb") as file:
            while raw := file.readline(LONGEST_LINE + 1):
                found.lines += 1
                if len(raw) > LONGEST_LINE:
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(LONGEST_LINE)
                    found.problem(found.lines, f"is longer than {LONGEST_LINE} bytes")
                    continue
                if not raw.strip():
                    continue
                try:
                    value = orjson.loads(raw)
                except ValueError:
                    torn = "" if raw.endswith(b"\n") else "; it has no end, and is read again when the file has grown"
                    found.problem(found.lines, f"is no JSON{torn}")
                    continue
                if isinstance(value, dict):
                    yield Line(found.lines, value, raw)
                else:
                    found.problem(found.lines, f"is a {type(value).__name__}, not an object")
    except OSError as error:
        raise RecordingError(str(path), None, f"cannot be read ({error.strerror})") from None


def time_us(value: Any) -> int | None:
    """A time as logs have it, in microseconds: ISO 8601 (UTC where it names no zone), or seconds since the epoch."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        try:
            found = round(moment.timestamp() * 1_000_000)
        except (OverflowError, ValueError):
            return None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # Some write milliseconds.
        try:
            found = int(value * 1_000) if value > 10**11 else int(value * 1_000_000)
        except (OverflowError, ValueError):
            return None
    else:
        return None
    return found if _EARLIEST_US <= found < _LATEST_US else None
