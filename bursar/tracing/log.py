"""The trace log: each record one line of JSON, written by the calling thread with one `os.write`, no queue.

A write that has returned is in the operating system's hands: no way for the process to die takes it back (a power cut
may). Every line has its process's nonce (`boot`) and a number (`seq`) without holes; the first and the last line of a
process say that they are, and a failed write is confessed by a `bursar.gap` line. So whatever is missing can be proven
by `read_trace` (`log_reader.py`). A line begins and ends with a newline: a torn one damages no neighbour.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
import time
import warnings
import weakref
from pathlib import Path
from typing import Any, Final

import orjson

from bursar.words.errors import BursarWarning, ConfigError

SCHEMA: Final = 1
OPENED: Final = "bursar.log_opened"
CLOSED: Final = "bursar.log_closed"
GAP: Final = "bursar.gap"
LONGEST_LINE: Final = 65_536
"""Bytes of a line: what a kernel appends whole even where a longer write is cut."""
_TEXT: Final = 1_000
_DEEPEST: Final = 6
_INT_MAX: Final = 2**63 - 1
_LOOK_S: Final = 1.0
"""How often the path is looked at for a rotation."""
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TraceLog:
    """The writer of one trace log. Safe for threads, forks and other processes on the same file.

    Raises `ConfigError` where the path is no plain file of this user's, or cannot be made; `append` never raises.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._name = str(self.path)
        self._lock = threading.Lock()
        self._boot = secrets.token_hex(8)
        self._parent: str | None = None
        self._seq = 0
        self._lost: tuple[int, int] | None = None
        self._warned = False
        self._identity = (0, 0)
        self._next_look = 0.0
        self._fd: int | None = None
        self._open()
        _logs.add(self)

    def append(self, event: str, fields: dict[str, Any]) -> None:
        """Write one record; when this returns, the death of the process does not lose it."""
        body = _line(event, fields)
        with self._lock:
            if self._fd is None or time.monotonic() >= self._next_look:
                self._look()
            self._put(body)

    def close(self) -> None:
        """Write the last line and close the file; a later record opens it again."""
        with self._lock:
            if self._fd is not None:
                self._put(_line(CLOSED, {"ts_us": time.time_ns() // 1_000}))
                os.close(self._fd)
                self._fd = None

    def _put(self, body: bytes) -> None:
        seq, self._seq = self._seq, self._seq + 1
        line = b'\n{"boot":"%b","seq":%d,%b\n' % (self._boot.encode(), seq, body)
        whole = line if self._lost is None else self._confession(*self._lost) + line
        try:
            if self._fd is not None and os.write(self._fd, whole) == len(whole):
                self._lost = None
                return
            why = "the disk is full" if self._fd is not None else "it cannot be opened"
        except OSError as error:
            why = str(error.strerror)
        self._lose(seq, why)

    def _lose(self, seq: int, why: str) -> None:
        # The first and the last: that is all that a long outage may cost.
        self._lost = (seq if self._lost is None else self._lost[0], seq)
        if not self._warned:
            self._warned = True
            with contextlib.suppress(BursarWarning):
                warnings.warn(
                    f"the trace log {self.path} cannot be written ({why}); its records stay in the ledger, and the "
                    "log will say which it lacks",
                    BursarWarning,
                    stacklevel=2,
                )

    def _confession(self, first: int, last: int) -> bytes:
        return b'\n{"boot":"%b","event":"%b","first_seq":%d,"last_seq":%d,"n":%d}\n' % (
            self._boot.encode(), GAP.encode(), first, last, last - first + 1,
        )  # fmt: skip

    def _look(self) -> None:
        self._next_look = time.monotonic() + _LOOK_S
        if self._fd is not None and _identity(self._name) == self._identity:
            return
        # Renamed or deleted: what was written stays there, what comes goes to a new file. Where that cannot be made
        # the old one goes on.
        with contextlib.suppress(ConfigError):
            self._open()

    def _open(self) -> None:
        old, self._fd = self._fd, None
        try:
            self._fd = open_log(self.path)
        except ConfigError:
            self._fd = old
            raise
        if old is not None:
            os.close(old)
        found = os.fstat(self._fd)
        self._identity, self._next_look = (found.st_dev, found.st_ino), time.monotonic() + _LOOK_S
        said = {"schema": SCHEMA, "pid": os.getpid(), "parent": self._parent, "ts_us": time.time_ns() // 1_000}
        self._put(_line(OPENED, said))

    def _begin_in_child(self) -> None:
        # A nonce and numbers of its own, and nothing of what the parent owes.
        self._lock = threading.Lock()
        self._parent, self._boot = self._boot, secrets.token_hex(8)
        self._seq, self._lost = 0, None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def open_log(path: Path) -> int:
    """Open a log for appending, making it with mode 0600. Raises `ConfigError` that names it and what is wrong."""
    try:
        handle = os.open(path, _FLAGS, 0o600)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        link = " (a symbolic link is not followed)" if path.is_symlink() else ""
        raise ConfigError(f"trace={str(path)!r} cannot be written: {why}{link}; name another file") from None
    found = os.fstat(handle)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return handle
    os.close(handle)
    what = "belongs to another user" if stat.S_ISREG(found.st_mode) else "is not a plain file (a pipe or a device)"
    raise ConfigError(f"trace={str(path)!r} {what}; name another file")


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name, follow_symlinks=False)  # noqa: PTH116 - a Path costs twice as much
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _line(event: str, fields: dict[str, Any]) -> bytes:
    """All of a line behind its number: without the opening brace."""
    said = {"event": event, **fields}
    try:
        body = orjson.dumps(said)
    except (TypeError, ValueError, RecursionError):
        # A lone surrogate, a number of more than 64 bits, an object of somebody's: made to fit, and marked.
        body = orjson.dumps({**_fit(said, _TEXT, 0), "lossy": True})
    if len(body) <= LONGEST_LINE:
        return body[1:]
    cut = {name: value for name, value in _fit(said, 200, 0).items() if not isinstance(value, dict | list)}
    return orjson.dumps({**cut, "cut_from_bytes": len(body)})[1:]


def _fit(value: Any, longest: int, depth: int) -> Any:
    if value is None or value.__class__ in (bool, float):
        return value
    if isinstance(value, str):
        return str.__str__(value)[:longest].encode("utf-8", "replace").decode()
    if value.__class__ is int:
        return max(-_INT_MAX, min(_INT_MAX, value))
    if depth < _DEEPEST and value.__class__ is dict:
        return {str(_fit(name, longest, depth)): _fit(item, longest, depth + 1) for name, item in value.items()}
    if depth < _DEEPEST and value.__class__ in (list, tuple):
        return [_fit(item, longest, depth + 1) for item in value]
    return f"<{type(value).__name__}>"


_logs: weakref.WeakSet[TraceLog] = weakref.WeakSet()


def _begin_in_child() -> None:
    for log in list(_logs):
        log._begin_in_child()  # noqa: SLF001 - the class's own fork handler


os.register_at_fork(after_in_child=_begin_in_child)
