"""The command line as a whole: help, exit codes, signals and pipes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.cli.commands import COMMANDS as COMMANDS_BY_NAME
from bursar.cli.commands import application

if TYPE_CHECKING:
    from pathlib import Path

BURSAR = [sys.executable, "-c", "import sys; from bursar.cli import main; sys.argv[0] = 'bursar'; main()"]
COMMANDS = ["demo", "replay", "report", "trace", "prices"]


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_without_a_command_and_without_a_ledger_there_is_help() -> None:
    """Every command with what it does, the exit codes, and how to begin."""
    done = cli()
    assert done.exit_code == 1
    assert "begin with: bursar demo" in done.output
    for text in (*COMMANDS, "Exit codes: 0 fine, 1 nothing found", "--install-completion"):
        assert text in " ".join(done.output.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_s_help_has_an_example(command: str) -> None:
    """One that begins with the command itself, and exit code 0."""
    done = cli(command, "--help")
    assert done.exit_code == 0
    assert f"Example: bursar {command}" in " ".join(done.output.split())


def test_the_version_is_the_installed_one() -> None:
    """Alone, and before a command."""
    for arguments in (["--version"], ["--version", "report"]):
        done = cli(*arguments)
        assert (done.exit_code, done.output) == (0, f"bursar {version('bursar')}\n")


@pytest.mark.parametrize("arguments", [["nothing"], ["report", "--nothing"], ["trace", "a", "b"]])
def test_what_is_no_command_is_wrong_usage(arguments: list[str]) -> None:
    """Exit code 2, said on standard error, with where help is."""
    done = subprocess.run([*BURSAR, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    """No SQLite, no prices, no SDK, no tables."""
    code = (
        "import sys; from bursar.cli import main; sys.argv = ['bursar', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('apsw', 'genai_prices', 'tiktoken', 'openai', 'anthropic', 'rich.table', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def loaded(*arguments: str) -> set[str]:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        f"sys.argv = {['bursar', *arguments]!r}\n"
        "from bursar.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_first_screen_loads_no_command_line(ledger: Path) -> None:
    """Typer, with what it validates by, takes longer to load than the screen to make; so do tables."""
    from tests.cli.test_explain import History

    History(ledger).run(0, "u", 1, 1_000_000)
    heavy = {"typer", "pydantic", "rich", "asyncio", "tiktoken", "genai_prices"}
    assert loaded() & {"apsw", *heavy} == {"apsw"}


def test_a_command_loads_no_other() -> None:
    """Each is found by its name alone."""
    others = loaded("report", "--help") & {f"bursar.cli.{module}" for module in COMMANDS_BY_NAME.values()}
    assert others == {"bursar.cli.report"}
    for name in COMMANDS_BY_NAME:
        done = CliRunner().invoke(application([name]), [name, "--help"])
        assert (done.exit_code, f"Usage: bursar {name}" in done.output) == (0, True)


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    """Ctrl-C while it reads: no traceback."""
    pipe = tmp_path / "runs.jsonl"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [*BURSAR, "replay", str(pipe)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        # The command has opened the pipe when this returns, and waits for its first line.
        with pipe.open("w"):
            time.sleep(0.3)
            command.send_signal(signal.SIGINT)
            _, errors = command.communicate(timeout=20)
    assert command.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments", ["", "report", "report --json", "trace last", "trace last --json", "prices gpt-4o"]
)
def test_a_reader_that_has_left_is_no_error(ledger: Path, arguments: str) -> None:
    """Output into a pipe that is closed already: not a word on standard error."""
    from bursar.tracing.ledger import Ledger
    from bursar.words.records import ModelCall, RunRecord, Who

    writer = Ledger(ledger)
    writer.write(RunRecord("R", None, Who(), 1))
    for number in range(300):
        op_id = f"01M86RS2KDXFXV4FFK3E{number:06}"
        writer.write(ModelCall(f"{op_id}/0", op_id, 0, number, Who(), "openai", f"m{number}", "sync", run_id="R"))
    writer.close()
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*BURSAR, *arguments.split()], stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=20
    )
    os.close(write)
    assert done.stderr == ""


def test_completion_is_for_every_shell() -> None:
    """The script for a shell names the program."""
    done = subprocess.run(
        [*BURSAR, "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
        # Which shell runs the tests is not the question: typer looks for it, and knows no plain sh.
        env=os.environ | {"SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert re.search("bursar", done.stdout + done.stderr, re.IGNORECASE)
