"""Recorded runs through a context window: costs one can add up by hand, and what `bursar replay --window` shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.guards.history import Item
from bursar.guards.window import ContextWindow
from bursar.pricing.rates import RateCard, Rates
from bursar.replay.windows import Talk, simulate, talk_of, windows
from bursar.words.events import CostStatus
from tests.clients.conversations import agent

# A token: 1,000 nano-dollars in, 100 read, 1,250 written, 5,000 out.
RATES = Rates(1_000_000, 5_000_000, 100_000, 1_250_000, 1_250_000, 2_000_000, 2_500_000, 0, 0, 0)
CARD = RateCard("p", "m", RATES, (), None, None, None, CostStatus.LIST_PRICE, (), (), "v")
TALK = Talk(
    (
        Item("u", "user", 100),
        *(
            item
            for n in range(4)
            for item in (Item(f"a{n}", "assistant", 10, calls=(f"c{n}",)), Item(f"t{n}", "tool", 190, results=(f"c{n}",)))
        ),
    ),
    1_000,
    (10,) * 4,
)  # fmt: skip


def test_untrimmed_each_request_reads_the_one_before() -> None:
    """1,100 tokens written, then 200 more each time: three requests read 1,100, 1,300 and 1,500."""
    cost = simulate(TALK, None, CARD)
    assert (cost.requests, cost.input_tokens, cost.cached, cost.output_tokens) == (4, 5_600, 3_900, 40)
    assert cost.nusd == 3_900 * 100 + 1_700 * 1_250 + 40 * 5_000
    assert (cost.cuts, cost.trimmed, cost.peak) == (0, 0, 1_700)


def test_a_cut_writes_what_stays_anew() -> None:
    """At 1,650 the last request is cut to one step: fixed part read, note and step written."""
    cost = simulate(TALK, ContextWindow(tokens=1_650, strategy="drop", keep="70%"), CARD)
    assert (cost.cuts, cost.trimmed) == (1, 400)
    # Before the cut 1,100, 1,300 and 1,500; then what is fixed, the first message, the note of 48 and a step of 200.
    assert cost.input_tokens == 1_100 + 1_300 + 1_500 + 1_348
    assert cost.cached == 1_100 + 1_300 + 1_100


def test_a_skeleton_is_read_by_its_sizes() -> None:
    """The first request is the user's; results and answers make up the later ones."""
    steps = [["u"], ["c", 500, 20, "x", [["look", "h", "r", "n", "m", False, 300]]], ["t", 820, 30, "y", []]]
    talk = talk_of({"steps": steps}, fixed=50)
    assert [(item.role, item.tokens) for item in talk.items] == [
        ("user", 500), ("assistant", 20), ("tool", 300), ("assistant", 30),
    ]  # fmt: skip
    assert talk.outputs == (20, 30)
    assert simulate(talk, None, None).input_tokens == 550 + 870


def test_every_strategy_is_compared(tmp_path: Path) -> None:
    """The table has a line a strategy; ours send less than untrimmed, and nothing is said of runs that fit."""
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps({"id": "r", "model": "claude-sonnet-4-6", "messages": agent(60)}) + "\n")
    shown = CliRunner().invoke(app, ["replay", str(path), "--window", "3k"])
    assert shown.exit_code == 0
    assert "1 runs outgrew a window of 3,000 tokens" in shown.output
    for spec in windows(3_000):
        assert f"\n{spec.strategy} " in shown.output
    assert "no strategy would" in CliRunner().invoke(app, ["replay", str(path), "--window", "500000"]).output
    run = json.loads(CliRunner().invoke(app, ["replay", str(path), "--window", "3k", "--json"]).output)
    by_name = {cost["strategy"]: cost for cost in run["windows"]}
    assert by_name["ladder"]["input_tokens"] < by_name["none"]["input_tokens"]
    assert by_name["ladder"]["peak"] <= 3_000 < by_name["none"]["peak"]
    assert by_name["slide"]["cuts"] > 2 * by_name["ladder"]["cuts"]


@pytest.mark.parametrize("size", ["0", "12q", "-3", ""])
def test_a_size_that_is_none_is_named(size: str, tmp_path: Path) -> None:
    """A usage error with the value."""
    shown = CliRunner().invoke(app, ["replay", str(tmp_path), "--window", size])
    assert shown.exit_code == 2
