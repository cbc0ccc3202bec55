"""What the guards remember of one thread of an agent: kept in the agent's own state, so that a checkpoint keeps it.

In the state is plain data; beside it lives what that data was made of, for as long as the process has room, so that no
step reads its whole history again. Each version of the data has a token of its own: a step that is done again, a
branch of the thread or another process finds the version that its state has, or makes it anew.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from operator import is_
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.trim import WindowMemory
from bursar.runs.loops import Conversation
from bursar.words.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_LIVE: Final = 256
"""Threads whose memory is kept ready; that of others is made anew of their state."""


class AgentMemory:
    """The loop guard's conversation and the window's cut of one thread, and how far its messages were read."""

    def __init__(self) -> None:
        self.version = 0
        self.loops = Conversation()
        self.window = WindowMemory()
        self._seen: Sequence[Any] | None = ()
        self._read, self._last = 0, ""

    def fresh(self, messages: Sequence[Any]) -> tuple[Sequence[Any], bool]:
        """The messages that were not read before; all, and True, where those that were are not there any more."""
        known = self._known(messages)
        self._seen, self._read = messages, len(messages)
        self._last = _id(messages, len(messages) - 1)
        return (messages, True) if known is None else (messages[known:], False)

    def _known(self, messages: Sequence[Any]) -> int | None:
        read = self._read
        if len(messages) < read:
            return None
        if self._seen is None:
            return read if _id(messages, read - 1) == self._last else None
        if all(map(is_, self._seen, messages)):
            return read
        # Other objects may say the same: a checkpoint has been read in between.
        same = all(
            one is other or (one.id is not None and one.id == other.id)
            for one, other in zip(self._seen, messages, strict=False)
        )
        return read if same else None

    def dump(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "version": self.version,
            "loops": self.loops.dump(),
            "window": self.window.dump(),
            "read": self._read,
            "last": self._last,
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> AgentMemory:
        """The memory that `dump` gave."""
        memory = cls()
        memory.version = data["version"]
        memory.loops, memory.window = Conversation.load(data["loops"]), WindowMemory.load(data["window"])
        memory._seen, memory._read, memory._last = None, data["read"], data["last"]
        return memory


class AgentMemories:
    """The memories of the threads of one middleware, by the token of their version."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: OrderedDict[str, AgentMemory] = OrderedDict()

    def take(self, kept: Mapping[str, Any] | None) -> tuple[AgentMemory, bool]:
        """The memory of this version, for a step that makes the next one; and whether it had to be made anew."""
        if not kept:
            return AgentMemory(), False
        with self._lock:
            live = self._live.pop(kept["token"], None)
        return (_loaded(kept), True) if live is None else (live, False)

    def find(self, kept: Mapping[str, Any]) -> AgentMemory:
        """The memory of this version, for steps beside each other that make no new one."""
        with self._lock:
            live = self._live.get(kept["token"])
            if live is None:
                live = self._live[kept["token"]] = _loaded(kept)
                self._trim()
            return live

    def keep(self, memory: AgentMemory) -> dict[str, Any]:
        """The next version as data for the state; the memory itself is kept ready."""
        memory.version += 1
        token = new_id()
        with self._lock:
            self._live[token] = memory
            self._trim()
        return {"token": token, **memory.dump()}

    def _trim(self) -> None:
        while len(self._live) > MOST_LIVE:
            self._live.popitem(last=False)


def _loaded(kept: Mapping[str, Any]) -> AgentMemory:
    try:
        return AgentMemory.load(kept)
    except (KeyError, TypeError, ValueError, AttributeError):
        # Written by a version that remembered something else: what it had seen is not known, and that stops nothing.
        memory = AgentMemory()
        memory.version = kept.get("version", 0)
        return memory


def newest(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of two states the newer version of each memory: what LangGraph is told to do where two are written."""
    kept = dict(one or {})
    for name, data in (other or {}).items():
        if name not in kept or data["version"] >= kept[name]["version"]:
            kept[name] = data
    return kept


def _id(messages: Sequence[Any], at: int) -> str:
    return str(getattr(messages[at], "id", None)) if 0 <= at < len(messages) else ""
