"""`bursar` alone: today against the limit, what changed, what has no name or price, and where to look next."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

from bursar.cli.accepted import standing
from bursar.cli.console import folding, output, safe

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.reports.changes import Explanation
    from bursar.settings.config import Settings
    from bursar.tracing.changes import Changes
    from bursar.words.rows import Overview

BEGIN: Final = 'begin with: bursar demo · bursar import · in Python: bursar.wrap(client, workflow="triage")'
"""What makes sense where nothing is recorded."""
_CAUSES: Final = 3
_DAY_US: Final = 86_400_000_000
_HOUR_US: Final = 3_600_000_000


class _Change(NamedTuple):
    """The last seven days against the seven before: where they end if not now, why they differ, if there are runs."""

    end_us: int | None
    found: Explanation
    runs: bool


def show_today() -> bool:
    """Print the first screen of the ledger that is configured; False where there is none yet."""
    from bursar.ledger_file import default_ledger_path
    from bursar.settings.config import read_settings
    from bursar.tracing.screen import ScreenReader

    settings = read_settings({})
    path = settings.ledger or default_ledger_path()
    if not path.exists():
        return False
    zone, now_us = ZoneInfo(settings.timezone), time.time_ns() // 1_000
    with folding() as note, ScreenReader(path, note) as reader:
        overview = reader.overview(now_us, zone)
        change = _change(reader, now_us)
    _unattributed(overview)
    _spent(overview, settings)
    _limits(path, settings, now_us, zone)
    ever = None if change is None else _changed(path, change)
    _unpriced(overview)
    output(_next(overview, ever) if ever or overview.calls else f"nothing is recorded of the last 14 days\n{BEGIN}")
    return True


def _spent(overview: Overview, settings: Settings) -> None:
    from bursar.reports.overview import mean_day, projected
    from bursar.words.money import show_usd

    parts = [f"today ({settings.timezone}): {show_usd(overview.nusd)}, {overview.calls:,} calls"]
    ends, mean = projected(overview), mean_day(overview.before)
    if ends is not None:
        parts.append(f"by midnight about {show_usd(ends)}")
    if mean is not None:
        parts.append(f"an ordinary day of the last seven {show_usd(mean)}")
    output(" · ".join(parts))


def _limits(path: Path, settings: Settings, now_us: int, zone: ZoneInfo) -> None:
    from bursar.db import open_ledger
    from bursar.stores.sqlite import SqliteStore
    from bursar.words.money import show_usd
    from bursar.words.windows import window_at

    if not settings.limits:
        output('limits: none shared; bursar.toml: [env.production] usd_per_day = "200"')
        return
    day = window_at("day", now_us, zone).key
    store = SqliteStore(path, lambda: open_ledger(path))
    for row in store.every_account():
        if row.scope.window == day and row.scope.kind == "env" and "usd" in row.limits:
            limit, settled, held = row.limits["usd"], row.settled.nusd, row.held.nusd
            share = f" ({settled / limit:.0%})" if limit else ""
            more = (f", {show_usd(held)} in flight" if held else "") + (", FROZEN" if row.frozen else "")
            output(f"limit of {safe(row.scope.name)} today: {show_usd(settled)} of {show_usd(limit)}{share}{more}")


def _change(reader: Changes, now_us: int) -> _Change | None:
    from bursar.reports.changes import explain
    from bursar.tracing.changes import Slice

    # From the nearest full hour on, since hours are what sums are kept of: half an hour of a week more or less.
    end_us = reader.ends_us()
    week_us = ((end_us or now_us) - 7 * _DAY_US + _HOUR_US // 2) // _HOUR_US * _HOUR_US
    before, after = reader.mix(Slice(week_us - 7 * _DAY_US, week_us)), reader.mix(Slice(week_us))
    if not before and not after:
        return None
    return _Change(end_us, explain(before, after), runs=any(row.runs for row in after))


def _changed(path: Path, change: _Change) -> str:
    """Say what changed; what there was: "calls" outside of runs, or "runs"."""
    from bursar.words.money import show_usd

    found = change.found
    until = "" if change.end_us is None else f" until {datetime.fromtimestamp(change.end_us / 1_000_000, UTC):%Y-%m-%d}"
    output(f"last 7 days{until}: {show_usd(found.after_nusd)}, the 7 before: {show_usd(found.before_nusd)}")
    accepted = standing(path)
    found = found._replace(causes=tuple(each for each in found.causes if each.workflow not in accepted))
    for line in _causes(found):
        output(f"  {line}")
    return "runs" if change.runs else "calls"


def _causes(found: Explanation) -> list[str]:
    from bursar.words.money import show_usd

    lines = []
    for cause in found.causes[:_CAUSES]:
        sign = "+" if cause.nusd > 0 else "-"
        times = "" if cause.times is None else f", x{cause.times:.3g}"
        lines.append(f"{sign}{show_usd(abs(cause.nusd))} {safe(cause.workflow, 30)}: {cause.factor}{times}")
    return lines


def _unattributed(overview: Overview) -> None:
    from bursar.words.money import show_usd

    if overview.unattributed.calls:
        output(
            f"unattributed today: {overview.unattributed.calls:,} calls, {show_usd(overview.unattributed.nusd)}; "
            'bursar.run("workflow") names them'
        )


def _unpriced(overview: Overview) -> None:
    if overview.unpriced:
        models = ", ".join(f"{safe(each.model, 40)} ({each.calls:,} calls)" for each in overview.unpriced)
        output(f"without a price today: {models}")


def _next(overview: Overview, ever: str | None) -> str:
    seen = "bursar trace last" if ever == "runs" else "bursar report --by day --since 14d"
    commands = ["bursar explain", seen, "bursar report --by model --since 7d"]
    if overview.unattributed.calls:
        commands[1] = "bursar report --by release --since 1d"
    if overview.unpriced:
        commands[2] = "bursar prices unpriced"
    return "next: " + " · ".join(commands)
