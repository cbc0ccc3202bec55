"""`bursar report`: who spent what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bursar.cli.console import console, fail, folding, output, safe, text_table, warn
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.times import read_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.reports.costs import CostTable
    from bursar.tracing.cuts import Cuts
    from bursar.words.rows import SpendRow

_LONGEST_KEY: Final = 48
_EPILOG = (
    "Example: bursar report --by model --since 7d; bursar report --by feature,day; bursar report --html report.html. "
    "Exit codes: 0 fine, 1 nothing recorded yet, 2 usage."
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("report", epilog=_EPILOG)(report_command)


def report_command(
    by: Annotated[
        str,
        typer.Option(
            help="workflow, model, user, feature, env, owner, session, release, prompt_version, system_hash, "
            "tier, hour, day, week, month, ..., or two: feature,day",
        ),
    ] = "workflow",
    since: Annotated[str | None, typer.Option(help="7d, 24h, or a day: 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(help="As --since; that moment is not included.")] = None,
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="The table as one JSON object.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="All figures as comma-separated values.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table for a pull request or a wiki.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="A page of its own with three charts and the table.")
    ] = None,
) -> None:
    """Show what was spent, by any tag or time."""
    from bursar.reports.costs import as_csv, as_json, as_markdown, cost_table
    from bursar.tracing.rolled import Rolled
    from bursar.tracing.tags import TIMES

    if json + csv + markdown + (html is not None) > 1:
        raise typer.BadParameter("--json, --csv, --markdown and --html are one or another")
    path = ledger_path(ledger)
    begin, end = read_time(since) or 0, read_time(until)
    with folding() as note, Rolled(path, note) as reader:
        by_time = any(name in TIMES for name in by.split(","))
        table = cost_table(reader.spend_by(by, begin, end), by_time=by_time, nameless=_nameless)
    if not table.rows:
        fail(f"{path} has no model call in that time; run something under bursar.run(...), or `bursar demo`")
    rows = [*table.rows, table.total]
    owners = _owners(path, by)
    cuts = _cuts(path, begin, end) if table.total.trimmed_tokens else None
    if json:
        import orjson

        window = {} if cuts is None else {"window": cuts._asdict()}
        output(orjson.dumps(_with_owners(as_json(table, by), owners) | window).decode())
    elif csv:
        output(as_csv(table, by).rstrip("\n"))
    elif markdown:
        output(as_markdown(*_cells(rows, by, owners)))
    elif html is not None:
        _write_page(html, path, table, by, (begin, end), [] if cuts is None else [_said_of(cuts)], owners)
    else:
        show_table(rows, by, owners)
        if cuts is not None:
            output(_said_of(cuts))


def _nameless(key: str) -> bool:
    from bursar.tracing.tags import BETWEEN, NONE
    from bursar.words.records import UNATTRIBUTED

    # Of two tags, as in "unattributed · 2026-11-01", the first is what rows are read by.
    return key.partition(BETWEEN)[0] in (UNATTRIBUTED, NONE)


def _owners(ledger: Path, by: str) -> dict[str, str]:
    """Who owns the workflows of a table: as bursar.toml says, else as their calls did."""
    from bursar.settings.config import read_settings
    from bursar.tracing.owned import OwnerReader

    if by != "workflow":
        return {}
    with OwnerReader(ledger) as reader:
        found = reader.owners()
    declared = {
        name: table["owner"]
        for name, table in read_settings({"ledger": ledger}).workflows.items()
        if table.get("owner")
    }
    return found | declared


def _with_owners(plain: dict[str, Any], owners: dict[str, str]) -> dict[str, Any]:
    if plain["by"] == "workflow":
        for row in plain["rows"]:
            row["owner"] = owners.get(row["key"])
    return plain


def _cuts(ledger: Path, begin: int, end: int | None) -> Cuts | None:
    from bursar.tracing.cuts import CutReader

    with CutReader(ledger) as reader:
        found = reader.cuts(begin, end)
    return found if found.cuts else None


def _said_of(cuts: Cuts) -> str:
    from bursar.words.money import show_usd

    steps = "" if cuts.pays_after is None else f", which half of them earn back within {cuts.pays_after:,} steps"
    return (
        f"context window: {cuts.cuts:,} cuts took {_tokens(cuts.tokens)} tokens out of their requests and wrote the "
        f"rest anew for {show_usd(cuts.nusd)}{steps}"
    )


def show_table(rows: list[SpendRow], by: str, owners: dict[str, str] | None = None) -> None:
    """Print the table, leaving out columns in which nothing stands; `owners` are those of workflows."""
    columns, lines = _cells(rows, by, owners or {})
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    if sum(widths) + len(widths) > console().width:
        # Where there is no room, the two of a pair may stand below one another.
        pairs = [name.startswith("p50/") for name in columns]
        columns, *lines = (
            [cell.replace("/", "/ ") if pair else cell for cell, pair in zip(line, pairs, strict=True)]
            for line in (columns, *lines)
        )
    text_table(columns, lines, total=True)


def _write_page(
    target: Path,
    ledger: Path,
    table: CostTable,
    by: str,
    span: tuple[int, int | None],
    notes: list[str],
    owners: dict[str, str],
) -> None:
    from bursar.reports.page import page
    from bursar.tracing.charted import ChartReader

    with folding() as note, ChartReader(ledger, note) as reader:
        tokens = reader.tokens_per_feature(*span)
        models = reader.spend_by("model", *span)
        sessions = reader.dearest_sessions(*span)
    days = sorted({row.day for row in tokens})
    when = f"{days[0]} to {days[-1]}" if days else "in all"
    try:
        shown = page(f"bursar · {ledger.stem}", when, by, table, tokens, models, sessions, notes, owners)
        target.write_text(shown, encoding="utf-8")
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}")
    warn(f"written: {target}")


def _cells(rows: list[SpendRow], by: str, owners: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    from bursar.words.money import show_usd

    columns = {
        by: [safe(row.key, _LONGEST_KEY) for row in rows],
        "owner": [safe(owners.get(row.key, ""), 24) for row in rows],
        "calls": [f"{row.requests:,}" for row in rows],
        "input": [_tokens(row.input_tokens) or "0" for row in rows],
        "cached": [_tokens(row.cache_read_tokens) for row in rows],
        "written": [_tokens(row.cache_write_tokens) for row in rows],
        "trimmed": [_trimmed(row) for row in rows],
        "output": [_tokens(row.output_tokens) or "0" for row in rows],
        "tools": [_count(row.tool_calls) for row in rows],
        "retries": [_retries(row) for row in rows],
        "batch": [f"{row.batch / row.attempts:.0%}" if row.batch else "" for row in rows],
        "p50/p95 in": [_pair(row.p50_input, row.p95_input, _short) for row in rows],
        "p50/p95 s": [_pair(row.p50_us, row.p95_us, _seconds) for row in rows],
        "cost": [show_usd(row.nusd) for row in rows],
        "cost status": [_status(row) for row in rows],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    return list(kept), [list(line) for line in zip(*kept.values(), strict=True)]


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _tokens(number: int) -> str:
    # In full a year's tokens would take the room of the name they belong to.
    return f"{number / 1_000_000:,.1f}M" if number >= 1_000_000 else _count(number)


def _trimmed(row: SpendRow) -> str:
    # What was left out, and the share of what was sent that the cache had all the same.
    if not row.trimmed_tokens:
        return ""
    share = row.cache_read_tokens / row.input_tokens if row.input_tokens else 0
    return f"{_tokens(row.trimmed_tokens)} ({share:.0%} cached)"


def _pair(low: int | None, high: int | None, shown: Callable[[int], str]) -> str:
    return "" if low is None or high is None else f"{shown(low)}/{shown(high)}"


def _seconds(us: int) -> str:
    return f"{us / 1_000_000:.{2 if us < 100_000_000 else 0}f}"


def _short(number: int) -> str:
    if number < 1_000:
        return str(number)
    if number >= 999_500:
        return f"{number / 1_000_000:.1f}M"
    return f"{number / 1_000:.{1 if number < 9_950 else 0}f}k"


def _retries(row: SpendRow) -> str:
    if not row.retries:
        return ""
    resent = f" ({_tokens(row.resent_tokens)} in)" if row.resent_tokens else ""
    return f"{row.retries:,}" + (f" {row.retry_reason}" if row.retry_reason else "") + resent


def _status(row: SpendRow) -> str:
    # Of what nothing else is said the cost is of counted tokens at list prices.
    doubts = (
        (row.unpriced, "unpriced"),
        (row.bounded, "bounds"),
        (max(row.estimated, row.unmeasured), "unmeasured"),
        (row.provider_priced, "provider's"),
    )
    return ", ".join(f"{number:,} {what}" for number, what in doubts if number) or "list"
