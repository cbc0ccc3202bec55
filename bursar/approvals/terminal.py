"""The terminal as an approver: what is to be done, what it costs, and one key. Whatever is no clear yes is a no."""

from __future__ import annotations

import asyncio
import getpass
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from bursar.approvals.keys import CLOSED, PASTE, Keys
from bursar.approvals.screen import lasting, shown
from bursar.words.errors import ConfigError
from bursar.words.money import parse_usd
from bursar.words.questions import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.approvals.book import Book
    from bursar.approvals.rows import Row
    from bursar.words.questions import Question

_turn = threading.Lock()
_EARLY_S: Final = 0.4
"""A key so soon after the question appeared was meant for something else."""
_LOOK_EVERY_S: Final = 0.5
"""How often it is looked whether somebody else has answered."""
_NO: Final = frozenset({"n", "N", "q", "\r", "\n", "\x04", "\x1b"})
_KEYS: Final = "y/r/t/h/u/b/e/d/N"
_HELP: Final = (
    "y yes, once · r this run · t always here · h here until a time · u up to an amount",
    "b raise the budget · e edit · d deny, with a reason · n no",
)
_TYPED: Final = {
    "h": "until when, as in 17:45, or for how many minutes: ",
    "u": "dollars for this run, as in 2.50: ",
    "b": "raise the budget by how many dollars, as in 0.50: ",
    "e": "arguments, as one line of JSON: ",
}


class Terminal:
    """Asks at the terminal that the process was started from; its time runs from when the question is shown."""

    name = "terminal"
    waits = True

    def __init__(self, book: Book) -> None:
        self._book = book

    def ask(self, row: Row, question: Question, most_us: int) -> Reply | None:  # noqa: ARG002 - what each is given
        """Ask in this thread."""
        return self.answer(row, most_us)

    def answer(self, row: Row, most_us: int) -> Reply | None:
        """Ask about a row of the ledger, whoever put it there. Raises `UnableError`."""
        return self._ask(row, most_us, threading.Event())

    async def aask(self, row: Row, question: Question, most_us: int) -> Reply | None:  # noqa: ARG002 - as above
        """Ask in a thread of its own; cancelled, the terminal is given back before the task is over."""
        loop, done, gone = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        kept: list[Any] = []

        def work() -> None:
            try:
                kept.append(self._ask(row, most_us, gone))
            except BaseException as error:  # noqa: BLE001 - it is raised in the task
                kept.append(error)
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=work, name="bursar-terminal", daemon=True)
        thread.start()
        try:
            await done.wait()
        except asyncio.CancelledError:
            gone.set()
            thread.join()
            raise
        if isinstance(kept[0], BaseException):
            raise kept[0]
        reply: Reply | None = kept[0]
        return reply

    def _ask(self, row: Row, most_us: int, gone: threading.Event) -> Reply | None:
        with Keys() as keys:
            while not _turn.acquire(timeout=0.1):
                if gone.is_set() or self._answered(row):
                    return None
            try:
                if not keys.take_turn(lambda: gone.is_set() or self._answered(row)):
                    return None
                self._book.show(row.id, self.name, self._book.now_us() + most_us)
                return _Prompt(keys, row, most_us / 1_000_000, gone, lambda: self._answered(row)).run()
            finally:
                _turn.release()

    def _answered(self, row: Row) -> bool:
        now = self._book.row(row.id)
        return now is None or now.state != "asked"


class _Prompt:
    """One question on the screen, until it is answered or its time is over."""

    def __init__(
        self, keys: Keys, row: Row, seconds: float, gone: threading.Event, answered: Callable[[], bool]
    ) -> None:
        self._keys, self._row, self._gone, self._answered = keys, row, gone, answered
        self._began_s = time.monotonic()
        self._ends_s = self._began_s + seconds
        self._looked_s = self._began_s
        self._note = ""
        self._cut = False

    def run(self) -> Reply | None:
        self._show()
        reply: Reply | None = None
        try:
            while reply is None and not self._over():
                self._count_down()
                key = self._keys.key()
                if key is not None:
                    reply = self._heard(key)
        finally:
            self._keys.write("\r\x1b[K")
            if reply is not None:
                self._keys.write(f"{'yes' if reply.yes else 'no'}: question {self._row.id[:8]}\r\n")
        return reply

    def _show(self) -> None:
        from rich.console import Console
        from rich.text import Text

        lines, self._cut = shown(self._row)
        console = Console(width=self._keys.width, highlight=False, markup=False, emoji=False, soft_wrap=True)
        with console.capture() as capture:
            console.print(Text(lines[0], style="bold"))
            for line in lines[1:]:
                console.print(Text(line, style="dim" if line.startswith("│") else ""))
            console.print(Text(f"{_HELP[0]}\n{_HELP[1]} (r, t, h: {lasting(self._row)})"))
        self._keys.write("\r\n" + capture.get().replace("\n", "\r\n"))

    def _over(self) -> bool:
        now_s = time.monotonic()
        if self._gone.is_set() or now_s >= self._ends_s:
            return True
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            return self._answered()
        return False

    def _count_down(self) -> None:
        left_s = max(0, round(self._ends_s - time.monotonic()))
        line = f"[{self._row.id[:8]}] {left_s} s · {_KEYS}? {self._note}"
        self._keys.write("\r" + line[: self._keys.width - 1] + "\x1b[K")

    def _heard(self, key: str) -> Reply | None:
        if key == CLOSED:
            return Reply(yes=False, reason="the terminal was closed")
        if key == PASTE or time.monotonic() - self._began_s < _EARLY_S:
            self._note = "(ignored: press one key)"
            return None
        by = _user()
        if key in _NO or key == "d":
            return Reply(yes=False, reason=self._line("reason: ") if key == "d" else None, by=by)
        trouble = self._impossible(key)
        if trouble:
            self._note = trouble
            return None
        if self._cut and self._line("not all of it is shown; type yes to go on: ") != "yes":
            self._note = "(not confirmed)"
            return None
        return self._yes(key, by)

    def _impossible(self, key: str) -> str:
        """Why this key is no answer to this question; empty where it is one."""
        if key not in ("y", "r", "t", "h", "u", "b", "e"):
            return "(not a choice)"
        if key in ("r", "t", "h", "u") and self._row.short_nusd is not None:
            return "(a full budget is raised, with y or b)"
        return "(there is no budget to raise)" if key == "b" and self._row.limit_scope is None else ""

    def _yes(self, key: str, by: str) -> Reply | None:
        try:
            if key in _TYPED:
                typed = self._line(_TYPED[key])
                return None if typed is None else self._typed(key, typed, by)
            return Reply(yes=True, scope={"y": "once", "r": "run", "t": "tool"}[key], by=by)
        except (ConfigError, TypeError, ValueError):
            self._note = "(cannot be read)"
            return None

    def _typed(self, key: str, typed: str, by: str) -> Reply | None:
        if key == "e":
            return self._edited(typed, by)
        if key == "h":
            until = f"{typed}m" if typed.isdecimal() else typed
            return Reply(yes=True, scope="tool", until=until, by=by)
        if parse_usd(typed, "dollars") < ((self._row.short_nusd if key == "b" else self._row.bound_nusd) or 0):
            self._note = "(less than this call lacks)" if key == "b" else "(less than this call can cost)"
            return None
        if key == "b":
            return Reply(yes=True, raise_usd=typed, by=by)
        return Reply(yes=True, scope="run", up_to_usd=typed, by=by)

    def _edited(self, typed: str, by: str) -> Reply | None:
        arguments = json.loads(typed)
        if isinstance(arguments, dict) and self._row.kind == "tool":
            return Reply(yes=True, arguments=arguments, by=by)
        self._note = "(not an object of a tool's arguments)"
        return None

    def _line(self, prompt: str) -> str | None:
        self._keys.write("\r\x1b[K")
        return self._keys.line(prompt, lambda: self._gone.is_set() or time.monotonic() >= self._ends_s)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "terminal"
