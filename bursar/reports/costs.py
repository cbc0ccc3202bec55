"""The table of what was spent: rows in, rows with a total and shares out."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.words.money import show_usd, usd
from bursar.words.records import UNATTRIBUTED
from bursar.words.rows import SpendRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


_NO_SUMS: Final = ("key", "retry_reason", "p50_us", "p95_us", "p50_input", "p95_input")


class CostTable(NamedTuple):
    """Rows, what is nobody's first where there is any and then the dearest; their total; each row's share of it."""

    rows: tuple[SpendRow, ...]
    total: SpendRow
    shares: tuple[float, ...]


def cost_table(
    rows: Sequence[SpendRow], *, by_time: bool = False, nameless: Callable[[str], bool] = UNATTRIBUTED.__eq__
) -> CostTable:
    """Sort (`by_time`: by the key) and add up. The total has no percentiles: those of groups do not add.

    `nameless` says of a key that it is nobody's: such rows come first.
    """
    ordered = sorted(rows, key=lambda row: (not nameless(row.key), 0 if by_time else -row.nusd, row.key))
    total = _total(ordered)
    shares = tuple(row.nusd / total.nusd if total.nusd else 0.0 for row in ordered)
    return CostTable(tuple(ordered), total, shares)


def per_outcome(nusd: int, outcomes: Mapping[str, int]) -> str:
    """What each outcome has cost: all that was spent by how many there are, so that what failed is paid for as well."""
    return ", ".join(f"{show_usd(nusd // count)} {name}" for name, count in outcomes.items())


def as_json(table: CostTable, by: str) -> dict[str, Any]:
    """The table as plain data: `by`, `rows` (each with its `share` of the cost, 0 to 1), `total`.

    A row has the names of `SpendRow`'s fields, times in microseconds, `nusd` in whole nano-dollars, and `usd`, the
    same as decimal text. Null is what is not known; the total has no percentiles and no `share`.
    """
    rows = [_plain(row) | {"share": round(share, 6)} for row, share in zip(table.rows, table.shares, strict=True)]
    return {"by": by, "rows": rows, "total": _plain(table.total)}


def as_csv(table: CostTable, by: str) -> str:
    """The rows as comma-separated values with a head; a text that a spreadsheet would take for a formula is quoted.

    Columns are the fields of `SpendRow`, the first under the name of the tag; no total, so that columns add up.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    plain = [_plain(row) for row in table.rows]
    writer.writerow([by, *list(_plain(table.total))[1:]])
    writer.writerows([[_inert(value) for value in row.values()] for row in plain])
    return out.getvalue()


def as_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a pull request or a wiki; what would end a cell is escaped."""
    lines = [columns, [":--", *["--:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _inert(value: Any) -> Any:
    # What begins so is a formula to a spreadsheet.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _total(rows: Sequence[SpendRow]) -> SpendRow:
    sums: dict[str, Any] = {
        name: sum(getattr(row, name) for row in rows) for name in SpendRow._fields if name not in _NO_SUMS
    }
    nothing: dict[str, Any] = dict.fromkeys(_NO_SUMS[1:])
    return SpendRow(key="total", **nothing, **sums)


def _plain(row: SpendRow) -> dict[str, Any]:
    return row._asdict() | {"usd": f"{usd(row.nusd):f}"}
