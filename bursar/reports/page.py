"""The report as one page that loads nothing: three charts and the table. Every text of the ledger is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from bursar.reports.charts import COLOURS, Bar, bars, stacked
from bursar.reports.costs import per_outcome
from bursar.words.money import show_usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bursar.reports.costs import CostTable
    from bursar.words.rows import DayTokens, SessionCost, SpendRow

OTHERS: Final = "others"
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #66717f; --line: #d9dee5; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b3; --line: #36404c; --paper: #151a21; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .4rem; } p { color: var(--soft); }
svg { width: 100%; height: auto; min-width: 36rem; overflow: visible; }
.axis { fill: var(--soft); font-size: 12px; } .grid { stroke: var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
tr.total { font-weight: 600; }
.scroll { overflow-x: auto; }
.wide { width: max-content; min-width: 100%; max-width: calc(100vw - 2rem); margin-left: 50%;
  transform: translateX(-50%); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1rem; padding: 0; margin: .3rem 0; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; vertical-align: -1px; }
"""
_PALETTE: Final = ("#3572b0", "#e08b3c", "#4f9d69", "#b5546f", "#8a6fc4", "#3aa3a8", "#a98b4b", "#8a94a3")
"""Told apart by people who see red and green alike, on white and on black."""


def page(
    title: str,
    when: str,
    by: str,
    table: CostTable,
    tokens: Sequence[DayTokens],
    models: Sequence[SpendRow],
    sessions: Sequence[SessionCost],
    notes: Sequence[str] = (),
    owners: Mapping[str, str] | None = None,
    outcomes: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Make the page. `tokens` are of each feature on each day, `models` the report by model, `sessions` the dearest.

    `notes` are sentences below the table; `owners` are those of workflows, `outcomes` count what came of each key.
    """
    style = _STYLE + "".join(
        f".c{number} {{ fill: {colour}; background: {colour}; }}\n" for number, colour in enumerate(_PALETTE)
    )
    total = table.total
    lead = (
        f"{when}: {show_usd(total.nusd)} · {total.requests:,} requests · {total.input_tokens + total.output_tokens:,} "
        f"tokens · {total.retries:,} retries · {total.unpriced:,} without a price"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{style}</style><h1>{escape(title)}</h1><p>{escape(lead)}</p>"
        f"<h2>Tokens per feature and day</h2>{_tokens(tokens)}"
        f"<h2>Latency per model: median and 95th percentile</h2>{_latency(models)}"
        f"<h2>Cost per session: the dearest</h2>{_sessions(sessions)}"
        f'<h2>By {escape(by)}</h2><div class="scroll wide">{_table(table, by, owners or {}, outcomes or {})}</div>'
        f"{''.join(f'<p>{escape(note)}</p>' for note in notes)}</html>"
    )


def _tokens(rows: Sequence[DayTokens]) -> str:
    if not rows:
        return "<p>no tokens in this time</p>"
    days = sorted({row.day for row in rows})
    sums: dict[str, int] = {}
    for row in rows:
        sums[row.feature] = sums.get(row.feature, 0) + row.tokens
    largest = sorted(sums, key=lambda feature: (-sums[feature], feature))
    kept = largest if len(largest) <= COLOURS else largest[: COLOURS - 1]
    values = {name: dict.fromkeys(days, 0) for name in [*kept, OTHERS]}
    for row in rows:
        values[row.feature if row.feature in kept else OTHERS][row.day] += row.tokens
    parts = [(name, list(of_day.values())) for name, of_day in values.items() if any(of_day.values())]
    return stacked(days, parts, _count, "tokens per feature and day")


def _latency(rows: Sequence[SpendRow]) -> str:
    found = [
        Bar(row.key, (row.p50_us, row.p95_us), f"{row.p50_us / 1e6:.2f} / {row.p95_us / 1e6:.2f} s")
        for row in rows
        if row.p50_us is not None and row.p95_us is not None
    ]
    if not found:
        return "<p>no call has ended well in this time</p>"
    return bars(found[:15], ["median", "95th percentile"], "latency per model")


def _sessions(rows: Sequence[SessionCost]) -> str:
    if not rows:
        return "<p>no call names a session: bursar.run(..., session=...)</p>"
    found = [Bar(row.session, (row.nusd,), f"{show_usd(row.nusd)} · {row.calls:,} calls") for row in rows]
    return bars(found[:15], ["cost"], "cost per session")


def _table(table: CostTable, by: str, owners: Mapping[str, str], outcomes: Mapping[str, Mapping[str, int]]) -> str:
    rows = [*table.rows, table.total]
    shares = [*(f"{share:.0%}" for share in table.shares), ""]
    columns = {
        by: [row.key for row in rows],
        "owner": [owners.get(row.key, "") for row in rows],
        "requests": [f"{row.requests:,}" for row in rows],
        "input": [_count(row.input_tokens) for row in rows],
        "cached": [_some(row.cache_read_tokens) for row in rows],
        "written": [_some(row.cache_write_tokens) for row in rows],
        "trimmed": [_some(row.trimmed_tokens) for row in rows],
        "output": [_count(row.output_tokens) for row in rows],
        "tools": [_some(row.tool_calls) for row in rows],
        "retries": [f"{_some(row.retries)} {row.retry_reason or ''}".strip() for row in rows],
        "batch": [_some(row.batch) for row in rows],
        "median in": [_tokens_of(row.p50_input) for row in rows],
        "p95 in": [_tokens_of(row.p95_input) for row in rows],
        "median s": [_seconds(row.p50_us) for row in rows],
        "p95 s": [_seconds(row.p95_us) for row in rows],
        "cost": [show_usd(row.nusd) for row in rows],
        "per outcome": [per_outcome(row.nusd, outcomes.get(row.key, {})) for row in rows],
        "share": shares,
        "no price": [_some(row.unpriced) for row in rows],
        "at bounds": [_some(row.bounded) for row in rows],
        "unmeasured": [_some(max(row.estimated, row.unmeasured)) for row in rows],
    }
    # As in the terminal: a column in which nothing stands is left out.
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    head = "".join(f"<th>{escape(name)}</th>" for name in kept)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in cells) for cells in zip(*kept.values(), strict=True)]
    body = "".join(f"<tr>{line}</tr>" for line in lines[:-1]) + f'<tr class="total">{lines[-1]}</tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _some(number: int) -> str:
    return _count(number) if number else ""


def _tokens_of(number: int | None) -> str:
    return "" if number is None else _count(number)


def _seconds(us: int | None) -> str:
    return "" if us is None else f"{us / 1_000_000:.2f}"


def _count(number: float) -> str:
    return f"{number / 1_000_000:,.1f}M" if number >= 1_000_000 else f"{number:,.0f}"
