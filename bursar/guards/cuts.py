"""Find a cut: which of the oldest messages are left out, and up to where results of tools are cleared.

A cut falls between two turns and never inside one. It is found from the messages that were there when it was made and
from nothing later, so that it can be found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from bursar.guards.history import History, Turn
    from bursar.guards.window import ContextWindow

NOTE_TOKENS: Final = 48
"""Tokens of the note that says how much was left out."""
SUMMARY_TOKENS: Final = 1_500
"""Tokens that a summary is given, and that a cut keeps free for it."""
_LEAST_ROOM: Final = 0.25
"""What a cut leaves of the room beside what always stays, where a long system prompt is more than half of all."""


class Cut(NamedTuple):
    """What is left out of a history: messages after its head and before `drop_to`, results before `clear_to`.

    `asked` is the message of the user that stays though it stands before `drop_to`; -1 where there is none.
    """

    drop_to: int = 0
    clear_to: int = 0
    asked: int = -1


class Gaps(NamedTuple):
    """A cut, spelled out: what of the messages before `drop_to` stays, which results are cleared, what that frees."""

    cut: Cut
    kept: tuple[int, ...]
    cleared: tuple[int, ...]
    messages: int
    dropped_tokens: int
    cleared_tokens: int
    results: frozenset[str]

    @property
    def tokens(self) -> int:
        """Tokens that are not sent."""
        return self.dropped_tokens + self.cleared_tokens


WHOLE: Final = Gaps(Cut(), (), (), 0, 0, 0, frozenset())


def spell_out(history: History, cut: Cut) -> Gaps:
    """Say what a cut leaves out, message by message."""
    items, head = history.items, history.head()
    drop_to = max(cut.drop_to, head)
    stays = {i for turn in history.turns() if turn.pinned for i in range(turn.start, min(turn.end, drop_to))}
    stays |= {i for i in range(head, drop_to) if items[i].role == "system" or i == cut.asked}
    dropped = [i for i in range(head, drop_to) if i not in stays]
    cleared = [
        i
        for i in range(head, cut.clear_to)
        if items[i].clearable and not items[i].pinned and (i >= drop_to or i in stays)
    ]
    return Gaps(
        cut,
        tuple(sorted(stays)),
        tuple(cleared),
        len(dropped),
        sum(items[i].tokens for i in dropped),
        sum(items[i].clearable for i in cleared),
        frozenset(result for i in [*dropped, *cleared] for result in items[i].results),
    )


def low_water(window: ContextWindow, trigger: int, fixed: int) -> int:
    """The tokens that a cut leaves; `fixed` are those that are always sent."""
    if window.strategy == "slide":
        return trigger
    low = max(int(trigger * window.share()), int(fixed + (trigger - fixed) * _LEAST_ROOM))
    return low - SUMMARY_TOKENS if window.strategy == "summarise" else low


def find_cut(history: History, end: int, window: ContextWindow, low: int, fixed: int, before: Cut) -> Cut:
    """Cut the first `end` messages down to `low` tokens, or as far as can be; nothing that was left out comes back.

    `fixed` are tokens that are sent with the messages (system prompt, schemas, the note).
    """
    turns = history.turns()
    asked = history.last_user(end)
    clear_to = before.clear_to
    if window.strategy in ("ladder", "clear_results"):
        clear_to = max(clear_to, _older_results(history, end, turns, window.keep_results))
    head = history.head()
    # The message that stayed because it was the latest may be followed by another one: then it goes now.
    cut = Cut(max(before.drop_to, head), clear_to, asked)
    over = fixed + history.tokens(0, end) - spell_out(history, cut).tokens - low
    if window.strategy == "clear_results":
        return cut
    drop_to = cut.drop_to
    for turn in turns:
        if over <= 0 or turn.end >= end:
            break
        if turn.start >= drop_to:
            over -= _freed(history, turn, cut)
            drop_to = turn.end
    return Cut(drop_to, clear_to, asked if head <= asked < drop_to else -1)


def fixed_cut(history: History, window: ContextWindow, trigger: int, fixed: int) -> Cut:
    """Find the cut by the history alone: it is the same until the history has grown by another step.

    The steps are as long as a cut makes room for. Each is cut as it was when the history first grew beyond it.
    """
    low = low_water(window, trigger, fixed + history.tokens(0, history.head()))
    over = fixed + history.tokens() - trigger
    if over <= 0:
        return Cut()
    if window.strategy == "slide":
        return find_cut(history, len(history), window, low, fixed, Cut())
    step = max(1, trigger - low)
    mark = trigger + (over - 1) // step * step
    return find_cut(history, history.crossing(mark - fixed), window, low, fixed, Cut())


def _freed(history: History, turn: Turn, cut: Cut) -> int:
    if turn.pinned:
        return 0
    freed = 0
    for i in range(turn.start, turn.end):
        item = history.items[i]
        if item.role != "system" and i != cut.asked:
            freed += item.tokens - (item.clearable if i < cut.clear_to else 0)
    return freed


def _older_results(history: History, end: int, turns: list[Turn], keep: int) -> int:
    """Before which message results are cleared: the newest `keep` and those of the last turn stay."""
    limit = next((turn.start for turn in reversed(turns) if turn.start < end), 0)
    for i in range(end - 1, -1, -1):
        keep -= len(history.items[i].results)
        if keep <= 0:
            return min(i, limit)
    return 0
