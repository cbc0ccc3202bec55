"""A conversation as the window sees it: who spoke, how large it is, which calls and results belong together.

No text: ids, roles and counts. Messages are added at the end and counted once.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Item(NamedTuple):
    """One message (or item of Responses).

    id: what it says, hashed. role: "system", "user", "assistant" or "tool"; a message with results of tools is "tool"
    whatever its API calls it. tokens: an estimate, its frame included. calls, results: ids of the tool calls that it
    asks for and answers. clearable: tokens that are gained when its results are cleared, 0 where nothing is. pinned:
    its whole turn stays.
    """

    id: str
    role: str
    tokens: int
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    clearable: int = 0
    pinned: bool = False


class Turn(NamedTuple):
    """Messages that are kept or dropped together: of the user, the answer of the model, all results of its calls."""

    start: int
    end: int
    pinned: bool


class History:
    """Messages in their order, with running sums of their tokens."""

    __slots__ = ("_sums", "_turns", "items")

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.items: list[Item] = []
        self._sums = [0]
        self._turns: list[Turn] | None = None
        for item in items:
            self.append(item)

    def __len__(self) -> int:
        return len(self.items)

    def append(self, item: Item) -> None:
        """Add a message at the end."""
        self.items.append(item)
        self._sums.append(self._sums[-1] + item.tokens)
        self._turns = None

    def truncate(self, length: int) -> None:
        """Forget the messages from this one on."""
        del self.items[length:]
        del self._sums[length + 1 :]
        self._turns = None

    def tokens(self, start: int = 0, end: int | None = None) -> int:
        """Tokens of the messages from `start` to `end`, which is not included."""
        return self._sums[len(self.items) if end is None else end] - self._sums[start]

    def head(self) -> int:
        """How many messages stay where they are: up to the first of the user, or where there is none, of the system."""
        for i, item in enumerate(self.items):
            if item.role == "user":
                return i + 1
        return next((i for i, item in enumerate(self.items) if item.role != "system"), len(self.items))

    def crossing(self, above: int) -> int:
        """How many messages there were when their tokens first exceeded `above`; all where they do not."""
        return min(bisect_right(self._sums, above), len(self.items))

    def turns(self) -> list[Turn]:
        """The turns after the head."""
        if self._turns is None:
            self._turns = self._find_turns()
        return self._turns

    def _find_turns(self) -> list[Turn]:
        items, head = self.items, self.head()
        starts, before = [], ""
        for i in range(head, len(items)):
            role = items[i].role
            if not before or _begins(before, role):
                starts.append(i)
            # What the system says belongs to what stands before it.
            before = before if role == "system" and before else role
        kept = {call for item in items[:head] for call in item.calls}
        turns = [Turn(start, stop, _pinned(items[start:stop], kept)) for start, stop in pairwise([*starts, len(items)])]
        return _whole(turns, items)

    def last_user(self, end: int) -> int:
        """The last message of the user among the first `end`; -1 where there is none."""
        return next((i for i in range(end - 1, -1, -1) if self.items[i].role == "user"), -1)

    def find(self, id_: str, near: int) -> int | None:
        """Where the message with this id stands, looked for first where it stood."""
        items = self.items
        if near < len(items) and items[near].id == id_:
            return near
        return next((i for i in range(min(near, len(items)) - 1, -1, -1) if items[i].id == id_), None)


def _begins(before: str, role: str) -> bool:
    # The model begins one after results, the user after either.
    if role == "assistant":
        return before == "tool"
    return role == "user" and before in ("assistant", "tool")


def _pinned(items: list[Item], kept: set[str]) -> bool:
    return any(item.pinned or not kept.isdisjoint(item.results) for item in items)


def _whole(turns: list[Turn], items: list[Item]) -> list[Turn]:
    """Join the turns between a call and a result that comes later: no cut may fall between them."""
    asked: dict[str, int] = {}
    joined: list[Turn] = []
    for turn in turns:
        joined.append(turn)
        for item in items[turn.start : turn.end]:
            for call in item.calls:
                asked[call] = turn.start
            first = min((asked[result] for result in item.results if result in asked), default=turn.start)
            while joined[-1].start > first:
                last = joined.pop()
                joined[-1] = Turn(joined[-1].start, last.end, joined[-1].pinned or last.pinned)
    return joined
