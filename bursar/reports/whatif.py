"""What the same tokens would have cost otherwise: with another model, tier, share of cached input, or other prices.

Both sides have the same tokens. What another model would have written, how often it would have been asked, and whether
its answers are any good is in no ledger.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.words.records import UNATTRIBUTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bursar.words.events import Usage
    from bursar.words.rows import Used

_WRITES: Final = ("cache_write_5m_tokens", "cache_write_30m_tokens", "cache_write_1h_tokens", "cache_write_12h_tokens")
_OFFLINE: Final = ("offline",)


class Change(NamedTuple):
    """What would be otherwise; None is as it was. cached: the share of input that is read from the cache, 0 to 1."""

    model: str | None = None
    tier: str | None = None
    cached: float | None = None
    prices: str | None = None


class Line(NamedTuple):
    """A workflow: calls, and nano-dollars as they were and as they would be. unpriced: calls left out on both sides."""

    workflow: str
    calls: int
    was_nusd: int
    would_nusd: int
    unpriced: int
    waited_for: int

    @property
    def nusd(self) -> int:
        """What would be more, below zero what would be less."""
        return self.would_nusd - self.was_nusd


def cached(usage: Usage, share: float | None) -> Usage:
    """The same input with this share of it read from the cache; what is not left to be written is not written."""
    if share is None:
        return usage
    read = round(usage.input_tokens * share)
    left = usage.input_tokens - read
    writes = {}
    for name in _WRITES:
        writes[name] = min(left, getattr(usage, name))
        left -= writes[name]
    return usage._replace(cache_read_tokens=read, **writes)


def lines(priced: Iterable[tuple[Used, int | None]]) -> tuple[list[Line], Line]:
    """Sum up attempts with what each would cost (None: unknown): lines and a total.

    `unattributed` comes first where it is not empty, then the largest change.
    """
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for used, would in priced:
        line = sums[used.workflow]
        line[0] += used.calls
        if used.nusd is None or would is None:
            line[3] += used.calls
            continue
        line[1] += used.nusd
        line[2] += would
        # Who is promised an answer at once, or is promised nothing that is known, waits for it.
        line[4] += used.calls if used.promise not in _OFFLINE else 0
    found = [Line(workflow, *numbers) for workflow, numbers in sums.items()]
    found.sort(key=lambda line: (line.workflow != UNATTRIBUTED, -abs(line.nusd), line.workflow))
    total = Line("total", *(sum(column) for column in zip(*sums.values(), strict=True))) if sums else None
    return found, total or Line("total", 0, 0, 0, 0, 0)


def unknowns(change: Change, total: Line) -> list[str]:
    """What the reckoning cannot know, in sentences."""
    found = []
    if change.model is not None:
        found.append(
            f"quality untested: whether {change.model} answers as well, as briefly and in as few turns is for an eval "
            "to say; its tokenizer counts the same text differently"
        )
    if change.tier == "batch":
        found.append(
            f"a batch answers within a day: {total.waited_for:,} of {total.calls:,} calls are not promised offline "
            '(promise="offline")'
        )
    elif change.tier is not None:
        found.append(f"whether {change.tier} has room for these calls, and how fast it is")
    if change.cached is not None:
        found.append("whether prompts begin alike often enough, and soon enough after each other, for so many reads")
    if total.unpriced:
        found.append(f"{total.unpriced:,} calls have no price, as they were or as they would be: they are left out")
    return found
