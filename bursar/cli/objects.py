"""An object that is given on the command line as JSON."""

from __future__ import annotations

from typing import Any


def read_object(text: str, shown: str) -> dict[str, Any]:
    """Read a JSON object. Raises `ConfigError` that names the option and what stands there."""
    import orjson

    from bursar.words.errors import ConfigError

    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise ConfigError(f"{shown} {text[:60]!r} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{shown} {text[:60]!r} is no object with a tool's arguments")
    return found
