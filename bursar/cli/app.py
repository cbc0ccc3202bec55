"""The application: its commands, and how every error ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bursar.cli import (
    approvals,
    demo,
    doctor,
    explain,
    forget,
    imports,
    limits,
    prices,
    ready,
    reconcile,
    replay,
    report,
    sessions,
    statusline,
    trace,
    whatif,
)
from bursar.cli.console import complain

_HELP = """Runtime guards and a cost ledger for LLM agents. Without a command: today against the limits.

Exit codes: 0 fine, 1 nothing found or something wrong in the input, 2 wrong usage, 130 interrupted.
"""

app = typer.Typer(
    name="bursar", help=_HELP, invoke_without_command=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
for command in (
    demo,
    replay,
    report,
    explain,
    sessions,
    statusline,
    trace,
    prices,
    imports,
    reconcile,
    whatif,
    ready,
    limits,
    approvals,
    doctor,
    forget,
):
    command.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"bursar {version('bursar')}")
        raise typer.Exit


@app.callback(epilog="Begin with: bursar demo")
def options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command; without one, show today."""
    if context.invoked_subcommand is not None:
        return
    from bursar.cli.today import BEGIN, show_today

    if not show_today():
        typer.echo(context.get_help())
        complain(f"there is no ledger yet\n{BEGIN}")
        raise typer.Exit(1)


def run() -> None:
    """Run the application and end with its exit code."""
    from bursar.words.errors import BursarError, ConfigError

    try:
        app()
    except ConfigError as error:
        complain(str(error))
        sys.exit(2)
    except BursarError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read has left; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
