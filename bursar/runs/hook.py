"""Whether LangChain's callbacks reach a run without being passed: `bursar.callbacks.hook` sees to it when asked.

It is asked where a run opens, and only where LangChain's callback manager is loaded: without that nothing is called
back, and importing it is not ours to do.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

MANAGER: Final = "langchain_core.callbacks.manager"
_HOME: Final = "bursar.callbacks.hook"


def attach() -> None:
    """Register the hook, once in a process, if LangChain is there."""
    if MANAGER in sys.modules and _HOME not in sys.modules:
        # By name: that room stands on this one.
        import_module(_HOME)


def is_missing() -> bool:
    """Whether LangChain is there and the hook is not: it came after the run was opened."""
    return MANAGER in sys.modules and _HOME not in sys.modules
