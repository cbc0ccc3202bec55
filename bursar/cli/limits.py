"""`bursar limits`: shared limits, what is left of them, who holds what; and what a person may do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bursar.cli.console import fail, output, safe, text_table, warn
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.times import read_time

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from bursar.stores.rows import AccountRow
    from bursar.stores.sqlite import SqliteStore
    from bursar.words.ports import Scope

_WINDOW = typer.Option(help="hour, day, week, month or total, where a scope has limits in several.")
_SCOPE = typer.Argument(help="As in the list: env/production, user/ana (a raw user is hashed).")
_UNIT = typer.Argument(help="usd, tokens, model_calls, ...")
_CODES = "Exit codes: 0 fine, 1 nothing found or refused, 2 usage."

limits = typer.Typer(
    help="Show the limits that processes share, and change them by hand for the window at hand.",
    epilog="Example: bursar limits --holders. Lasting limits stand in bursar.toml. " + _CODES,
    rich_markup_mode=None,
    invoke_without_command=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(limits, name="limits")


@limits.callback()
def list_limits(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Windows that are over, too.")] = False,
    holders: Annotated[bool, typer.Option("--holders", help="The calls in flight on each.")] = False,
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List limits when no command is named."""
    if context.invoked_subcommand is not None:
        return
    store, zone = _store(ledger), _zone()
    rows = [row for row in store.every_account() if everything or _is_current(row, zone)]
    if not rows and not json:
        fail(
            'no shared limit has been used yet; write one into bursar.toml, as in [env.production] usd_per_day = "200"'
        )
    if json:
        import orjson

        output(orjson.dumps([_plain(store, row) for row in rows]).decode())
        return
    text_table(("scope", "window", "unit", "limit", "settled", "held", "left", "in flight"), _lines(rows))
    if holders:
        for row in rows:
            _show_holders(store, row)


@limits.command("set", epilog="Example: bursar limits set env/production usd 250. " + _CODES)
def set_command(
    scope: Annotated[str, _SCOPE],
    unit: Annotated[str, _UNIT],
    amount: Annotated[str, typer.Argument(help='Dollars as "12.50", whole numbers of everything else.')],
    window: Annotated[str | None, _WINDOW] = None,
    ledger: LedgerOption = None,
) -> None:
    """Set a limit by hand, for the window at hand; it goes before what is configured."""
    from bursar.stores.manage import set_limit

    store = _store(ledger)
    for found in _find(store, scope, window):
        set_limit(store, found, unit, _amount(unit, amount))
        output(f"{safe(str(found), 90)}: {unit} is limited to {amount}")


@limits.command("raise", epilog="Example: bursar limits raise user/ana usd 5. " + _CODES)
def raise_command(
    scope: Annotated[str, _SCOPE],
    unit: Annotated[str, _UNIT],
    by: Annotated[str, typer.Argument(help="By how much.")],
    window: Annotated[str | None, _WINDOW] = None,
    ledger: LedgerOption = None,
) -> None:
    """Raise a limit, for the window at hand."""
    from bursar.stores.manage import raise_limit

    store = _store(ledger)
    for found in _find(store, scope, window):
        limit = raise_limit(store, found, unit, _amount(unit, by))
        output(f"{safe(str(found), 90)}: {unit} is limited to {_shown(unit, limit)}")


@limits.command("freeze", epilog="Example: bursar limits freeze env/production. " + _CODES)
def freeze_command(
    scope: Annotated[str, _SCOPE],
    window: Annotated[str | None, _WINDOW] = None,
    ledger: LedgerOption = None,
) -> None:
    """Refuse every further call on a scope, until it is thawed or its window is over."""
    _freeze(ledger, scope, window, frozen=True)


@limits.command("thaw", epilog="Example: bursar limits thaw env/production. " + _CODES)
def thaw_command(
    scope: Annotated[str, _SCOPE],
    window: Annotated[str | None, _WINDOW] = None,
    ledger: LedgerOption = None,
) -> None:
    """Let calls go again on a scope that was frozen."""
    _freeze(ledger, scope, window, frozen=False)


@limits.command("release", epilog='Example: bursar limits release 01M8…/0 --evidence "not on the invoice". ' + _CODES)
def release_command(
    call: Annotated[str, typer.Argument(help="The id of a call, as --holders and bursar trace show it.")],
    evidence: Annotated[str, typer.Option(help="How you know that it cost nothing; kept with the correction.")],
    ledger: LedgerOption = None,
) -> None:
    """Take back what a call was presumed to cost after its process died."""
    from bursar.stores.manage import refund
    from bursar.words.money import show_usd

    back = refund(_store(ledger), call, evidence)
    output(f"{safe(call)}: {show_usd(back.nusd)} and {back.tokens:,} tokens taken back")


@limits.command("suggest", epilog="Example: bursar limits suggest --since 30d >> bursar.toml. " + _CODES)
def suggest_command(
    since: Annotated[str, typer.Option(help="7d, 24h, or a day: 2026-11-01.")] = "30d",
    ledger: LedgerOption = None,
) -> None:
    """Write limits as TOML from what was spent: the 99th percentile of each, and what it would have stopped."""
    from bursar.reports.suggestions import FEWEST, suggest
    from bursar.settings.file import quoted
    from bursar.tracing.queries import Reader

    with Reader(ledger_path(ledger)) as reader:
        begin = read_time(since) or 0
        runs, days = reader.run_costs(begin), reader.daily_costs("env", begin)
        users = reader.daily_costs("user", begin)
    few: list[str] = []
    for kind, key, spent, what in (("workflow", "usd_per_run", runs, "runs"), ("env", "usd_per_day", days, "days")):
        for name, found in suggest(spent).items():
            if found is None:
                few.append(f"{kind} {name}")
                continue
            output(
                f"[{kind}.{quoted(name)}]\n# 99 % of {found.of} {what}; it would have stopped {found.beyond} of them"
            )
            output(f'{key} = "{found.usd:f}"\n')
    found = suggest({"": [cost for costs in users.values() for cost in costs]})[""]
    if found is None:
        few.append("users")
    else:
        output(f"[[limit]]\n# 99 % of {found.of} days of a user; it would have stopped {found.beyond} of them")
        output(f'per = "user"\nwindow = "day"\nusd = "{found.usd:f}"\n')
    if few:
        warn(f"fewer than {FEWEST} runs or days, so nothing is said of: {safe(', '.join(few), 200)}")


def _freeze(ledger: Path | None, scope: str, window: str | None, *, frozen: bool) -> None:
    from bursar.stores.manage import freeze

    store = _store(ledger)
    for found in _find(store, scope, window):
        freeze(store, found, frozen=frozen)
        output(f"{safe(str(found), 90)}: {'every call is refused' if frozen else 'calls go again'}")


def _store(ledger: Path | None) -> SqliteStore:
    from bursar.stores.sqlite import SqliteStore
    from bursar.words.errors import LedgerError

    path = ledger_path(ledger)
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path} yet; run something under bursar.run(...), or `bursar demo`")
    return SqliteStore.at(path)


def _find(store: SqliteStore, named: str, window: str | None) -> list[Scope]:
    """The scopes that are meant, of one window; a user whose key was replaced has one for each key."""
    from bursar.settings.limits import scope_name
    from bursar.tracing.users import load_user_keys

    zone = _zone()
    kind, _, name = named.partition("/")
    names = {name, scope_name(name)}
    if kind == "user" and name:
        names.update(load_user_keys(store.path).hashes(name))
    found = [
        row.scope
        for row in store.every_account()
        if _is_current(row, zone) and row.scope.kind == kind and row.scope.name in names
        and window in (None, row.scope.window.split(":")[0])
    ]  # fmt: skip
    if not found:
        fail(f"no limit in force on {safe(named)}; `bursar limits` lists them")
    windows = list(dict.fromkeys(scope.window.split(":")[0] for scope in found))
    if len(windows) > 1:
        fail(f"{safe(named)} has limits in several windows ({', '.join(windows)}); name one with --window")
    return found


def _zone() -> ZoneInfo:
    from zoneinfo import ZoneInfo

    from bursar.settings.config import read_settings

    return ZoneInfo(read_settings({}).timezone)


def _is_current(row: AccountRow, zone: ZoneInfo) -> bool:
    from bursar.words.clock import CLOCK
    from bursar.words.windows import WINDOWS, window_at

    kind = row.scope.window.split(":")[0]
    return kind not in WINDOWS or window_at(kind, CLOCK.wall_us(), zone).key == row.scope.window


def _amount(unit: str, text: str) -> int:
    from bursar.words.errors import ConfigError
    from bursar.words.events import UNITS
    from bursar.words.money import parse_count, parse_usd

    if unit not in UNITS:
        raise ConfigError(f"{unit!r} is no unit of a limit; the units are {', '.join(UNITS)}")
    if unit == "usd":
        return parse_usd(text, unit)
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{unit}={text!r} is not a whole number")
    return parse_count(int(text), unit)


def _shown(unit: str, amount: int) -> str:
    from bursar.words.money import show_usd

    if unit != "usd":
        return f"{amount:,}"
    return show_usd(amount) if amount >= 0 else f"-{show_usd(-amount)}"


def _lines(rows: list[AccountRow]) -> list[tuple[str, ...]]:
    from bursar.stores.manage import in_unit

    lines = []
    for row in rows:
        where = safe(f"{row.scope.kind}/{row.scope.name}", 34) + (" FROZEN" if row.frozen else "")
        kind, _, key = row.scope.window.partition(":")
        for unit, limit in row.limits.items():
            settled, held = in_unit(row.settled, unit), in_unit(row.held, unit)
            amounts = (limit, settled, held, limit - settled - held)
            lines.append((where, key or kind, unit, *(_shown(unit, each) for each in amounts), str(row.holds)))
    return lines


def _show_holders(store: SqliteStore, row: AccountRow) -> None:
    from bursar.stores.manage import holders
    from bursar.words.money import show_usd

    for holder in holders(store, row.scope):
        state = "in flight" if holder.alive else "its process is gone"
        age = holder.age_us / 1_000_000
        output(
            f"{safe(holder.call_id)}  {safe(str(row.scope), 50)}  {show_usd(holder.held.nusd)}  {age:,.1f} s  {state}"
        )


def _plain(store: SqliteStore, row: AccountRow) -> dict[str, Any]:
    from bursar.stores.manage import holders

    return {
        "kind": row.scope.kind,
        "name": row.scope.name,
        "window": row.scope.window,
        "limits": dict(row.limits),
        "frozen": row.frozen,
        "only_counts": row.soft,
        "settled": row.settled._asdict(),
        "unmeasured": row.unmeasured._asdict(),
        "held": row.held._asdict(),
        "holders": [{**holder._asdict(), "held": holder.held._asdict()} for holder in holders(store, row.scope)],
    }
