"""Make values fit the ledger: text that UTF-8 and a column can hold, numbers that 64 bits can."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import orjson

LONGEST: Final = 200
"""Characters kept of any text of a record: names, ids and reasons, never content."""
_INT_MAX: Final = 2**63 - 1


class Json(str):
    """Text that is cut nowhere, since half of it could not be read; what is in it was made to fit."""

    __slots__ = ()


def to_json(items: dict[str, Any] | list[dict[str, Any]]) -> Json:
    """Encode values that fit."""
    return Json(orjson.dumps(items).decode())


def plain(value: Any) -> Any:
    """The value of an enumeration, else the value."""
    return value.value if isinstance(value, StrEnum) else value


def safe(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make every value of a row fit; most rows fit as they are."""
    for value in row:
        kind = value.__class__
        if (kind is str and (len(value) > LONGEST or not value.isascii() or "\0" in value)) or (
            kind is int and not -_INT_MAX <= value <= _INT_MAX
        ):
            return tuple(fit(value) for value in row)
    return row


def short(value: Any) -> Any:
    """As `fit`, quickly for a text that fits as it is."""
    if value.__class__ is str and len(value) <= LONGEST and value.isascii() and "\0" not in value:
        return value
    return fit(value)


def fit(value: Any) -> Any:
    """Make one value fit."""
    if isinstance(value, Json):
        return value
    if isinstance(value, str):
        return clean(value, LONGEST)
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_INT_MAX, min(_INT_MAX, value))
    return value


def clean(text: str, longest: int) -> str:
    """Cut a text and take out what SQLite and UTF-8 cannot hold."""
    return text[:longest].replace("\0", "").encode("utf-8", "replace").decode()


def json_safe(value: Any) -> Any:
    """Make a whole structure fit JSON."""
    if isinstance(value, dict):
        return {name: json_safe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return fit(value)
