"""Hold a recorded run against the loop guard: where it would have spoken, and what was spent after that.

The run goes on as it was recorded: no note changes it, nothing is refused, and no time passes between its calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from bursar.guards.loop_judge import observe, said, user_spoke
from bursar.guards.loop_state import LoopState, Spent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.guards.loops import LoopGuard, LoopVerdict
    from bursar.replay.recording import Recording


class StepVerdict(NamedTuple):
    """What the guard said, and after which step (from 1) of the recorded run."""

    step: int
    verdict: LoopVerdict


@dataclass(frozen=True, slots=True)
class LoopFinding:
    """What the loop guard makes of a recorded run.

    `touched_at` is the first step after which it would have nudged, `stopped_at` the one after which it would have
    asked for a last answer; both count from 1. `kind` is the kind of the loop that was stopped, else of the first that
    was touched. `tokens_after` and `nusd_after` were spent from the first wasted step of that loop on, until something
    new came; where it was stopped, until the end of the run. nusd: nano-dollars, None where a step has no price.
    """

    touched_at: int | None
    stopped_at: int | None
    kind: str | None
    tokens_after: int
    nusd_after: int | None
    verdicts: tuple[StepVerdict, ...] = ()


def find_loops(
    recording: Recording, guard: LoopGuard, costs: list[int | None], limits: Mapping[str, int]
) -> LoopFinding:
    """Judge the events of a run in order, until it would have ended.

    `costs` are nano-dollars a step, `limits` those of the budget of the run.
    """
    tokens = list(accumulate((step.input_tokens + step.output_tokens for step in recording.steps), initial=0))
    priced = None not in costs
    nusd = list(accumulate((cost or 0 for cost in costs), initial=0))
    state = LoopState()
    verdicts: list[StepVerdict] = []
    for event in recording.events:
        at = min(event.step, len(recording.steps))
        spent = Spent(tokens[at], nusd[at] if priced else None, limits.get("tokens"), limits.get("usd"))
        found = None
        if event.facts:
            found = observe(guard, state, event.facts, spent)
        elif event.said is not None:
            found = said(guard, state, event.said, spent)
        else:
            user_spoke(state)
            state.spend(spent)
        if found is not None:
            verdicts.append(StepVerdict(at, found))
            if found.action == "finish":
                break
    return _finding(verdicts, tokens, nusd)


def _finding(verdicts: list[StepVerdict], tokens: list[int], nusd: list[int]) -> LoopFinding:
    touched = next((one for one in verdicts if one.verdict.action != "notice"), None)
    if touched is None:
        return LoopFinding(None, None, None, 0, 0, tuple(verdicts))
    stopped = next((one for one in verdicts if one.verdict.action == "finish"), None)
    step, verdict = stopped or touched
    last = len(tokens) - 1
    if stopped is None:
        # A loop lasts for as long as a verdict speaks of the same beginning.
        last = max(one.step for one in verdicts if one.verdict.onset == verdict.onset)
    return LoopFinding(
        touched.step,
        stopped.step if stopped else None,
        verdict.kind,
        tokens[last] - tokens[step] + verdict.tokens,
        None if verdict.nusd is None else nusd[last] - nusd[step] + verdict.nusd,
        tuple(verdicts),
    )
