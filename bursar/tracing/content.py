"""What was asked and said, where somebody wants it kept: off by default, masked or in full, and only for a while.

It lies in a table of the ledger, compressed and bounded, away from the rows that reports read. Keys are taken out in
every mode. Nothing here raises into a call.
"""

from __future__ import annotations

import contextlib
import time
import warnings
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.db import open_ledger
from bursar.tracing.redact import mask, redact
from bursar.words.errors import BursarWarning, ConfigError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bursar.tracing.ledger import Ledger

MOST_BYTES: Final = 262_144
"""Bytes kept of one attempt, compressed; what is longer is cut, part by part, and says so."""
LONGEST_TEXT: Final = 1_000_000
"""Characters looked at of one part."""
_CUTS: Final = (LONGEST_TEXT, 65_536, 8_192, 1_024)
_MOST_PARTS: Final = 100
_MARGIN: Final = 4_096
_SWEEP_S: Final = 3_600.0
_BATCH: Final = 500


class Part(NamedTuple):
    """One piece of a conversation: who spoke, and what."""

    role: str
    text: str


class Content(NamedTuple):
    """What was kept of one attempt. `asked` is kept with the first attempt of an operation only."""

    mode: str
    asked: tuple[Part, ...]
    said: tuple[Part, ...]


class Contents:
    """The keeper of one process. `mode` is "masked" or "full"; what is kept is deleted after `keep_s` seconds."""

    def __init__(self, ledger: Ledger, mode: str, keep_s: int) -> None:
        self._ledger, self._mode, self._keep_s = ledger, mode, keep_s
        self._next_sweep = 0.0
        self._warned = False

    def keep(self, call_id: str, asked: Iterable[Part], said: Iterable[Part]) -> None:
        """Keep what an attempt asked and what it was told. Never raises."""
        now_us = time.time_ns() // 1_000
        try:
            data = _packed(self._clean(asked), self._clean(said))
            row = (call_id, now_us + self._keep_s * 1_000_000, self._mode, data)
            insert = "INSERT OR REPLACE INTO content (call_id, until_us, mode, data) VALUES (?, ?, ?, ?)"
            self._ledger.database().transact(lambda run: run(insert, row))
            if time.monotonic() >= self._next_sweep:
                self._next_sweep = time.monotonic() + _SWEEP_S
                expire(self._ledger)
        except Exception as error:  # noqa: BLE001 - words are not worth a call
            if not self._warned:
                self._warned = True
                with contextlib.suppress(BursarWarning):
                    what = f"content could not be kept ({type(error).__name__}); the records are"
                    warnings.warn(what, BursarWarning, stacklevel=2)

    def _clean(self, parts: Iterable[Part]) -> list[Part]:
        clean: Callable[[str], str] = mask if self._mode == "masked" else redact
        # A little more is looked at than is kept: half a key at the end is not known for one.
        return [Part(clean(part.role[:100]), clean(part.text[: LONGEST_TEXT + _MARGIN])) for part in parts]


def expire(ledger: Ledger) -> None:
    """Delete what was to be kept until now, a few rows at a time. Never raises."""
    import apsw

    now_us = time.time_ns() // 1_000
    with contextlib.suppress(apsw.Error, LedgerError, ConfigError, OSError):
        database = ledger.database()
        due = "SELECT call_id FROM content WHERE until_us <= ? LIMIT ?"
        while database.execute(due, (now_us, 1)):
            # Overwritten, not only unlinked.
            database.execute("PRAGMA secure_delete=1")
            database.transact(lambda run: run(f"DELETE FROM content WHERE call_id IN ({due})", (now_us, _BATCH)))


def read_contents(ledger: Path, call_ids: Sequence[str]) -> dict[str, Content]:
    """What is kept of these attempts and not due to be deleted. Raises `LedgerError` where there is no ledger."""
    import apsw

    database = open_ledger(ledger, read_only=True)
    try:
        rows = database.execute(
            "SELECT call_id, mode, data FROM content "
            "WHERE until_us > ? AND call_id IN (SELECT value FROM json_each(?))",
            (time.time_ns() // 1_000, orjson.dumps(list(call_ids)).decode()),
        )
    except apsw.SQLError:
        # Written by a version that kept none.
        return {}
    finally:
        database.close()
    return {call_id: content for call_id, mode, data in rows if (content := _unpacked(mode, data)) is not None}


def _packed(asked: list[Part], said: list[Part]) -> bytes:
    data = b""
    for longest in _CUTS:
        data = zlib.compress(_json([_cut(asked, longest), _cut(said, longest)]))
        if len(data) <= MOST_BYTES:
            return data
    # Very many parts: the last ones of each side.
    shortest = _CUTS[-1]
    return zlib.compress(_json([_cut(asked[-_MOST_PARTS:], shortest), _cut(said[-_MOST_PARTS:], shortest)]))


def _cut(parts: list[Part], longest: int) -> list[Part]:
    return [
        part
        if len(part.text) <= longest
        else part._replace(text=f"{part.text[:longest]}… [{len(part.text) - longest:,} more characters]")
        for part in parts
    ]


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # A lone surrogate somewhere.
        return orjson.dumps([[[_whole(text) for text in part] for part in side] for side in value])


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _unpacked(mode: str, data: bytes) -> Content | None:
    try:
        unpacker = zlib.decompressobj()
        # Bounded: a file may have been tampered with.
        asked, said = orjson.loads(unpacker.decompress(data, 64 * MOST_BYTES))
        return Content(
            mode, tuple(Part(str(r), str(t)) for r, t in asked), tuple(Part(str(r), str(t)) for r, t in said)
        )
    except (zlib.error, ValueError, TypeError):
        return None
