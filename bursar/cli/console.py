"""How the commands write: colour only on a terminal, nothing from a record that a terminal would obey."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import typer

from bursar._harmless import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

T = TypeVar("T")
__all__ = ["complain", "console", "fail", "output", "progress", "safe", "text_table", "warn"]
WIDTH: Final = 100
"""Columns where the output is no terminal."""


def console(*, stderr: bool = False, width: int = WIDTH) -> Console:
    """A console for this process's output or errors; `width` holds where it is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or not terminal
    return Console(
        file=stream,
        width=None if terminal else width,
        no_color=plain,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def output(line: str) -> None:
    """Write a line as it is; what comes from a record went through `safe` first."""
    typer.echo(line)


def complain(message: str) -> None:
    """Write an error for a person on standard error."""
    typer.echo(f"error: {message}", err=True)


def warn(message: str) -> None:
    """Write a note for a person on standard error."""
    typer.echo(message, err=True)


def fail(message: str) -> NoReturn:
    """Say why there is nothing to show and exit with 1."""
    complain(message)
    raise typer.Exit(1)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, total: bool = False) -> None:
    """Print a table; the first column is text, the others are numbers; with `total` the last row is set apart."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(columns):
        first = number == 0
        cells = [row[number] for row in rows]
        # Numbers stay whole; what has words may take a second line, between two words, where the table is too wide.
        words = not first and any(" " in cell for cell in cells)
        longest = max((len(word) for cell in cells for word in cell.split()), default=0)
        table.add_column(
            name,
            justify="left" if first else "right",
            no_wrap=not (first or words),
            overflow="fold",
            min_width=14 if first else longest if words else None,
        )
    for number, row in enumerate(rows):
        last = total and number == len(rows) - 2
        style = "bold" if total and number == len(rows) - 1 else None
        table.add_row(*(Text(cell) for cell in row), end_section=last, style=style)
    shown = console()
    # Asked on an endless line: on one of this console's width every table says that it fits.
    if shown.measure(table, options=shown.options.update(width=10_000)).minimum > shown.width:
        table.padding = 0
    shown.print(table)


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Count items as they pass, on standard error and only on a terminal; a bar where it is known how many come."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    beginning = SpinnerColumn() if total is None else BarColumn()
    columns: list[Any] = [beginning, TextColumn("{task.completed:,} " + what), TimeElapsedColumn()]
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)
