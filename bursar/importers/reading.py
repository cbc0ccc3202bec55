"""Which importer a file is for, and what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from bursar.importers import claude_code, messages
from bursar.importers.usage import PROVIDERS, read_usage
from bursar.words.errors import RecordingError

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.importers.found import Found
    from bursar.importers.priced import Pricer

_LINES_LOOKED_AT: Final = 20
_HEAD: Final = 1 << 20
KNOWN: Final = "transcripts of Claude Code, usage or cost exports of OpenAI and Anthropic, messages with their usage"


class Imported(NamedTuple):
    """A file that was read. `provider` and the span are of exports alone: what they say of everything in that time."""

    source: str
    found: Found
    provider: str | None = None
    since_us: int = 0
    until_us: int = 0


def read_any(path: Path, pricer: Pricer, *, workflow: str | None = None, name: str = "project") -> Imported:
    """Read a file of any kind. `name` is what an export's workflows are named after, `workflow` their name elsewhere.

    Raises `RecordingError` for a file that cannot be read, or that is nothing of this.
    """
    if _is_transcript(path):
        return Imported(claude_code.SOURCE, claude_code.read_transcript(path, pricer, workflow))
    export = read_usage(path, pricer, name)
    if export is not None:
        kind, found, spans = export
        since = min((span.entry.call.ts_us for span in spans), default=0)
        return Imported(kind, found, PROVIDERS[kind], since, max((span.until_us for span in spans), default=0))
    if not _is_json(path):
        raise RecordingError(str(path), None, f"is none of these: {KNOWN}")
    return Imported(messages.SOURCE, messages.read_messages(path, pricer, workflow))


def _is_transcript(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            lines = file.read(_HEAD).splitlines()[:_LINES_LOOKED_AT]
    except OSError as error:
        raise RecordingError(str(path), None, f"cannot be read ({error.strerror})") from None
    for line in lines:
        try:
            value = orjson.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and claude_code.is_transcript(value):
            return True
    return False


def _is_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1_024).lstrip()[:1] in (b"{", b"[")
