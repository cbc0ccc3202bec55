"""Settings of the process: what `configure` was told, else the environment, else `bursar.toml`, else the defaults."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from bursar.settings.file import File, find_file
from bursar.words.errors import ConfigError
from bursar.words.money import parse_count, parse_usd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.settings.limits import LimitSpec
    from bursar.settings.prices import PriceSpec
    from bursar.settings.toml import GateSpec
    from bursar.words.tools import ToolRule

_CHOICES: Final = {
    "mode": ("enforce", "observe"),
    "on_store_error": ("deny", "allow"),
    "lost_context": ("allow", "deny"),
    "content": ("off", "masked", "full"),
    "durability": ("process", "power"),
}
STRUCTLOG: Final = "structlog"
"""The value of `trace` that means the application's own structlog."""
_AGE: Final = re.compile(r"([0-9]{1,5})([mhdw])", re.ASCII)
_DAY_S: Final = 86_400
_AGE_S: Final = {"m": 60, "h": 3_600, "d": _DAY_S, "w": 604_800}
_LEAST_S: Final = {"keep_content": 0, "max_price_age": _DAY_S}
_COUNT = re.compile(r"[0-9]{1,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """What applies to every run of the process.

    ledger: the ledger file, None for the user data directory. mode: "enforce", or "observe" where guards judge
    and record but never act. default_usd, default_model_calls: the budget of a run that names none. timezone: in
    which days, weeks and months of limits begin. on_store_error: what a call does while a shared limit cannot be
    reached, "deny" or "allow". require: the tags that every call must have, else it raises `Unattributed`.
    lost_context: "allow" or "deny" for a call on a thread that has lost the context of an open run. limits: those that
    runs and processes share; run_limits: those that each run has for itself; workflows, tools, gates: what the file
    says of each; prices: those that were set; all only in `bursar.toml`. config: that file.
    trace: the file that every record is appended to, or "structlog" for the application's own, None for neither.
    content: what of prompts and answers is kept ("off", "masked" without keys and people, "full" without keys),
    keep_content: for how long. max_price_age: under a limit in dollars, calls at list prices that are older than this
    are refused; None for never. durability: what a row, and a hold on a shared limit, survives once its call goes on:
    the death of the "process", or a cut of the "power" too.
    """

    ledger: Path | None = None
    mode: str = "enforce"
    env: str = "development"
    release: str | None = None
    default_usd: str = "5"
    default_model_calls: int = 200
    timezone: str = "UTC"
    on_store_error: str = "deny"
    require: tuple[str, ...] = ()
    lost_context: str = "allow"
    trace: Path | str | None = None
    content: str = "off"
    keep_content: str = "14d"
    max_price_age: str | None = None
    durability: str = "process"
    limits: tuple[LimitSpec, ...] = ()
    run_limits: tuple[LimitSpec, ...] = ()
    workflows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prices: tuple[PriceSpec, ...] = ()
    tools: tuple[ToolRule, ...] = ()
    gates: tuple[GateSpec, ...] = ()
    config: Path | None = None

    def max_price_age_days(self) -> int | None:
        """`max_price_age` in whole days."""
        return None if self.max_price_age is None else parse_age(self.max_price_age, "max_price_age") // _DAY_S


_OF_THE_FILE: Final = {"limits", "run_limits", "workflows", "prices", "tools", "gates"}
_NAMES: Final = tuple(each.name for each in fields(Settings) if each.name not in _OF_THE_FILE)
"""What can be given to `configure` and by `BURSAR_*`; all but `config` in the table `[bursar]` too."""


def setting_names() -> tuple[str, ...]:
    """The names of all settings."""
    return _NAMES


def read_settings(given: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
    """Merge what was given with `BURSAR_*` and with `bursar.toml`, and check it all.

    Raises `ConfigError` that names the argument, the variable, or the file and its line, and the value.
    """
    for name in given:
        if name not in _NAMES:
            raise ConfigError(f"configure({name}=...) is not a setting; the settings are {', '.join(sorted(_NAMES))}")
    environ = os.environ if environ is None else environ
    path = parse_ledger(given["config"], "config") if given.get("config") is not None else find_file(environ)
    values = {} if path is None else _from_file(File(path))
    for name in _NAMES:
        variable = f"BURSAR_{name.upper()}"
        if name == "config":
            continue
        if name in given:
            values[name] = _checked(name, given[name], name)
        elif variable in environ:
            values[name] = _from_text(name, environ[variable], variable)
    return Settings(**values)


def _from_file(file: File) -> dict[str, Any]:
    # Only whoever has a file needs what reads its tables: it takes a third of the time of reading settings.
    from bursar.settings.limits import RUN
    from bursar.settings.toml import read_gates, read_limits, read_prices, read_tools, read_workflows

    file.check_keys((), file.content, ["bursar", "env", "gate", "limit", "price", "tool", "workflow"])
    table = file.table("bursar")
    file.check_keys(("bursar",), table, [name for name in _NAMES if name != "config"])
    values: dict[str, Any] = {"config": file.path}
    for name, value in table.items():
        values[name] = file.checked(("bursar",), name, value, lambda value, shown: _checked(shown, value, shown))
    ledger = values.get("ledger")
    if ledger is not None and not ledger.is_absolute():
        values["ledger"] = file.path.parent / ledger
    limits = read_limits(file)
    return {
        **values,
        "limits": tuple(limit for limit in limits if limit.window != RUN),
        "run_limits": tuple(limit for limit in limits if limit.window == RUN),
        "workflows": read_workflows(file),
        "prices": read_prices(file),
        "tools": read_tools(file),
        "gates": read_gates(file),
    }


def parse_age(value: object, shown: str) -> int:
    """Read a length of time (30m, 24h, 14d, 2w) as seconds. Raises `ConfigError`, also for none at all."""
    found = _AGE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not int(found[1]):
        raise ConfigError(f"{shown}={value!r} is not a length of time; write one as in '14d', '24h' or '30m'")
    return int(found[1]) * _AGE_S[found[2]]


def parse_ledger(value: object, shown: str) -> Path:
    """Read where a ledger is: a plain path, or sqlite:///path from the root. Raises `ConfigError`."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigError(f"{shown}={value!r} is not the path of a file")
    if "://" in value and not value.startswith("sqlite:///"):
        scheme = value.split("://", 1)[0]
        raise ConfigError(f"{shown}={scheme}://...: a ledger is a file so far; write sqlite:///path or a plain path")
    return Path("/" + value.removeprefix("sqlite:///").lstrip("/") if "://" in value else value)


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
    choices = _CHOICES.get(name)
    if choices and value not in choices:
        raise ConfigError(f"{shown}={value!r} is not a choice of {name}; the choices are {' and '.join(choices)}")
    if name == "ledger":
        return parse_ledger(value, shown)
    if name == "require":
        return _tags(value, shown)
    if name == "trace":
        return _trace(value, shown)
    if name in _LEAST_S and parse_age(value, shown) < _LEAST_S[name]:
        raise ConfigError(f"{shown}={value!r} is less than a day; write one as in '90d'")
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{shown}={value!r} is empty or no text")
    if name == "timezone":
        _check_timezone(value, shown)
    return value


def _tags(value: object, shown: str) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ConfigError(f"{shown}={value!r} is no list of tags, as in ['workflow', 'owner']")
    return tuple(dict.fromkeys(names))


def _check_timezone(value: str, shown: str) -> None:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"{shown}={value!r} is no time zone; write a name as in 'Europe/Berlin' or 'UTC'") from None


def _trace(value: object, shown: str) -> Path | str:
    if value == STRUCTLOG:
        return STRUCTLOG
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value) or "://" in str(value):
        raise ConfigError(f"{shown}={value!r} is neither the path of a file nor {STRUCTLOG!r}")
    # Now, and not where the process will be when its first run begins.
    return Path(value).absolute()
