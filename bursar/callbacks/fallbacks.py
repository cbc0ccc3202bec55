"""Chains that try something else when one thing fails: which of them is being started.

LangChain says a chain's name, which may be the user's own. Who starts it is on the stack all the same: its callback
manager, which is calling us, was called by it. Only an awaited batch starts its chains in tasks of their own, where the
stack ends: it is told apart by a variable of its context, which those tasks inherit.
"""

from __future__ import annotations

import functools
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import manager
from langchain_core.runnables import RunnableWithFallbacks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

_FALLBACKS: Final = RunnableWithFallbacks.invoke.__code__.co_filename
_MANAGERS: Final = manager.handle_event.__code__.co_filename
_DEEPEST: Final = 12
"""Frames between here and who starts the chain: fewer, in all versions that are supported."""


class _Batch:
    """An awaited batch of a chain with fallbacks: before anything else it starts one chain for each of its inputs."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._started: set[UUID] = set()

    def starts(self, run_id: UUID) -> bool:
        """Whether it is the batch itself that starts this chain; several handlers may ask."""
        if run_id not in self._started and len(self._started) < self._size:
            self._started.add(run_id)
        return run_id in self._started


_batch: ContextVar[_Batch | None] = ContextVar("bursar_fallback_batch", default=None)


def falls_back(run_id: UUID) -> bool:
    """Whether the chain that we are told of just now is one."""
    frame = sys._getframe(1)  # noqa: SLF001 - the language's own door to the stack
    managed = False
    for _ in range(_DEEPEST):
        file = frame.f_code.co_filename
        if managed and file != _MANAGERS:
            return file == _FALLBACKS or _batched(run_id)
        managed = managed or file == _MANAGERS
        if frame.f_back is None:
            break
        frame = frame.f_back
    return _batched(run_id)


def _batched(run_id: UUID) -> bool:
    batch = _batch.get()
    return batch is not None and batch.starts(run_id)


def _mark_batches() -> None:
    original: Callable[..., Awaitable[list[Any]]] = RunnableWithFallbacks.abatch

    @functools.wraps(original)
    async def abatch(self: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        token = _batch.set(_Batch(len(inputs)))
        try:
            return await original(self, inputs, *args, **kwargs)
        finally:
            _batch.reset(token)

    RunnableWithFallbacks.abatch = abatch  # type: ignore[method-assign]


# Before any handler can be made: its first call may be such a batch.
_mark_batches()
