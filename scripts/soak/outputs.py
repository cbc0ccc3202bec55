"""How the output of a command is read, and what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from typing import TYPE_CHECKING, Any, Final

from scripts.soak import onlookers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SIGNED: Final = ("growth", "difference", "change", "left_nusd")
"""Numbers that may be below zero, by a part of their name: what is left after an overrun, causes, parts of a change."""


def faults(reads: str, text: str, page: Path) -> list[str]:
    """What is wrong with an output."""
    try:
        return list(READERS[reads](text, page))
    except (ValueError, KeyError, OSError) as error:
        return [f"cannot be read as {reads}: {type(error).__name__} {str(error)[:200]}"]


def _json(text: str, _: Path) -> Iterator[str]:
    yield from _negative(json.loads(text), "")


def _lines(text: str, _: Path) -> Iterator[str]:
    values = [json.loads(line) for line in text.splitlines()]
    if not values:
        yield "has no line"
    for value in values:
        yield from _negative(value, "")


def _limits(text: str, _: Path) -> Iterator[str]:
    for each in json.loads(text):
        yield from _negative(each, "")
        if each.get("frozen") not in (True, False):
            yield f"does not say whether {each.get('name')} is frozen"


def _csv(text: str, _: Path) -> Iterator[str]:
    if not text:
        return
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows:
        yield "has a head and no row"
    yield from (f"has {row['nusd']} nano-dollars" for row in rows if int(row["nusd"]) < 0)


def _toml(text: str, _: Path) -> Iterator[str]:
    tomllib.loads(text)
    yield from ()


def _html(text: str, page: Path) -> Iterator[str]:
    if not text:
        return
    written = page.read_text(encoding="utf-8")
    if written.count("<svg") < 3 or "</html>" not in written or "<table" not in written:
        yield f"is a page of {written.count('<svg')} charts"


def _new(text: str, _: Path) -> Iterator[str]:
    found = json.loads(text)
    if found["new"] < 1:
        yield f"brought nothing: {found}"


def _none_new(text: str, _: Path) -> Iterator[str]:
    found = json.loads(text)
    if found["new"] or found["grown"]:
        yield f"brought the same things twice: {found}"


def _of(judge: Callable[[Any], list[str]]) -> Callable[[str, Path], Iterator[str]]:
    def read(text: str, _: Path) -> Iterator[str]:
        yield from judge(json.loads(text))

    return read


def _three_new(text: str, _: Path) -> Iterator[str]:
    found = json.loads(text)
    if found["new"] + found["grown"] != 3:
        yield f"is not the three answers that are more: {found}"


def _flame(_: str, page: Path) -> Iterator[str]:
    yield from onlookers.flame(page.with_name("flame.json"))


def _text(_: str, __: Path) -> Iterator[str]:
    yield from ()


def _negative(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in ("causes", "parts"):
                yield from _negative(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _negative(each, name)
    elif isinstance(value, int | float) and value < 0 and not any(sign in name for sign in _SIGNED):
        yield f"{name} is {value}"


READERS: Final[dict[str, Callable[[str, Path], Iterator[str]]]] = {
    "json": _json, "lines": _lines, "limits": _limits, "csv": _csv, "toml": _toml, "html": _html, "new": _new,
    "none new": _none_new, "text": _text, "three new": _three_new, "flame": _flame,
    "explained": _of(onlookers.explained), "nothing changed": _of(onlookers.unchanged),
    "readiness": _of(onlookers.ready), "whatif": _of(onlookers.whatif),
}  # fmt: skip
