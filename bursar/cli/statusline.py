"""`bursar statusline`: one line for a coding agent."""

from __future__ import annotations

from typing import Annotated

import typer

_EPILOG = (
    'In Claude Code\'s settings.json: "statusLine": {"type": "command", "command": "bursar statusline"}. '
    "Exit code: always 0."
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("statusline", epilog=_EPILOG)(statusline_command)


def statusline_command(
    no_import: Annotated[
        bool, typer.Option("--no-import", help="Do not bring the transcript into the ledger behind the line's back.")
    ] = False,
) -> None:
    """Print context, growth, cost of the next turn and today for a coding agent, from its JSON on standard input.

    Each time, at most every 20 seconds, the session's transcript is imported in the background (see `bursar import`).
    """
    from bursar.cli.status import print_line

    print_line(importing=not no_import)
