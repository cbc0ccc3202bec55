"""People at the command line while a soak runs: every command, at random, as processes of their own.

Each is judged: its exit code, that nothing of Python falls out of it, that its output is what it says, that no sum is
below zero; and every few commands the ledger is copied as it is at one moment, where reports by every tag must add up
to the same as its rows do. A finding is one line in a file; so is each command, with how long it took.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bursar.stores.base import State
from bursar.stores.sqlite import SqliteStore
from scripts.soak import outputs
from scripts.soak.bills import Lost, reconcile, tokens_of
from scripts.soak.commands import FROZEN_S, TAGS, Command, Desk, snapshot
from scripts.soak.house import House
from scripts.soak.marks import mark_of
from scripts.soak.onlookers import Onlookers, tested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.testing import Provider
    from scripts.soak.judge import Judgement

_BURSAR: Final = str(Path(sys.executable).with_name("bursar"))
"""The command of this environment, wherever the path leads."""
_LONGEST_S: Final = 120.0
_EVERY: Final = 25
"""Commands between two copies of the ledger."""
_SUMS: Final = ("attempts", "errors", "input_tokens", "output_tokens", "cache_read_tokens", "nusd", "unpriced")
_LINES: Final = "operators.jsonl"


class Operators:
    """Somebody who types until the time is over."""

    def __init__(self, house: House, seed: int) -> None:
        self.house, self.dice = house, random.Random(seed)
        self.desk, self.attempts = Desk(house, self.dice), 0
        self.desk.learn(*Onlookers(self.desk).made())

    def work(self, ends_s: float) -> None:
        """Type. The first commands wait for the first record."""
        number = 0
        while time.monotonic() < ends_s:
            time.sleep(self.dice.uniform(0.05, 0.3))
            if not self.house.diary_path.exists():
                continue
            number += 1
            if number % _EVERY == 0:
                self.compare()
            else:
                self.several(self.desk.next())

    def several(self, commands: list[Command]) -> None:
        """Type some that belong together, to their end."""
        for command in commands:
            text = self.type(command)
            if command.words[:2] == ("limits", "freeze"):
                time.sleep(FROZEN_S)
            if (
                command.words == ("report", "--by", "workflow", "--json")
                and command.ledger is None
                and text.startswith("{")
            ):
                self.grown(json.loads(text)["total"]["attempts"])

    def type(self, command: Command) -> str:
        """Type one, and write down how it went; what it printed."""
        words = [_BURSAR, *command.words]
        if command.ledger is not None:
            words += ["--ledger", str(command.ledger)]
        began_s = time.monotonic()
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, input=command.told, timeout=_LONGEST_S, check=False
            )
        except subprocess.TimeoutExpired:
            self._note(command, time.monotonic() - began_s, None, [f"took more than {_LONGEST_S:.0f} s"])
            return ""
        took_s = time.monotonic() - began_s
        found = []
        if done.returncode not in command.ok:
            found.append(f"left with {done.returncode}: {(done.stderr or done.stdout)[-400:]}")
        if "Traceback" in done.stderr + done.stdout or "internal error" in done.stderr:
            found.append(f"fell over: {done.stderr[-600:]}")
        if done.returncode == 0:
            found += outputs.faults(command.reads, done.stdout, self.desk.folder / "page.html")
        self._note(command, took_s, done.returncode, found)
        return done.stdout if done.returncode in command.ok else ""

    def compare(self) -> None:
        """Take one reading of the ledger: reports by some tags, and its rows, have the same sums."""
        copy = self.desk.folder / "copy.db"
        rows, nusd, tokens = snapshot(self.house.ledger, copy)
        sums: dict[str, dict[str, int]] = {}
        for tag in ("workflow", *self.dice.sample(TAGS[1:], 4)):
            text = self.type(Command(("report", "--by", tag, "--json"), "json", ledger=copy))
            if text.startswith("{"):
                total = json.loads(text)["total"]
                sums[tag] = {name: total[name] for name in _SUMS}
        plain = list(sums.values())
        found = [f"totals by tag are not the same: {sums}"] if any(each != plain[0] for each in plain) else []
        for tag, each in sums.items():
            said = each["nusd"], each["input_tokens"] + each["output_tokens"]
            if said != (nusd, tokens) or each["attempts"] < rows:
                found.append(f"{rows} rows of {tokens} tokens and {nusd} nano-dollars are by {tag} {each}")
        self._note(Command(("reports compared",)), 0.0, 0, found)
        self.several([Command(("report", "--by", "workflow", "--json"), "json")])

    def grown(self, attempts: int) -> None:
        """No row that was seen is gone."""
        found = [f"{self.attempts} attempts have become {attempts}"] if attempts < self.attempts else []
        self.attempts = attempts
        self._note(Command(("report only grows",)), 0.0, 0, found)

    def _note(self, command: Command, took_s: float, code: int | None, found: list[str]) -> None:
        line = {"name": command.name, "words": command.words, "took_s": took_s, "code": code, "faults": found}
        with (self.house.place / _LINES).open("a") as file:
            file.write(json.dumps(line) + "\n")


@contextlib.contextmanager
def beside(house: House, ends_s: float, *, absent: bool) -> Iterator[Findings]:
    """Let operators type beside the program until then; wait for the last command."""
    findings = Findings(house, absent=absent)
    if absent:
        yield findings
        return
    worker = multiprocessing.get_context("spawn").Process(target=main, args=(ends_s,))
    worker.start()
    try:
        yield findings
    finally:
        worker.join(2 * _LONGEST_S)
        findings.died = worker.exitcode != 0
        worker.kill()


class Findings:
    """What came of it."""

    def __init__(self, house: House, *, absent: bool) -> None:
        self._path, self.absent, self.died, self.more = house.place / _LINES, absent, False, list[str]()

    def lines(self) -> list[dict[str, Any]]:
        """All commands."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def conclude(self, house: House, served: Provider, judgement: Judgement) -> dict[str, Any]:
        """When all is over: the vendors' exports against the ledger, charges of the dead corrected; what to show."""
        if self.absent:
            return {"operators": "left out"}
        last = Operators(house, 8)
        last.compare()
        lost = _lost(served, judgement)
        held = reconcile(served, last.desk.folder, lost, last.type)
        for each in held:
            self.more += each.faults
        self._release(house, last)
        self.more += tested(last.desk.folder)
        return {"operators": self.table(), "reconciled": [each.line for each in held]}

    def _release(self, house: House, last: Operators) -> None:
        # After the judgement, which counts what dead processes are charged for.
        store = SqliteStore.at(house.ledger)
        for each in [hold for hold in store.scan() if hold.state is State.PRESUMED][:3]:
            before = [store.balance(scope).settled.nusd for scope in each.path]
            last.type(Command(("limits", "release", each.call_id, "--evidence", "not on the invoice")))
            after = [store.balance(scope).settled.nusd for scope in each.path]
            if after != [nusd - each.charged.nusd for nusd in before]:
                self.more.append(f"release of {each.call_id} at {each.charged.nusd}: {before} have become {after}")
        self.more += [f"after a release by hand {drift}" for drift in store.audit()]
        store.close()

    def faults(self) -> list[str]:
        """What is wrong, the words of its command first."""
        found = [f"{' '.join(line['words'])}: {fault}" for line in self.lines() for fault in line["faults"]]
        return [*(["the operators died"] if self.died else []), *found, *self.more]

    def table(self) -> list[str]:
        """A line for each command: how often, how long, and how it left."""
        times: dict[str, list[float]] = defaultdict(list)
        codes: dict[str, Counter[str]] = defaultdict(Counter)
        for line in self.lines():
            times[line["name"]].append(line["took_s"])
            codes[line["name"]][str(line["code"])] += 1
        return [
            f"{name}: {len(took)}, p50 {statistics.median(took):.2f} s, "
            f"p95 {sorted(took)[int(0.95 * len(took))]:.2f} s, exit {dict(codes[name])}"
            for name, took in sorted(times.items())
        ]


def _lost(served: Provider, judgement: Judgement) -> Lost:
    marks = {request.number: mark_of(request.body) for request in served.requests}
    charges = [charge for charge in served.charges if getattr(marks[charge.number], "name", "") in judgement.lost]
    return Lost(sum(map(tokens_of, charges)), sum(charge.nusd for charge in charges))


def main(ends_s: float) -> None:
    """One process of them."""
    Operators(House.here(), 7).work(ends_s)
