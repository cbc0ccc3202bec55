"""The end of a transcript of Claude Code: its latest turns, read from the last bytes of the file, in no time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.clients.usage import anthropic_usage
from bursar.importers.found import time_us

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.words.events import Usage

_BYTES: Final = 512 * 1024
"""Read of a file's end: a turn is some kilobytes, a large tool result some hundred."""
_MOST: Final = 8


class Latest(NamedTuple):
    """The latest turns of the agent that leads the session, oldest first; when the last one was, None if not known."""

    turns: tuple[Usage, ...] = ()
    last_us: int | None = None


def latest(path: Path) -> Latest:
    """Read a transcript's end. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _BYTES))
        lines = file.read().splitlines()
    # Cut in the middle of a line, most likely.
    lines = lines[1:] if size > _BYTES else lines
    turns: dict[str, Usage] = {}
    last_us = None
    for line in reversed(lines):
        value = _answer(line)
        if value is None:
            continue
        usage = anthropic_usage(value["message"].get("usage")).usage
        if usage is None:
            continue
        last_us = last_us or time_us(value.get("timestamp"))
        # Of the lines of one answer the last has the whole count.
        turns.setdefault(str(value["message"].get("id")), usage)
        if len(turns) == _MOST:
            break
    return Latest(tuple(reversed(turns.values())), last_us)


def _answer(line: bytes) -> dict[str, Any] | None:
    if b'"usage"' not in line:
        return None
    try:
        value = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("type") != "assistant" or value.get("isSidechain") is True:
        return None
    return value if isinstance(value.get("message"), dict) else None
