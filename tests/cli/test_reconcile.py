"""`bursar reconcile` on calls of a real client and exports of what the provider has counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import openai
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget
from bursar.cli.app import app
from bursar.testing import Provider
from tests.importers.test_exports import anthropic_usage, openai_usage, write_csv, write_pages

if TYPE_CHECKING:
    from pathlib import Path

HI: Any = [{"role": "user", "content": "hi"}]


def cli(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["reconcile", *map(str, arguments)])


@pytest.fixture
def today() -> int:
    now = datetime.now(UTC)
    return int(datetime(now.year, now.month, now.day, tzinfo=UTC).timestamp())


@pytest.fixture
def used() -> dict[str, Any]:
    """Three calls through the ledger and one past it; what the provider has of all four."""
    with Provider(latency_s=0.0) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt:
        answers: list[Any] = [gpt.chat.completions.create(model="gpt-4o", messages=HI)]
        with bursar.run("triage", Budget(usd="1")):
            wrapped = bursar.wrap(gpt)
            answers += [wrapped.chat.completions.create(model="gpt-4o", messages=HI) for _ in range(3)]
        return {
            "num_model_requests": 4, "model": answers[0].model,
            "input_tokens": sum(answer.usage.prompt_tokens for answer in answers),
            "output_tokens": sum(answer.usage.completion_tokens for answer in answers),
            "input_cached_tokens": 0, "billed": provider.billed_nusd,
        }  # fmt: skip


def test_a_call_past_the_ledger_is_found(used: dict[str, Any], today: int, ledger: Path, tmp_path: Path) -> None:
    """Its tokens are those that the ledger lacks, its dollars a quarter of the bill; exit code 1, and 0 within a tolerance."""
    billed = used.pop("billed")
    usage = write_csv(
        tmp_path / "usage.csv", [openai_usage(0, **used) | {"start_time": today, "end_time": today + 86_400}]
    )
    done = cli(usage, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1
    assert found["bill_nusd"] == billed
    assert found["bill_nusd"] - found["ledger_nusd"] == billed // 4 == found["parts"]["outside"]
    assert found["covered"] == pytest.approx(0.75)
    shown = cli(usage).stdout
    assert "openai has usage worth" in shown
    assert "outside: calls that the ledger has not seen" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert cli(usage, "--tolerance", 26).exit_code == 0


def test_dollars_of_the_bill_go_before_list_prices(used: dict[str, Any], today: int, tmp_path: Path) -> None:
    """With both exports the tokens are of one, the dollars of the other: a discount is a price."""
    used |= {
        "num_model_requests": 3,
        "input_tokens": used["input_tokens"] * 3 // 4,
        "output_tokens": used["output_tokens"] * 3 // 4,
    }
    billed = used.pop("billed") * 3 // 4
    usage = write_csv(
        tmp_path / "usage.csv", [openai_usage(0, **used) | {"start_time": today, "end_time": today + 86_400}]
    )
    amount = {
        "object": "organization.costs.result",
        "amount": {"value": billed * 0.9 / 10**9, "currency": "usd"},
        "line_item": f"{used['model']}, input",
        "project_id": None,
    }
    costs = write_pages(tmp_path / "costs.json", "start_time", {today: [amount]})
    assert cli(usage).exit_code == 0
    found = json.loads(cli(usage, costs, "--json").stdout)
    assert list(found["parts"]) == ["price"]
    assert found["parts"]["price"] == pytest.approx(-billed / 10, rel=1e-3)


def test_what_was_imported_is_no_second_opinion(used: dict[str, Any], today: int, ledger: Path, tmp_path: Path) -> None:
    """A bill that was imported beside the calls is not held against itself."""
    del used["billed"]
    usage = write_csv(
        tmp_path / "usage.csv", [openai_usage(0, **used) | {"start_time": today, "end_time": today + 86_400}]
    )
    before = json.loads(cli(usage, "--json").stdout)
    assert CliRunner().invoke(app, ["import", str(usage), "--beside"]).exit_code == 0
    assert json.loads(cli(usage, "--json").stdout) == before


def test_keys_are_covered_one_by_one(today: int, ledger: Path, tmp_path: Path) -> None:
    """The ledger has one key whole, half of another, nothing of a third; which is whose says a tag of the calls."""
    with Provider(latency_s=0.0) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt:
        for key, times in (("key_1", 4), ("key_2", 2)):
            wrapped = bursar.wrap(gpt, workflow="triage", key=key, lane=f"lane of {key}")
            answers: list[Any] = [wrapped.chat.completions.create(model="gpt-4o", messages=HI) for _ in range(times)]
    used = answers[0].usage
    rows = [
        openai_usage(
            0, api_key_id=key, model=answers[0].model, num_model_requests=4, input_tokens=4 * used.prompt_tokens,
            output_tokens=4 * used.completion_tokens, input_cached_tokens=0,
        ) | {"start_time": today, "end_time": today + 86_400}
        for key in ("key_1", "key_2", "key_3")
    ]  # fmt: skip
    usage = write_csv(tmp_path / "usage.csv", rows)
    found = {each["key"]: each for each in json.loads(cli(usage, "--json").stdout)["keys"]}
    tokens = {key: each["ledger"]["tokens"] / each["bill"]["tokens"] for key, each in found.items()}
    assert tokens == {"key_3": 0, "key_2": 0.5, "key_1": 1}
    assert list(found)[:2] == ["key_3", "key_2"]
    assert found["key_3"]["parts"] == {"outside": found["key_3"]["bill"]["nusd"]}
    assert not found["key_1"]["parts"]
    shown = cli(usage).stdout
    assert "by key: the ledger has calls of 2 of 3 keys" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100
    named = write_csv(tmp_path / "named.csv", [row | {"api_key_id": f"lane of {row['api_key_id']}"} for row in rows])
    assert "by key: the ledger has calls of 2 of 3 keys" in cli(named, "--keys-by", "lane").stdout
    assert "no call says of which key it is" in cli(usage, "--keys-by", "nothing").stdout
    assert cli(usage, "--keys-by", "a'b").exit_code == 1


def test_wrong_files_have_their_exit_codes(used: dict[str, Any], tmp_path: Path) -> None:
    """No export, none there, two providers, no ledger."""
    other = tmp_path / "x.txt"
    other.write_text("hello")
    claude, gpt = write_csv(tmp_path / "a.csv", [anthropic_usage(0)]), write_csv(tmp_path / "o.csv", [openai_usage(0)])
    assert cli(other).exit_code == 1
    assert cli(tmp_path / "none.csv").exit_code == 1
    assert cli(claude, gpt).exit_code == 2
    assert cli(gpt, "--ledger", tmp_path / "none.db").exit_code == 1
    assert cli().exit_code == 2
