"""The loop guard beside twenty detectors of other projects, on recorded runs.

    python -m benchmarks.loops FOLDER            # trajectories (*.jsonl.gz) and labels.jsonl
    python -m benchmarks.loops FOLDER --json     # for a program

Offline: the runs go on as they were recorded, so a note changes nothing. *touched* is anything that a detector would
have done, *stopped* the end of the run, a block for good or a question. A *loop run* is mechanical: six calls in a row
that bring a (call, result) seen before; that is close to our own rule, so the labels of a person are the other check.
Thresholds of ours are chosen by five-fold cross-validation over the runs: on four folds, among those that stop no good
modern run, touch at most 1 % of them and stop 94 % of the SWE loop runs, the ones with the best F1 on the labels,
then the earliest note and the latest end (an end cannot be taken back); judged on the fifth. Intervals are Wilson's,
95 %.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha1
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.common import as_json, facts, show_facts, table
from benchmarks.loop_detectors import PRIOR, Detector, Found
from benchmarks.loop_runs import LoopRun, Step, labels, load
from bursar.guards.calls import fact
from bursar.guards.loop_judge import observe, said, user_spoke
from bursar.guards.loop_state import LoopState, Spent
from bursar.guards.loops import LoopGuard

OURS = "bursar"
FOLDS = 5
NUDGES, FINISHES = (1, 2, 3, 4), (4, 5, 6, 8, 10)
GROUPS = ("modern", "SWE", "2023 and others")


@dataclass(frozen=True)
class Score:
    """One detector on one group of runs. Delays are calls after the onset, of loop runs; shares are of 100."""

    group: str
    detector: str
    good: int
    good_touched: int
    good_stopped: int
    failed: int
    failed_touched: int
    failed_stopped: int
    loops: int
    loops_touched: int
    loops_stopped: int
    delay_touch: float | None
    delay_stop: float | None
    tokens_saved: float


@dataclass(frozen=True)
class Labelled:
    """One detector on the runs that a person has read; partial loops count neither way."""

    detector: str
    loops: int
    loops_touched: int
    no_loops: int
    no_loops_touched: int
    f1: float


def ours(guard: LoopGuard, costs_us: list[float] | None = None) -> Detector:
    """The loop guard as a detector."""

    def detect(steps: Sequence[Step]) -> Found:
        state, touched, spent = LoopState(), None, Spent()
        for step in steps:
            if step.user:
                user_spoke(state)
                continue
            began = time.perf_counter()
            if step.calls:
                verdict = observe(guard, state, [call.fact for call in step.calls], spent)
            else:
                verdict = said(guard, state, step.text, spent)
            judged_us = (time.perf_counter() - began) * 1e6
            for call in step.calls if costs_us is not None else ():
                if call.made_us is not None and costs_us is not None:
                    costs_us.append(call.made_us + judged_us / len(step.calls))
            if verdict is not None and verdict.action != "notice":
                at = step.first + max(0, len(step.calls) - 1)
                touched = at if touched is None else touched
                if verdict.action == "finish":
                    return touched, at
        return touched, None

    return detect


def guard_of(nudge: int, finish: int) -> LoopGuard:
    return LoopGuard(nudge=nudge, block=max(nudge, min(4, finish)), finish=finish)


def score(group: str, name: str, runs: list[LoopRun], found: dict[str, Found]) -> Score:
    """Count what a detector has done to the runs of a group."""
    here = [run for run in runs if run.group == group]
    good = [found[run.id] for run in here if run.success is True]
    failed = [run for run in here if run.success is False]
    loops = [run for run in here if run.onset is not None]
    stopped = [(run, stop) for run in failed if (stop := found[run.id][1]) is not None]
    touches, stops = ([one[i] is not None for one in good] for i in (0, 1))
    return Score(
        group=group,
        detector=name,
        good=len(good),
        good_touched=sum(touches),
        good_stopped=sum(stops),
        failed=len(failed),
        failed_touched=sum(found[run.id][0] is not None for run in failed),
        failed_stopped=len(stopped),
        loops=len(loops),
        loops_touched=sum(found[run.id][0] is not None for run in loops),
        loops_stopped=sum(found[run.id][1] is not None for run in loops),
        delay_touch=_delay(loops, found, 0),
        delay_stop=_delay(loops, found, 1),
        tokens_saved=100
        * sum(run.after.get(stop, 0) for run, stop in stopped)
        / max(1, sum(run.total for run in failed)),
    )


def labelled(name: str, known: dict[str, str], found: dict[str, Found], ids: Iterable[str]) -> Labelled:
    """Hold a detector against the labels of some runs."""
    hit = {"loop": 0, "no_loop": 0}
    all_ = {"loop": 0, "no_loop": 0}
    for run_id in ids:
        label = known.get(run_id)
        if label in hit:
            all_[label] += 1
            hit[label] += found[run_id][0] is not None
    wrong = hit["no_loop"] + all_["loop"] - hit["loop"]
    f1 = 2 * hit["loop"] / (2 * hit["loop"] + wrong) if hit["loop"] else 0.0
    return Labelled(name, all_["loop"], hit["loop"], all_["no_loop"], hit["no_loop"], f1)


def cross_validated(runs: list[LoopRun], known: dict[str, str]) -> tuple[dict[str, Found], list[tuple[int, int]]]:
    """What the guard does to each run with thresholds that were chosen without it, and the choice of each fold."""
    needed = [run for run in runs if run.group != GROUPS[2] or run.id in known]
    tried = {
        (nudge, finish): {run.id: ours(guard_of(nudge, finish))(run.steps) for run in needed}
        for nudge, finish in product(NUDGES, FINISHES)
        if nudge <= finish
    }
    found: dict[str, Found] = {}
    chosen = []
    for fold in range(FOLDS):
        seen = [run for run in needed if _fold(run) != fold]
        best = max(tried, key=lambda pair: _worth(pair, seen, known, tried[pair]))
        chosen.append(best)
        found |= {run.id: tried[best][run.id] for run in needed if _fold(run) == fold}
    return found, chosen


def _worth(
    pair: tuple[int, int], runs: list[LoopRun], known: dict[str, str], found: dict[str, Found]
) -> tuple[float, ...]:
    good = [found[run.id] for run in runs if run.group == "modern" and run.success]
    stopped, touched = sum(one[1] is not None for one in good), sum(one[0] is not None for one in good)
    loops = [found[run.id][1] is not None for run in runs if run.group == "SWE" and run.onset is not None]
    judged = labelled(OURS, known, found, (run.id for run in runs))
    fair = stopped == 0 and touched <= 0.01 * len(good)
    return (fair, sum(loops) >= 0.94 * len(loops), judged.f1, -pair[0], pair[1])


def _fold(run: LoopRun) -> int:
    return int(sha1(run.id.encode(), usedforsecurity=False).hexdigest(), 16) % FOLDS


def _delay(loops: list[LoopRun], found: dict[str, Found], which: int) -> float | None:
    delays = [at - run.onset for run in loops if (at := found[run.id][which]) is not None and run.onset is not None]
    return statistics.median(delays) if delays else None


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The interval of a share, in percent."""
    if not n:
        return 0.0, 100.0
    z, share = 1.96, hits / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return tuple(round(100 * max(0.0, x) / (1 + z * z / n), 2) for x in (middle - half, middle + half))  # type: ignore[return-value]


def costs(each_us: list[float]) -> dict[str, float]:
    """Microseconds a call: making its fact, judging it, and a call whose result has a megabyte."""
    each = sorted(each_us)
    text = '{"row": 123, "at": "2026-11-22T10:00:01Z"} ' * 23_000
    large = []
    for _ in range(20):
        began = time.perf_counter()
        observe(LoopGuard(), LoopState(), [fact("dump", {}, text)], Spent())
        large.append((time.perf_counter() - began) * 1e6)
    return {
        "calls": len(each),
        "p50_us": round(each[len(each) // 2], 1),
        "p99_us": round(each[int(0.99 * len(each))], 1),
        "megabyte_us": round(statistics.median(large), 1),
    }


def measure(folder: Path) -> dict[str, Any]:
    """All figures."""
    each_us: list[float] = []
    runs, known = list(load(folder)), labels(folder)
    detectors = {**PRIOR, OURS: ours(LoopGuard(), each_us)}
    found = {name: {run.id: detect(run.steps) for run in runs} for name, detect in detectors.items()}
    scores = [score(group, name, runs, found[name]) for group in GROUPS for name in detectors]
    judged = [labelled(name, known, found[name], known) for name in detectors]
    out, chosen = cross_validated(runs, known)
    unseen = [score(group, f"{OURS}, chosen without the run", runs, out) for group in GROUPS[:2]]
    unseen_labels = labelled(f"{OURS}, chosen without the run", known, out, known)
    return {
        "facts": facts(),
        "runs": len(runs),
        "scores": [asdict(one) for one in [*scores, *unseen]],
        "labels": [asdict(one) for one in [*judged, unseen_labels]],
        "chosen": [{"nudge": nudge, "finish": finish} for nudge, finish in chosen],
        "better_in_both": _better(scores, judged),
        "costs": costs(each_us),
    }


def _better(scores: list[Score], judged: list[Labelled]) -> list[str]:
    # Fewer good modern runs touched, and more of the labelled loops found.
    touched = {one.detector: one.good_touched for one in scores if one.group == "modern"}
    recall = {one.detector: one.loops_touched for one in judged}
    return [name for name in PRIOR if touched[name] < touched[OURS] and recall[name] > recall[OURS]]


def show(figures: dict[str, Any]) -> None:
    print(show_facts(figures["facts"]))
    for group in GROUPS:
        rows = [one for one in figures["scores"] if one["group"] == group]
        print(f"\n{group}: {rows[0]['good']} good, {rows[0]['failed']} failed, {rows[0]['loops']} loop runs")
        heads = ["", "good touched", "interval", "stopped", "failed touched", "stopped", "loops touched", "stopped",
                 "interval", "first touch", "stop", "tokens saved %"]  # fmt: skip
        print(table(heads, [_row(one) for one in rows]))
    print("\nlabels")
    print(table(
        ["", "loops touched", "interval", "no_loops touched", "interval", "F1"],
        [[one["detector"], f"{one['loops_touched']}/{one['loops']}", _interval(one["loops_touched"], one["loops"]),
          f"{one['no_loops_touched']}/{one['no_loops']}", _interval(one["no_loops_touched"], one["no_loops"]),
          f"{one['f1']:.2f}"] for one in figures["labels"]],
    ))  # fmt: skip
    print(f"\nthresholds chosen, by fold: {figures['chosen']}")
    print(f"fewer good modern runs touched and more labelled loops found: {figures['better_in_both'] or 'none'}")
    print(f"cost of a call: {figures['costs']}")


def _row(one: dict[str, Any]) -> list[Any]:
    return [
        one["detector"], one["good_touched"], _interval(one["good_touched"], one["good"]), one["good_stopped"],
        one["failed_touched"], one["failed_stopped"], one["loops_touched"], one["loops_stopped"],
        _interval(one["loops_stopped"], one["loops"]), one["delay_touch"], one["delay_stop"],
        f"{one['tokens_saved']:.1f}",
    ]  # fmt: skip


def _interval(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{low:.1f}-{high:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recorded runs and labels.jsonl")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    if not (options.folder / "labels.jsonl").is_file():
        parser.error(f"{options.folder} holds no labels.jsonl")
    figures = measure(options.folder)
    if options.json:
        print(as_json(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
