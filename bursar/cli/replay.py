"""`bursar replay`: what recorded runs cost, and where a budget, the loop guard or a gate would have had a word."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.console import fail, output, progress, safe, text_table, warn
from bursar.cli.replay_gates import GateTable, rules_of
from bursar.cli.replay_window import WindowTable, read_size
from bursar.cli.times import read_day

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.guards.budget import Budget
    from bursar.guards.loops import LoopGuard
    from bursar.replay import RunCost
    from bursar.words.errors import RecordingError

_EPILOG = (
    "Example: bursar replay runs.jsonl.gz --usd 0.50 --window 120k; bursar replay runs.jsonl.gz --explain run-17; "
    "bursar replay runs.jsonl.gz --ask-above-usd 0.05 --ask-tool 'wire_*'. "
    "Exit codes: 0 all was read, 1 something was passed over or nothing was found, 2 usage."
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("replay", epilog=_EPILOG)(replay_command)


def replay_command(
    files: Annotated[list[str], typer.Argument(help="Recorded runs: JSONL, JSON, gzipped or not; a directory; '-'.")],
    usd: Annotated[str | None, typer.Option(help="Dollars a run may spend, as in 0.50.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens a run may use, in and out.")] = None,
    model_calls: Annotated[int | None, typer.Option(help="Model calls a run may make.")] = None,
    model: Annotated[str | None, typer.Option(help="The model of runs that name none.")] = None,
    day: Annotated[str | None, typer.Option(help="Price at the list prices of this day (YYYY-MM-DD).")] = None,
    nudge: Annotated[int | None, typer.Option(help="Repeats after which a loop is spoken to (2).")] = None,
    finish: Annotated[int | None, typer.Option(help="Repeats after which a loop is ended (6).")] = None,
    identical: Annotated[int | None, typer.Option(help="Identical calls in a row after which a run is ended.")] = None,
    explain: Annotated[str | None, typer.Option(help="Only the run of this id, and why.", metavar="ID")] = None,
    window: Annotated[str | None, typer.Option(help="Compare the strategies of a context window: 120k.")] = None,
    ask_above: Annotated[
        str | None, typer.Option("--ask-above-usd", help="A gate that asks about dearer calls, in dollars.")
    ] = None,
    deny_above: Annotated[
        str | None, typer.Option("--deny-above-usd", help="A gate that refuses dearer calls, in dollars.")
    ] = None,
    ask_tool: Annotated[
        list[str] | None, typer.Option(help="A gate that asks about these tools, as in 'wire_*'; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a run.")] = False,
) -> None:
    """Price recorded runs step by step; hold them against a budget, the loop guard, gates of bursar.toml or of here.

    No model is called.
    """
    from bursar.replay import replay
    from bursar.settings.config import read_settings

    budget = _budget(usd, tokens, model_calls)
    size = None if window is None else read_size(window)
    windows = WindowTable(size)
    guard = _guard(nudge, finish, identical)
    problems: list[RecordingError] = []
    rules = rules_of(ask_above, deny_above, ask_tool)
    runs = replay(
        files,
        budget,
        model=model,
        day=read_day(day),
        loops=guard,
        window=size,
        gates=rules,
        tools=read_settings({}).tools,
        problem=problems.append,
    )
    gates = GateTable(rules)
    summary = Summary()
    for run in progress(_readable(runs, problems), "runs"):
        if explain is None or run.id == explain:
            summary.add(run)
            windows.add(run)
            gates.add(run)
            _show_run(run, json=json, explain=explain is not None)
    if summary.runs and not json and explain is None:
        _show(summary, budget)
        windows.show()
        gates.show()
    for problem in problems[:10]:
        warn(f"passed over: {problem}")
    if len(problems) > 10:
        warn(f"passed over: {len(problems) - 10:,} more")
    if not summary.runs:
        fail("no recorded run was found" if explain is None else f"no recorded run has the id {safe(explain)!r}")
    if problems:
        raise typer.Exit(1)


@dataclass(slots=True)
class Line:
    """The sum of some runs; `nusd` is of those that have a price."""

    runs: int = 0
    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nusd: int = 0
    unpriced: int = 0

    def add(self, run: RunCost) -> None:
        """Take in one run."""
        self.runs += 1
        self.steps += run.steps
        self.input_tokens += run.input_tokens
        self.output_tokens += run.output_tokens
        self.nusd += run.nusd or 0
        self.unpriced += run.nusd is None


@dataclass(slots=True)
class Summary(Line):
    """What a person wants to know of all runs."""

    by_model: dict[str, Line] = field(default_factory=lambda: defaultdict(Line))
    stopped: int = 0
    refused: int = 0
    lost: int = 0
    spared_nusd: int = 0
    looped: int = 0
    finished: int = 0
    finished_good: int = 0
    loop_tokens: int = 0
    loop_nusd: int = 0
    dearest: list[RunCost] = field(default_factory=list)

    def add(self, run: RunCost) -> None:
        """Take in one run."""
        Line.add(self, run)
        self.by_model[run.model or "(none)"].add(run)
        if run.stop_reason == "price_unknown":
            self.refused += 1
        elif run.stopped_at_step is not None:
            self.stopped += 1
            self.lost += run.success is True
            self.spared_nusd += run.nusd_not_spent or 0
        if run.loops.touched_at is not None:
            self.looped += 1
            self.finished += run.loops.stopped_at is not None
            self.finished_good += run.loops.stopped_at is not None and run.success is True
            self.loop_tokens += run.loops.tokens_after
            self.loop_nusd += run.loops.nusd_after or 0
        if run.nusd is not None:
            self.dearest = sorted([*self.dearest, run], key=lambda r: -(r.nusd or 0))[:5]


def _budget(usd: str | None, tokens: int | None, model_calls: int | None) -> Budget | None:
    if usd is None and tokens is None and model_calls is None:
        return None
    from bursar.guards.budget import Budget

    return Budget(usd=usd, tokens=tokens, model_calls=model_calls)


def _guard(nudge: int | None, finish: int | None, identical: int | None) -> LoopGuard:
    from bursar.guards.loops import LoopGuard
    from bursar.words.errors import ConfigError

    first = min(2, finish or 2) if nudge is None else nudge
    last = max(6, first) if finish is None else finish
    try:
        return LoopGuard(nudge=first, block=max(first, min(4, last)), finish=last, identical=identical)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def _show_run(run: RunCost, *, json: bool, explain: bool) -> None:
    import orjson

    from bursar.cli.replay_run import explained, show

    if json:
        output(orjson.dumps(explained(run) if explain else run.as_json()).decode())
    elif explain:
        show(run)


def _readable(runs: Iterator[RunCost], problems: list[RecordingError]) -> Iterator[RunCost]:
    from bursar.words.errors import RecordingError

    try:
        yield from runs
    except RecordingError as error:
        problems.append(error)


def _show(summary: Summary, budget: Budget | None) -> None:
    from bursar.words.money import show_usd

    rows = sorted(summary.by_model.items(), key=lambda item: (-item[1].nusd, item[0]))
    lines = [(safe(name), line) for name, line in rows] + [("total", summary)]
    text_table(
        ["model", "runs", "steps", "input", "output", "cost", "unpriced"],
        [
            [
                name,
                f"{line.runs:,}",
                f"{line.steps:,}",
                f"{line.input_tokens:,}",
                f"{line.output_tokens:,}",
                show_usd(line.nusd) if line.runs > line.unpriced else "unknown",
                f"{line.unpriced:,}" if line.unpriced else "",
            ]
            for name, line in lines
        ],
        total=True,
    )
    output("dearest: " + ", ".join(f"{safe(run.id)} {show_usd(run.nusd)}" for run in summary.dearest[:3]))
    output(
        f"loops: {summary.looped:,} runs would have been spoken to, {summary.finished:,} of them finished "
        f"({summary.finished_good:,} successes among them); {summary.loop_tokens:,} tokens, "
        f"{show_usd(summary.loop_nusd)} spent in loops"
    )
    if budget is not None:
        output(
            f"under this budget {summary.stopped:,} runs would have been stopped, {show_usd(summary.spared_nusd)} not "
            f"spent, {summary.lost:,} successes lost"
            + (f"; {summary.refused:,} refused for want of a price" if summary.refused else "")
        )
