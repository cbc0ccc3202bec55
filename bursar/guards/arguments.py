"""The arguments of a tool call in one form, so that the same call written differently is the same call.

Keys sorted, whole floats written as integers and text in Unicode's NFC, after RFC 8785 (JSON canonicalisation);
defaults are not filled in. What is no JSON is told apart by what it is, and never run: see `words/canonical.py`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from bursar.words import canonical as _canonical
from bursar.words.canonical import Walk, number

_MOST_NODES: Final = 100_000
_MOST_TEXT: Final = 16 * 1024 * 1024
"""Bounds that no call of a model reaches: two long texts that differ in their middle are two calls."""


class _Spelling(Walk):
    """1.0 is 1, the key 1 is "1", and two broken characters are two."""

    __slots__ = ()
    lone = "backslashreplace"

    def real(self, value: float) -> Any:
        return number(int(value)) if value.is_integer() else super().real(value)

    def key(self, key: Any) -> str:
        return super().key(key).removeprefix("\0")


def canonical(arguments: object) -> bytes:
    """One spelling of these arguments: a JSON text, or what it parses to."""
    value = parsed(arguments)
    if value.__class__ is str:
        value = value.strip()
    return _canonical.canonical(value, nodes=_MOST_NODES, text=_MOST_TEXT, spelling=_Spelling).data


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
