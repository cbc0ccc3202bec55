"""`bursar approvals`: questions that wait for an answer, answering them, and every yes that lasts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.console import fail, output, safe, text_table
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.objects import read_object

if TYPE_CHECKING:
    from bursar.approvals.book import Book
    from bursar.approvals.rows import Row
    from bursar.words.questions import Reply

_CODES = "Exit codes: 0 fine, 1 nothing there, 2 usage."
_ID = typer.Argument(help="The id of a question, or its first eight letters.")
_BY = typer.Option("--by", help="Who answers; else the user of this system.")
_SHORTEST_ID = 8
_DAY_US = 86_400_000_000
approvals = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Questions of gates: see them, answer them, revoke a yes."
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    from bursar.cli import approvals_try

    approvals_try.register(approvals)
    app.add_typer(approvals, name="approvals")


@approvals.command("list", epilog="Example: bursar approvals list. " + _CODES)
def list_command(
    everything: Annotated[bool, typer.Option("--all", help="Answered ones of the last week too.")] = False,
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the questions that wait for an answer; identical ones are one line."""
    book = _book(ledger)
    rows = book.latest(book.now_us() - 7 * _DAY_US, 500) if everything else book.open_ones()
    if json:
        import orjson

        output(orjson.dumps([row._asdict() for row in rows]).decode())
        return
    if not rows:
        fail("no question waits for an answer" if not everything else "no question within a week")
    _table(book, rows)


@approvals.command("show", epilog="Example: bursar approvals show 1b330cf2. " + _CODES)
def show_command(number: Annotated[str, _ID], ledger: LedgerOption = None) -> None:
    """Show all that is known of a question, made harmless for the terminal."""
    from bursar.approvals.screen import shown

    row = _find(_book(ledger), number)
    for line in shown(row).lines:
        output(line)
    if row.state != "asked":
        output(f"state   {_ending(row)}")


@approvals.command(
    "approve",
    epilog="Examples: bursar approvals approve 1b330cf2 --for run --up-to 2.50; bursar approvals approve 1b330cf2 "
    "--raise-usd 0.50. " + _CODES,
)
def approve_command(
    number: Annotated[str, _ID],
    scope: Annotated[str, typer.Option("--for", help="once, run (this run), tool (in this workflow).")] = "once",
    up_to: Annotated[str | None, typer.Option("--up-to", help="Dollars, of all calls that it covers.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="For how long: 30m, 2h, 1d; or till when: 17:45.")
    ] = None,
    raise_by: Annotated[
        str | None, typer.Option("--raise-usd", help="Raise the limit of the run's own budget by so much, once.")
    ] = None,
    edit: Annotated[str | None, typer.Option("--edit", help="Other arguments for the tool, as JSON.")] = None,
    alike: Annotated[bool, typer.Option("--alike", help="All open questions that ask the same as well.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept with the answer.")] = None,
    by: Annotated[str | None, _BY] = None,
    ledger: LedgerOption = None,
) -> None:
    """Say yes to a question."""
    from bursar.words.questions import Reply

    arguments = None if edit is None else read_object(edit, "--edit")
    reply = Reply(
        yes=True,
        scope=scope,
        up_to_usd=up_to,
        until=until,
        arguments=arguments,
        reason=reason,
        by=by or _user(),
        raise_usd=raise_by,
    )
    _answer(ledger, number, reply, alike=alike)


@approvals.command("deny", epilog='Example: bursar approvals deny 1b330cf2 --reason "use the cached one". ' + _CODES)
def deny_command(
    number: Annotated[str, _ID],
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why not; a model that asked for a tool reads it.")
    ] = None,
    alike: Annotated[bool, typer.Option("--alike", help="All open questions that ask the same as well.")] = False,
    by: Annotated[str | None, _BY] = None,
    ledger: LedgerOption = None,
) -> None:
    """Say no to a question."""
    from bursar.words.questions import Reply

    _answer(ledger, number, Reply(yes=False, reason=reason, by=by or _user()), alike=alike)


@approvals.command("watch", epilog="Example: bursar approvals watch. Ends with Ctrl-C. " + _CODES)
def watch_command(
    ledger: LedgerOption = None,
    once: Annotated[bool, typer.Option("--once", help="End when no question is open any more.")] = False,
) -> None:
    """Wait for questions and ask each at this terminal, the oldest first."""
    import time

    from bursar.approvals.approver import UnableError
    from bursar.approvals.terminal import Terminal

    book = _book(ledger)
    terminal, seen = Terminal(book), set[str]()
    while True:
        rows = [row for row in book.open_ones() if row.id not in seen]
        if not rows and once:
            return
        for row in rows:
            seen.add(row.id)
            most_us = 600_000_000 if row.until_us is None else max(0, row.until_us - book.now_us())
            try:
                reply = terminal.answer(row, most_us)
            except UnableError as error:
                fail(str(error))
            if reply is not None:
                book.decide(row.id, reply, by=reply.by, via="watch")
        time.sleep(0.2)


@approvals.command("grants", epilog="Example: bursar approvals grants. " + _CODES)
def grants_command(ledger: LedgerOption = None) -> None:
    """List every yes that lasts, for what, up to how much, by whom; and every budget that an answer has raised."""
    from bursar.words.money import show_usd

    book = _book(ledger)
    rows: list[tuple[str, ...]] = []
    for grant in book.grants():
        over = grant.until_us is not None and grant.until_us <= book.now_us()
        state = (
            "revoked"
            if grant.revoked_us is not None
            else "over"
            if over
            else f"in force{_till(grant.until_us, book.now_us())}"
        )
        amount = "" if grant.up_to_nusd is None else f"{show_usd(grant.used_nusd)} of {show_usd(grant.up_to_nusd)}"
        where = f"run {grant.run_id or ''}"[:14] if grant.scope == "run" else f"workflow {safe(grant.workflow, 24)}"
        each = "unknown" if grant.each_nusd is None else show_usd(grant.each_nusd)
        rows.append((grant.id[:8], f"{grant.kind} {safe(grant.name, 30)}", where, each, amount, str(grant.uses),
                     safe(grant.by_whom, 16), state))  # fmt: skip
    rows += [_raised(row) for row in book.raises()]
    if not rows:
        fail("no yes lasts; `bursar approvals approve ID --for run` makes one")
    text_table(("grant", "for", "where", "each", "used", "uses", "by", "state"), rows)


@approvals.command("revoke", epilog="Example: bursar approvals revoke 7c01b2aa. " + _CODES)
def revoke_command(
    number: Annotated[str, typer.Argument(help="The id of a grant, or its first eight letters.")],
    by: Annotated[str | None, _BY] = None,
    ledger: LedgerOption = None,
) -> None:
    """Take back a yes that lasts; calls are asked about again."""
    book = _book(ledger)
    found = [grant.id for grant in book.grants() if _is(grant.id, number)]
    if len(found) != 1 or not book.revoke(found[0], by or _user()):
        fail(f"no grant {safe(number)} is in force; `bursar approvals grants` lists them")
    output(f"grant {found[0][:8]} is revoked")


def _answer(ledger: Path | None, number: str, reply: Reply, *, alike: bool) -> None:
    book = _book(ledger)
    row = _find(book, number)
    rows = [row]
    if alike:
        rows += [other for other in book.open_ones() if other.binding == row.binding and other.id != row.id]
    for each in rows:
        now, taken = book.decide(each.id, reply, by=reply.by, via="inbox")
        if not taken:
            fail(f"question {each.id[:8]} is not open any more: {_ending(now)}")
        output(f"question {each.id[:8]}: {_ending(now)}" + (f", grant {now.grant_id[:8]}" if now.grant_id else ""))


def _find(book: Book, number: str) -> Row:
    found = book.like(number) if len(number) >= _SHORTEST_ID and number.isalnum() else []
    if len(found) != 1:
        fail(f"there is no question {safe(number)}; `bursar approvals list` shows those that are open")
    return found[0]


def _is(number: str, given: str) -> bool:
    return len(given) >= _SHORTEST_ID and number.startswith(given)


def _ending(row: Row) -> str:
    if row.state == "asked":
        return "its time is over"
    by = f" by {safe(row.by_whom, 30)}" if row.by_whom else ""
    from bursar.words.money import show_usd

    more = "" if row.raise_nusd is None else f", {show_usd(row.raise_nusd)} more for {safe(row.limit_scope)}"
    return f"{row.state}{by}{more}" + (f": {safe(row.reason, 200)}" if row.reason else "")


def _table(book: Book, rows: list[Row]) -> None:
    from bursar.words.money import show_usd

    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.binding, row.state), []).append(row)
    lines = []
    for (_, state), alike in groups.items():
        row = alike[0]
        left = "" if row.until_us is None else f"{max(0, row.until_us - book.now_us()) / 1_000_000:,.0f} s"
        what, price = f"{row.kind} {safe(row.name, 30)}", (show_usd(row.likely_nusd), show_usd(row.ceiling_nusd))
        ending = left if state == "asked" else state
        lines.append((row.id[:8], what, safe(row.workflow, 20), str(len(alike)), *price, ending))
    text_table(("question", "for", "workflow", "times", "likely", "at most", "left"), lines)


def _till(until_us: int | None, now_us: int) -> str:
    from datetime import datetime

    if until_us is None:
        return ""
    # On the clock of whoever looks.
    then = datetime.fromtimestamp(until_us / 1_000_000).astimezone()
    return f" till {then:%H:%M}" if until_us - now_us < _DAY_US else f" till {then:%d %b}"


def _raised(row: Row) -> tuple[str, ...]:
    """A budget that an answer has raised, as a line among the grants; it is used at once, or never."""
    from bursar.words.money import show_usd

    limit, run = f"limit of {safe(row.limit_scope)}"[:24], f"run {row.run_id or ''}"[:14]
    uses, state = ("1", "raised") if row.used_us else ("0", "not used")
    return row.id[:8], limit, run, "", f"{show_usd(row.raise_nusd)} more", uses, safe(row.by_whom, 16), state


def _user() -> str:
    import getpass

    return getpass.getuser()


def _book(ledger: Path | None) -> Book:
    from bursar.approvals.book import Book
    from bursar.db import open_ledger
    from bursar.words.clock import CLOCK
    from bursar.words.errors import LedgerError

    path = ledger_path(ledger)
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path} yet; run something under bursar.run(...), or `bursar demo`")
    database = open_ledger(path)
    return Book(lambda: database, CLOCK.wall_us)
