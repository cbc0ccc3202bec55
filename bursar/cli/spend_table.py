"""The table of what was spent, as people read it: in a terminal of any width, and as plain cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.cli.console import console, fits, output, safe, text_table
from bursar.reports.costs import per_outcome
from bursar.words.money import show_count, show_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.words.rows import SpendRow

OWNER: Final = "owner"
_LONGEST_KEY: Final = 48
_SPARED: Final = ("trimmed", "written", "tools", "cached", OWNER)
"""What a narrow terminal is not shown, the first first; the other formats have all of it."""


def show_table(
    rows: list[SpendRow], by: str, owners: dict[str, str], outcomes: dict[str, dict[str, int]] | None = None
) -> None:
    """Print the table, leaving out columns in which nothing stands; `owners` are those of workflows.

    `outcomes` say of a key how many of each name came of it.
    Where there is no room, numbers are rounded, then the two of a pair stand below one another, then columns go.
    """
    room, left_out = console().width, list[str]()
    columns, lines = cells(rows, by, owners, outcomes)
    if not fits(columns, lines, room, whole=True):
        columns, lines = cells(rows, by, owners, outcomes, rounded=True)
    if not fits(columns, lines, room, whole=True):
        columns, lines = _parted(columns, lines)
    for name in _SPARED:
        if name in columns and not fits(columns, lines, room):
            left_out.append(name)
            place = columns.index(name)
            columns, *lines = ([*line[:place], *line[place + 1 :]] for line in (columns, *lines))
    text_table(columns, lines, total=True)
    if left_out:
        output(f"no room for: {', '.join(left_out)}; a wider terminal shows them, and so does --markdown")


def cells(
    rows: list[SpendRow],
    by: str,
    owners: dict[str, str],
    outcomes: dict[str, dict[str, int]] | None = None,
    *,
    rounded: bool = False,
) -> tuple[list[str], list[list[str]]]:
    """The heads of the columns in which anything stands, and the text of each row's cells."""
    count, size = (show_count, show_count) if rounded else (_full, tokens)

    def some(shown: Callable[[int], str], number: int) -> str:
        return shown(number) if number else ""

    columns = {
        by: [safe(row.key, _LONGEST_KEY) for row in rows],
        OWNER: [safe(owners.get(row.key, ""), 24) for row in rows],
        "calls": [count(row.requests) for row in rows],
        "input": [size(row.input_tokens) for row in rows],
        "cached": [some(size, row.cache_read_tokens) for row in rows],
        "written": [some(size, row.cache_write_tokens) for row in rows],
        "trimmed": [_trimmed(row) for row in rows],
        "output": [size(row.output_tokens) for row in rows],
        "tools": [some(count, row.tool_calls) for row in rows],
        "retries": [_retries(row, count) for row in rows],
        "batch": [f"{row.batch / row.attempts:.0%}" if row.batch else "" for row in rows],
        "p50/p95 in": [_pair(row.p50_input, row.p95_input, show_count) for row in rows],
        "p50/p95 s": [_pair(row.p50_us, row.p95_us, _seconds) for row in rows],
        "cost": [show_usd(row.nusd) for row in rows],
        "per outcome": [safe(per_outcome(row.nusd, (outcomes or {}).get(row.key, {})), 60) for row in rows],
        "cost status": [_status(row) for row in rows],
    }
    kept = {name: column for name, column in columns.items() if any(column)}
    return list(kept), [list(line) for line in zip(*kept.values(), strict=True)]


def _parted(columns: list[str], lines: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    pairs = [name.startswith("p50/") for name in columns]
    heads, *parted = (
        [cell.replace("/", "/ ") if pair else cell for cell, pair in zip(line, pairs, strict=True)]
        for line in (columns, *lines)
    )
    return heads, parted


def _full(number: int) -> str:
    return f"{number:,}"


def tokens(number: int) -> str:
    """Tokens in full, from a million on rounded."""
    # In full a year's tokens would take the room of the name they belong to.
    return f"{number / 1_000_000:,.1f}M" if number >= 1_000_000 else _full(number)


def _trimmed(row: SpendRow) -> str:
    # What was left out, and the share of what was sent that the cache had all the same.
    if not row.trimmed_tokens:
        return ""
    share = row.cache_read_tokens / row.input_tokens if row.input_tokens else 0
    return f"{tokens(row.trimmed_tokens)} ({share:.0%} cached)"


def _pair(low: int | None, high: int | None, shown: Callable[[int], str]) -> str:
    return "" if low is None or high is None else f"{shown(low)}/{shown(high)}"


def _seconds(us: int) -> str:
    return f"{us / 1_000_000:.{2 if us < 100_000_000 else 0}f}"


def _retries(row: SpendRow, count: Callable[[int], str]) -> str:
    if not row.retries:
        return ""
    resent = f" ({tokens(row.resent_tokens)} in)" if row.resent_tokens else ""
    return count(row.retries) + (f" {row.retry_reason}" if row.retry_reason else "") + resent


def _status(row: SpendRow) -> str:
    # Of what nothing else is said the cost is of counted tokens at list prices.
    doubts = (
        (row.unpriced, "unpriced"),
        (row.bounded, "bounds"),
        (max(row.estimated, row.unmeasured), "unmeasured"),
        (row.provider_priced, "provider's"),
    )
    return ", ".join(f"{number:,} {what}" for number, what in doubts if number) or "list"
