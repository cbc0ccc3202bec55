"""`bursar sessions`: how large contexts grow, and what that costs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bursar.cli.console import fail, output, safe, text_table
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.times import read_time

if TYPE_CHECKING:
    from bursar.reports.sessions import Curve, Reset
    from bursar.tracing.sessions import Session

_EPILOG = (
    "Examples: bursar sessions; bursar sessions --since 30d; bursar sessions 8b24b5b1. "
    "Exit codes: 0 fine, 1 no such session, 2 usage."
)
_SHOWN: Final = 20
_TURNS: Final = 40
_BAR: Final = 24


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("sessions", epilog=_EPILOG)(sessions_command)


def sessions_command(
    session: Annotated[str | None, typer.Argument(help="A session's id or its beginning: turn by turn.")] = None,
    since: Annotated[str, typer.Option(help="7d, 24h, or a day: 2026-11-01.")] = "7d",
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="All sessions, or all turns, as one JSON object.")] = False,
) -> None:
    """Show how the context of sessions grows, what the next turn costs, and what beginning anew would have saved.

    A session is what calls name as one: session=, a thread of LangChain, an imported transcript.
    """
    from bursar.reports.sessions import curve
    from bursar.tracing.sessions import SessionReader

    path = ledger_path(ledger)
    with SessionReader(path) as reader:
        if session is not None:
            one = reader.session(session)
            _show_one(one, json=json)
            return
        found = reader.sessions(read_time(since) or 0)
    if not found:
        fail(
            f"{path} has no call with a session since {since}; name one: bursar.run(..., session=...), or bursar import"
        )
    if json:
        import orjson

        output(orjson.dumps([_plain(each) for each in found]).decode())
        return
    text_table(
        ["session", "turns", "context", "largest", "a turn", "resets", "next turn", "others", "cost", "reset saves"],
        [_cells(each, curve(each.turns)) for each in found[:_SHOWN]],
    )
    if len(found) > _SHOWN:
        output(f"and {len(found) - _SHOWN:,} more: --json has all")
    output(f"next: bursar sessions {safe(found[0].name, 40)}")


def _plain(session: Session) -> dict[str, Any]:
    from bursar.reports.sessions import curve

    found = curve(session.turns)
    plain = found._asdict() | {"best": found.best and found.best._asdict()}
    return {"session": session.name, "workflow": session.workflow, **plain, "others_nusd": session.others_nusd}


def _cells(session: Session, found: Curve) -> list[str]:
    from bursar.words.money import show_count, show_usd

    return [
        safe(session.name, 22),
        f"{found.turns:,}",
        f"{show_count(found.first)} - {show_count(found.last)}",
        show_count(found.largest),
        f"+{show_count(found.growth)}",
        f"{found.resets:,}" if found.resets else "",
        show_usd(found.next_nusd),
        show_usd(session.others_nusd) if session.others else "",
        show_usd(found.nusd + session.others_nusd),
        _saves(found.best),
    ]


def _saves(best: Reset | None) -> str:
    from bursar.words.money import show_usd

    return show_usd(best.nusd) if best else ""


def _show_one(session: Session, *, json: bool) -> None:
    if json:
        import orjson

        output(orjson.dumps(_plain(session) | {"each": [turn._asdict() for turn in session.turns]}).decode())
    else:
        _show_turns(session)


def _show_turns(session: Session) -> None:
    from bursar.reports.sessions import curve
    from bursar.words.money import show_usd

    found, turns = curve(session.turns), session.turns
    begin = datetime.fromtimestamp(turns[0].ts_us / 1_000_000, UTC)
    output(f"{safe(session.workflow, 40)} {safe(session.name)}, since {begin:%Y-%m-%d %H:%M} UTC")
    # A long session is shown in steps, its last turn always.
    step = -(-len(turns) // _TURNS)
    shown = [number for number in range(len(turns)) if (len(turns) - 1 - number) % step == 0]
    rows = []
    before = 0
    for number in shown:
        turn = turns[number]
        change = turn.input_tokens - before
        rows.append(
            [
                f"{number + 1:,}",
                f"{turn.input_tokens:,}",
                f"{change:+,}",
                f"{turn.cache_read_tokens / turn.input_tokens:.0%}",
                show_usd(turn.nusd),
                "▇" * max(1, round(_BAR * turn.input_tokens / found.largest)),
            ]
        )
        before = turn.input_tokens
    text_table(["turn", "context", "change", "cached", "cost", "context size"], rows)
    output(
        f"{found.turns:,} turns, +{found.growth:,} tokens a turn, {found.resets:,} resets, {show_usd(found.nusd)}; "
        f"the next turn about {show_usd(found.next_nusd)}"
    )
    if session.others:
        output(f"other agents in it: {session.others:,} calls, {show_usd(session.others_nusd)}")
    if found.best is not None:
        output(
            f"beginning anew after turn {found.best.after_turn:,} would have saved {show_usd(found.best.nusd)} "
            f"({found.best.tokens:,} tokens), less what would have been read again"
        )
