"""Recorded runs, priced step by step and held against a budget, the loop guard and gates. No model is called.

for run in replay(["runs.jsonl.gz"], Budget(usd="0.50")):
    print(run.id, run.nusd, run.stopped_at_step, run.loops.stopped_at)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar.replay.cost import Pricer, RunCost
from bursar.replay.files import read_file, runs_in
from bursar.replay.gates import GateFinding, GateVerdict
from bursar.replay.loops import LoopFinding
from bursar.replay.windows import WindowCost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    from bursar.guards.budget import Budget
    from bursar.guards.gate import CostGate
    from bursar.guards.gate_rules import Rule
    from bursar.guards.loops import LoopGuard
    from bursar.words.errors import RecordingError
    from bursar.words.tools import ToolRule

__all__ = ["GateFinding", "GateVerdict", "LoopFinding", "RunCost", "WindowCost", "replay"]


def replay(
    paths: list[str],
    budget: Budget | None = None,
    *,
    model: str | None = None,
    day: date | None = None,
    loops: LoopGuard | None = None,
    window: int | None = None,
    gates: Sequence[CostGate | Rule] = (),
    tools: tuple[ToolRule, ...] = (),
    problem: Callable[[RecordingError], None] | None = None,
) -> Iterator[RunCost]:
    """Price every run in these files (a directory stands for the recordings in it, "-" for standard input).

    `model` is the model of runs that name none; `day` the day whose list prices hold (today's if not given); `loops`
    the loop guard (`LoopGuard()` if not given). With a `window` of so many tokens each run has its cost under every
    strategy of a context window too, with `gates` what they would have asked and refused;
    `tools` says what tools cost.
    Lines that are no run go to `problem`; without it the first raises `RecordingError`, as does a file that cannot
    be read.
    """
    pricer = Pricer(budget, model=model, day=day, loops=loops, window=window, gates=gates, tools=tools)
    for path in runs_in(paths):
        for recording in read_file(path, problem or _refuse, None if loops is None else loops.tools):
            yield pricer.price(recording)


def _refuse(error: RecordingError) -> None:
    raise error
