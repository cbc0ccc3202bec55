"""What `bursar replay` shows of gates: how often each would have asked and refused, and which calls of a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from bursar.cli.console import output, safe, text_table

if TYPE_CHECKING:
    from bursar.guards.gate_rules import Rule
    from bursar.replay import GateVerdict, RunCost


class GateTable:
    """The sums of each gate over all runs."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self._said: dict[str, Counter[str]] = defaultdict(Counter)
        self._runs = self._most = self._asked = self._stopped = self._stopped_good = 0

    def add(self, run: RunCost) -> None:
        """Take in one run."""
        asked = run.gates.asked
        self._runs += asked > 0
        self._most = max(self._most, asked)
        self._asked += asked
        self._stopped += run.gates.stopped_at is not None
        self._stopped_good += run.gates.stopped_at is not None and run.success is True
        seen = set()
        for verdict in run.gates.verdicts:
            for rule in verdict.rules:
                self._said[rule].update({verdict.action: 1, f"{verdict.action} nusd": verdict.nusd or 0})
                seen.add(rule)
        for rule in seen:
            self._said[rule]["runs"] += 1

    def show(self) -> None:
        """Write the table, where there are gates."""
        from bursar.words.money import show_usd

        if not self._rules:
            return
        output("")
        text_table(
            ["gate", "runs", "asks", "about", "refuses", "worth"],
            [
                [
                    safe(rule, 60),
                    f"{said['runs']:,}",
                    f"{said['ask']:,}",
                    show_usd(said["ask nusd"]),
                    f"{said['deny']:,}",
                    show_usd(said["deny nusd"]),
                ]
                for rule, said in ((rule.text, self._said[rule.text]) for rule in self._rules)
            ],
        )
        output(
            f"gates: somebody would have been asked {self._asked:,} times in {self._runs:,} runs, {self._most:,} times "
            f"in one of them; {self._stopped:,} runs would have been refused a model call ({self._stopped_good:,} "
            "successes among them)"
        )


def show_gates(run: RunCost) -> None:
    """Write every call of a run that gates say something of."""
    from bursar.words.money import show_usd

    if not run.gates.verdicts:
        return
    for verdict in run.gates.verdicts:
        word = {"ask": "asked about", "deny": "refused"}[verdict.action]
        cost = "unknown" if verdict.nusd is None else show_usd(verdict.nusd)
        what = f"{verdict.kind} {safe(verdict.name, 30)}"
        output(f"gates: step {verdict.step:,}, {what} at {cost} would have been {word}: {safe(verdict.why, 200)}")
    ended = "" if run.gates.stopped_at is None else f"; ended before step {run.gates.stopped_at:,}"
    output(f"gates: asked {run.gates.asked:,} times, {run.gates.denied:,} calls refused{ended}")


def plain(verdicts: tuple[GateVerdict, ...]) -> list[dict[str, Any]]:
    """The verdicts as plain data."""
    return [verdict._asdict() for verdict in verdicts]


def rules_of(ask_above: str | None, deny_above: str | None, ask_tools: list[str] | None) -> tuple[Rule, ...]:
    """The gates of bursar.toml, and those of the command line. Raises `ConfigError`."""
    from bursar.cli.console import warn
    from bursar.flow.gates import rules_of_file
    from bursar.guards.gate import CostGate
    from bursar.settings.config import read_settings

    found = list(rules_of_file(read_settings({})))
    if any(rule.ask == "dearer" for rule in found):
        warn("ask='dearer' is not judged: a recorded run does not say what it was to use, nor what it fell back from")
    if ask_above is not None or deny_above is not None:
        found.append(CostGate(ask_above_usd=ask_above, deny_above_usd=deny_above).rule())
    found += [CostGate(tool=pattern, ask="always").rule() for pattern in ask_tools or ()]
    return tuple(found)
