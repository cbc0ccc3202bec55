"""Why a call cost more than was held for it, by its row alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scripts.soak.books import Row

CAP_IGNORED = "the server ignored the cap"
INPUT = "input above its practical bound"
ATTACHED = "above their estimate"
DEARER = "dearer tokens than were held"
UNCAPPED = "no cap could be put in"


class Overrun(NamedTuple):
    """One of them: why, and by which part of its hold."""

    why: str
    row: Row
    beyond: float


def explain(row: Row, attached: str) -> Overrun:
    """Say why a row is an overrun; `attached` is what its request carried."""
    beyond = row.excess_nusd / row.held_nusd if row.held_nusd else 0.0
    if row.cap is None or "uncapped" in row.flags.split():
        return Overrun(UNCAPPED, row, beyond)
    if row.output_tokens > row.cap:
        return Overrun(CAP_IGNORED, row, beyond)
    if row.input_tokens > (row.held_tokens or 0) - row.cap:
        return Overrun(f"{attached} {ATTACHED}" if attached else INPUT, row, beyond)
    return Overrun(DEARER, row, beyond)


def table(found: Iterable[Overrun], calls: int) -> list[str]:
    """One line for each reason: how often, by how much."""
    overruns = list(found)
    lines = []
    for why, count in Counter(each.why for each in overruns).most_common():
        beyond = sorted(each.beyond for each in overruns if each.why == why)
        middle, most = beyond[len(beyond) // 2], beyond[-1]
        lines.append(f"{why}: {count} of {calls} calls, {middle:.1%} of the hold in the middle, {most:.1%} at most")
    return lines
