"""`bursar explain` on a ledger with a history."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.pricing.price import price
from bursar.pricing.rates import PriceList
from bursar.tracing.changes import Changes, Slice
from bursar.tracing.ledger import Ledger
from bursar.words.clock import CLOCK, first_id
from bursar.words.events import CostStatus, Usage, UsageSource
from bursar.words.records import ModelCall, RunRecord, Tags, Who

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.db import Run

DAY_US = 86_400_000_000
CARD = PriceList().card("openai", "gpt-4o", day=CLOCK.today())


class History:
    """Writes calls into the past of a ledger file."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self.number = 0
        self.later: list[ModelCall] | None = None

    def at_once(self) -> None:
        """Write in one transaction what was kept for `later`: thousands of calls."""
        calls, self.later = self.later or [], None

        def write(run: Run) -> None:
            for call in calls:
                self.ledger.insert(run, call)

        self.ledger.transact(write)

    def run(self, days_ago: float, user: str, calls: int, tokens: int, **tags: str) -> str:
        """A run of so many calls with so many input tokens each; its id."""
        began_us = time.time_ns() // 1_000 - int(days_ago * DAY_US) + self.number * 1_000
        named: dict[str, Any] = {"workflow": "import"} | tags
        who = Who(Tags(**named), user)
        run_id = self._id(began_us)
        self.ledger.write(RunRecord(run_id, None, who, began_us, began_us + 1, "finished"))
        for _ in range(calls):
            op_id = self._id(began_us)
            usage = Usage(tokens, 0)
            cost = price(usage, CARD)
            call = ModelCall(
                f"{op_id}/0", op_id, 0, began_us, who, "openai", "gpt-4o", "sync", run_id=run_id, usage=usage,
                usage_source=UsageSource.PROVIDER, cost_nusd=cost.nusd, cost_status=CostStatus.LIST_PRICE,
                cost_input_nusd=cost.input_nusd,
            )  # fmt: skip
            if self.later is None:
                self.ledger.write(call)
            else:
                self.later.append(call)
        return run_id

    def _id(self, time_us: int) -> str:
        self.number += 1
        return first_id(time_us)[:10] + f"{self.number:016d}"


@pytest.fixture
def history(ledger: Path) -> History:
    return History(ledger)


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["explain", *arguments])


def test_a_bill_that_grew_eight_hundredfold_is_explained(history: History, ledger: Path) -> None:
    """Five users, 600 tokens, three calls become fifty, 1,800 and eight: each is named with its factor and a run."""
    for user in range(5):
        history.run(10, f"u{user}", 3, 600)
    ids = [history.run(2, f"u{user}", 8, 1_800) for user in range(50)]
    done = cli("--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert {cause["factor"] for cause in found["causes"]} == {"users", "calls per run", "input tokens per call"}
    assert sum(cause["nusd"] for cause in found["causes"]) == found["after_nusd"] - found["before_nusd"]
    assert found["after_nusd"] == 80 * found["before_nusd"]
    assert all(cause["run_id"] in ids for cause in found["causes"])
    shown = cli().output
    assert "x80" in shown
    assert "import · users" in shown
    assert "5 - 50" in shown
    assert 'usd_per_day = "0.01"' in shown
    assert "model_calls=6" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_many_causes_are_a_table_that_is_read(history: History) -> None:
    """Fifteen of them, the largest; what is left stands in one line with its sum, and in the JSON."""
    for number in range(24):
        history.run(10, "u", 3, 600 + number, workflow=f"w{number:02}")
        history.run(2, "u", 3, 1_200 + 10 * number, workflow=f"w{number:02}")
    causes = json.loads(cli("--json").output)["causes"]
    assert len(causes) == 24
    lines = cli().output.splitlines()
    table = [line for line in lines if " · " in line and "$" in line]
    assert [line.split()[0] for line in table] == [cause["workflow"] for cause in causes[:15]]
    (rest,) = (line for line in lines if "smaller: --json" in line)
    assert rest.startswith("9 smaller")
    assert Decimal(rest.split("$")[1].strip()) == pytest.approx(
        Decimal(sum(cause["nusd"] for cause in causes[15:])) / 10**9, rel=Decimal("0.001")
    )


def test_what_hardly_matters_is_shown_and_not_advised_on(history: History) -> None:
    """A cause of half a per cent of the largest stands in the table, without a run and without a line."""
    for workflow, tokens in (("large", 100_000), ("small", 500)):
        history.run(10, "u", 3, tokens, workflow=workflow)
        history.run(2, "u", 3, 2 * tokens, workflow=workflow)
    shown = cli().output
    assert shown.count("small · input tokens per call") == 1
    assert shown.count("would stop it") == shown.count("shown best by") == 1


# What so many repetitions go through is covered without them: counting it each time takes longer than they do.
@pytest.mark.no_cover
def test_the_story_from_its_calls(history: History) -> None:
    """50 users become 5,000, 600 tokens 1,800, three calls eight: 40,150 rows, three causes, and their product is 800."""
    history.later = []
    for user in range(50):
        history.run(10, f"u{user}", 3, 600)
    for user in range(5_000):
        history.run(2, f"u{user}", 8, 1_800)
    history.at_once()
    found = json.loads(cli("--json").output)
    times = {cause["factor"]: cause["times"] for cause in found["causes"]}
    assert times == pytest.approx({"users": 100, "calls per run": 8 / 3, "input tokens per call": 3})
    assert found["causes"][0]["factor"] == "users"
    assert found["after_nusd"] == 800 * found["before_nusd"]
    assert sum(cause["nusd"] for cause in found["causes"]) == found["after_nusd"] - found["before_nusd"]


def test_the_remedy_and_the_run_are_of_this_cause(history: History) -> None:
    """The run with the longest prompts shows the prompts, not the one with the most calls."""
    history.run(10, "u", 4, 500)
    longest = history.run(2, "u", 1, 90_000)
    busiest = history.run(2, "u", 40, 600)
    causes = {cause["factor"]: cause for cause in json.loads(cli("--json").output)["causes"]}
    assert causes["input tokens per call"]["run_id"] == longest
    assert causes["calls per run"]["run_id"] == busiest


def test_two_releases_and_two_prompt_versions_are_compared(history: History) -> None:
    """Whenever they ran."""
    history.run(1, "u", 2, 500, release="1.4", prompt_version="v1")
    history.run(1, "u", 2, 1_500, release="1.5", prompt_version="v2")
    for option, old, new in (("--release", "1.4", "1.5"), ("--prompt-version", "v1", "v2")):
        (cause,) = json.loads(cli(option, old, new, "--json").output)["causes"]
        assert cause["factor"] == "input tokens per call"
        assert cause["times"] == pytest.approx(3)


def test_two_ledgers_are_compared(history: History, tmp_path: Path) -> None:
    """For a pull request: the ledger of its tests against that of the main branch."""
    other = History(tmp_path / "main.db")
    other.run(1, "u", 2, 500)
    history.run(1, "u", 6, 500)
    done = cli("--against", str(tmp_path / "main.db"), "--json")
    (cause,) = json.loads(done.output)["causes"]
    assert (cause["factor"], cause["before"], cause["after"]) == ("calls per run", 2, 6)


def test_nothing_changed_is_said(history: History) -> None:
    """The same in both periods."""
    history.run(10, "u", 2, 500)
    history.run(2, "u", 2, 500)
    assert "nothing changed" in cli().output


def test_an_empty_comparison_and_wrong_usage_have_their_exit_codes(history: History, tmp_path: Path) -> None:
    """1 where there is nothing to compare or no ledger, 2 where the question makes no sense."""
    history.run(100, "u", 1, 10)
    assert cli().exit_code == 1
    assert cli("--release", "a", "b").exit_code == 1
    assert cli("--against", str(tmp_path / "none.db")).exit_code == 1
    assert cli("--release", "a", "b", "--prompt-version", "c", "d").exit_code == 2
    assert cli("--days", "0").exit_code == 2


def test_what_a_record_says_is_harmless(history: History) -> None:
    """Names of workflows are shown escaped, in table and remedy."""
    history.run(2, "u", 1, 500, workflow="evil\x1b[2J\nname")
    shown = cli().output
    assert "\x1b" not in shown
    assert "evil" in shown


def test_the_run_that_shows_a_cause_is_among_the_newest(
    history: History, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a workflow that has more attempts than are looked at, older ones are passed over; another's do not count."""
    dearest = history.run(3, "u", 2, 9_000)
    newest = history.run(2, "u", 1, 500)
    history.run(1, "u", 4, 700, workflow="other")
    for most, shown in ((50_000, dearest), (1, newest)):
        monkeypatch.setattr("bursar.tracing.changes._LOOKED_AT", most)
        with Changes(ledger) as reader:
            found = {reader.telling_run(Slice(), "import", factor) for factor in ("users", "input tokens per call")}
            assert found == {shown}
            assert reader.telling_run(Slice(), "nobody", "users") is None
