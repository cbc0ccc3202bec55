"""Nothing but an export: from the file to the named cause, and no word about what it cannot know."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from bursar.cli.app import app
from tests.importers.test_exports import anthropic_usage, openai_usage, write_csv

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400


def cli(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def fortnight(end: int) -> list[dict[str, Any]]:
    """Two projects; in the last seven days one asks four times as often, with prompts twice as long."""
    rows = []
    for day in range(14):
        since = end - (14 - day) * DAY
        span = {"start_time": since, "end_time": since + DAY, "input_cached_tokens": 0}
        times, size = (4, 2) if day >= 7 else (1, 1)
        used = {
            "num_model_requests": 100 * times,
            "input_tokens": 200_000 * times * size,
            "output_tokens": 10_000 * times,
        }
        rows.append(openai_usage(0, project_id="proj_support", **span, **used))
        rows.append(openai_usage(0, project_id="proj_docs", **span))
    return rows


def test_the_cause_is_named_from_the_export_alone(tmp_path: Path) -> None:
    """Four times the calls, twice the prompt; calls and not rows are counted; what would stop it fits what is known."""
    # Spans lie where they begin: half a day from now none begins on the edge of the seven days.
    path = write_csv(tmp_path / "usage.csv", fortnight(int(time.time()) + DAY // 2))
    assert "it knows no single call" in cli("import", str(path))
    causes = json.loads(cli("explain", "--json"))["causes"]
    assert {cause["workflow"] for cause in causes[:2]} == {"proj_support"}
    assert {(cause["factor"], cause["before"], cause["after"]) for cause in causes[:2]} == {
        ("calls", 700, 2_800),
        ("input tokens per call", 2_000, 4_000),
    }
    assert causes[0]["remedy"].startswith("bursar.toml: [workflow.proj_support] usd_per_day = ")
    today = json.loads(cli("report", "--by", "day", "--since", "30h", "--json"))["rows"]
    assert {row["requests"] for row in today} == {500}


def test_where_an_export_has_no_calls_nothing_is_said_of_them(tmp_path: Path) -> None:
    """Anthropic's have tokens alone: what grew is input tokens, not tokens per call."""
    rows = [anthropic_usage(day, usage_input_tokens_no_cache=1_000_000 * (3 if day >= 7 else 1)) for day in range(14)]
    cli("import", str(write_csv(tmp_path / "usage.csv", rows)))
    shown = cli("explain", "--until", "2026-11-16")
    assert "Default · input tokens " in shown
    assert "per call" not in shown
    assert "usd_per_day" in shown


def test_an_export_of_some_time_ago_is_explained_too(tmp_path: Path) -> None:
    """Its last days are those of the export, whole ones and as many on both sides; `--until` names another end."""
    path = write_csv(tmp_path / "usage.csv", fortnight(1_793_577_600))
    cli("import", str(path))
    for shown in (cli("explain"), cli("explain", "--until", "2026-11-02")):
        assert "the last 7 days until 2026-11-02 against the 7 days before" in shown
        assert "proj_support · calls" in shown
        assert "700 - 2,800" in shown
        assert "2,000 - 4,000" in shown
    assert "the last 3 days until 2026-10-25" in cli("explain", "--days", "3", "--until", "2026-10-25")
    assert CliRunner().invoke(app, ["explain", "--until", "2026-01-01"]).exit_code == 1
    assert "last 7 days until 2026-11-02: " in cli()
    assert "next: bursar explain · bursar report --by day --since 14d · " in cli()


def test_spans_of_an_hour_end_with_their_hour(tmp_path: Path) -> None:
    """An export that was made at noon has half a day: the days before are cut at noon too."""
    rows = [
        row | {"start_time": row["start_time"] + hour * 3_600, "end_time": row["start_time"] + (hour + 1) * 3_600}
        for row in fortnight(1_793_577_600)
        for hour in (0, 11)
    ]
    cli("import", str(write_csv(tmp_path / "usage.csv", rows)))
    assert "the last 7 days until 2026-11-01 12:00 against" in cli("explain")
