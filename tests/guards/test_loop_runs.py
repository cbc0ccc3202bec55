"""The bars of the loop guard on recorded runs: those beside a checkout, else runs recorded here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loop_detectors import PRIOR
from benchmarks.loop_runs import LoopRun, labels, load
from benchmarks.loops import labelled, ours, score
from bursar.guards.loops import LoopGuard

SHARED = Path(__file__).parents[3] / "shared" / "data" / "trajectories"


def recorded(number: int, *, looping: bool) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "look for it"}]
    for n in range(9):
        arguments = json.dumps({"page": n % 2 if looping else n})
        call = {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": arguments}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{n}", "content": f"page {arguments}"},
        ]
    return {"id": f"r{number}", "source": "tau2-bench", "success": not looping, "messages": messages}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modern and the SWE runs beside a checkout; where there are none, a few that are made here."""
    path = tmp_path_factory.mktemp("runs")
    if SHARED.is_dir():
        for name in ("tau2-bench", "tau-bench", "skeleton-terminal-bench-mini", "skeleton-multi-swe-bench-java"):
            (path / f"{name}.jsonl.gz").symlink_to(SHARED / f"{name}.jsonl.gz")
        (path / "labels.jsonl").symlink_to(SHARED / "labels.jsonl")
        return path
    import gzip

    runs = [recorded(n, looping=n % 2 == 0) for n in range(6)]
    (path / "runs.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, runs)).encode()))
    named = [{"id": run["id"], "label": "no_loop" if run["success"] else "loop"} for run in runs]
    (path / "labels.jsonl").write_text("\n".join(map(json.dumps, named)))
    return path


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[LoopRun]:
    return list(load(folder))


def test_good_runs_are_left_alone_and_loops_are_found(folder: Path, runs: list[LoopRun]) -> None:
    """No good modern run is stopped and at most four are touched; every loop run is told, 94 % of them are ended, at
    the median one call after it began; and at most one of the labelled runs is judged otherwise than by its reader."""
    found = {run.id: ours(LoopGuard())(run.steps) for run in runs}
    modern, swe = score("modern", "bursar", runs, found), score("SWE", "bursar", runs, found)
    assert modern.good_stopped == 0
    assert modern.good_touched <= 4
    assert modern.loops
    for group in (modern, swe):
        assert group.loops_touched == group.loops
        assert group.loops_stopped >= 0.94 * group.loops
        assert group.delay_touch in (1, None)
    known = labels(folder)
    here = [run.id for run in runs if run.id in known]
    judged = labelled("bursar", known, found, here)
    assert judged.loops - judged.loops_touched + judged.no_loops_touched <= 1


def test_no_other_detector_is_better_in_both(folder: Path, runs: list[LoopRun]) -> None:
    """None touches fewer good modern runs and finds more of the labelled loops."""
    known = labels(folder)
    here = [run.id for run in runs if run.id in known]

    def of(detect: Any) -> tuple[int, int]:
        found = {run.id: detect(run.steps) for run in runs}
        return score("modern", "", runs, found).good_touched, labelled("", known, found, here).loops_touched

    touched, recall = of(ours(LoopGuard()))
    for name, detector in PRIOR.items():
        others = of(detector)
        assert not (others[0] < touched and others[1] > recall), name
