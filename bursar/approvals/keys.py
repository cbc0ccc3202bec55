"""A terminal that is read key by key. What was typed or pasted before anybody was asked is no answer."""

from __future__ import annotations

import fcntl
import os
import select
import termios
import time
import tty
from typing import TYPE_CHECKING, Any, Final, Self

from bursar.approvals.approver import UnableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PASTE: Final = "paste"
"""In place of a key: several came at once."""
CLOSED: Final = "closed"
"""In place of a key: the terminal is gone."""
_TOGETHER_S: Final = 0.03
"""Nobody presses two keys within this time."""
_TICK_S: Final = 0.1
_NO_TTY: Final = (
    "there is no terminal to ask at; name approver='inbox' and answer with `bursar approvals`, or run it in a terminal"
)


class Keys:
    """The terminal of this process while a question is asked: one question at a time, of all processes at it."""

    def __init__(self) -> None:
        try:
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC) if os.isatty(0) else -1
        except OSError:
            self._fd = -1
        if self._fd < 0:
            raise UnableError(_NO_TTY)
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        os.close(self._fd)

    def take_turn(self, until: Callable[[], bool]) -> bool:
        """Wait until no other process asks at this terminal; False where `until` became true before.

        Raises `UnableError` in the background, where reading would stop the process.
        """
        while not until():
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_TICK_S)
                continue
            if os.tcgetpgrp(self._fd) != os.getpgrp():
                raise UnableError(f"this process runs in the background, and {_NO_TTY}")
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSADRAIN)
            self.forget()
            return True
        return False

    def forget(self) -> None:
        """Drop what was typed so far."""
        termios.tcflush(self._fd, termios.TCIFLUSH)

    def write(self, text: str) -> None:
        """Write to the terminal."""
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._fd, data) :]

    @property
    def width(self) -> int:
        """Columns, as they are now."""
        return max(20, os.get_terminal_size(self._fd).columns)

    def key(self) -> str | None:
        """The next key, `PASTE`, `CLOSED`, or None where there was none for a moment."""
        if not self._ready(_TICK_S):
            return None
        data = self._read()
        if data and self._ready(_TOGETHER_S):
            while self._ready(_TOGETHER_S) and self._read():
                pass
            return PASTE
        if not data:
            return CLOSED
        return data.decode("utf-8", "replace") if len(data) == 1 else PASTE

    def line(self, prompt: str, over: Callable[[], bool]) -> str | None:
        """A line that is typed, with the terminal's own editing; None where it is empty or `over` came first."""
        assert self._before is not None
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        self.forget()
        self.write(prompt)
        try:
            while not over():
                if self._ready(_TICK_S):
                    return self._read(8_192).decode("utf-8", "replace").strip() or None
            return None
        finally:
            tty.setcbreak(self._fd, termios.TCSADRAIN)

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], seconds)[0])

    def _read(self, most: int = 1_024) -> bytes:
        try:
            return os.read(self._fd, most)
        except OSError:
            return b""
