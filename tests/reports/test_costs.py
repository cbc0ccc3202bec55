"""The table of costs: order, total and shares, by arithmetic alone."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bursar.reports.costs import as_json, cost_table
from bursar.words.records import UNATTRIBUTED
from bursar.words.rows import SpendRow

KEYS = [
    "key", "requests", "attempts", "errors", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "tool_calls", "retries", "retry_reason", "p50_us", "p95_us", "nusd",
    "unpriced", "unmeasured", "clamped", "resent_tokens", "trimmed_tokens", "batch", "p50_input", "p95_input",
    "list_priced", "bounded", "estimated", "provider_priced", "usd",
]  # fmt: skip


def row(key: str, nusd: int, **changes: Any) -> SpendRow:
    return SpendRow(key, 2, 3, 1, 100, 10, 50, 5, 4, 6, 1, "timeout", 7, 9, nusd, 1, 0, 1, 40, 30)._replace(**changes)


def test_what_nobody_named_comes_first_then_the_dearest() -> None:
    """`unattributed` however cheap it is; equal costs by name, so that two reports are the same."""
    rows = [row("b", 5), row("dear", 50), row(UNATTRIBUTED, 1), row("a", 5)]
    assert [one.key for one in cost_table(rows).rows] == [UNATTRIBUTED, "dear", "a", "b"]
    assert cost_table(rows) == cost_table(rows[::-1])


def test_where_all_is_attributed_there_is_no_empty_row() -> None:
    """The bucket of the nameless is shown where something is in it."""
    assert [one.key for one in cost_table([row("a", 5)]).rows] == ["a"]


def test_the_total_adds_up_what_can_be_added() -> None:
    """Counts, tokens and money; percentiles and reasons of groups do not add, and stay unknown."""
    total = cost_table([row("a", 5), row("b", 7)]).total
    assert total == SpendRow("total", 4, 6, 2, 200, 20, 100, 10, 8, 12, 2, None, None, None, 12, 2, 0, 2, 80, 60)


def test_nothing_is_a_table_too() -> None:
    """No rows, a total of zero, no shares."""
    table = cost_table([])
    assert (table.rows, table.shares, table.total.nusd) == ((), (), 0)


def test_shares_of_nothing_are_nothing() -> None:
    """Where no price was known no row has a share."""
    assert cost_table([row("a", 0), row("b", 0)]).shares == (0.0, 0.0)


@given(st.lists(st.integers(0, 2**53), max_size=20))
def test_whatever_the_amounts_the_rows_make_the_total(amounts: list[int]) -> None:
    """No row is lost, none is added, and shares are of one whole."""
    table = cost_table([row(f"r{number}", amount) for number, amount in enumerate(amounts)])
    assert sorted(one.nusd for one in table.rows) == sorted(amounts)
    assert table.total.nusd == sum(amounts)
    assert sum(table.shares) == 0 or abs(sum(table.shares) - 1) < 1e-9
    assert list(table.shares) == sorted(table.shares, reverse=True)


def test_as_json_the_keys_are_stable_and_money_is_exact() -> None:
    """Dollars as decimal text beside whole nano-dollars, null for unknown, each row with its share."""
    table = cost_table([row("a", 1), row("b", 3, p50_us=None, p95_us=None, retry_reason=None)])
    data = json.loads(json.dumps(as_json(table, "model")))
    assert list(data) == ["by", "rows", "total"]
    assert data["by"] == "model"
    assert list(data["total"]) == KEYS
    first, second = data["rows"]
    assert list(first) == [*KEYS, "share"]
    assert (first["key"], first["usd"], first["share"], first["p50_us"]) == ("b", "0.000000003", 0.75, None)
    assert (second["nusd"], second["share"], second["retry_reason"]) == (1, 0.25, "timeout")
    assert Decimal(data["total"]["usd"]) * 10**9 == data["total"]["nusd"] == 4


def test_reports_need_no_clock_file_or_database() -> None:
    """Neither is loaded with them."""
    code = (
        "import sys; import bursar.reports.costs, bursar.reports.steps; "
        "print([name for name in ('apsw', 'sqlite3', 'asyncio', 'socket', 'rich', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
