"""Where every record goes: secrets taken out, then into the ledger, then on to whoever else listens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from bursar.tracing.app_log import AppLog
from bursar.tracing.events import event_of
from bursar.tracing.log import TraceLog, open_log
from bursar.tracing.redact import cleaned
from bursar.words.records import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.tracing.ledger import Ledger
    from bursar.words.ports import Posting
    from bursar.words.records import Record


class Listener(Protocol):
    """Takes events behind the ledger's back; may lose some, never raises."""

    def append(self, event: str, fields: dict[str, Any]) -> None:
        """Take one event."""

    def close(self) -> None:
        """Take no more."""


class Recorder:
    """The sink of a process. A record is committed to the ledger before anybody else hears of it."""

    def __init__(self, ledger: Ledger, listener: Listener | None = None) -> None:
        self._ledger, self._listener = ledger, listener

    def write(self, record: Record, posting: Posting | None = None) -> None:
        """Keep the record with its posting, and pass it on. Never raises."""
        record = cleaned(record)
        self._ledger.write(record, posting)
        self._tell(record)

    def try_write(self, record: Record, posting: Posting | None = None) -> bool:
        """As `write`, but give up at once (False, nothing passed on) when another process has the ledger."""
        record = cleaned(record)
        if not self._ledger.try_write(record, posting):
            return False
        self._tell(record)
        return True

    def tell(self, record: Record) -> None:
        """Pass on a record that is in the ledger already."""
        self._tell(cleaned(record))

    def close(self) -> None:
        """Close what listens; the ledger is closed by its owner."""
        if self._listener is not None:
            self._listener.close()

    def _tell(self, record: Record) -> None:
        if self._listener is not None:
            user = None if isinstance(record, Verdict) else self._ledger.hash_of(record.who.user)
            self._listener.append(*event_of(record, user))


def listener_of(trace: Path | str | None) -> Listener | None:
    """Make what the setting `trace` asks for. Raises `ConfigError` for a path that cannot be a log."""
    if trace is None:
        return None
    return AppLog() if isinstance(trace, str) else TraceLog(trace)


def check_trace(trace: Path | str | None) -> None:
    """Try what the setting `trace` asks for, before a run does. Raises `ConfigError` as `listener_of`."""
    if trace is not None and not isinstance(trace, str):
        os.close(open_log(trace))
