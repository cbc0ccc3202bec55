"""`bursar forget`: take a user out of the ledger."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bursar.cli.console import fail, output, safe
from bursar.cli.ledger_option import LedgerOption, ledger_path

_EPILOG = "Example: bursar forget --user u-17. Exit codes: 0 fine, 1 nothing of him or not confirmed, 2 usage."


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("forget", epilog=_EPILOG)(forget_command)


def forget_command(
    user: Annotated[str, typer.Option(help="The user's id, as it was given to bursar.run(user=...).")],
    ledger: LedgerOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The counts as one JSON object.")] = False,
) -> None:
    """Unlink a user from all rows and delete what was kept of his conversations; costs stay.

    Trace logs and backups are files of their own and are not touched.
    """
    from bursar.db import open_ledger
    from bursar.tracing.forget import count_user, forget_user
    from bursar.tracing.ledger import Ledger

    path = ledger_path(ledger)
    # One that is not there is not made.
    open_ledger(path, read_only=True).close()
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("forgetting cannot be undone; add --yes where nobody can be asked")
    writer = Ledger(path)
    try:
        found = count_user(writer, user)
        if not any(found):
            fail(f"the ledger {path} has nothing of user {safe(user)!r}")
        calls = f"{found.model_calls:,} model calls, {found.tool_calls:,} tool calls"
        what = f"{calls}, {found.runs:,} runs, {found.contents:,} kept contents"
        if not yes:
            typer.confirm(f"Forget user {safe(user)} in {path}: {what}?", abort=True, err=True)
        done = forget_user(writer, user)
    finally:
        writer.close()
    if json:
        import orjson

        output(orjson.dumps(done._asdict()).decode())
    else:
        output(f"forgotten: {what}. Trace logs and backups are not touched.")
