"""`bursar whatif` on calls that a provider has billed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget
from bursar.cli.app import app
from bursar.testing import Provider, Reply

if TYPE_CHECKING:
    from pathlib import Path


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["whatif", *arguments])


def total(*arguments: str) -> dict[str, int]:
    done = cli(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, int] = json.loads(done.stdout)["total"]
    return found


@pytest.fixture
def billed() -> tuple[int, int, int]:
    """Two workflows on GPT-4o: input and output tokens, and what the provider billed."""
    with Provider(latency_s=0.0, replies=lambda request: Reply(output_tokens=500)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x") as gpt:
            client, into = bursar.wrap(gpt), 0
            for workflow, promise in (("triage", "interactive"), ("nightly", "offline")):
                with bursar.run(workflow, Budget(usd="1"), promise=promise):
                    answer = client.chat.completions.create(
                        model="gpt-4o", messages=[{"role": "user", "content": f"{workflow} " + "word " * 2_000}]
                    )
                    assert answer.usage
                    into += answer.usage.prompt_tokens
        return into, 1_000, provider.billed_nusd


def test_the_same_tokens_at_other_prices(billed: tuple[int, int, int], tmp_path: Path) -> None:
    """By hand: GPT-4o is $2.50 in, $1.25 cached and $10 out a million, Opus 5.5 $4 and $20, a batch half."""
    into, out, nusd = billed
    assert total()["was_nusd"] == total()["would_nusd"] == nusd == into * 2_500 + out * 10_000
    assert total("--model", "claude-opus-5-5")["would_nusd"] == into * 4_000 + out * 20_000
    assert total("--tier", "batch")["would_nusd"] == nusd // 2
    half = sum(round(each) * 1_250 + (each - round(each)) * 2_500 for each in (into / 4, into / 4))
    assert total("--cached", "0.5")["would_nusd"] == pytest.approx(half + into * 1_250 + out * 10_000, rel=1e-3)
    prices = tmp_path / "negotiated.toml"
    prices.write_text('[[price]]\nmodel = "gpt-4o"\ndiscount = "20 %"\n')
    assert total("--prices", str(prices))["would_nusd"] == nusd * 4 // 5
    assert total("--workflow", "triage")["calls"] == 1


def test_a_long_time_is_read_in_parts(billed: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt once, whatever the size of a part."""
    whole = total("--model", "claude-opus-5-5")
    for size in (1, 2, 3):
        monkeypatch.setattr("bursar.tracing.used._AT_ONCE", size)
        assert total("--model", "claude-opus-5-5") == whole


def test_it_says_what_it_cannot_know(billed: tuple[int, int, int]) -> None:
    """Quality, who waits for a batch, models without a price; in a table that fits."""
    shown = cli("--model", "claude-haiku-5-5", "--tier", "batch").stdout
    assert "the same tokens with claude-haiku-5-5 as batch, at today's prices; no model was called" in shown
    assert "not known: quality untested" in shown
    assert "1 of 2 calls are not promised offline" in shown
    table = [line for line in shown.splitlines() if not line.startswith("not known")]
    assert max(len(line) for line in table) <= 100
    unknown = cli("--model", "their-own").stdout
    assert "2 calls have no price" in unknown
    shown = cli("--model", "no-such-model").output
    assert [line.split()[2:] for line in shown.splitlines() if line.startswith(("triage", "nightly", "total"))] == [
        ["unknown", "unknown"]
    ] * 3


def test_wrong_questions_have_their_exit_codes(billed: tuple[int, int, int], tmp_path: Path) -> None:
    """Nothing to price is 1; a tier, a share or a file that cannot be is 2."""
    assert cli("--workflow", "none").exit_code == 1
    assert cli("--tier", "hyper").exit_code == 2
    assert cli("--cached", "1.5").exit_code == 2
    assert isinstance(cli("--prices", str(tmp_path / "none.toml")).exception, bursar.ConfigError)
