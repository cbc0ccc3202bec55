"""The inbox: questions in the ledger, answered by `bursar approvals` or any process, each once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget, CostGate
from bursar.approvals import Reply
from bursar.cli.app import app
from bursar.runs.process import process
from tests.approvals.test_gates import _question

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:run 'w' ended and saw no model call")


def cli(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["approvals", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.approvals.crowd", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )


def test_a_hundred_questions_and_four_who_answer_and_are_killed(ledger: Path, tmp_path: Path) -> None:
    """Each is decided exactly once, none is made without a yes, none is lost, whoever dies in between."""
    made = tmp_path / "made.txt"
    asking = start("ask", "100", str(made))
    answering = [start("answer", str(ledger), f"a{n}") for n in range(4)]
    for n in range(3):
        threading.Event().wait(random.uniform(0.5, 1.5))
        answering[n].kill()
    out, _ = asking.communicate(timeout=120)
    for each in answering:
        each.kill()
        each.wait()
        assert each.stdout is not None
        each.stdout.close()
    yes, no = map(int, out.split())
    rows = process().approvals.book.latest(0, 1_000)
    lines = made.read_text().split()
    assert yes + no == len(rows) == 100
    assert sorted(row.state for row in rows) == ["denied"] * no + ["used"] * yes
    assert len(lines) == len(set(lines)) == yes
    assert all(row.by_whom for row in rows)


def test_a_question_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    """Killed while questions are open: none waits any more, none can be answered, nothing is made and nothing is held."""
    made = tmp_path / "made.txt"
    asking = start("ask", "5", str(made))
    book = process().approvals.book
    while len(book.open_ones()) < 5:
        threading.Event().wait(0.02)
    first = book.open_ones()[0]
    asking.kill()
    asking.communicate()
    assert not book.decide(first.id, Reply(True), by="ana", via="inbox")[1]
    assert book.open_ones() == []
    rows = book.latest(0, 100)
    assert [(row.state, row.reason, row.arguments) for row in rows] == [
        ("withdrawn", "the process that asked is gone", None)
    ] * 5
    assert not made.exists()
    assert process().shared.recover() == 0
    assert list(process().shared.scan()) == []
    assert "the process that asked is gone" in cli("approve", first.id, code=1)
    assert list(process().ledger.path.parent.glob("*.owners/*")) == []


def test_questions_of_living_processes_and_kept_graphs_stay(tmp_path: Path) -> None:
    """Who lives may take its time; a graph that was interrupted lives in no process, and its question ends with its time."""
    book = process().approvals.book
    graph = book.open(_question(), until_us=None, asking="interrupt", user_hash=None, place="p1")
    late = book.open(_question(), until_us=book.now_us() - 1, asking="interrupt", user_hash=None, place="p2")
    asking = start("ask", "2", str(tmp_path / "made.txt"))
    while len(book.open_ones()) < 3:
        threading.Event().wait(0.02)
    assert {row.state for row in book.latest(0, 10)} == {"asked", "timeout"}
    for row in book.open_ones():
        if row.id != graph.id:
            assert book.decide(row.id, Reply(False), by="ana", via="inbox")[1]
    assert asking.communicate(timeout=60)[0].split() == ["0", "2"]
    assert [row.id for row in book.open_ones()] == [graph.id]
    found = book.row(late.id)
    assert found is not None
    assert (found.state, found.arguments) == ("timeout", None)


def test_of_two_answers_at_once_one_is_taken() -> None:
    """A yes and a no in the same moment: the row says which, and only who was taken is told so."""
    book = process().approvals.book
    for _ in range(10):
        row = book.open(_question(), until_us=None, asking="inbox", user_hash=None)
        barrier = threading.Barrier(2)
        taken: list[str] = []

        def say(yes: bool, number: str = row.id, barrier: threading.Barrier = barrier, taken: Any = taken) -> None:
            barrier.wait()
            if book.decide(number, Reply(yes), by=str(yes), via="inbox")[1]:
                taken.append(str(yes))

        threads = [threading.Thread(target=say, args=(yes,)) for yes in (True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = book.row(row.id)
        assert found is not None
        assert taken == [found.by_whom]


def asking(args: dict[str, Any], times: int = 1) -> tuple[list[threading.Thread], list[Any]]:
    said: list[Any] = []
    pay = bursar.tool(usd="0.02", name="pay")(lambda **what: f"paid {json.dumps(what)}")

    def work() -> None:
        with bursar.run("w", Budget(usd="1"), CostGate(tool="pay", ask="always", approver="inbox", timeout="60s")):
            said.append(pay(**args))

    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    while len(process().approvals.book.open_ones()) < times:
        threading.Event().wait(0.02)
    return threads, said


def test_the_command_line_lists_shows_and_answers() -> None:
    """Identical questions are one line, answered together; an edit runs; a reason reaches the model; hostile text does not."""
    threads, said = asking({"to": "bob\x1b[2J"}, times=2)
    listed = cli("list")
    number = next(line for line in listed.splitlines() if "pay" in line).split()[0]
    assert listed.count("tool pay") == 1
    shown = cli("show", number)
    assert "\\u001b[2J" in shown
    assert "\x1b" not in shown
    assert len(json.loads(cli("list", "--json"))) == 2
    assert cli("approve", number, "--alike", "--by", "ana").count("approved") == 2
    for thread in threads:
        thread.join()
    assert all("paid" in each for each in said)
    assert "is not open any more: used by ana" in cli("deny", number, code=1)
    threads, said = asking({"to": "bob"})
    number = process().approvals.book.open_ones()[0].id
    cli("approve", number, "--edit", '{"to": "alice"}')
    threads[0].join()
    assert said == ['paid {"to": "alice"}']
    threads, said = asking({"to": "bob"})
    cli("deny", process().approvals.book.open_ones()[0].id, "--reason", "ask finance")
    threads[0].join()
    assert "ask finance" in said[0]
    assert "used" in cli("list", "--all")


def test_grants_are_listed_and_revoked() -> None:
    """A yes for a tool and a time; taken back it covers nothing, and cannot be taken back twice."""
    threads, _ = asking({"to": "bob"})
    number = process().approvals.book.open_ones()[0].id
    assert "grant" in cli("approve", number, "--for", "tool", "--up-to", "0.06", "--until", "2h")
    threads[0].join()
    line = next(line for line in cli("grants").splitlines() if "pay" in line)
    assert "$0.02000 of $0.06000" in line
    assert "in force" in line
    cli("revoke", line.split()[0])
    assert "revoked" in cli("grants")
    cli("revoke", line.split()[0], code=1)


def test_what_is_not_there_is_named() -> None:
    """No ledger, no question, an id that is too short, an answer that cannot be meant."""
    assert "no ledger" in str(CliRunner().invoke(app, ["approvals", "list"]).exception)
    process().approvals.book.open(_question(), until_us=None, asking="inbox", user_hash=None)
    assert "no question 00000000" in cli("show", "00000000", code=1)
    number = process().approvals.book.open_ones()[0].id
    cli("show", number[:4], code=1)
    assert "name scope" in str(CliRunner().invoke(app, ["approvals", "approve", number, "--up-to", "1"]).exception)
    assert "is no JSON" in str(CliRunner().invoke(app, ["approvals", "approve", number, "--edit", "{x"]).exception)


def test_which_gate_would_ask_can_be_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bursar approvals test` names rule, place and reason, and exits with 1 where somebody would be asked."""
    config = tmp_path / "bursar.toml"
    config.write_text(
        '[tool."wire_*"]\nusd = "0.30"\n\n[[gate]]\ntool = "wire_*"\nask = "always"\napprover = "inbox"\n\n'
        '[[gate]]\nask_above_usd = "0.25"\ndeny_above_usd = "2"\n'
    )
    monkeypatch.setenv("BURSAR_CONFIG", str(config))
    said = cli("test", "--tool", "wire_money", code=1)
    assert "bursar.toml:4, because every call of tool wire_money is asked about; asked: inbox" in said
    assert "bursar.toml:9, because it will probably cost $0.3000, above $0.2500" in said
    assert said.count("ask ") == 2
    assert "deny" in cli("test", "--model", "gpt-4o", "--usd", "0.10", "--at-most", "3", code=1)
    assert "none of 2 gates" in cli("test", "--model", "gpt-4o", "--usd", "0.10")
    monkeypatch.setenv("NO_COLOR", "1")
    assert os.environ["BURSAR_CONFIG"]
