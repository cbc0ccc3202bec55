"""One replayed run: every word of the loop guard and of gates, and where the budget would have stopped it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.cli.console import output, safe, text_table
from bursar.cli.replay_gates import plain, show_gates

if TYPE_CHECKING:
    from bursar.replay import RunCost


def show(run: RunCost) -> None:
    """Show why a run would have been spoken to or stopped."""
    from bursar.words.money import show_usd

    output(f"{safe(run.id)} {safe(run.model)} · {run.steps:,} steps · {show_usd(run.nusd)} · {_outcome(run)}")
    if run.stopped_at_step is not None:
        output(f"budget: stopped at step {run.stopped_at_step:,}, {run.stop_reason}")
    show_gates(run)
    found = run.loops
    if not found.verdicts:
        output("loops: every call brought something new")
        return
    text_table(
        ["it would have", "at step", "why", "in a row", "since call", "tokens since", "cost since", "tool"],
        [
            [
                _ACTIONS[verdict.action],
                f"{step:,}",
                verdict.kind.replace("_", " ") + (" (share of the budget)" if verdict.why == "money" else ""),
                f"{verdict.streak:,}",
                f"{verdict.onset:,}",
                f"{verdict.tokens:,}",
                show_usd(verdict.nusd) if verdict.nusd is not None else "unknown",
                safe(verdict.tool, 30),
            ]
            for step, verdict in found.verdicts
        ],
    )
    if found.touched_at is None:
        output("loops: repeats, and none of them long enough to say anything")
    else:
        ended = "spoken to" if found.stopped_at is None else f"finished after step {found.stopped_at:,}"
        output(f"loops: {ended}; {found.tokens_after:,} tokens, {show_usd(found.nusd_after)} in the loop")


def explained(run: RunCost) -> dict[str, Any]:
    """The same as plain data."""
    verdicts = [{"step": step, **verdict._asdict()} for step, verdict in run.loops.verdicts]
    return {**run.as_json(), "loop_verdicts": verdicts, "gate_verdicts": plain(run.gates.verdicts)}


def _outcome(run: RunCost) -> str:
    return {True: "a success", False: "a failure", None: "outcome unknown"}[run.success]


_ACTIONS = {
    "notice": "noted",
    "nudge": "told the model",
    "block": "refused such calls",
    "finish": "asked for an end",
}
