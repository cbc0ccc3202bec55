"""`bursar forget` and `bursar trace --content`: what is kept of people is shown safely, and can be taken out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.settings.limits import scope_name
from bursar.stores.sqlite import SqliteStore
from bursar.tracing.content import Contents, Part
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from bursar.tracing.users import hash_user, load_user_key
from bursar.words.clock import new_id
from bursar.words.events import Amounts, Usage, UsageSource
from bursar.words.ports import Scope
from bursar.words.records import ModelCall, RunRecord, Tags, ToolCall, Verdict, Who

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.words.records import Record

EVIL = "line one\n\x1b]0;t\x07\x1b]8;;http://x\x07\x9b2J\r\b\u202e\u2066\u200b\U000e0041\u2028[red]"


@pytest.fixture
def filled(ledger: Path) -> Path:
    """Run AB of ada (two calls, one with content) and run AC of bob (one call with content)."""
    writer = Ledger(ledger)
    contents = Contents(writer, "full", 3_600)
    for run_id, user, n in (("AB", "ada", 2), ("AC", "bob", 1)):
        who = Who(Tags("w"), user, f"session of {user}")
        writer.write(RunRecord(run_id, None, who, 1))
        for _ in range(n):
            op_id = new_id()
            writer.write(
                ModelCall(
                    f"{op_id}/0", op_id, 0, 1, who, "openai", "gpt-4o", "sync", run_id=run_id, cost_nusd=5,
                    usage=Usage(7, 1), usage_source=UsageSource.PROVIDER,
                )
            )  # fmt: skip
        contents.keep(f"{op_id}/0", [Part("user", f"{user} asks {EVIL}")], [Part("assistant", f"yes, {user}")])
    writer.close()
    return ledger


def cli(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(app, list(arguments), **options)


def test_a_forgotten_user_is_in_no_row_and_no_byte(filled: Path) -> None:
    """His hash, his sessions and his words are gone from the file; what he cost stays, and so does everybody else."""
    marked = hash_user("ada", load_user_key(filled))
    assert marked.encode() in filled.read_bytes()
    done = cli("forget", "--user", "ada", "--yes", "--json")
    assert (done.exit_code, json.loads(done.output)) == (
        0,
        {"model_calls": 2, "runs": 1, "contents": 1, "tool_calls": 0},
    )
    for path in filled.parent.glob("ledger.db*"):
        assert marked.encode() not in path.read_bytes(), path
        assert b"session of ada" not in path.read_bytes(), path
    with Reader(filled) as reader:
        spent = {row.key: (row.requests, row.nusd) for row in reader.spend_by("user")}
        assert spent == {"forgotten": (2, 10), hash_user("bob", load_user_key(filled)): (1, 5)}
        assert [run.user for run in reader.runs()][-1] == "forgotten"
    assert "ada asks" not in cli("trace", "AB", "--content").output
    assert "bob asks" in cli("trace", "AC", "--content").output
    again = cli("forget", "--user", "ada", "--yes")
    assert again.exit_code == 1
    assert "has nothing of user 'ada'" in again.stderr


def test_limits_and_refusals_forget_the_user_too(filled: Path) -> None:
    """Accounts of his and of his sessions keep their balances under no name; verdicts do not name him."""
    marked = hash_user("ada", load_user_key(filled))
    store = SqliteStore.at(filled)
    scopes = [
        Scope("user", scope_name(marked), "day:2026-11-24"),
        Scope("session", scope_name("session of ada"), "total"),
    ]
    for scope in scopes:
        store.define(scope, {"usd": 10})
    store.settle("x/0", (scopes[0],), Amounts(nusd=3), measured=True)
    store.close()
    writer = Ledger(filled)
    writer.write(Verdict(5, "AB", "op", "budget", "deny", "no_room", scope=str(scopes[0])))
    writer.close()
    assert cli("forget", "--user", "ada", "--yes").exit_code == 0
    rows = SqliteStore.at(filled).every_account()
    assert {row.scope.name.split()[0] for row in rows} == {"forgotten"}
    assert sum(row.settled.nusd for row in rows) == 3
    with Reader(filled) as reader:
        (verdict,) = reader.verdicts(reader.runs())
    assert verdict.scope == "user forgotten day:2026-11-24"
    for path in filled.parent.glob("ledger.db*"):
        assert marked.encode() not in path.read_bytes(), path


def test_a_record_that_was_kept_aside_is_forgotten_as_well(filled: Path) -> None:
    """What lies in a spool file is taken back first."""
    writer = Ledger(filled)
    writer.write(RunRecord("AD", None, Who(Tags("w"), "ada"), 1))
    with pytest.warns(UserWarning, match="records go to"):
        writer._keep_aside(RunRecord("AE", None, Who(Tags("w"), "ada"), 1), None, "a test")
    writer.close()
    done = cli("forget", "--user", "ada", "--yes", "--json")
    assert json.loads(done.output)["runs"] == 3
    assert list(filled.parent.glob("*.spool*")) == []


@pytest.mark.parametrize("same_process", [True, False])
def test_an_open_run_stays_nobodys_and_the_next_one_is_his(filled: Path, *, same_process: bool) -> None:
    """What a run goes on to write would lead back to what was forgotten of it; what he does later is new."""
    who, marked = Who(Tags("w"), "ada", "session of ada"), hash_user("ada", load_user_key(filled))

    def call(run_id: str | None, hours: int = 0) -> ModelCall:
        op_id, at_us = new_id(), 1 + hours * 3_600_000_000
        return ModelCall(f"{op_id}/0", op_id, 0, at_us, who, "openai", "gpt-4o", "sync", run_id=run_id, cost_nusd=5)

    def tool(run_id: str) -> ToolCall:
        op_id = new_id()
        return ToolCall(f"{op_id}/0", op_id, 1, who, "search", run_id=run_id)

    def whose(table: str) -> list[tuple[str, int]]:
        ids = "JOIN run r ON r.number = t.run" if table != "run" else ""
        return writer.database().execute(
            f"SELECT t.user_hash, count(*) FROM {table} t {ids} WHERE run_id IN ('AB', 'AD', 'AE') GROUP BY 1 ORDER BY 1"
        )

    writer = Ledger(filled)
    record: Record
    for record in (call("AB"), call(None), tool("AB")):
        writer.write(record)
    assert cli("forget", "--user", "ada", "--yes").exit_code == 0
    if not same_process:
        writer.close()
        writer = Ledger(filled)
    ended, nested = RunRecord("AB", None, who, 1, 2, "finished"), RunRecord("AE", "AB", who, 1)
    for record in (call("AB"), tool("AB"), nested, call("AE"), ended, call(None, hours=1)):
        writer.write(record)
    assert [whose(table) for table in ("model_call", "tool_call", "run")] == [
        [("forgotten", 5)], [("forgotten", 2)], [("forgotten", 2)],
    ]  # fmt: skip
    for record in (RunRecord("AD", None, who, 1), call("AD"), tool("AD")):
        writer.write(record)
    assert [dict(whose(table))[marked] for table in ("model_call", "tool_call", "run")] == [1, 1, 1]
    outside = "SELECT user_hash FROM model_call WHERE run IS NULL ORDER BY call_id"
    assert writer.database().execute(outside) == [("forgotten",), (marked,)]
    writer.close()


def test_it_asks_only_where_somebody_can_answer(filled: Path) -> None:
    """Without a terminal and without --yes it is wrong usage, and nothing is changed."""
    done = cli("forget", "--user", "ada")
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    with Reader(filled) as reader:
        assert len(reader.spend_by("user")) == 2


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, 2), ("y\n", 0, 2)])
def test_on_a_terminal_it_asks(
    filled: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int
) -> None:
    """With the counts in the question; anything but yes leaves all as it is."""
    import pty
    import subprocess
    import sys

    parent, child = pty.openpty()
    command = [sys.executable, "-c", "from bursar.cli import main; main()", "forget", "--user", "ada"]
    process = subprocess.Popen(command, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    import os

    os.write(parent, answer.encode())
    out, err = process.communicate(timeout=20)
    os.close(parent)
    os.close(child)
    assert process.returncode == code
    assert "2 model calls, 0 tool calls, 1 runs, 1 kept contents" in err + out
    with Reader(filled) as reader:
        keys = {row.key for row in reader.spend_by("user")}
        assert ("forgotten" in keys) == (answer == "y\n")
        assert len(keys) == left


def test_without_the_key_nobody_is_found(filled: Path) -> None:
    """The key file is missing: the error names it, and no new one is made."""
    filled.with_name("user.key").rename(filled.with_name("elsewhere"))
    done = cli("forget", "--user", "ada", "--yes")
    assert done.exit_code == 1
    assert not filled.with_name("user.key").exists()


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Its name in the error, exit code 1."""
    done = cli("forget", "--user", "ada", "--yes", "--ledger", str(tmp_path / "none.db"))
    assert done.exit_code == 1
    assert not (tmp_path / "none.db").exists()


def test_content_is_shown_without_a_character_that_a_terminal_obeys(filled: Path) -> None:
    """Escapes, C1 codes, turned, invisible and line-breaking characters are shown as their codes; markup is text."""
    shown = cli("trace", "AB", "--content").output
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\U000e0000-\U000e007f]", shown
    )
    for code in ("1b", "7", "9b", "d", "8", "202e", "2066", "200b", "e0041", "2028"):
        assert f"\\u{{{code}}}" in shown
    assert "[red]" in shown
    assert "user: ada asks line one" in shown
    assert "assistant: yes, ada" in shown
    assert "ada asks" not in cli("trace", "AB").output


def test_content_is_data_for_programs(filled: Path) -> None:
    """By call id under `content`, whole, in ASCII."""
    done = cli("trace", "AB", "--content", "--json")
    (content,) = json.loads(done.output)["content"].values()
    assert content["asked"] == [{"role": "user", "text": f"ada asks {EVIL}"}]
    assert (content["mode"], content["said"][0]["role"]) == ("full", "assistant")
    assert done.output.isascii()
    assert "content" not in json.loads(cli("trace", "AB", "--json").output)


def test_where_nothing_is_kept_it_is_said(filled: Path) -> None:
    """The tree is shown all the same."""
    cli("forget", "--user", "ada", "--yes")
    done = cli("trace", "AB", "--content")
    assert done.exit_code == 0
    assert "nothing is kept of this run" in done.stderr
