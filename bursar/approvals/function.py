"""A function as an approver: given a `Question`, it returns True, False or a `Reply`; None leaves it to the next."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from importlib import import_module
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from bursar.approvals.approver import UnableError
from bursar.words.questions import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.approvals.rows import Row
    from bursar.words.questions import Question


class Function:
    """Asks a function, in a thread of its own: one that hangs is left behind when its time is over."""

    waits = True

    def __init__(self, fn: Callable[[Question], Any]) -> None:
        self._fn = fn
        self.name = getattr(fn, "__qualname__", type(fn).__name__)

    def ask(self, row: Row, question: Question, most_us: int) -> Reply | None:  # noqa: ARG002 - what each is given
        """Ask it, and wait for it in this thread."""
        done = threading.Event()
        kept: list[Any] = []
        self._start(question, kept, done.set)
        return self._answer(kept) if done.wait(most_us / 1_000_000) else None

    async def aask(self, row: Row, question: Question, most_us: int) -> Reply | None:  # noqa: ARG002 - as above
        """Ask it: a coroutine function in this task, any other in a thread."""
        try:
            async with asyncio.timeout(most_us / 1_000_000):
                if iscoroutinefunction(self._fn):
                    try:
                        return self._read(await self._fn(question))
                    except Exception as error:  # noqa: BLE001 - who cannot say yes has not said it
                        raise self._failed(error) from None
                loop, done = asyncio.get_running_loop(), asyncio.Event()
                kept: list[Any] = []

                def wake() -> None:
                    if not loop.is_closed():
                        loop.call_soon_threadsafe(done.set)

                self._start(question, kept, wake)
                await done.wait()
                return self._answer(kept)
        except TimeoutError:
            return None

    def _start(self, question: Question, kept: list[Any], done: Callable[[], object]) -> None:
        context = contextvars.copy_context()

        def work() -> None:
            try:
                if iscoroutinefunction(self._fn):
                    kept.append(context.run(asyncio.run, self._fn(question)))
                else:
                    kept.append(context.run(self._fn, question))
            except BaseException as error:  # noqa: BLE001 - it is said in the thread that asked
                kept.append(self._failed(error))
            done()

        threading.Thread(target=work, name="bursar-approver", daemon=True).start()

    def _answer(self, kept: list[Any]) -> Reply | None:
        if isinstance(kept[0], UnableError):
            raise kept[0]
        return self._read(kept[0])

    def _read(self, said: Any) -> Reply | None:
        if said is None or isinstance(said, Reply):
            return said
        if said is True or said is False:
            return Reply(said)
        raise UnableError(f"{self.name} returned {type(said).__name__}, which is neither True, False, None nor a Reply")

    def _failed(self, error: BaseException) -> UnableError:
        return UnableError(f"{self.name} raised {type(error).__name__}")


def named(path: str) -> Function:
    """The approver that "python:module:function" names. Raises `UnableError` where there is none."""
    _, module, name = path.split(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UnableError(f"{path} cannot be loaded ({error})") from None
    if not callable(found):
        raise UnableError(f"{path} is no function")
    return Function(found)
