"""The tool calls that the answers of a run have asked for and that have not run yet, and those that ran before.

A function that is called by a loop does not know which of the provider's calls it is: its name and its arguments say.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bursar.words.tools import ToolAsk

_MOST_NAMES: Final = 256
_MOST_EACH: Final = 256
_MOST_REPEATS: Final = 4_096


class Asked(NamedTuple):
    """A call that an answer asked for: which answer, in which step; `counted` where it is counted already."""

    call_id: str
    step: int
    tool_call_id: str | None
    args_hash: str | None
    counted: bool


class Asks:
    """The book of one run, and of what is called outside of any. Bounded; safe for threads."""

    def __init__(self, outer: Asks | None = None) -> None:
        self._outer = outer
        self._lock = threading.Lock()
        self._open: OrderedDict[str, deque[Asked]] = OrderedDict()
        self._seen: OrderedDict[tuple[str, str], list[int | str | None]] = OrderedDict()

    def ask(self, call_id: str, step: int, asks: Iterable[ToolAsk]) -> None:
        """Note what an answer asks for."""
        with self._lock:
            for ask in asks:
                calls = self._open.setdefault(ask.name, deque(maxlen=_MOST_EACH))
                calls.append(Asked(call_id, step, ask.tool_call_id, ask.args_hash, counted=not ask.declared))
                self._open.move_to_end(ask.name)
            while len(self._open) > _MOST_NAMES:
                self._open.popitem(last=False)

    def claim(self, name: str, args_hash: str) -> tuple[Asked, bool] | None:
        """Take the call that this one must be, in this run or one around it; whether its arguments say so.

        Where no arguments are the same (a loop may add some or change their types) it is the first of the newest
        answer that asked for the tool.
        """
        found = self._claim(name, args_hash)
        return found if found is not None or self._outer is None else self._outer.claim(name, args_hash)

    def give_back(self, name: str, asked: Asked) -> None:
        """Undo a claim whose call was refused."""
        with self._lock:
            self._open.setdefault(name, deque(maxlen=_MOST_EACH)).appendleft(asked)

    def begin(self, name: str, args_hash: str) -> int:
        """How many calls with this name and these arguments began before this one."""
        with self._lock:
            known = self._seen.setdefault((name, args_hash), [0, None])
            self._seen.move_to_end((name, args_hash))
            if len(self._seen) > _MOST_REPEATS:
                self._seen.popitem(last=False)
            before = known[0]
            assert isinstance(before, int)
            known[0] = before + 1
            return before

    def end(self, name: str, args_hash: str, result_hash: str | None) -> bool | None:
        """Whether the result is the one that the last such call had; None where there was none, or none is known."""
        with self._lock:
            known = self._seen.get((name, args_hash))
            if known is None:
                return None
            last, known[1] = known[1], result_hash
            return None if last is None or result_hash is None else last == result_hash

    def _claim(self, name: str, args_hash: str) -> tuple[Asked, bool] | None:
        with self._lock:
            calls = self._open.get(name)
            if not calls:
                return None
            same = next((asked for asked in calls if asked.args_hash == args_hash), None)
            newest = calls[-1].call_id
            chosen = same or next(asked for asked in calls if asked.call_id == newest)
            calls.remove(chosen)
            return chosen, same is not None
