"""The tables of `bursar.toml`, each checked as it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.settings.accepted import parse_accepted
from bursar.settings.limits import RUN, LimitSpec
from bursar.settings.over import Over, parse_over
from bursar.settings.prices import (
    ANY_MODEL,
    FEES,
    TIERS,
    TOKEN_KINDS,
    PriceSpec,
    parse_day,
    parse_discount,
    parse_factor,
    parse_fee,
    parse_rate,
)
from bursar.words.errors import ConfigError
from bursar.words.events import UNITS
from bursar.words.money import parse_count, parse_usd
from bursar.words.seconds import parse_seconds
from bursar.words.tools import EFFECTS, ToolRule, parse_tool_fee
from bursar.words.windows import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bursar.settings.file import File

_USD: Final = ("usd_per_run", "usd_per_outcome")
_WORKFLOW: Final = ("owner", "promise", *_USD, "retries", "oncall", "models", "eval", "accepted")
_GATE: Final = (
    "tool", "effect", "model", "top", "ask", "deny", "ask_above_usd", "ask_above_share", "deny_above_usd", "approver",
    "timeout", "count_wait",
)  # fmt: skip
_RETRIES: Final = {"attempts": parse_count, "usd": parse_usd, "max_retry_after": parse_seconds}
_PRICE: Final = ("model", "provider", "tier", "from", "until", "discount", "factor")


def read_prices(file: File, *, by_hand: bool = False) -> tuple[PriceSpec, ...]:
    """All prices that the file sets: its tables `[[price]]`."""
    prices = file.content.get("price", [])
    if not isinstance(prices, list):
        raise file.error((), "price", "prices are a list: write [[price]]")
    return tuple(_price(file, ("price", str(number)), table, by_hand) for number, table in enumerate(prices))


def read_limits(file: File) -> tuple[LimitSpec, ...]:
    """All limits of `[env.x]`, `[workflow.x]` and `[[limit]]`: those that runs share, and those that each run has."""
    found: list[LimitSpec] = []
    for kind, extra in (("env", ()), ("workflow", _WORKFLOW)):
        for path, name, table in file.tables(kind):
            found += _per_window(file, path, kind, name, table, extra)
    limits = file.content.get("limit", [])
    if not isinstance(limits, list):
        raise file.error((), "limit", "limits are a list: write [[limit]]")
    for number, table in enumerate(limits):
        found.append(_limit(file, ("limit", str(number)), table))
    return tuple(found)


def read_workflows(file: File) -> dict[str, dict[str, Any]]:
    """What `[workflow.x]` says beside limits: who, what a run may cost, and what `bursar ready` looks for."""
    found = {}
    for path, name, table in file.tables("workflow"):
        kept: dict[str, Any] = {key: table[key] for key in _WORKFLOW if key in table}
        for key in ("owner", "promise", "oncall", "eval"):
            if key in kept and not (isinstance(kept[key], str) and kept[key].strip()):
                raise file.error(path, key, f"{key} = {kept[key]!r} is a text that is not empty")
        for key in _USD:
            if key in kept:
                file.checked(path, key, kept[key], parse_usd)
                kept[key] = str(kept[key])
        if "retries" in kept:
            _check_retries(file, path, kept["retries"])
        if "models" in kept:
            file.checked(path, "models", kept["models"], _check_models)
        if "accepted" in kept:
            kept["accepted"] = file.checked(path, "accepted", kept["accepted"], parse_accepted)
        found[name] = kept
    return found


def read_tools(file: File) -> tuple[ToolRule, ...]:
    """What `[tool."pattern"]` says of tools: `usd`, what a call costs, and `effect`."""
    found = []
    for path, pattern, table in file.tables("tool"):
        file.check_keys(path, table, ["usd", "effect"])
        if not table:
            raise file.error(path, None, 'a tool has usd = "0.01", effect = "write", or both')
        effect = table.get("effect")
        if effect is not None and effect not in EFFECTS:
            raise file.error(path, "effect", f"effect = {effect!r} is none of {', '.join(EFFECTS)}")
        nusd = file.checked(path, "usd", table["usd"], parse_tool_fee) if "usd" in table else None
        found.append(ToolRule(pattern, nusd, effect))
    return tuple(found)


class GateSpec(NamedTuple):
    """A gate as the file has it: what `CostGate` is given, and where it stands."""

    given: dict[str, Any]
    origin: str


def read_gates(file: File) -> tuple[GateSpec, ...]:
    """All gates of the file: its tables `[[gate]]`. What is in them is checked when they are made."""
    gates = file.content.get("gate", [])
    if not isinstance(gates, list) or not all(isinstance(table, dict) for table in gates):
        raise file.error((), "gate", "gates are a list: write [[gate]]")
    found = []
    for number, table in enumerate(gates):
        path = ("gate", str(number))
        file.check_keys(path, table, _GATE)
        found.append(GateSpec(dict(table), f"{file.path}:{file.line(path)}"))
    return tuple(found)


def _check_models(value: object, shown: str) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f'{shown} = {str(value)[:60]!r} is a list of names, as in {shown} = ["gpt-4o"]')


def _check_retries(file: File, path: tuple[str, ...], retries: object) -> None:
    if not isinstance(retries, dict):
        raise file.error(path, "retries", f"retries = {retries!r} is a table, as in retries = {{ attempts = 3 }}")
    inner = (*path, "retries")
    file.check_keys(inner, retries, _RETRIES)
    for key, value in retries.items():
        file.checked(inner, key, value, _RETRIES[key])


def _per_window(
    file: File, path: tuple[str, ...], per: str, of: str, table: Mapping[str, Any], extra: Iterable[str]
) -> list[LimitSpec]:
    keys = {f"{unit}_per_{window}": (unit, window) for unit in UNITS for window in WINDOWS}
    file.check_keys(path, table, [*keys, "over", *extra])
    over = _over(file, path, table)
    windows: dict[str, list[tuple[str, int]]] = {}
    for key, value in table.items():
        if key in keys:
            unit, window = keys[key]
            windows.setdefault(window, []).append((unit, _amount(file, path, key, unit, value)))
    return [LimitSpec(per, window, tuple(limits), over, of) for window, limits in windows.items()]


def _limit(file: File, path: tuple[str, ...], table: object) -> LimitSpec:
    if not isinstance(table, dict):
        raise file.error(path, None, "a limit is a table: write [[limit]]")
    file.check_keys(path, table, ["per", "of", "window", "over", *UNITS])
    per, window, of = table.get("per"), table.get("window"), table.get("of")
    if not isinstance(per, str) or not per.isidentifier():
        raise file.error(path, "per", f'per = {per!r} is not the name of a tag, as in per = "user"')
    if window not in (RUN, *WINDOWS):
        raise file.error(path, "window", f"window = {window!r} is none of {', '.join((RUN, *WINDOWS))}")
    if of is not None and (not isinstance(of, str) or not of):
        raise file.error(path, "of", f"of = {of!r} is a text: the one value of the tag that this limit is on")
    limits = tuple((unit, _amount(file, path, unit, unit, table[unit])) for unit in UNITS if unit in table)
    if not limits:
        raise file.error(path, None, f"a limit limits something: one of {', '.join(UNITS)}")
    over = _over(file, path, table)
    if window == RUN and over.kind == "throttle":
        raise file.error(
            path, "over", f'over = {table["over"]!r}: calls of a run are refused or warned of, as in "warn"'
        )
    return LimitSpec(per, window, limits, over, of)


def _price(file: File, path: tuple[str, ...], table: object, by_hand: bool) -> PriceSpec:  # noqa: FBT001 - one caller
    if not isinstance(table, dict):
        raise file.error(path, None, "a price is a table: write [[price]]")
    file.check_keys(path, table, [*_PRICE, *TOKEN_KINDS, *FEES])
    model, provider, tier = table.get("model"), table.get("provider"), table.get("tier")
    for key, value in (("model", model), *((("provider", provider),) if provider is not None else ())):
        if not isinstance(value, str) or not value.strip():
            raise file.error(path, key, f'{key} = {value!r} is a name, as in {key} = "gpt-4o"')
    if tier is not None and tier not in TIERS:
        raise file.error(path, "tier", f"tier = {tier!r} is none of {', '.join(TIERS)}")
    rates = tuple((kind, file.checked(path, kind, table[kind], parse_rate)) for kind in TOKEN_KINDS if kind in table)
    fees = tuple((kind, file.checked(path, kind, table[kind], parse_fee)) for kind in FEES if kind in table)
    factors = [
        file.checked(path, key, table[key], check)
        for key, check in (("discount", parse_discount), ("factor", parse_factor)) if key in table
    ]  # fmt: skip
    if len(factors) + bool(rates or fees) != 1:
        raise file.error(
            path, None, f"a price has rates ({', '.join(TOKEN_KINDS[:3])}, ...), a discount or a factor: one"
        )
    if model == ANY_MODEL and not factors:
        raise file.error(path, "model", 'model = "*" has a discount or a factor: models have no rate in common')
    since, until = (
        file.checked(path, key, table[key], parse_day) if key in table else None for key in ("from", "until")
    )
    if since is not None and until is not None and until < since:
        raise file.error(path, "until", f"until = {until} is before from = {since}: it would never hold")
    origin = f"{file.path.name}:{file.line(path)}"
    return PriceSpec(
        str(model), provider, since, until, rates, fees, factors[0] if factors else None, tier, origin, by_hand
    )


def _amount(file: File, path: tuple[str, ...], key: str, unit: str, value: object) -> int:
    check: Callable[[object, str], int] = parse_usd if unit == "usd" else parse_count
    return int(file.checked(path, key, value, check))


def _over(file: File, path: tuple[str, ...], table: Mapping[str, Any]) -> Over:
    over = table.get("over", "deny")
    if not isinstance(over, str):
        raise file.error(path, "over", f'over = {over!r} is a text, as in over = "throttle:6/min"')
    found: Over = file.checked(path, "over", over, lambda value, _: parse_over(str(value)))
    return found
