"""Chains that try something else when one thing fails: which of them is being started.

LangChain says a chain's name, which may be the user's own. Who starts it is on the stack all the same: its callback
manager, which is calling us, was called by it. Where a batch starts several in tasks of their own it is not, and there
the name has to do.
"""

from __future__ import annotations

import sys
from typing import Final

from langchain_core.callbacks import manager
from langchain_core.runnables import RunnableWithFallbacks

_NAME: Final = RunnableWithFallbacks.__name__
_FALLBACKS: Final = RunnableWithFallbacks.invoke.__code__.co_filename
_MANAGERS: Final = manager.handle_event.__code__.co_filename
_DEEPEST: Final = 12
"""Frames between here and who starts the chain: fewer, in all versions that are supported."""


def falls_back(name: str | None) -> bool:
    """Whether the chain that we are told of just now is one; `name` is what it is called."""
    if name == _NAME:
        return True
    frame = sys._getframe(1)  # noqa: SLF001 - the language's own door to the stack
    managed = False
    for _ in range(_DEEPEST):
        file = frame.f_code.co_filename
        if managed and file != _MANAGERS:
            return file == _FALLBACKS
        managed = managed or file == _MANAGERS
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
