"""`bursar report`: who spent what, readable anywhere and harmless."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.tracing.ledger import Ledger
from bursar.words.clock import new_id
from bursar.words.events import AttemptSource, CostStatus, RetryReason, Status, Usage, UsageSource
from bursar.words.records import UNATTRIBUTED, ModelCall, Tags, Who

if TYPE_CHECKING:
    from pathlib import Path

BURSAR = [sys.executable, "-c", "import sys; from bursar.cli import main; sys.argv[0] = 'bursar'; main()"]


def write(ledger: Path, *workflows: str, **changes: Any) -> None:
    writer = Ledger(ledger)
    for workflow in workflows:
        op_id = new_id()
        fields: dict[str, Any] = {
            "call_id": f"{op_id}/0", "op_id": op_id, "attempt": 0, "ts_us": time.time_ns() // 1_000,
            "who": Who(Tags(workflow)), "provider": "openai", "request_model": "gpt-4o", "path": "sync",
            "usage": Usage(1_000, 20), "usage_source": UsageSource.PROVIDER, "cost_nusd": 10_000_000,
            "cost_status": CostStatus.LIST_PRICE, "latency_us": 1_500_000,
        }  # fmt: skip
        writer.write(ModelCall(**(fields | changes)))
    writer.close()


def cli(*arguments: str, **environ: str) -> Any:
    return CliRunner(env=environ).invoke(app, ["report", *arguments])


def terminal(*arguments: str, **environ: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*BURSAR, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"} | environ
    ):
        os.close(theirs)
        shown = b""
        try:
            while some := os.read(ours, 65_536):
                shown += some
        except OSError:
            # How a terminal says that nobody writes to it any more.
            pass
        os.close(ours)
    return shown.decode()


def test_empty_columns_are_left_out(ledger: Path) -> None:
    """A plain ledger has a plain table; what is not nothing has its column."""
    write(ledger, "w")
    names = re.split(r" {1,}", cli().output.splitlines()[0].strip())
    assert not {"cached", "written", "tools", "retries", "sure"} & set(names)
    assert {"workflow", "calls", "input", "output", "cost"} <= set(names)
    write(ledger, "w", usage=Usage(1_000, 20, 500, 3), tool_calls=2, cost_nusd=None, cost_status=CostStatus.UNKNOWN)
    shown = cli().output
    assert {"cached", "written", "tools"} <= set(shown.splitlines()[0].split())
    assert "1 unpriced" in shown


def test_a_full_table_fits_a_hundred_columns(ledger: Path) -> None:
    """Every column filled, millions of tokens, names that are too long: no line is longer than 100."""
    usage = Usage(123_456_789, 9_876_543, 45_678_901, 2_345_678)
    names = [f"a workflow with a long name of its own, number {n}" for n in range(3)] + [UNATTRIBUTED]
    fields: dict[str, Any] = {
        "usage": usage, "tool_calls": 1_234, "cost_nusd": 123_456_789_000, "latency_us": 612_345_678,
        "usage_source": UsageSource.ESTIMATED,
    }  # fmt: skip
    operations = {name: new_id() for name in names}
    for name, op_id in operations.items():
        ids = {"call_id": f"{op_id}/0", "op_id": op_id}
        write(ledger, name, status=Status.ERROR, retry_reason=RetryReason.RATE_LIMIT, **ids, **fields)
        again = ids | {"call_id": f"{op_id}/1", "attempt_source": AttemptSource.SDK}
        write(ledger, name, **again, **fields)
    lines = cli().output.splitlines()
    assert max(map(len, lines)) <= 100
    first = next(number for number, line in enumerate(lines) if line.startswith("─")) + 1
    assert lines[first].startswith(UNATTRIBUTED)
    (last,) = (line for line in lines if line.startswith("total"))
    assert "988M" in last
    told = " ".join(lines[first : first + 3])
    for part in ("rate_limit", "(123.5M", "123M/", "612/", "unmeasured"):
        assert part in told, part


def test_no_word_is_broken_for_want_of_room(ledger: Path) -> None:
    """Numbers are rounded and columns left out and named before one is torn; the other formats keep all of them."""
    usage = Usage(123_456_789, 9_876_543, 45_678_901, 2_345_678)
    long = {"usage": usage, "usage_source": UsageSource.ESTIMATED, "trimmed_tokens": 45_678_901, "tool_calls": 123_456}
    for name in ("triage-of-incoming-mail", "drafting"):
        who = Who(Tags(name, owner="support-platform"))
        ids = {"op_id": (op_id := new_id()), "call_id": f"{op_id}/0"}
        write(ledger, name, who=who, status=Status.ERROR, retry_reason=RetryReason.RATE_LIMIT, **ids, **long)
        write(
            ledger,
            name,
            who=who,
            path="batch",
            cost_nusd=123_456_789_000_000,
            **ids | {"call_id": f"{op_id}/1"},
            **long,
        )
    shown = cli().output
    assert max(map(len, shown.splitlines())) <= 100
    for word in ("rate_limit", "unmeasured", "support-platform", "$123,456"):
        assert word in shown, word
    assert re.search(r"no room for: trimmed.*--markdown", shown)
    for word in ("trimmed", "written", "tools"):
        assert word in cli("--markdown").output.splitlines()[0]


def test_a_row_takes_one_line_where_rounding_is_enough(ledger: Path) -> None:
    """Millions of calls by day: thousands of them are rounded before anything is put into a second line."""
    usage = Usage(299_499, 12_345_678, 45_678_901, 0)
    fields: dict[str, Any] = {"usage": usage, "tool_calls": 96_772, "cost_nusd": 1_345_880_000_000}
    for n in range(3):
        op_id = new_id()
        write(ledger, f"import-{n}", op_id=op_id, call_id=f"{op_id}/0", status=Status.ERROR,
              retry_reason=RetryReason.RATE_LIMIT, **fields)  # fmt: skip
        write(ledger, f"import-{n}", op_id=op_id, call_id=f"{op_id}/1", cost_status=CostStatus.UPPER_BOUND, **fields)
    lines = cli().output.splitlines()
    assert len(lines) == 2 + 3 + 2
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    "name", ["\x1b[31mred", "[bold]x[/bold]", "[/]", "[link=http://x]y", "a\nb\rc", "\x9b31m", "\u202egnp", ":smile:"]
)
def test_a_name_is_text_and_nothing_else(ledger: Path, name: str) -> None:
    """Markup stays as it was typed; what a terminal obeys is shown as its code."""
    write(ledger, name)
    shown = cli().output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert len(shown.splitlines()) == 5
    if name.isprintable():
        assert name in shown


def test_owners_stand_beside_their_workflows(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What bursar.toml says, else who calls named last; in the table, as JSON, and by nothing else."""
    write(ledger, "triage", who=Who(Tags("triage", owner="support")))
    write(ledger, "search", "docs", who=Who(Tags("search")))
    config = tmp_path / "bursar.toml"
    config.write_text('[workflow.search]\nowner = "discovery"\n')
    monkeypatch.setenv("BURSAR_CONFIG", str(config))
    shown = cli().output
    assert shown.split()[:2] == ["workflow", "owner"]
    assert re.search(r"triage +support +1", shown)
    assert re.search(r"search +discovery +2", shown)
    rows = {row["key"]: row["owner"] for row in json.loads(cli("--json").output)["rows"]}
    assert rows == {"triage": "support", "search": "discovery"}
    assert "owner" not in cli("--by", "model").output


def test_colour_is_for_terminals(ledger: Path) -> None:
    """None in a pipe; on a terminal no colour either where NO_COLOR is set."""
    write(ledger, "w", "v")
    piped = subprocess.run([*BURSAR, "report"], capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in piped
    colour = r"\x1b\[[0-9;]*\b(3[0-8]|4[0-8]|9[0-7])[0-9;]*m"
    assert "total" in terminal("report", COLUMNS="100")
    assert not re.search(colour, terminal("report", COLUMNS="100", NO_COLOR="1"))


def test_times_bound_what_is_counted(ledger: Path) -> None:
    """--since is included, --until is not; between them nothing is exit code 1."""
    write(ledger, "w")
    for since, until, code in (("1h", None, 0), ("1d", "2199-01-01", 0), ("2199-01-01", None, 1), ("2d", "1d", 1)):
        arguments = ["--since", since, *(["--until", until] if until else [])]
        assert cli(*arguments).exit_code == code, arguments


@pytest.mark.parametrize("text", ["soon", "", "7", "d", "-1d", "7d ", "2026-13-01", "1e3d", "٧d"])
def test_a_time_that_is_none_is_wrong_usage(ledger: Path, text: str) -> None:
    """Exit code 2 and how to write one; said before the ledger is looked for."""
    for option in ("--since", "--until"):
        done = cli(f"{option}={text}")
        assert done.exit_code == 2
        assert "7d" in done.output


def test_the_ledger_is_the_one_that_is_named(ledger: Path, tmp_path: Path) -> None:
    """--ledger before BURSAR_LEDGER; a file that is no ledger is named and exit code 1."""
    other = tmp_path / "other.db"
    write(ledger, "from the environment")
    write(other, "from the option")
    assert "from the environment" in cli().output
    assert "from the option" in cli("--ledger", str(other)).output
    (tmp_path / "text.db").write_text("no ledger, though as long as one would be " * 20)
    for bad in ("text.db", "none.db", "."):
        done = subprocess.run(
            [*BURSAR, "report", "--ledger", str(tmp_path / bad)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"error: [^\n]+\n", done.stderr)


def test_a_damaged_ledger_is_one_line(ledger: Path) -> None:
    """Pages that were overwritten: no traceback, the file's name, exit code 1."""
    write(ledger, *(f"w{n}" for n in range(200)))
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-32_768] + b"\xff" * 32_768)
    done = subprocess.run([*BURSAR, "report"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: the ledger [^\n]+ledger\.db cannot be read [^\n]+\n", done.stderr)


def test_json_names_what_it_holds(ledger: Path) -> None:
    """One line, `unattributed` first, names as they are in the ledger, the total of all rows."""
    write(ledger, "\x1b[31mred", UNATTRIBUTED)
    shown = cli("--json").output
    assert shown.count("\n") == 1
    data = json.loads(shown)
    assert [row["key"] for row in data["rows"]] == [UNATTRIBUTED, "\x1b[31mred"]
    assert (data["total"]["nusd"], data["total"]["usd"]) == (20_000_000, "0.020000000")
    assert "\x1b" not in shown
