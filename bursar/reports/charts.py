"""Charts as SVG text, for a page that loads nothing: bars by day in parts, bars in a row, each with its numbers."""

from __future__ import annotations

from html import escape
from math import floor, log10
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH: Final = 720
_HEIGHT: Final = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 10, 28
_ROW: Final = 26
_NAME: Final = 200
COLOURS: Final = 8
"""Classes c0 to c7 of the page's style; what is beyond shares the last."""


class Bar(NamedTuple):
    """One bar of a row: its name, and its values with what is written beside them."""

    name: str
    values: tuple[float, ...]
    label: str


def stacked(
    days: Sequence[str], parts: Sequence[tuple[str, Sequence[float]]], shown: Callable[[float], str], title: str
) -> str:
    """Columns, one a day, each made of parts; hovering names day, part and value."""
    most = _round_up(max((sum(values) for values in zip(*(values for _, values in parts), strict=True)), default=0))
    room = WIDTH - _LEFT - _RIGHT
    step = room / max(1, len(days))
    height = _HEIGHT - _TOP - _BOTTOM
    marks = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        marks.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + room}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(shown(most * share))}</text>'
        )
    for column, day in enumerate(days):
        y, x = _TOP + height, _LEFT + column * step
        for number, (name, values) in enumerate(parts):
            value = values[column]
            if not value:
                continue
            tall = height * value / most
            y -= tall
            marks.append(
                f'<rect class="c{min(number, COLOURS - 1)}" x="{x + step * 0.1:.1f}" y="{y:.1f}" '
                f'width="{step * 0.8:.1f}" height="{tall:.1f}">'
                f"<title>{escape(f'{day} · {name}: {shown(value)}')}</title></rect>"
            )
        if column % max(1, len(days) // 8) == 0:
            marks.append(
                f'<text class="axis" x="{x + step / 2:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">'
                f"{escape(day[5:])}</text>"
            )
    return _svg(_HEIGHT, title, marks) + _legend([name for name, _ in parts])


def bars(rows: Sequence[Bar], names: Sequence[str], title: str) -> str:
    """Rows of bars, one value behind the other, the last one lightest; the label stands at the end."""
    most = max((value for row in rows for value in row.values), default=0) or 1
    room = WIDTH - _NAME - 150
    marks = []
    for number, row in enumerate(rows):
        y = number * _ROW + 4
        marks.append(
            f'<text class="axis" x="{_NAME - 8}" y="{y + 14}" text-anchor="end">{escape(_short(row.name))}'
            f"<title>{escape(row.name)}</title></text>"
        )
        for place in sorted(range(len(row.values)), key=lambda place: -row.values[place]):
            long = room * row.values[place] / most
            marks.append(
                f'<rect class="c{min(place, COLOURS - 1)}" x="{_NAME}" y="{y}" width="{max(1.0, long):.1f}" '
                f'height="{_ROW - 8}"><title>{escape(f"{row.name}: {row.label}")}</title></rect>'
            )
        end = _NAME + room * max(row.values, default=0) / most
        marks.append(f'<text class="axis" x="{end + 8:.1f}" y="{y + 14}">{escape(row.label)}</text>')
    legend = _legend(names) if len(names) > 1 else ""
    return _svg(max(1, len(rows)) * _ROW + 8, title, marks) + legend


def _round_up(value: float) -> float:
    # To a multiple of a power of ten whose half is as readable.
    if value <= 0:
        return 1
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _svg(height: int, title: str, marks: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">'
    return f'<div class="scroll">{head}{"".join(marks)}</svg></div>'


def _legend(names: Sequence[str]) -> str:
    items = "".join(
        f'<li><i class="c{min(number, COLOURS - 1)}"></i>{escape(_short(name))}</li>'
        for number, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
