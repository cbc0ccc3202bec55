"""Files of recorded runs: trajectories and skeletons a line each (JSONL), or one conversation, gzipped or not."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.replay.recording import recording_of
from bursar.words.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bursar.guards.calls import ToolTraits
    from bursar.replay.recording import Recording

LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes of the longest line that is read; a longer one is named and passed over."""
_GZIP: Final = b"\x1f\x8b"


def read_file(
    path: str, problem: Callable[[RecordingError], None], tools: Mapping[str, ToolTraits] | None = None
) -> Iterator[Recording]:
    """Yield the runs of one file ("-" is standard input); `tools` says which of their arguments tell calls apart.

    A line that is no run is given to `problem` and passed over; raises `RecordingError` where the file as a whole
    cannot be read.
    """
    with _open(path) as file:
        try:
            if file.peek(1).lstrip()[:1] == b"[":
                yield recording_of(path, None, _parse(path, None, file.read(LONGEST_LINE)), tools or {})
                return
            yield from _lines(path, file, problem, tools or {})
        except (OSError, EOFError, zlib.error) as error:
            raise RecordingError(path, None, f"cannot be read to its end ({error})") from None


def runs_in(paths: list[str]) -> Iterator[str]:
    """Name the files to read: each path given, and of a directory the recordings in it."""
    for path in paths:
        if path != "-" and Path(path).is_dir():
            found = sorted(str(p) for p in Path(path).iterdir() if _is_recording(p))
            if not found:
                raise RecordingError(path, None, "holds no recorded runs (.jsonl, .json, .gz)")
            yield from found
        else:
            yield path


@contextmanager
def _open(path: str) -> Iterator[io.BufferedReader]:
    with ExitStack() as stack:
        try:
            raw: Any = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
            if raw.peek(2)[:2] == _GZIP:
                raw = io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=raw)))
        except OSError as error:
            raise RecordingError(path, None, f"cannot be opened ({error.strerror})") from None
        yield raw


def _lines(
    path: str,
    file: io.BufferedReader,
    problem: Callable[[RecordingError], None],
    tools: Mapping[str, ToolTraits],
) -> Iterator[Recording]:
    number, seen = 0, False
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            problem(RecordingError(path, number, f"is longer than {LONGEST_LINE} bytes"))
            continue
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except ValueError:
            if not seen and line.lstrip()[:1] == b"{":
                # One object over many lines: a conversation that somebody saved by hand.
                yield recording_of(path, None, _parse(path, None, line + file.read(LONGEST_LINE)), tools)
                return
            problem(RecordingError(path, number, "is no JSON"))
            continue
        seen = True
        try:
            yield recording_of(path, number, value, tools)
        except RecordingError as error:
            problem(error)
    if not seen:
        raise RecordingError(path, None, "holds no recorded run")


def _parse(path: str, line: int | None, text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise RecordingError(path, line, f"is no JSON ({error})") from None


def _is_recording(path: Path) -> bool:
    if not path.is_file() or not path.name.endswith((".jsonl", ".json", ".jsonl.gz", ".json.gz")):
        return False
    try:
        with _open(str(path)) as file:
            head = file.read(1) == b"["
            line = file.readline(LONGEST_LINE)
        return head or b'"messages"' in line or b'"steps"' in line
    except (RecordingError, OSError, EOFError, zlib.error):
        return True
