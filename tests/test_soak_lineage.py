"""The soak's judge of where runs come from: it finds what the ledger has otherwise, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bursar.tracing.ledger import Ledger
from bursar.words.clock import new_id
from bursar.words.records import ModelCall, Outcome, RunRecord, Tags, Who
from scripts.soak import lineage, onlookers
from scripts.soak.diary import Ended
from scripts.soak.marks import Mark

if TYPE_CHECKING:
    from pathlib import Path

MARK = Mark("0" * 8 + "00000001" + "0002" + "f" * 12, "u1")
ENDED = [
    Ended(
        MARK.name,
        "u1",
        hard=False,
        feature="deep",
        run_id="R1",
        limit_nusd=None,
        held_nusd=0,
        stopped="finished",
        at_s=0.0,
    )
]


def who(**changes: str) -> Who:
    said = lineage.tags(MARK) | changes
    extra = (("data_sources", said["data_sources"]),)
    tags = Tags("soak deep", release=said["release"], prompt_version=said["prompt_version"], extra=extra)
    return Who(tags, "u1", said["session"])


def write(ledger: Path, whose: Who, count: int) -> None:
    writer, op_id = Ledger(ledger), new_id()
    writer.write(RunRecord("R1", None, who(), 1, 2, "finished"))
    writer.write(RunRecord("R2", "R1", whose, 1, 2, "finished"))
    writer.write(ModelCall(f"{op_id}/0", op_id, 0, 1, whose, "openai", "gpt-4o", "sync", run_id="R2", cost_nusd=5))
    if count:
        writer.write(Outcome(new_id(), "R1", whose, 1, lineage.OUTCOME, count))
    writer.close()


def test_rows_that_say_what_their_mark_says_are_fine(ledger: Path) -> None:
    """Those of nested runs, too; the outcomes are as many as were reported."""
    assert lineage.outcomes(MARK) == 2
    write(ledger, who(), 2)
    assert lineage.faults(ledger, ENDED) == []


@pytest.mark.parametrize("tag", ["session", "release", "prompt_version", "data_sources"])
def test_a_row_of_somewhere_else_is_found(ledger: Path, tag: str) -> None:
    """Whatever of it is another."""
    write(ledger, who(**{tag: "other"}), 2)
    (fault,) = lineage.faults(ledger, ENDED)
    assert "other" in fault


@pytest.mark.parametrize("count", [0, 1, 3])
def test_outcomes_that_are_lost_or_doubled_are_found(ledger: Path, count: int) -> None:
    """Of a run that finished; one that was stopped may not have come to it."""
    write(ledger, who(), count)
    (fault,) = lineage.faults(ledger, ENDED)
    assert fault == f"run R1 has {count} outcomes, and reported 2"
    assert lineage.faults(ledger, [ENDED[0]._replace(stopped="BudgetExceeded")]) == []


def test_a_forgotten_user_has_no_session(ledger: Path) -> None:
    """All else that his rows say stays."""
    write(ledger, who()._replace(session=None, user="\x1fhashed:forgotten"), 2)
    assert lineage.faults(ledger, ENDED) == []


def test_a_flame_graph_that_does_not_add_up_is_found(tmp_path: Path) -> None:
    """Weights beside their end, frames that are not there, a unit of its own."""
    profile = {"unit": "none", "endValue": 3, "samples": [[0], [0, 1]], "weights": [1, 2]}
    whole = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": "a"}, {"name": "b"}]},
    }
    path = tmp_path / "flame.json"
    for change, faults in (({}, 0), ({"endValue": 4}, 1), ({"samples": [[0], [2]]}, 1), ({"unit": "dollars"}, 1)):
        path.write_text(json.dumps(whole | {"profiles": [profile | change]}))
        assert len(onlookers.flame(path)) == faults, change
