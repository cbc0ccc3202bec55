"""`bursar statusline`: one line for a coding agent that never fails it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.pricing.rates import PriceList
from bursar.reports.status import Status, as_line, next_turn
from bursar.tracing.queries import Reader
from bursar.words.errors import LedgerError
from bursar.words.events import Usage
from tests.importers.transcripts import Transcript, usage

CARD = PriceList().card("anthropic", "claude-opus-5-5", day=datetime.now(UTC).date())
MAIN = "from bursar.cli import main; main()"


def line(told: Any, *options: str) -> str:
    text = told if isinstance(told, str) else json.dumps(told)
    done = CliRunner().invoke(app, ["statusline", *options], input=text)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    return str(done.stdout.strip())


def spawned(told: Any, *options: str) -> str:
    """The same as a program of its own, which starts by a shorter way."""
    text = told if isinstance(told, str) else json.dumps(told)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "statusline", *options], input=text, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    return done.stdout.strip()


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    """What Claude Code passes, of a session whose last turn was a minute ago."""
    lines = Transcript("s", began=datetime.now(UTC) - timedelta(seconds=100))
    for turn in range(10):
        lines.answer(usage(0, 80_000 + turn * 1_000, 0, 1_000, 400), blocks=2)
        lines.answer(usage(0, 900, 0, 0, 4), name=f"side{turn}", isSidechain=True)
    return {
        "session_id": "s", "transcript_path": str(lines.write(tmp_path)), "version": "2.3.1",
        "model": {"id": "claude-opus-5-5", "display_name": "Opus 5.5"}, "cost": {"total_cost_usd": 1.234},
        "context_window": {"context_window_size": 200_000},
    }  # fmt: skip


def test_the_line_of_a_session(told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Context and growth of the agent that leads, the next turn at cache prices, and today once the ledger has it."""
    config = tmp_path / "bursar.toml"
    config.write_text('[env.development]\nusd_per_day = "20"\n')
    monkeypatch.setenv("BURSAR_CONFIG", str(config))
    assert CliRunner().invoke(app, ["import", told["transcript_path"]]).exit_code == 0
    # 90,000 read at $0.20 a million, 1,000 written for an hour at $8, 400 out at $20.
    assert (
        spawned(told, "--no-import")
        == line(told, "--no-import")
        == (
            "Opus 5.5 · context 90k of 200k (45%), +1.0k a turn · next turn $0.034 · session $1.24 · today $0.332 of $20.00"
        )
    )


def test_the_line_loads_little(told: dict[str, Any]) -> None:
    """A coding agent waits for it: none of what the other commands need, nor what reads a file that is not there."""
    code = f"{MAIN}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "statusline", "--no-import"],
        input=json.dumps(told), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.splitlines()[1].split())
    assert not loaded & {"typer", "rich", "genai_prices", "pydantic", "tomllib", "difflib", "bursar.settings.toml"}
    assert len([name for name in loaded if name.startswith("bursar")]) < 50


def test_a_price_at_hand_is_found_beside_newer_data_without_it(tmp_path: Path) -> None:
    """Nothing is compiled for a glance: a price of an older list is taken where the newest has none of the model yet."""
    prices, day = PriceList(tmp_path), datetime.now(UTC).date()
    assert prices.at_hand("openai", "gpt-4o", day=day) is None
    card = prices.card("openai", "gpt-4o", day=day)
    (tmp_path / "rates-2-genai-prices-data-newer.json").write_text("{}")
    assert card is not None
    assert PriceList(tmp_path).at_hand("openai", "gpt-4o", day=day) == card
    assert PriceList(tmp_path).at_hand("openai", "gpt-4o", day=day - timedelta(days=1)) is None
    assert PriceList(tmp_path).at_hand("openai", "gpt-4o", day=day + timedelta(days=9)) == card


def test_behind_the_line_the_transcript_comes_into_the_ledger(told: dict[str, Any], ledger: Path) -> None:
    """The agent does not wait for it; twice in a row is once."""
    spawned(told)
    spawned(told)
    rows: list[Any] = []
    for _ in range(600):
        try:
            with Reader(ledger) as reader:
                rows = reader.spend_by("workflow")
        except LedgerError:
            # The other process makes it just now.
            rows = []
        if rows and rows[0].requests == 20:
            break
        time.sleep(0.05)
    assert [(row.key, row.requests) for row in rows] == [("claude-code", 20)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "[]",
        '{"model": 5}',
        '{"transcript_path": "/nowhere/x.jsonl"}',
        '{"cost": {"total_cost_usd": "x"}}',
        "\x00",
    ],
)
def test_whatever_comes_in_the_agent_goes_on(text: str) -> None:
    """Exit code 0, one line, nothing on standard error."""
    assert line(text, "--no-import").startswith("bursar: no")


def test_a_ledger_that_cannot_be_read_is_no_reason_to_fail(told: dict[str, Any], ledger: Path) -> None:
    """The line says that there is none."""
    ledger.write_text("no ledger at all")
    assert line(told, "--no-import") == "bursar: no status (LedgerError)"


def test_names_cannot_command_a_terminal(told: dict[str, Any]) -> None:
    """What Claude Code passes may come from elsewhere."""
    told["model"]["display_name"] = "\x1b[2JOpus\n5"
    shown = line(told, "--no-import")
    assert shown.startswith("[2JOpus5 · ")
    assert "\x1b" not in shown


def test_the_command_line_itself_is_not_loaded() -> None:
    """Neither typer nor rich nor price data: a coding agent waits for every one of them."""
    code = f"import sys\n{MAIN}\nprint(sorted({{'typer', 'rich', 'genai_prices', 'pydantic', 'statistics', 'email'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, "statusline"], input="{}", capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_cache_that_was_forgotten_is_written_anew() -> None:
    """After five minutes, or an hour where writes live that long, the whole context is."""
    turns = [Usage(10_000 + n * 100, 50, 10_000, cache_write_5m_tokens=100) for n in range(5)]
    warm, cold = next_turn(turns, CARD, 299_000_000), next_turn(turns, CARD, 301_000_000)
    assert warm == (10_400 * 200 + 100 * 5_000 + 50 * 20_000, False)
    assert cold == (10_500 * 5_000 + 50 * 20_000, True)
    hours = [turn._replace(cache_write_5m_tokens=0, cache_write_1h_tokens=100) for turn in turns]
    assert next_turn(hours, CARD, 301_000_000)[1] is False
    assert next_turn(hours, CARD, 3_601_000_000) == (10_500 * 8_000 + 50 * 20_000, True)
    assert next_turn(turns, None, 0) == next_turn([], CARD, 0) == (None, False)


def test_what_is_not_known_is_left_out() -> None:
    """No zeros for it."""
    assert as_line(Status(model="m", today_nusd=1)) == "m · today $0.001"
    assert as_line(Status()) == ""
