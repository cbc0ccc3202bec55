"""`bursar report`: who spent what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bursar.cli.console import fail, folding, output, warn
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.spend_table import OWNER, cells, show_table, tokens
from bursar.cli.times import read_time

if TYPE_CHECKING:
    from bursar.reports.costs import CostTable
    from bursar.tracing.cuts import Cuts

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
    owners, outcomes = _owners(path, by), _outcomes(path, by, begin, end)
    cuts = _cuts(path, begin, end) if table.total.trimmed_tokens else None
    if json:
        import orjson

        window = {} if cuts is None else {"window": cuts._asdict()}
        output(orjson.dumps(_with_outcomes(_with_owners(as_json(table, by), owners), outcomes) | window).decode())
    elif csv:
        output(as_csv(table, by).rstrip("\n"))
    elif markdown:
        output(as_markdown(*cells(rows, by, owners, outcomes)))
    elif html is not None:
        _write_page(html, path, table, by, (begin, end), [] if cuts is None else [_said_of(cuts)], owners, outcomes)
    else:
        show_table(rows, by, owners, outcomes)
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
            row[OWNER] = owners.get(row["key"])
    return plain


def _outcomes(ledger: Path, by: str, begin: int, end: int | None) -> dict[str, dict[str, int]]:
    from bursar.tracing.outcomes import OutcomeReader

    with OutcomeReader(ledger) as reader:
        return reader.outcomes(by, begin, end)


def _with_outcomes(plain: dict[str, Any], outcomes: dict[str, dict[str, int]]) -> dict[str, Any]:
    if outcomes:
        for row in plain["rows"]:
            row["outcomes"] = outcomes.get(row["key"], {})
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
        f"context window: {cuts.cuts:,} cuts took {tokens(cuts.tokens)} tokens out of their requests and wrote the "
        f"rest anew for {show_usd(cuts.nusd)}{steps}"
    )


def _write_page(
    target: Path,
    ledger: Path,
    table: CostTable,
    by: str,
    span: tuple[int, int | None],
    notes: list[str],
    owners: dict[str, str],
    outcomes: dict[str, dict[str, int]],
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
        shown = page(f"bursar · {ledger.stem}", when, by, table, tokens, models, sessions, notes, owners, outcomes)
        target.write_text(shown, encoding="utf-8")
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}")
    warn(f"written: {target}")
