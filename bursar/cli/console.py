"""How the commands write: colour only on a terminal, nothing from a record that a terminal would obey."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO, TypeVar

from bursar.words.harmless import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console

T = TypeVar("T")
__all__ = [
    "complain", "console", "fail", "fits", "folding", "output", "progress", "safe", "text_table", "waiting", "warn",
]  # fmt: skip
_NARROWEST_NAME: Final = 14
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
    _write(sys.stdout, line)


def complain(message: str) -> None:
    """Write an error for a person on standard error."""
    _write(sys.stderr, f"error: {message}")


def warn(message: str) -> None:
    """Write a note for a person on standard error."""
    _write(sys.stderr, message)


def fail(message: str) -> NoReturn:
    """Say why there is nothing to show and exit with 1."""
    import typer

    complain(message)
    raise typer.Exit(1)


def _write(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    # At once: what comes by way of rich, or of another stream, stays in its order.
    stream.flush()


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, total: bool = False) -> None:
    """Print a table; the first column is text, the others are numbers; with `total` the last row is set apart."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    shown = console()
    widths, tight = _widths([list(column) for column in zip(columns, *rows, strict=True)], shown.width)
    for number, (name, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(name, justify="right" if number else "left", overflow="fold", width=width)
    for number, row in enumerate(rows):
        last = total and number == len(rows) - 2
        style = "bold" if total and number == len(rows) - 1 else None
        table.add_row(*(Text(cell) for cell in row), end_section=last, style=style)
    if tight:
        table.padding = 0
    shown.print(table)


def fits(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int, *, whole: bool = False) -> bool:
    """Whether a table has room without a word being broken; `whole`: without any cell taking a second line."""
    from rich.cells import cell_len

    sides = [list(column) for column in zip(columns, *rows, strict=True)]
    if whole:
        return sum(max(map(cell_len, side)) for side in sides) + len(sides) - 1 <= room
    return sum(_widths(sides, room)[0]) + len(sides) - 1 <= room


def _widths(columns: list[list[str]], room: int) -> tuple[list[int], bool]:
    """How wide each column is, and whether there is but one space between them.

    Numbers stay whole; what has words may take a second line, between two words, where the table is too wide, and then
    the names of the first column may be folded.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    has_words = [any(" " in cell for cell in column[1:]) for column in columns]
    # The widest of those that may give way gives first.
    giving = sorted((n for n in range(1, len(columns)) if has_words[n]), key=lambda n: least[n] - widths[n])
    least[0] = min(widths[0], _NARROWEST_NAME)
    for number in [*giving, 0]:
        over = sum(widths) + len(widths) - 1 - room
        widths[number] -= max(0, min(over, widths[number] - least[number]))
    return widths, sum(widths) + 2 * len(widths) - 1 > room


@contextmanager
def folding() -> Iterator[Callable[[int], None] | None]:
    """Say how far a large ledger is summed, on standard error and only on a terminal; the first time takes a while."""
    if not sys.stderr.isatty():
        yield None
        return
    with ExitStack() as shown:
        steps: list[int] = []
        advance: Callable[[int], None] | None = None

        def note(added: int) -> None:
            nonlocal advance
            steps.append(added)
            if len(steps) > 1 and advance is None:
                # Most often the first step is all: nothing is shown, nor rich loaded.
                advance = shown.enter_context(_spinner("calls summed"))
                added = sum(steps)
            if advance is not None:
                advance(added)

        yield note


@contextmanager
def _spinner(what: str) -> Iterator[Callable[[int], None]]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.completed:,} " + what), TimeElapsedColumn()]
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield partial(bar.advance, task)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is waited for, on standard error and only on a terminal."""
    if sys.stderr.isatty():
        with console(stderr=True).status(what):
            yield
    else:
        yield


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
