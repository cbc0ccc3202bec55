"""The commands by their names, and an application of all or of one of them: loading the others takes a while."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bursar.cli.console import complain

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMANDS: Final = {
    "demo": "demo", "replay": "replay", "report": "report", "explain": "explain", "sessions": "sessions",
    "statusline": "statusline", "trace": "trace", "prices": "prices", "import": "imports", "reconcile": "reconcile",
    "whatif": "whatif", "ready": "ready", "limits": "limits", "approvals": "approvals", "doctor": "doctor",
    "forget": "forget",
}  # fmt: skip
"""In which module of this room each command is."""
_HELP = """Runtime guards and a cost ledger for LLM agents. Without a command: today against the limits.

Exit codes: 0 fine, 1 nothing found or something wrong in the input, 2 wrong usage, 130 interrupted.
"""


def application(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """An application with these commands."""
    app = typer.Typer(
        name="bursar", help=_HELP, invoke_without_command=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    for name in names:
        import_module(f"bursar.cli.{COMMANDS[name]}").register(app)
    app.callback(epilog="Begin with: bursar demo")(options)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"bursar {version('bursar')}")
        raise typer.Exit


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
