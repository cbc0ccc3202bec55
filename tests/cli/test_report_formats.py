"""`bursar report` for other programs and for people who read pages: CSV, Markdown, HTML, and by time."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.words.events import Usage
from tests.cli.test_explain import History
from tests.cli.test_report import write

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = ['=HYPERLINK("http://x")', "<script>alert(1)</script>", 'a"b,c\nd', "x | y", "+1", "@cmd", "'); DROP TABLE"]


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", *arguments])


def test_csv_has_every_figure_and_no_formula(ledger: Path) -> None:
    """As many rows as the table, the same numbers, and no cell that a spreadsheet would run."""
    write(ledger, *HOSTILE)
    rows = list(csv.DictReader(io.StringIO(cli("--csv").output)))
    table = json.loads(cli("--json").output)
    assert len(rows) == len(HOSTILE)
    assert sum(int(row["nusd"]) for row in rows) == table["total"]["nusd"]
    assert not any(row["workflow"][:1] in "=+-@\t\r" for row in rows)
    formulas = {name for name in HOSTILE if name[0] in "=+@"}
    assert {row["workflow"] for row in rows} == {f"'{name}" if name in formulas else name for name in HOSTILE}


def test_markdown_keeps_its_columns(ledger: Path) -> None:
    """A name with a bar in it stays one cell, and no name becomes markup."""
    write(ledger, *HOSTILE)
    lines = [line for line in cli("--markdown").output.splitlines() if line.strip()]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(widths) == 1
    assert len(lines) == len(HOSTILE) + 3
    assert "<script>" not in "".join(lines)


class Page(HTMLParser):
    """Collects tags, and the text of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "onload", "onclick")]

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_the_page_stands_alone_and_shows_three_charts(ledger: Path, tmp_path: Path) -> None:
    """Nothing is loaded and nothing runs; tokens, latencies and sessions are drawn, and the table is in it."""
    history = History(ledger)
    for name in HOSTILE:
        history.run(2, "u", 2, 1_000, workflow=name, feature=name)
    target = tmp_path / "report.html"
    done = cli("--html", str(target))
    assert (done.exit_code, done.stdout) == (0, "")
    text = target.read_text()
    page = Page(text)
    assert page.tags.count("svg") == 2
    assert "no call names a session" in text
    assert page.loads == []
    assert "script" not in page.tags
    assert page.tags.count("tr") == len(HOSTILE) + 2
    assert set(HOSTILE) - {'a"b,c\nd'} <= set(page.cells)
    assert len(text) < 100_000


def test_the_dearest_sessions_are_drawn(ledger: Path, tmp_path: Path) -> None:
    """Where calls name their session."""
    from bursar.words.records import Tags, Who

    for number in range(30):
        write(ledger, "w", who=Who(Tags("w"), None, f"session {number}"), cost_nusd=1_000_000 * (number + 1))
    cli("--html", str(tmp_path / "report.html"))
    page = Page((tmp_path / "report.html").read_text())
    assert page.tags.count("svg") == 3
    assert "session 29" in page.cells
    assert "session 2" not in page.cells


def test_the_page_says_when_cuts_pay_and_who_owns_what(ledger: Path, tmp_path: Path) -> None:
    """As the terminal does: the break-even of the context window's cuts, what they took out, the owner of a workflow."""
    from bursar.tracing.ledger import Ledger
    from bursar.words.clock import new_id
    from bursar.words.records import Tags, Verdict, Who

    write(ledger, "w", trimmed_tokens=500, who=Who(Tags("w", owner="support")))
    writer = Ledger(ledger)
    cut: dict[str, Any] = {"tokens": 500, "nusd": 1_000_000, "pays_after": 3}
    writer.write(Verdict(time.time_ns() // 1_000, None, new_id(), "window", "trim", "clear", **cut))
    writer.close()
    cli("--html", str(tmp_path / "report.html"))
    page = Page((tmp_path / "report.html").read_text())
    assert {"trimmed", "500", "owner", "support"} <= set(page.cells)
    (note,) = (cell for cell in page.cells if cell.startswith("context window: "))
    assert note in cli().output
    assert "half of them earn back within 3 steps" in note


@pytest.mark.parametrize(
    ("by", "form"),
    [
        ("hour", r"\d{4}-\d\d-\d\dT\d\dZ"),
        ("day", r"\d{4}-\d\d-\d\d"),
        ("week", r"\d{4}-W\d\d"),
        ("month", r"\d{4}-\d\d"),
    ],
)
def test_times_stand_in_their_order(ledger: Path, by: str, form: str) -> None:
    """By hour, day, week and month, the earliest first, whatever they cost."""
    history = History(ledger)
    for days_ago, calls in ((40, 1), (20, 9), (3, 2), (0, 1)):
        history.run(days_ago, "u", calls, 100)
    keys = [row["key"] for row in json.loads(cli("--by", by, "--json").output)["rows"]]
    assert keys == sorted(keys)
    assert len(keys) >= 2
    assert all(re.fullmatch(form, key) for key in keys)


def test_tiers_are_told_apart(ledger: Path) -> None:
    """What was served, else what was asked for, else the standard one."""
    write(ledger, "w")
    write(ledger, "w", tier_requested="flex", tier_served="default", usage=Usage(1, 1))
    write(ledger, "w", tier_requested="priority")
    keys = {row["key"] for row in json.loads(cli("--by", "tier", "--json").output)["rows"]}
    assert keys == {"standard", "default", "priority"}


def test_one_form_at_a_time(ledger: Path, tmp_path: Path) -> None:
    """Two forms at once are wrong usage; a page that cannot be written is said, with exit code 1."""
    write(ledger, "w")
    assert cli("--json", "--csv").exit_code == 2
    done = cli("--html", str(tmp_path / "none" / "report.html"))
    assert done.exit_code == 1
    assert "cannot be written" in done.output
