"""What people ask about the money while it is spent: what changed, what a run was made of, what else it had cost.

Of releases and prompt versions that runs are of, of another ledger, of a transcript that grows while it is imported;
and a test with a budget, as a process of its own beside a provider of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from math import isclose
from typing import TYPE_CHECKING, Any, Final

from scripts.soak import lineage, papers
from scripts.soak.commands import Command, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scripts.soak.commands import Desk

_LONGEST_S: Final = 300.0
_TEST: Final = """
import bursar, openai, pytest
from bursar.testing import Provider, Reply

@pytest.fixture
def ask(tmp_path):
    bursar.configure(ledger=tmp_path / "ledger.db")
    with Provider(replies=lambda request: Reply(output_tokens=100)) as served:
        client = bursar.wrap(openai.OpenAI(base_url=served.openai_url, api_key="x", max_retries=0))
        said = [{"role": "user", "content": "hello"}]
        yield lambda: client.chat.completions.create(model="gpt-4o", messages=said, max_tokens=100)

@pytest.mark.budget(usd="0.05")
def test_that_fits(ask):
    ask()

@pytest.mark.budget(model_calls=1)
def test_that_catches_its_stop(ask):
    for _ in range(2):
        try:
            ask()
        except bursar.Stopped:
            pass
"""


class Onlookers:
    """Thinks of such commands, for whoever sits at a desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.turns = desk, 0

    def made(self) -> tuple[Callable[[], list[Command]], ...]:
        """One way of asking each."""
        return (self.releases, self.prompts, self.other, self.flame, self.growing, self.by_lineage, self.fit)

    def releases(self) -> list[Command]:
        """Two releases, whose sums must add up."""
        return [Command(("explain", "--release", *lineage.RELEASES, "--json"), "explained", (0, 1))]

    def prompts(self) -> list[Command]:
        """Two versions of a prompt."""
        pair = self.desk.dice.sample(lineage.PROMPTS, 2)
        return [Command(("explain", "--prompt-version", *pair, "--json"), "explained", (0, 1))]

    def other(self) -> list[Command]:
        """The ledger as it was a moment ago against itself."""
        copy = self.desk.folder / "before.db"
        if not snapshot(self.desk.house.ledger, copy)[0]:
            return []
        return [
            Command(("explain", "--against", str(copy), "--json"), "explained"),
            Command(("explain", "--against", str(copy), "--json"), "nothing changed", ledger=copy),
        ]

    def flame(self) -> list[Command]:
        """A flame graph of a run that has cost anything."""
        run = self.desk.one("run_id FROM (SELECT run_id FROM run WHERE cost_nusd > 0)")
        target = self.desk.folder / "flame.json"
        return [] if run is None else [Command(("trace", run, "--speedscope", str(target)), "flame")]

    def growing(self) -> list[Command]:
        """A transcript of which more is there each time, while agents write the ledger too."""
        self.turns += 3
        path = self.desk.folder / "transcript-growing.jsonl"
        path.unlink(missing_ok=True)
        words = ("import", str(papers.transcript(self.desk.folder, "growing", self.turns)), "--beside", "--json")
        return [Command(words, "three new"), Command(words, "none new")]

    def by_lineage(self) -> list[Command]:
        """By where data came from; what came of it by release and day."""
        return [
            Command(
                ("report", "--by", self.desk.dice.choice(["data_sources", "prompt_version,release"]), "--json"), "json"
            ),
            Command(("report", "--by", self.desk.dice.choice(["release", "workflow", "day"]), "--json"), "json"),
        ]

    def fit(self) -> list[Command]:
        """A workflow that has all that it should; what it could have cost as a batch."""
        name = "soak crew"
        return [
            Command(("ready", name, "--json"), "readiness", (0, 1)),
            Command(("whatif", "--tier", "batch", "--workflow", name, "--json"), "whatif", (0, 1)),
        ]


def tested(folder: Path) -> list[str]:
    """What is wrong with pytest where a budget is kept by one test and broken by another."""
    path = folder / "test_spend.py"
    path.write_text(_TEST)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LONGEST_S, check=False, cwd=folder)
    except subprocess.TimeoutExpired:
        return [f"pytest took more than {_LONGEST_S:.0f} s"]
    said = (done.stdout + done.stderr)[-900:]
    wanted = ("1 failed, 1 passed", "test_that_catches_its_stop", "$0.00")
    found = [f"pytest does not say {each!r}: {said}" for each in wanted if each not in said]
    return found if done.returncode == 1 else [*found, f"pytest left with {done.returncode}: {said}"]


def explained(found: dict[str, Any]) -> list[str]:
    """What is wrong with an explanation: its parts are all of the difference."""
    parts, whole = sum(cause["nusd"] for cause in found["causes"]), found["after_nusd"] - found["before_nusd"]
    return [] if parts == whole else [f"causes of {parts} explain {whole}"]


def unchanged(found: dict[str, Any]) -> list[str]:
    """What is wrong with one of a ledger against itself."""
    return [f"finds {found['causes']} between a ledger and itself"] if found["causes"] else []


def flame(path: Path) -> list[str]:
    """What is wrong with a file of speedscope's: a profile of samples whose weights add up, of frames that it has."""
    found = json.loads(path.read_text())
    frames, faults = len(found["shared"]["frames"]), []
    if found["$schema"] != "https://www.speedscope.app/file-format-schema.json" or not found["profiles"]:
        faults.append(f"is no file of speedscope: {sorted(found)}")
    for profile in found["profiles"]:
        if len(profile["samples"]) != len(profile["weights"]) or not isclose(
            sum(profile["weights"]), profile["endValue"]
        ):
            faults.append(f"has weights of {sum(profile['weights'])} up to {profile['endValue']}")
        if profile["unit"] not in ("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"):
            faults.append(f"has the unit {profile['unit']!r}, which speedscope does not know")
        faults += [
            f"names frame {frame} of {frames}" for stack in profile["samples"] for frame in stack if frame >= frames
        ]
    return faults[:3]


def ready(found: dict[str, Any]) -> list[str]:
    """What is wrong with a judgement of a workflow: what is declared is seen."""
    checks = {check["name"]: check for check in found["checks"]}
    wrong = [name for name in ("owner", "on call", "retry cap") if checks[name]["state"] != "ok"]
    return [f"finds {wrong} wanting, which bursar.toml has"] if wrong else []


def whatif(found: dict[str, Any]) -> list[str]:
    """What is wrong with a price that would be: a batch costs less, and never less than nothing."""
    total = found["total"]
    fine = 0 <= total["would_nusd"] <= total["was_nusd"] and found["not_known"]
    return [] if fine else [f"as a batch {total}"]
