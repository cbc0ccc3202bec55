"""`bursar ready`: is a workflow fit for production?"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bursar.cli.console import output, safe
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.times import read_time

if TYPE_CHECKING:
    from bursar.reports.readiness import Check, Declared
    from bursar.settings.config import Settings

_EPILOG = (
    "Examples: bursar ready triage; bursar ready triage --strict (in CI). "
    "Exit codes: 0 ready, 1 something is missing (with --strict also a warning), 2 usage."
)
_SIGNS: Final = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("ready", epilog=_EPILOG)(ready_command)


def ready_command(
    workflow: Annotated[str, typer.Argument(help="The workflow, as in bursar.run(workflow).")],
    since: Annotated[str, typer.Option(help="What was seen since then counts: 7d, 24h, or a day.")] = "7d",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as missing too.")] = False,
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="The checks as one JSON object.")] = False,
) -> None:
    """Go through what a workflow should have before production: in bursar.toml, and in what the ledger has seen of it.

    What it cannot see: whether its answers are good, and calls that are not made through bursar.
    """
    from bursar.reports.readiness import FAIL, OK, checks, verdict
    from bursar.settings.config import read_settings
    from bursar.tracing.readiness import ReadinessReader

    settings, now_us = read_settings({}), time.time_ns() // 1_000
    with ReadinessReader(ledger_path(ledger)) as reader:
        facts = reader.facts(workflow, read_time(since) or 0, now_us)
    found = checks(workflow, _declared(settings, workflow), facts)
    state = verdict(found)
    if json:
        import orjson

        plain = {"workflow": workflow, "state": state, "checks": [check._asdict() for check in found]}
        output(orjson.dumps(plain).decode())
    else:
        _show(workflow, found, state)
        _show_accepted(settings, workflow, dict(facts.measured))
    if state == FAIL or (strict and state != OK):
        raise typer.Exit(1)


def _declared(settings: Settings, workflow: str) -> Declared:
    from bursar.reports.readiness import Declared

    table = settings.workflows.get(workflow, {})
    limits = [
        f"{limit.per} {limit.of or 'each'} per {limit.window}"
        for limit in settings.limits
        if limit.over.kind != "warn" and (limit.per != "workflow" or limit.of in (None, workflow))
    ]
    folder = settings.config.parent if settings.config else None
    path = table.get("eval")
    return Declared(table, tuple(limits), bool(folder and path and (folder / path).is_file()), len(settings.gates))


def _show(workflow: str, found: list[Check], state: str) -> None:
    for check in found:
        output(f"{_SIGNS[check.state]}  {check.name}: {safe(check.found, 120)}")
        if check.mend:
            output(f"        {safe(check.mend, 140)}")
    words = {"ok": "is ready", "warn": "is ready, with warnings", "fail": "is not ready"}
    output(f"{safe(workflow)} {words[state]}")


def _show_accepted(settings: Settings, workflow: str, measured: dict[str, int]) -> None:
    from bursar.settings.accepted import Accepted

    accepted = settings.workflows.get(workflow, {}).get("accepted")
    if isinstance(accepted, Accepted):
        due = accepted.due(datetime.now(UTC).date(), measured)
        until = f"until {accepted.revisit}" if accepted.revisit else "until its condition holds"
        output(
            f"its cost is accepted by {safe(accepted.owner)}: {safe(accepted.why, 80)} ({until})"
            + (f"; LOOK AGAIN: it {due}" if due else "")
        )
