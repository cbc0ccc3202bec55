"""Exports of usage and costs in the ledger: sums of the providers, never counted twice, and what they cannot know."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import pytest

from bursar import LedgerError
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from bursar.words.clock import first_id
from bursar.words.events import CostStatus, Usage, UsageSource
from bursar.words.records import ModelCall, Who
from tests.importers.test_claude_code import cli, counts

DAY = 86_400
MONDAY = 1_793_577_600
"""2026-11-02, midnight UTC, in seconds."""


def openai_usage(day: int, **more: Any) -> dict[str, Any]:
    row = {
        "start_time": MONDAY + day * DAY, "end_time": MONDAY + (day + 1) * DAY, "project_id": "proj_a",
        "num_model_requests": 100, "user_id": "", "api_key_id": "key_1", "model": "gpt-4o", "batch": "False",
        "service_tier": "default", "input_tokens": 1_000_000, "output_tokens": 100_000, "input_cached_tokens": 400_000,
    }  # fmt: skip
    return row | more


def anthropic_usage(day: int, **more: Any) -> dict[str, Any]:
    row = {
        "usage_date_utc": f"2026-11-{2 + day:02}", "model_version": "claude-opus-5-5", "api_key": "prod",
        "workspace": "Default", "usage_type": "standard", "context_window": "≤ 200k",
        "usage_input_tokens_no_cache": 100, "usage_input_tokens_cache_write_5m": 20,
        "usage_input_tokens_cache_write_1h": 30, "usage_input_tokens_cache_read": 5_000, "usage_output_tokens": 200,
        "web_search_count": 2,
    }  # fmt: skip
    return row | more


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_pages(path: Path, start: str, buckets: dict[Any, list[dict[str, Any]]]) -> Path:
    data = [{start: since, "results": results} for since, results in buckets.items()]
    path.write_text(json.dumps({"object": "page", "data": data, "has_more": False, "next_page": None}))
    return path


def rows_by(ledger: Path, by: str) -> dict[str, Any]:
    with Reader(ledger) as reader:
        return {row.key: row for row in reader.spend_by(by)}


def test_openai_usage_counts_calls_and_is_priced_by_tier(ledger: Path, tmp_path: Path) -> None:
    """Sums equal those of the file; batch at half; calls are as many as the provider says; nothing comes twice."""
    path = write_csv(tmp_path / "usage.csv", [
        openai_usage(0), openai_usage(1, batch="True"), openai_usage(2, project_id="proj_b", num_model_requests=7),
        openai_usage(3, input_tokens="", output_tokens="", num_model_requests=""), openai_usage(2),
    ])  # fmt: skip
    found = counts(path)
    assert (found["new"], found["skipped"]) == (4, {"nothing was used": 1})
    assert counts(path)["unchanged"] == 1
    assert counts(path, "--again")["known"] == 4
    rows = rows_by(ledger, "workflow")
    assert {name: (row.requests, row.attempts, row.retries) for name, row in rows.items()} == {
        "proj_a": (300, 300, 0),
        "proj_b": (7, 7, 0),
    }
    assert sum(row.input_tokens for row in rows.values()) == 4_000_000
    assert sum(row.cache_read_tokens for row in rows.values()) == 1_600_000
    # $2.50 in, $1.25 cached, $10 out a million; a batch at half of in and out.
    fresh, cached, out = Decimal("2.50") * 6 / 10, Decimal("1.25") * 4 / 10, Decimal(1)
    days = 3 * (fresh + cached + out) + fresh / 2 + cached + out / 2
    assert sum(row.nusd for row in rows.values()) == int(days * 10**9)
    assert set(rows_by(ledger, "day")) == {"2026-11-02", "2026-11-03", "2026-11-04"}
    assert rows_by(ledger, "tier")["batch"].requests == 100


def test_a_day_that_was_not_over_grows(ledger: Path, tmp_path: Path) -> None:
    """The next export of the same days has more: it takes the place of what was there."""
    path = write_csv(tmp_path / "usage.csv", [openai_usage(0), openai_usage(1, input_tokens=5, input_cached_tokens=0)])
    counts(path)
    write_csv(path, [openai_usage(0), openai_usage(1), openai_usage(2)])
    found = counts(path)
    assert (found["new"], found["grown"], found["known"]) == (1, 1, 1)
    assert rows_by(ledger, "model")["gpt-4o"].input_tokens == 3_000_000


def test_pages_of_both_usage_apis(ledger: Path, tmp_path: Path) -> None:
    """As JSON: cache writes by lifetime, searches, long prompts; of OpenAI other kinds than tokens are passed over."""
    claude = {
        "uncached_input_tokens": 100, "cache_read_input_tokens": 5_000, "output_tokens": 200,
        "cache_creation": {"ephemeral_1h_input_tokens": 30, "ephemeral_5m_input_tokens": 20},
        "server_tool_use": {"web_search_requests": 2}, "model": "claude-opus-5-5", "service_tier": "standard",
        "context_window": "0-200k", "workspace_id": "wrkspc_1", "api_key_id": None,
    }  # fmt: skip
    console = write_csv(tmp_path / "console.csv", [anthropic_usage(1)])
    api = write_pages(
        tmp_path / "api.json", "starting_at", {"2026-11-02T00:00:00Z": [claude], "2026-11-05T00:00:00Z": []}
    )
    counts(api)
    counts(console)
    rows = rows_by(ledger, "day")
    assert rows["2026-11-02"]._replace(key="") == rows["2026-11-03"]._replace(key="")
    # 100 x 4 + 20 x 5 + 30 x 8 + 5,000 x 0.2 + 200 x 20 micro-dollars, two searches at a cent.
    assert rows["2026-11-02"].nusd == 5_740_000 + 20_000_000
    completions = {
        "object": "organization.usage.completions.result",
        "input_tokens": 10,
        "output_tokens": 1,
        "num_model_requests": 1,
        "model": "gpt-4o",
        "batch": False,
    }
    images = {"object": "organization.usage.images.result", "images": 3, "num_model_requests": 3}
    openai = write_pages(tmp_path / "openai.json", "start_time", {MONDAY: [completions, completions, images]})
    found = counts(openai)
    # Two rows that say the same are two sums.
    assert (found["new"], found["skipped"]) == (2, {"counts no tokens (organization.usage.images.result)": 1})


def test_costs_are_the_providers_own(ledger: Path, tmp_path: Path) -> None:
    """Dollars of OpenAI, cents of Anthropic's API; nothing about tokens, and credits are named."""
    amount = {
        "object": "organization.costs.result",
        "amount": {"value": 0.06, "currency": "usd"},
        "line_item": "gpt-4o, input",
        "project_id": "p",
    }
    cents = {
        "currency": "USD",
        "amount": "123.78912",
        "description": "Claude",
        "model": "claude-opus-5-5",
        "token_type": "output_tokens",
    }
    counts(write_pages(tmp_path / "o.json", "start_time", {MONDAY: [amount]}))
    counts(write_pages(tmp_path / "a.json", "starting_at", {"2026-11-02T00:00:00Z": [cents]}))
    rows = rows_by(ledger, "model")
    assert rows["gpt-4o, input"].nusd == 60_000_000
    assert rows["claude-opus-5-5 output_tokens"].nusd == 1_237_891_200
    later = [
        amount | {"amount": {"value": -5, "currency": "usd"}},
        amount | {"amount": {"value": 5, "currency": "eur"}},
    ]
    found = counts(write_pages(tmp_path / "c.json", "start_time", {MONDAY + DAY: later}), code=1)
    assert [("credits" in each["what"], "'eur'" in each["what"]) for each in found["problems"]] == [
        (True, False),
        (False, True),
    ]


def test_a_price_tier_that_no_sum_can_tell_is_a_lower_bound(ledger: Path, tmp_path: Path) -> None:
    """Haiku 5.5 costs five times as much above 100,000 tokens of prompt: the sum of a day is not one such prompt."""
    big = {"usage_input_tokens_no_cache": 1_000_000, "usage_input_tokens_cache_read": 0,
           "usage_input_tokens_cache_write_5m": 0, "usage_input_tokens_cache_write_1h": 0, "usage_output_tokens": 0, "web_search_count": 0}  # fmt: skip
    for number, window in enumerate(("≤ 200k", "> 200k", "")):
        for model in ("claude-haiku-5-5", "claude-sonnet-4-5"):
            row = anthropic_usage(number, context_window=window, model_version=model, **big)
            counts(write_csv(tmp_path / f"{number}.csv", [row]), "--beside")
    writer = Ledger(ledger)
    rows = writer.database().execute(
        "SELECT d.request_model, c.cost_nusd / 10000000, e.cost_status FROM model_call c JOIN ending e ON e.id = c.ending "
        "JOIN dimension d ON d.id = c.dimension ORDER BY d.request_model, c.ts_us"
    )
    writer.close()
    # Nobody knows which prompts of up to 200,000 tokens were above 100,000; but those above 200,000 all were.
    assert rows == [
        ("claude-haiku-5-5", 10, "lower_bound"),
        ("claude-haiku-5-5", 50, "list_price"),
        ("claude-haiku-5-5", 10, "lower_bound"),
        ("claude-sonnet-4-5", 300, "list_price"),
        ("claude-sonnet-4-5", 600, "list_price"),
        ("claude-sonnet-4-5", 300, "lower_bound"),
    ]


def test_what_would_count_twice_is_refused(ledger: Path, tmp_path: Path) -> None:
    """Beside calls of our own, beside costs of the same days, and the same days grouped in another way."""
    writer = Ledger(ledger)
    at_us = (MONDAY + 100) * 1_000_000
    writer.write(ModelCall(
        f"{first_id(at_us)}{'0' * 16}/0", "x", 0, at_us, Who(), "openai", "gpt-4o", "sync", usage=Usage(10, 1),
        usage_source=UsageSource.PROVIDER, cost_nusd=1, cost_status=CostStatus.LIST_PRICE,
    ))  # fmt: skip
    writer.close()
    path = write_csv(tmp_path / "u.csv", [openai_usage(0), openai_usage(1)])
    refused = counts(path, code=1)
    assert "1 other rows of openai" in refused["problems"][0]["what"]
    assert "bursar reconcile" in refused["problems"][0]["what"]
    assert rows_by(ledger, "model")["gpt-4o"].requests == 1
    # Not even remembered as read.
    assert counts(path, "--beside")["new"] == 2
    by_key = write_csv(tmp_path / "k.csv", [openai_usage(1, project_id="")])
    assert "1 other rows" in cli(by_key).stderr
    assert counts(write_csv(tmp_path / "a.csv", [anthropic_usage(0)]))["new"] == 1
    assert counts(write_csv(tmp_path / "n.csv", [openai_usage(9)]))["new"] == 1


def test_a_bad_line_is_named_and_the_file_says_what_it_cannot_know(tmp_path: Path) -> None:
    """Counts that are none, times that are none; pages that are not all; what a sum does not say."""
    rows = [
        openai_usage(0),
        openai_usage(1, input_tokens="many"),
        openai_usage(2, start_time="soon"),
        openai_usage(3, output_tokens="-4"),
    ]
    found = counts(write_csv(tmp_path / "u.csv", rows), code=1)
    assert found["new"] == 1
    assert [each["line"] for each in found["problems"]] == [3, 4, 5]
    shown = cli(write_csv(tmp_path / "a.csv", [anthropic_usage(0)])).stdout
    assert "it knows no single call" in shown
    assert "does not even say how many calls" in shown
    more = tmp_path / "more.json"
    more.write_text(json.dumps({"data": [{"start_time": MONDAY, "results": []}], "has_more": True}))
    assert "has_more" in cli(more).stderr


@pytest.mark.parametrize("content", ["", "hello\n", "a,b\n1,2\n", "\x00\x01"])
def test_a_file_that_is_none_of_these_says_what_is_read(tmp_path: Path, content: str) -> None:
    """With exit code 1."""
    path = tmp_path / "x.csv"
    path.write_text(content)
    done = cli(path)
    assert done.exit_code == 1
    assert "is none of these: transcripts of Claude Code" in done.stderr


def test_workflows_are_named_after_what_was_asked_for(ledger: Path, tmp_path: Path) -> None:
    """After projects, else keys; or after keys, or users; a user is kept as a hash."""
    path = write_csv(tmp_path / "u.csv", [openai_usage(0, user_id="user-ana"), openai_usage(1, project_id="")])
    counts(path)
    assert set(rows_by(ledger, "workflow")) == {"proj_a", "key_1"}
    other = tmp_path / "other.db"
    counts(path, "--workflow-from", "key", "--ledger", other)
    assert set(rows_by(other, "workflow")) == {"key_1"}
    assert not any("ana" in key for key in rows_by(ledger, "user"))
    assert cli(path, "--workflow-from", "mood").exit_code == 2


def test_a_file_that_is_torn_is_named(tmp_path: Path) -> None:
    """A cell longer than any: the line, and no traceback."""
    path = write_csv(tmp_path / "u.csv", [openai_usage(0), openai_usage(1, project_id="x" * 200_000)])
    found = counts(path, code=1)
    assert "is no line of a CSV file" in found["problems"][0]["what"]


def test_a_ledger_that_is_held_is_said(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes for longer than anybody waits: an error that says so; afterwards it can be done."""
    for module in ("bursar.db", "bursar.ledger_file"):
        monkeypatch.setattr(f"{module}.BUSY_MS", 50)
    path = write_csv(tmp_path / "u.csv", [openai_usage(0)])
    writer = Ledger(ledger)
    writer.database()
    held = apsw.Connection(str(ledger))
    held.execute("BEGIN IMMEDIATE")
    done = cli(path)
    assert isinstance(done.exception, LedgerError)
    assert "cannot be written" in str(done.exception)
    held.execute("ROLLBACK")
    held.close()
    writer.close()
    assert counts(path)["new"] == 1
