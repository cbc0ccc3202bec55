"""`bursar explain`: why spend changed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from bursar.cli.accepted import standing
from bursar.cli.console import fail, folding, output, safe, text_table, waiting
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.times import read_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.reports.changes import Cause, Explanation
    from bursar.reports.versions import Replaced
    from bursar.tracing.changes import Slice
    from bursar.words.rows import MixRow

_EPILOG = (
    "Examples: bursar explain; bursar explain --days 1; bursar explain --release 1.4.0 1.5.0; "
    "bursar explain --against main.db. Exit codes: 0 fine, 1 nothing to compare, 2 usage."
)
_SHOWN: Final = 5
"""Causes that get their run and their remedy."""
_TELLING: Final = 0.01
"""The share of the largest below which a cause gets neither: it is not why anybody asks."""
_SMALL: Final = 0.002
"""The share of the largest cause below which others are shown as one line."""
_MOST_CAUSES: Final = 15
"""Causes that stand in the table; who has many workflows reads the rest as JSON."""
_MOST_REPLACED: Final = 8
"""Changes of prompts, tools and versions that are shown."""
_DAY_US: Final = 86_400_000_000


class _Side(NamedTuple):
    """One of the two that are compared."""

    name: str
    ledger: Path
    part: Slice
    days: float | None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("explain", epilog=_EPILOG)(explain_command)


def explain_command(
    days: Annotated[int, typer.Option(help="The last days against as many before.", min=1, max=366)] = 7,
    release: Annotated[
        tuple[str, str] | None, typer.Option(help="Two releases, the older first.", metavar="OLD NEW")
    ] = None,
    prompt_version: Annotated[
        tuple[str, str] | None, typer.Option(help="Two versions of a prompt, the older first.", metavar="OLD NEW")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The end of the last days, if not now: 2026-11-01.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another ledger: what it has is before, what --ledger has is after.")
    ] = None,
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="All causes as one JSON object.")] = False,
) -> None:
    """Split the difference in spend exactly into its causes, the largest first."""
    from bursar.reports.changes import explain

    path = ledger_path(ledger)
    before, after = _sides(path, days, until, release, prompt_version, against)
    old, new = _mix(before), _mix(after)
    if not old and not new:
        fail(f"{path} has no model call of {before.name} nor of {after.name}; --until DAY names another end")
    found = explain(old, new)
    with waiting("reading what was replaced, and the runs that show it best"):
        told = _told(found.causes if json else found.causes[:_SHOWN], before, after, old, path)
        changes = _replaced(before, after)
    unpriced = sum(row.unpriced for row in new)
    if json:
        import orjson

        plain = _plain(found, told, before, after, unpriced)
        output(orjson.dumps(plain | {"replaced": [change._asdict() for change in changes]}).decode())
        return
    _show(found, told, before, after, unpriced, new, changes)


def _sides(
    path: Path,
    days: int,
    until: str | None,
    release: tuple[str, str] | None,
    prompt_version: tuple[str, str] | None,
    against: Path | None,
) -> tuple[_Side, _Side]:
    from bursar.tracing.changes import Slice

    chosen = [name for name, given in (("release", release), ("prompt_version", prompt_version)) if given]
    if len(chosen) + (against is not None) > 1:
        raise typer.BadParameter("compare two releases, two prompt versions or two ledgers, not several of these")
    if against is not None:
        return _Side(str(against), against, Slice(), None), _Side(str(path), path, Slice(), None)
    if chosen:
        pair = release or prompt_version
        assert pair is not None
        shown = chosen[0].replace("_", " ")
        sides = [_Side(f"{shown} {value}", path, Slice(tags=((chosen[0], value),)), None) for value in pair]
        return sides[0], sides[1]
    end_us = read_time(until) or _ends_us(path)
    since_us = (end_us or time.time_ns() // 1_000) - days * _DAY_US
    if until is None and end_us is not None:
        until = f"{datetime.fromtimestamp(end_us / 1_000_000, UTC):%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    span = (f"{days} days" if days > 1 else "day") + (f" until {until}" if until else "")
    return (
        _Side(
            f"the {days} days before" if days > 1 else "the day before",
            path,
            Slice(since_us - days * _DAY_US, since_us),
            days,
        ),
        _Side(f"the last {span}", path, Slice(since_us, end_us), days),
    )


def _ends_us(path: Path) -> int | None:
    from bursar.tracing.changes import Changes

    with Changes(path) as reader:
        return reader.ends_us()


def _mix(side: _Side) -> list[MixRow]:
    from bursar.tracing.changes import Changes

    with folding() as note, Changes(side.ledger, note) as reader:
        return reader.mix(side.part)


def _replaced(before: _Side, after: _Side) -> list[Replaced]:
    """What was said otherwise in the later part: prompts, tools, versions; but what the parts are told apart by."""
    from bursar.reports.versions import replaced
    from bursar.tracing.versions import VersionReader

    with VersionReader(before.ledger) as earlier, VersionReader(after.ledger) as later:
        found = replaced(earlier.setups(before.part), later.setups(after.part))
    compared = {tag for tag, _ in after.part.tags}
    return [change for change in found if change.kind not in compared]


def _told(
    causes: Sequence[Cause], before: _Side, after: _Side, old: list[MixRow], ledger: Path
) -> list[tuple[Cause, str | None, str | None]]:
    """Each cause with the run that shows it best, and the line that would stop it."""
    from bursar.reports.changes import GONE, cost_of
    from bursar.reports.remedies import remedy
    from bursar.tracing.changes import Changes

    told = []
    accepted = standing(ledger)
    with Changes(before.ledger) as earlier, Changes(after.ledger) as later:
        for cause in causes:
            reader, part = (earlier, before.part) if cause.factor == GONE else (later, after.part)
            run = reader.telling_run(part, cause.workflow, cause.factor)
            spent = cost_of(row for row in old if row.workflow == cause.workflow)
            day_nusd = round(spent / before.days) if before.days else spent
            line = remedy(cause, day_nusd or cause.nusd)
            told.append((cause, run, accepted.get(cause.workflow, line) if cause.nusd > 0 else line))
    return told


def _show(
    found: Explanation,
    told: list[tuple[Cause, str | None, str | None]],
    before: _Side,
    after: _Side,
    unpriced: int,
    new: list[MixRow],
    changes: list[Replaced],
) -> None:
    from bursar.words.money import show_change, show_usd

    change = found.after_nusd - found.before_nusd
    times = f", x{_number(found.after_nusd / found.before_nusd)}" if found.before_nusd and found.after_nusd else ""
    output(
        f"{safe(after.name)} against {safe(before.name)}: {show_usd(found.before_nusd)} to "
        f"{show_usd(found.after_nusd)} ({show_change(change)}{times})"
    )
    _show_nameless(found, new)
    if unpriced:
        output(f"{unpriced:,} calls have no price and are not in this: bursar report says of whom")
    if not found.causes:
        output("nothing changed")
        _show_replaced(changes)
        return
    kept = [cause for cause in found.causes[:_MOST_CAUSES] if abs(cause.nusd) >= _SMALL * abs(found.causes[0].nusd)]
    rows = [
        [f"{safe(cause.workflow, 30)} · {cause.factor}", show_change(cause.nusd), _times(cause), _values(cause)]
        for cause in kept
    ]
    smaller = found.causes[len(kept) :]
    if smaller:
        rows.append([f"{len(smaller):,} smaller: --json", show_change(sum(cause.nusd for cause in smaller)), "", ""])
    text_table(["cause", "dollars", "times", "from - to"], rows)
    _show_replaced(changes)
    for cause, run, line in told[: min(_SHOWN, len(kept))]:
        if (run is None and line is None) or abs(cause.nusd) < _TELLING * abs(found.causes[0].nusd):
            continue
        output(f"{safe(cause.workflow, 30)} · {cause.factor}")
        if run is not None:
            output(f"  shown best by: bursar trace {run}")
        if line is not None:
            output(f"  {'' if line.startswith('accepted ') else 'would stop it: '}{safe(line, 200)}")


def _show_nameless(found: Explanation, new: list[MixRow]) -> None:
    from bursar.reports.changes import cost_of
    from bursar.words.money import show_usd
    from bursar.words.records import UNATTRIBUTED

    nusd = cost_of(row for row in new if row.workflow == UNATTRIBUTED)
    if nusd:
        output(
            f"unattributed: {show_usd(nusd)} of it ({nusd / found.after_nusd:.0%}), whose causes have no name; "
            'bursar.run("workflow") gives them one'
        )


def _show_replaced(changes: list[Replaced]) -> None:
    from bursar.reports.versions import told

    if not changes:
        return
    output("what was replaced:")
    for change in changes[:_MOST_REPLACED]:
        since = datetime.fromtimestamp(change.since_us / 1_000_000, UTC)
        output(f"  {since:%Y-%m-%d}  {safe(change.workflow, 24)}: {safe(told(change), 100)}")
    if len(changes) > _MOST_REPLACED:
        output(f"  and {len(changes) - _MOST_REPLACED:,} more: --json has all")


def _plain(
    found: Explanation,
    told: list[tuple[Cause, str | None, str | None]],
    before: _Side,
    after: _Side,
    unpriced: int,
) -> dict[str, Any]:
    return {
        "before": before.name,
        "after": after.name,
        "before_nusd": found.before_nusd,
        "after_nusd": found.after_nusd,
        "unpriced_after": unpriced,
        "causes": [{**cause._asdict(), "run_id": run, "remedy": line} for cause, run, line in told],
    }


def _times(cause: Cause) -> str:
    return "" if cause.times is None else f"x{_number(cause.times)}"


def _values(cause: Cause) -> str:
    if cause.before is None or cause.after is None:
        return ""
    return f"{_number(cause.before)} - {_number(cause.after)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"
