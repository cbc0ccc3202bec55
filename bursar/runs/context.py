"""The context window of a run while it is open: what it remembers of each conversation in it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.guards.window import ContextWindow

MOST_CONVERSATIONS: Final = 64
"""Conversations of a run that are remembered; of one that was forgotten the cut is found again in its history."""


class ContextMemory:
    """A window and its memories, by conversation. `lock` is held while one of them is changed."""

    def __init__(self, window: ContextWindow) -> None:
        self.window = window
        self.lock = threading.Lock()
        self._memories: OrderedDict[str, Any] = OrderedDict()
        self._said: set[str] = set()

    def of(self, conversation: str, make: Callable[[], Any]) -> Any:
        """The memory of a conversation, made where there is none."""
        memory = self._memories.get(conversation)
        if memory is None:
            memory = self._memories[conversation] = make()
            if len(self._memories) > MOST_CONVERSATIONS:
                self._memories.popitem(last=False)
        self._memories.move_to_end(conversation)
        return memory

    def first(self, what: str) -> bool:
        """Whether this is said for the first time."""
        known = what in self._said
        self._said.add(what)
        return not known
