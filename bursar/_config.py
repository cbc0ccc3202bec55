"""Settings of the process: what `configure` was told, else the environment, else the defaults."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bursar._errors import ConfigError
from bursar._money import parse_count, parse_usd

if TYPE_CHECKING:
    from collections.abc import Mapping

MODES: Final = ("enforce", "observe")
LOST_CONTEXT: Final = ("allow", "deny")
_COUNT = re.compile(r"[0-9]{1,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """What applies to every run of the process.

    ledger: the ledger file, None for the user data directory. mode: "enforce", or "observe" where guards judge
    and record but never act. default_usd, default_model_calls: the budget of a run that names none. require: the
    tags that every call must have, else it raises `Unattributed`. lost_context: "allow" or "deny" for a call on a
    thread that has lost the context of an open run.
    """

    ledger: Path | None = None
    mode: str = "enforce"
    env: str = "development"
    release: str | None = None
    default_usd: str = "5"
    default_model_calls: int = 200
    require: tuple[str, ...] = ()
    lost_context: str = "allow"


def read_settings(given: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
    """Merge what was given with `BURSAR_*`, and check it.

    Raises `ConfigError` that names the argument or the variable and its value.
    """
    known = {field.name for field in fields(Settings)}
    for name in given:
        if name not in known:
            raise ConfigError(f"configure({name}=...) is not a setting; the settings are {', '.join(sorted(known))}")
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for name in known:
        variable = f"BURSAR_{name.upper()}"
        if name in given:
            values[name] = _checked(name, given[name], name)
        elif variable in environ:
            values[name] = _from_text(name, environ[variable], variable)
    return Settings(**values)  # type: ignore[arg-type]  # each value was checked by its name


def _from_text(name: str, text: str, variable: str) -> object:
    if name == "default_model_calls":
        if not _COUNT.fullmatch(text):
            raise ConfigError(f"{variable}={text[:60]!r} is not a whole number; write digits only, as in '200'")
        return _checked(name, int(text), variable)
    return _checked(name, text, variable)


def _checked(name: str, value: object, shown: str) -> object:
    if name == "default_usd":
        parse_usd(value, shown)
        return str(value)
    if name == "default_model_calls":
        return parse_count(value, shown)
    if name == "mode" and value not in MODES:
        raise ConfigError(f"{shown}={value!r} is not a mode; the modes are {' and '.join(MODES)}")
    if name == "lost_context" and value not in LOST_CONTEXT:
        raise ConfigError(f"{shown}={value!r} is neither {' nor '.join(LOST_CONTEXT)}")
    if name == "require":
        return _tag_names(value, shown)
    if name == "ledger":
        return _ledger_path(value, shown)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{shown}={value!r} is empty or no text")
    return value


def _tag_names(value: object, shown: str) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ConfigError(f"{shown}={value!r} is no list of tags, as in ['workflow', 'owner']")
    return tuple(dict.fromkeys(names))


def _ledger_path(value: object, shown: str) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigError(f"{shown}={value!r} is not the path of a file")
    if "://" in value and not value.startswith("sqlite:///"):
        scheme = value.split("://", 1)[0]
        raise ConfigError(f"{shown}={scheme}://...: a ledger is a file so far; write sqlite:///path or a plain path")
    return Path("/" + value.removeprefix("sqlite:///").lstrip("/") if "://" in value else value)
