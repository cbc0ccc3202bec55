"""A `bursar.toml`: find it, parse it, know where each key stands. Every error names file, line and value."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bursar.words.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NAME: Final = "bursar.toml"
VARIABLE: Final = "BURSAR_CONFIG"
_LATER: Final = {"budget_store"}
"""In the plan and not in this version: refused, so that nobody relies on what is not there."""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_HEADER: Final = re.compile(r"""\s*(\[\[?)\s*((?:"[^"]*"|'[^']*'|[^\]"'])+?)\s*\]\]?\s*(#.*)?$""")
_PART: Final = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^."']+))\s*(?:\.|$)""")
_KEY: Final = re.compile(r"""\s*("[^"]+"|'[^']+'|[\w-]+)\s*[.=]""")


class File:
    """A parsed file, and where in it each key stands."""

    def __init__(self, path: Path) -> None:
        import tomllib

        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            self.content: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}); {VARIABLE} or {NAME} names it") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
        self._lines = _lines(text)

    def line(self, table: tuple[str, ...]) -> int:
        """The line that a table begins in."""
        return self._lines.get(table, 1)

    def error(self, table: tuple[str, ...], key: str | None, what: str) -> ConfigError:
        """A `ConfigError` about a key of a table, or about the table."""
        line = self._lines.get((*table, key) if key else table) or self._lines.get(table, 1)
        return ConfigError(f"{self.path}:{line}: {what}")

    def check_keys(self, table: tuple[str, ...], given: Mapping[str, Any], known: Iterable[str]) -> None:
        """Refuse a key that is not known, and name the one that was meant."""
        known = list(known)
        for key in given:
            if key in known:
                continue
            if key in _LATER:
                raise self.error(table, key, f"{key!r} is not in this version of bursar; nothing would act on it")
            import difflib

            near = difflib.get_close_matches(key, known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise self.error(table, key, f"{key!r} is not a setting of {'.'.join(table) or 'the file'}; {meant}")

    def table(self, name: str) -> dict[str, Any]:
        """A table of the file; empty where it has none."""
        found = self.content.get(name, {})
        if not isinstance(found, dict):
            raise self.error((), name, f"{name} is a table: write [{name}]")
        return found

    def tables(self, name: str) -> Iterable[tuple[tuple[str, ...], str, dict[str, Any]]]:
        """The tables `[name.x]`, with their paths."""
        for key, found in self.table(name).items():
            if not isinstance(found, dict):
                raise self.error((name,), key, f"[{name}] has tables: write [{name}.{key}]")
            yield (name, key), key, found

    def checked(self, table: tuple[str, ...], key: str, value: object, check: Callable[[object, str], Any]) -> Any:
        """What a check makes of a value; its error with file and line."""
        try:
            return check(value, key)
        except (ConfigError, TypeError) as error:
            raise self.error(table, key, str(error)) from None


def find_file(environ: Mapping[str, str], start: Path | None = None) -> Path | None:
    """The file that `BURSAR_CONFIG` names (empty: none), else the nearest `bursar.toml` from `start` upwards."""
    named = environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    try:
        start = (start or Path.cwd()).resolve()
    except OSError:
        # The working directory is gone.
        return None
    return next((path for place in (start, *start.parents) if os.path.isfile(path := place / NAME)), None)  # noqa: PTH113


def quoted(name: str) -> str:
    """A name as a key of a table."""
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Where each table and each key begins; of what stands there twice, the first."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            table = tuple((part[1] or part[2] or part[3] or "").strip() for part in _PART.finditer(header[2]))
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
                table = (*table, str(counts[header[2]]))
            found.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            found.setdefault((*table, key[1].strip("\"'")), number)
    return found
