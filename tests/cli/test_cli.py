"""The command line: what it prints, its exit codes, and what it makes of bad input."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import typer
from typer.testing import CliRunner

import bursar
from bursar import Budget
from bursar.cli.app import app
from bursar.cli.console import safe
from bursar.cli.demo_langchain import langchain_run
from bursar.cli.ends import ending
from bursar.cli.times import read_day, read_time
from bursar.testing import Provider, Reply, ToolUse, scripted

NASTY = "\x1b[31m[bold]x\u202e</tag>"


@pytest.fixture
def filled(ledger: Path) -> bursar.Run:
    """A ledger with a run that has everything: retries, a nested run, a clamp, a refusal, a nasty name."""
    replies = scripted(
        [
            Reply(status=429, headers={"retry-after-ms": "1"}),
            Reply(tool_calls=[ToolUse("look", {})]),
            Reply(output_tokens=300),
            Reply(fault="no_usage"),
            Reply(),
        ]
    )
    asked: Any = {"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "hi"}]}
    with Provider(latency_s=0.0, replies=replies) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=1) as bare:
            client = bursar.wrap(bare)
            with bursar.run(NASTY, Budget(tokens=2_600), user="u") as outer:
                client.messages.create(**asked, max_tokens=500)
                with bursar.run("inner", Budget(usd="1")):
                    client.messages.create(**asked, max_tokens=400)
                client.messages.create(**asked, max_tokens=300)
                client.messages.create(**asked, max_tokens=8_000)
                with pytest.raises(bursar.BudgetExceeded):
                    while True:
                        client.messages.create(**asked, max_tokens=9_000)
            client.messages.create(**asked, max_tokens=50)
    bursar.runs.process.process().ledger.close()
    return outer


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_report_shows_who_spent_what(filled: bursar.Run) -> None:
    """Unattributed first, then the dearest, a total; nothing from a name reaches the terminal as a command."""
    result = cli("report")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert next(line for line in lines if "workflow" in line).split()[:2] == ["workflow", "calls"]
    assert lines[next(n for n, line in enumerate(lines) if line.startswith("─")) + 1].startswith("unattributed")
    assert "rate_limit" in result.output
    assert "unmeasured" in result.output
    assert "\x1b" not in result.output
    assert "\\u{1b}[31m" in result.output
    assert any(line.startswith("total") for line in lines[-4:])
    assert all(len(line) <= 100 for line in lines)


def test_a_report_as_json_adds_up(filled: bursar.Run) -> None:
    """The same as data: dollars as text, rows that add up to the total."""
    table = json.loads(cli("report", "--by", "model", "--since", "1d", "--json").output)
    assert table["by"] == "model"
    assert sum(row["nusd"] for row in table["rows"]) == table["total"]["nusd"]
    assert sum(row["share"] for row in table["rows"]) == pytest.approx(1)
    assert float(table["total"]["usd"]) == table["total"]["nusd"] / 1e9


def test_a_report_of_nothing_says_how_to_fill_it(filled: bursar.Run, tmp_path: Path) -> None:
    """No call in that time, no ledger, no such tag: exit code 1 and what to do."""
    result = cli("report", "--until", "2020-01-01")
    assert result.exit_code == 1
    assert "bursar demo" in result.output
    for arguments in (["report", "--ledger", str(tmp_path / "no.db")], ["report", "--by", "colour"]):
        done = spawn(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr


def test_a_trace_is_a_tree(filled: bursar.Run) -> None:
    """Steps, attempts, waits and verdicts of a run and of the run nested in it."""
    result = cli("trace", filled.id[:20])
    assert result.exit_code == 0
    assert "2 attempts" in result.output
    assert "error rate_limit_error · rate_limit" in result.output
    assert "inner" in result.output
    assert "(cap 8,000 to " in result.output
    assert "refused · budget: deny no_room" in result.output
    assert "usage_missing" in result.output
    assert "1 tool call" in result.output
    assert "\x1b" not in result.output
    tree = json.loads(cli("trace", "last", "--json").output)
    assert tree["workflow"] == "inner"
    whole = json.loads(cli("trace", filled.id, "--json").output)
    assert whole["runs"][0]["run_id"] == tree["run_id"]
    assert [len(op["attempts"]) for op in whole["operations"]][:2] == [2, 1]
    assert whole["operations"][-1]["verdicts"][0]["action"] == "deny"


def test_an_observed_verdict_is_shown_as_such(ledger: Path) -> None:
    """What would have been refused is told apart from what was."""
    with Provider(latency_s=0.0) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as bare:
        with bursar.run("watched", Budget(model_calls=1), mode="observe"):
            for _ in range(2):
                bursar.wrap(bare).chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
    assert "(observed only)" in cli("trace", "last").output


def test_an_unknown_run_is_named(filled: bursar.Run) -> None:
    """Exit code 1, one line."""
    done = spawn("trace", "ZZZ")
    assert (done.returncode, done.stderr) == (
        1,
        (
            "error: no run's id begins with 'ZZZ', nor does that of a call, a response, a request or an OpenTelemetry "
            "trace; `bursar trace last` shows the newest\n"
        ),
    )


def test_prices_are_shown_by_kind_and_tier() -> None:
    """Dollars per million tokens; what is assumed is marked; the price version is there."""
    result = cli("prices", "claude-haiku-5-5", "--day", "2026-11-20")
    assert result.exit_code == 0
    assert "above 100,000 in" in result.output
    assert "cache write 12h (assumed)" in result.output
    assert "web search: $0.01 each" in result.output
    rates = json.loads(cli("prices", "gpt-4o", "--provider", "openai", "--day", "2026-11-20", "--json").output)
    assert rates["usd_per_million_tokens"]["output"] == "10.00"
    assert rates["cost_status"] == "list_price"
    flex = json.loads(cli("prices", "gpt-4o", "--tier", "flex", "--json").output)
    assert flex["cost_status"] == "upper_bound"


@pytest.mark.parametrize("model", ["gpt-4oo", "nobody-knows-this", "\x1b[31m", "x" * 5_000])
def test_an_unknown_model_has_no_price(model: str) -> None:
    """Exit code 1, with names near it where there are any."""
    result = cli("prices", model)
    assert result.exit_code == 1
    assert "no price is known" in result.output
    assert "\x1b" not in result.output
    if model == "gpt-4oo":
        assert "gpt-4o" in result.output.split("near it")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "--since", "yesterday"],
        ["prices", "gpt-4o", "--day", "1.1.2026"],
        ["replay"],
        ["nothing"],
        ["replay", "x", "--usd", "0,5"],
    ],
)
def test_wrong_usage_ends_with_two(arguments: list[str]) -> None:
    """What cannot be meant is said, and the exit code is 2."""
    done = spawn(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [[], ["demo"], ["replay"], ["report"], ["trace"], ["prices"]])
def test_help_has_an_example(command: list[str]) -> None:
    """Every command explains itself, with an example and its exit codes."""
    result = cli(*command, "--help")
    assert result.exit_code == 0
    assert "Example: bursar" in result.output or "bursar demo" in result.output


def test_the_version_is_shown() -> None:
    """--version is the installed one."""
    assert cli("--version").output.startswith("bursar 0.")


def spawn(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from bursar.cli import main; sys.argv[0] = 'bursar'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ | environ, check=False
    )


def test_the_command_line_starts_quickly() -> None:
    """Help needs neither prices nor SQLite nor an SDK."""
    code = (
        "import sys; from bursar.cli.app import app; "
        "print([m for m in ('apsw', 'genai_prices', 'tiktoken', 'openai', 'anthropic', 'rich.table') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (bursar.BursarError("x"), 1), (bursar.ConfigError("x"), 2)]
)
def test_every_error_has_its_exit_code(error: BaseException, code: int) -> None:
    """Interrupted, failed, wrong usage."""
    with pytest.raises(SystemExit) as ended, ending():
        raise error
    assert ended.value.code == code


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """`bursar replay ... --json | head -1` ends without a word."""
    path = tmp_path / "runs.jsonl"
    line = json.dumps(
        {
            "id": "r",
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        }
    )
    path.write_text((line + "\n") * 20_000)
    command = f"{sys.executable} -c 'from bursar.cli import main; main()' replay {path} --json | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_the_demo_shows_the_main_job(tmp_path: Path) -> None:
    """Ten of fifty served, an agent stopped, its books the provider's, a tree and a table; no key, plain text."""
    done = spawn("demo", NO_COLOR="1", XDG_DATA_HOME=str(tmp_path), BURSAR_LEDGER="")
    assert done.returncode == 0, done.stderr
    assert "served 10, refused 40" in done.stdout
    assert done.stdout.count("the provider's own bill is the same") == 2
    assert "its last answer: After" in done.stdout
    assert "its last answer: They are all about as warm" in done.stdout
    assert "demo fan-out" in done.stdout
    assert (tmp_path / "bursar" / "demo.db").exists()
    assert "\x1b" not in done.stdout


def test_the_demo_without_its_sdks_says_what_to_install() -> None:
    """A missing SDK is one sentence with the command that mends it."""
    code = (
        "import sys; sys.modules['openai'] = None; sys.argv = ['bursar', 'demo']; from bursar.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'bursar[demo]'" in done.stderr


def test_the_demos_agent_of_langchain_ends_by_its_budget_and_its_books_agree() -> None:
    """It is stopped, answers from its reserve, and what was recorded is what the provider billed."""
    said: list[str] = []
    books: list[bool] = []

    def check(provider: Provider, run: bursar.Run) -> None:
        books.append(provider.billed_nusd == run.spend.settled.nusd)

    langchain_run(said.append, check)
    assert books == [True]
    assert any("its last answer: They are all about as warm" in line for line in said)


def test_the_demo_without_langchain_goes_on(tmp_path: Path) -> None:
    """LangChain is no part of what the demo needs: it says what to install and shows the rest."""
    code = (
        "import sys; sys.modules['langchain_anthropic'] = None; sys.argv = ['bursar', 'demo'];"
        "from bursar.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "BURSAR_LEDGER": str(tmp_path / "ledger.db")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pip install langchain langchain-anthropic" in done.stdout
    assert "5. Who spent what." in done.stdout


def test_replay_sums_and_stops(tmp_path: Path) -> None:
    """A table by model, what a budget would have stopped, and one JSON object a run with its keys in order."""
    path = tmp_path / "runs.jsonl.gz"
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 100_000}
    said = [{"role": "user", "content": "a"}] + [{"role": "assistant", "content": "b", "usage": usage}] * 3
    runs = [
        {"id": "r1", "model": "gpt-4o", "success": True, "messages": said},
        {"id": "r2", "model": "nobody", "messages": said},
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, runs)).encode() + b"\n{broken\n"))
    result = cli("replay", str(path), "--usd", "8", "--day", "2026-11-20")
    assert result.exit_code == 1
    assert (
        "1 runs would have been stopped, $3.500 not spent, 1 successes lost; 1 refused for want of a price"
        in result.output
    )
    assert "runs.jsonl.gz:3: is no JSON" in result.output
    result = cli("replay", str(path), "--usd", "8", "--day", "2026-11-20", "--json")
    first = json.loads(result.output.splitlines()[0])
    assert list(first) == [
        "id", "model", "success", "steps", "input_tokens", "output_tokens", "usd", "cost_status", "stopped_at_step",
        "stop_reason", "usd_not_spent", "loop_touched_at", "loop_stopped_at", "loop_kind", "tokens_after_loop",
        "usd_after_loop", "gate_asks", "gate_denials", "gate_stopped_at",
    ]  # fmt: skip
    assert first == {
        "id": "r1", "model": "gpt-4o", "success": True, "steps": 3, "input_tokens": 3_000_000, "output_tokens": 300_000,
        "usd": "10.500000000", "cost_status": "list_price", "stopped_at_step": 3, "stop_reason": "usd", "usd_not_spent": "3.500000000",
        "loop_touched_at": None, "loop_stopped_at": None, "loop_kind": None, "tokens_after_loop": 0,
        "usd_after_loop": "0.000000000", "gate_asks": 0, "gate_denials": 0, "gate_stopped_at": None,
    }  # fmt: skip


def test_replay_explains_one_run(tmp_path: Path) -> None:
    """Every word of the loop guard, with the step that it would have been said at, in words and as JSON."""
    said: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    for number in range(8):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        usage = {"prompt_tokens": 1_000, "completion_tokens": 10}
        said.append({"role": "assistant", "content": None, "tool_calls": [call], "usage": usage})
        said.append({"role": "tool", "tool_call_id": f"c{number}", "content": "nothing new"})
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps({"id": "r1", "model": "gpt-4o", "success": False, "messages": said}) + "\n")
    shown = cli("replay", str(path), "--explain", "r1")
    assert shown.exit_code == 0, shown.output
    assert "told the model" in shown.output
    assert "a failure" in shown.output
    told = json.loads(cli("replay", str(path), "--explain", "r1", "--json").output)
    assert [verdict["action"] for verdict in told["loop_verdicts"]][:2] == ["notice", "nudge"]


def test_replay_of_nothing_says_so(tmp_path: Path) -> None:
    """Files that hold no run: exit code 1 and their names."""
    (tmp_path / "x.txt").write_text("hello")
    result = cli("replay", str(tmp_path / "x.txt"), str(tmp_path / "missing"))
    assert result.exit_code == 1
    assert "x.txt" in result.output


def test_times_are_read_as_people_write_them() -> None:
    """So long ago, or the beginning of a day in UTC."""
    assert read_time(None) is None
    assert read_time("2026-11-01") == 1_793_491_200_000_000
    hour, day = read_time("1h"), read_time("1d")
    assert hour is not None
    assert day is not None
    assert round((hour - day) / 1_000_000) == 82_800
    with pytest.raises(typer.BadParameter):
        read_day("soon")


def test_text_from_records_is_harmless() -> None:
    """Control and format characters are shown as their code; long text is cut."""
    assert safe(None) == ""
    assert safe("a\nb\x1b\u200b") == "a\\u{a}b\\u{1b}\\u{200b}"
    assert len(safe("x" * 500)) == 60


def test_a_progress_bar_stands_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Items pass through; only a terminal sees them counted."""
    from bursar.cli import console

    assert list(console.progress([1, 2], "runs")) == [1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(console.progress([1, 2], "runs")) == [1, 2]


def test_folding_is_counted_from_its_second_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most often the first is all: then nothing is shown. The count has both."""
    from bursar.cli import console

    shown: list[int] = []

    @contextmanager
    def counted(what: str) -> Iterator[Callable[[int], None]]:
        yield shown.append

    monkeypatch.setattr(console, "_spinner", counted)
    with console.folding() as note:
        assert note is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.folding() as note:
        assert note is not None
        note(700)
        assert shown == []
        note(5)
        note(1)
    assert shown == [705, 1]
