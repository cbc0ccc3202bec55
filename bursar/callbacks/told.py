"""Those whom LangChain has told of something before our handler refused it: nobody else tells them that it is over.

LangChain tells its handlers in turn. Where one of them raises, those behind it never hear of what it has refused, and
those in front of it never of its end: in their traces it would be pending for ever. Which they are is found on the
stack, once something is refused: the manager that is calling us is there, and has them in order.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackHandler

_DEEPEST: Final = 8
"""Frames between here and the manager: fewer, in all versions that are supported."""
_SKIPPED: Final = {
    "on_llm_error": "ignore_llm",
    "on_chain_error": "ignore_chain",
    "on_tool_error": "ignore_agent",
    "on_retriever_error": "ignore_retriever",
}


def tell(refusing: BaseCallbackHandler, end: str, error: BaseException, run_id: UUID, parent: UUID | None) -> None:
    """Tell those in front of a handler that a run has ended with what the handler raises; `end` is the callback for it.

    Never raises: it is their view of the run, and the run is stopped all the same. A handler whose callback is a
    coroutine cannot be told here.
    """
    for each in _before(refusing):
        callback = getattr(each, end, None)
        if callback is None or getattr(each, _SKIPPED[end], False) or inspect.iscoroutinefunction(callback):
            continue
        with contextlib.suppress(Exception):
            callback(error, run_id=run_id, parent_run_id=parent)


def _before(refusing: BaseCallbackHandler) -> Iterator[Any]:
    manager = _calling()
    if manager is None:
        return
    awaits = isinstance(manager, AsyncCallbackManager)
    for each in manager.handlers:
        if each is refusing:
            return
        # Where it awaits, those that are not inline are told after all that are.
        if each.run_inline or not awaits:
            yield each


def _calling() -> BaseCallbackManager | None:
    """The manager that has called us back."""
    frame = sys._getframe(1)  # noqa: SLF001 - the language's own door to the stack
    for _ in range(_DEEPEST):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        found = frame.f_locals.get("self")
        if isinstance(found, BaseCallbackManager):
            return found
    return None
