"""What a person is shown of a question: harmless whatever is in it, its head and its tail, and what was left out."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.approvals.grants import EACH_FACTOR
from bursar.words.harmless import safe
from bursar.words.money import MAX_AMOUNT, show_usd

if TYPE_CHECKING:
    from bursar.approvals.rows import Row

_HEAD, _TAIL = 16, 8
"""Lines that are shown of long arguments."""
_LONGEST_LINE: Final = 180
_ENDS: Final = (110, 50)


class Shown(NamedTuple):
    """Lines for a person, and whether something was left out of them."""

    lines: list[str]
    cut: bool


def shown(row: Row) -> Shown:
    """The lines of a question. Text of the call stands behind a bar: no line of it begins as a line of ours does."""
    arguments, cut = _arguments(row)
    lines = [
        f"bursar asks: {row.kind} {safe(row.name, 80)} · workflow {safe(row.workflow, 40)} · question {row.id[:8]}",
        f"why     {safe(row.why, 400)}",
        f"cost    {_cost(row)}",
    ]
    if row.left_nusd is not None:
        lines.append(f"budget  {_usd(row.spent_nusd)} spent, {_usd(row.left_nusd)} left")
    if row.short_nusd is not None:
        lines.append(f"lacks   {_usd(row.short_nusd)}: a yes raises the limit of {safe(row.limit_scope, 60)} by that")
    lines.append(f"gate    {safe('; '.join(json.loads(row.rules)), 200)}")
    strange = confusable(row.name)
    if strange:
        lines.append(f"note    the name has letters that look like others: {strange}")
    size = 0 if row.arguments is None else len(row.arguments)
    lines.append(f"what    {size:,} characters, hash {row.binding[:12]}{', cut' if cut else ''}")
    lines += [f"│ {line}" for line in arguments]
    return Shown(lines, cut)


def lasting(row: Row) -> str:
    """What a yes for a run or a tool covers."""
    if row.bound_nusd is None:
        return "each at an unknown price"
    return f"each up to {show_usd(min(MAX_AMOUNT, EACH_FACTOR * row.bound_nusd))}"


def confusable(name: str) -> str:
    """The letters of a name that are not ASCII, by their codes; empty where all are."""
    return " ".join(f"{letter}=\\u{{{ord(letter):x}}}" for letter in dict.fromkeys(name) if _strange(letter))


def _strange(letter: str) -> bool:
    return not letter.isascii() and unicodedata.category(letter).startswith("L")


def _cost(row: Row) -> str:
    sure = f" ({safe(row.sure, 160)})" if row.sure else ""
    if row.bound_nusd is None:
        return f"unknown{sure}"
    return f"{_usd(row.likely_nusd)} probably, {_usd(row.ceiling_nusd)} at most{sure}"


def _arguments(row: Row) -> tuple[list[str], bool]:
    if row.arguments is None:
        return ["(not kept any more)"], False
    try:
        text = json.dumps(json.loads(row.arguments), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        text = row.arguments
    lines, cut = [], not row.whole
    for line in text.split("\n"):
        short = _short(line)
        cut = cut or short is not line
        lines.append(safe(short, 10 * _LONGEST_LINE))
    left_out = len(lines) - _HEAD - _TAIL
    if left_out > 0:
        lines = [*lines[:_HEAD], f"... {left_out:,} lines are left out ...", *lines[-_TAIL:]]
        cut = True
    return lines, cut


def _short(line: str) -> str:
    if len(line) <= _LONGEST_LINE:
        return line
    head, tail = _ENDS
    return f"{line[:head]} ... {len(line) - head - tail:,} characters ... {line[-tail:]}"


def _usd(nusd: int | None) -> str:
    if nusd is None:
        return "unknown"
    return show_usd(nusd) if nusd >= 0 else f"-{show_usd(-nusd)}"
