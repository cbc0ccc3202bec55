"""Who holds what, proven alive by a lock that the kernel lets go when its process dies, however it dies.

Each process that holds something on a shared limit keeps one file beside the ledger, locked for as long as it lives,
and writes into it the ids of the calls that it is about to send. Whoever finds the file unlocked knows that its owner
is gone, and which of its holds were never sent: those are free, the others are charged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from typing import TYPE_CHECKING, Final

from bursar.words.clock import new_id
from bursar.words.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONG: Final = 1 << 20
"""Bytes after which a journal is begun anew, as soon as nothing is in flight."""


class Owner:
    """This process as an owner of holds on one ledger. Made at its first hold; forgotten in a forked child.

    A `durable` one waits for the disk before it lets a call leave.
    """

    def __init__(self, ledger: Path, *, durable: bool = False) -> None:
        self._durable = durable
        self.id = new_id()
        self._path = _place(ledger) / self.id
        self._bytes = 0
        self._lock = threading.Lock()
        self._in_flight: set[str] = set()
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._handle = os.open(self._path, flags, 0o600)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if durable:
                _sync(self._path.parent)
        except OSError as error:
            raise StoreUnavailable(
                f"{self._path} cannot be made ({error.strerror}): shared limits need it to tell who is alive; "
                "nothing was sent"
            ) from None
        _owners.add(self)

    def sent(self, call_id: str) -> None:
        """Note that a call is about to leave. Raises `StoreUnavailable` where that cannot be noted."""
        # A line begins and ends with its own break: one that was torn by a death spoils no other.
        line = f"\n{call_id}\n".encode()
        with self._lock:
            try:
                written = os.write(self._handle, line)
                if self._durable:
                    os.fsync(self._handle)
            except OSError as error:
                raise StoreUnavailable(f"{self._path} cannot be written ({error.strerror}); nothing was sent") from None
            if written != len(line):
                raise StoreUnavailable(f"{self._path} cannot be written (the disk is full); nothing was sent")
            self._bytes += written
            self._in_flight.add(call_id)

    def done(self, call_id: str) -> None:
        """Note that a call has ended; with nothing in flight a journal that has grown long is begun anew."""
        with self._lock:
            self._in_flight.discard(call_id)
            if self._bytes > _LONG and not self._in_flight:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle, 0)
                    self._bytes = 0

    def close(self, *, empty: bool) -> None:
        """Let go. The journal is left for whoever settles what is still held."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            if empty:
                self._path.unlink(missing_ok=True)
            os.close(handle)

    def _leave_to_parent(self) -> None:
        # The lock belongs to the open file, which parent and child share: the child must not keep it alive.
        handle, self._handle = self._handle, -1
        self._lock = threading.Lock()
        if handle >= 0:
            os.close(handle)


class Estate:
    """What a dead owner left: which of its calls may have been sent. `known` is False where its journal is gone."""

    def __init__(self, path: Path, handle: int | None) -> None:
        self._path, self._handle = path, handle
        self.known = handle is not None
        self._sent = set() if handle is None else set(os.pread(handle, os.fstat(handle).st_size, 0).decode().split())

    def may_have_sent(self, call_id: str) -> bool:
        """Whether the provider may have seen this call."""
        return not self.known or call_id in self._sent

    def clear(self) -> None:
        """Delete the journal: nothing is held for it any more."""
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def estate(ledger: Path, owner: str) -> Iterator[Estate | None]:
    """Open what an owner left, if it is dead, and keep others from doing the same; None while it lives."""
    path = _place(ledger) / owner
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        # Without its file nobody can say what an owner has sent: all of it, then.
        yield Estate(path, None)
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield Estate(path, handle)
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    # The name of a file is its folder's.
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _place(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.owners")


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def _forget_in_child() -> None:
    for owner in list(_owners):
        owner._leave_to_parent()  # noqa: SLF001 - the class's own fork handler
    _owners.clear()


os.register_at_fork(after_in_child=_forget_in_child)
