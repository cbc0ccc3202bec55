"""How a summary of what a window leaves out is had: of a function, or of a model at the end of what it has read."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from bursar.guards.cuts import SUMMARY_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.runs.run import Run
    from bursar.words.events import ModelRequest

INSTRUCTION: Final = (
    "The older part of this conversation is about to be left out. Write down what will still be needed of it: the "
    "task and its constraints, what was done and decided, facts, names, numbers and paths that were found, what "
    "failed, what remains to be done. Plain text, at most 600 words, nothing else."
)
_REASONING_ROOM: Final = 4_096


class Apart:
    """A summary is made apart: its failure fails nothing, and leaves no mark on the run. `failed` is told of it."""

    def __init__(self, run: Run | None, failed: Callable[[Exception], None]) -> None:
        self._run, self._failed = run, failed
        self._reason = None if run is None else run.stop_reason

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if self._run is not None:
            self._run.stop_reason = self._reason
        self._failed(error)
        return True


def at_once(summary: Any, doors: str) -> Any:
    """What a function of the user returned, where nobody can await it. Raises `TypeError` that names the `doors`."""
    if not isawaitable(summary):
        return summary
    close = getattr(summary, "close", None)
    if close is not None:
        close()
    raise TypeError(f"a function that has to be awaited makes summaries for {doors} only")


def worded(text: str) -> str:
    """A summary that a model wrote. Raises `ValueError` where it has no words."""
    if not text.strip():
        raise ValueError("the model answered nothing")
    return text


def summary_cap(request: ModelRequest) -> int:
    """The output cap of a question for a summary: its words, and what the model thinks before."""
    return SUMMARY_TOKENS + (request.thinking or (_REASONING_ROOM if request.reasoning else 0))
