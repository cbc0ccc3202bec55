"""The arguments of a tool call in one form, so that the same call written differently is the same call.

Keys sorted, whole floats written as integers and text in Unicode's NFC, after RFC 8785 (JSON canonicalisation);
defaults are not filled in. What is no JSON is taken as the text it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from unicodedata import is_normalized, normalize

import orjson

_DEEPEST: Final = 64


def canonical(arguments: object) -> bytes:
    """One spelling of these arguments: a JSON text, or what it parses to."""
    value = parsed(arguments)
    if value.__class__ is str:
        value = value.strip()
    return _dump(_plain(value, 0))


def parsed(arguments: object) -> Any:
    """The arguments as data; a text that is no JSON stays a text."""
    if not isinstance(arguments, str | bytes):
        return arguments
    try:
        return orjson.loads(arguments)
    except ValueError:
        pass
    try:
        # Numbers past 64 bits, NaN: what Python's own reader takes and providers have been seen to send.
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments if isinstance(arguments, str) else arguments.decode(errors="replace")


def _plain(value: Any, depth: int) -> Any:
    kind = value.__class__
    if kind is str:
        return value if value.isascii() or is_normalized("NFC", value) else normalize("NFC", value)
    if kind is float and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        if depth > _DEEPEST:
            return str(value)
        return {_plain(str(key), depth): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return str(value) if depth > _DEEPEST else [_plain(item, depth + 1) for item in value]
    return value


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=_named)
    except (TypeError, ValueError):
        # A number past 64 bits or a lone surrogate.
        return json.dumps(value, sort_keys=True, default=_named).encode("ascii")


def _named(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else f"<{type(value).__qualname__}>"
