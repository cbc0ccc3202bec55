"""`bursar demo`: the main job in half a minute, no key needed."""

from __future__ import annotations

import typer

_EPILOG = "Example: bursar demo. It writes to the ledger that BURSAR_LEDGER names, else to one of its own."


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("demo", epilog=_EPILOG)(demo_command)


def demo_command() -> None:
    """Show the main job: fifty calls under a budget for ten, an agent stopped by its budget, and the books."""
    from bursar.demo import show

    show()
