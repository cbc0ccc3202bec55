"""What operators of a soak type is judged: what is sound passes, and what is not is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

import bursar
from bursar import Budget
from bursar.testing import Provider
from scripts.soak.bills import Lost, reconcile
from scripts.soak.commands import Command
from scripts.soak.house import House
from scripts.soak.operators import Findings, Operators
from scripts.soak.outputs import faults

if TYPE_CHECKING:
    from pathlib import Path

WRONG = {
    "json": ('{"total": {"nusd": -1}}', "nusd is -1"),
    "lines": ("", "has no line"),
    "csv": ("workflow,nusd\nt,-5\n", "has -5 nano-dollars"),
    "toml": ("usd = ", "cannot be read as toml"),
    "html": ("written", "cannot be read as html"),
    "new": ('{"new": 0}', "brought nothing"),
    "none new": ('{"new": 0, "grown": 1}', "the same things twice"),
    "limits": ('[{"name": "ana", "frozen": null}]', "whether ana is frozen"),
}


@pytest.mark.parametrize("reads", WRONG)
def test_a_wrong_output_is_named(reads: str, tmp_path: Path) -> None:
    """Sums below zero, what is no document of its kind, and imports that count twice."""
    text, said = WRONG[reads]
    (found,) = faults(reads, text, tmp_path / "page.html")
    assert said in found


def test_the_bill_is_held_against_the_ledger(ledger: Path, tmp_path: Path) -> None:
    """Three calls through the ledger agree with every export; one past it is missed, unless a dead worker explains it."""
    house = House(tmp_path, "", "")
    house.ledger = ledger
    operators = Operators(house, 1)
    with Provider(latency_s=0.0) as served, openai.OpenAI(base_url=served.openai_url, api_key="x") as plain:
        gpt = bursar.wrap(plain)
        with bursar.run("triage", Budget(usd="1")):
            for _ in range(3):
                gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        sound = reconcile(served, operators.desk.folder, Lost(0, 0), operators.type)
        assert [(each.faults, "100.00%" in each.line) for each in sound] == [([], True)] * 3
        plain.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        charge = served.charges[-1]
        missed = reconcile(served, operators.desk.folder, Lost(0, 0), operators.type)
        # It leaves with 1, which nobody there accepts.
        assert [len(each.faults) for each in missed] == [1] * 3
        lost = Lost(charge.input_tokens + charge.output_tokens, charge.nusd)
        assert [each.faults for each in reconcile(served, operators.desk.folder, lost, operators.type)] == [[]] * 3


def test_an_exit_code_that_is_not_fine_is_a_finding(ledger: Path, tmp_path: Path) -> None:
    """It is written down with its words and what was said."""
    house = House(tmp_path, "", "")
    house.ledger = ledger
    Operators(house, 1).type(Command(("report", "--by", "model")))
    (found,) = Findings(house, absent=False).faults()
    assert found.startswith("report --by model: left with 1: error: there is no ledger")
