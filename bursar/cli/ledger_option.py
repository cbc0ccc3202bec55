"""The option that every command about a ledger has, and the file that it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def read_ledger(value: str) -> Path:
    """The file that an option names, written as `BURSAR_LEDGER` is. Raises `ConfigError`."""
    from bursar.settings.config import parse_ledger

    return parse_ledger(value, "--ledger or BURSAR_LEDGER")


LedgerOption = Annotated[
    Path | None,
    typer.Option(help="The ledger file (BURSAR_LEDGER).", envvar="BURSAR_LEDGER", parser=read_ledger, metavar="PATH"),
]


def ledger_path(given: Path | None) -> Path:
    """The file that was named, else that of bursar.toml, else the user's own. Raises `ConfigError`."""
    from bursar.ledger_file import default_ledger_path
    from bursar.settings.config import read_settings

    return given or read_settings({}).ledger or default_ledger_path()
