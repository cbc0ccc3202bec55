"""`bursar limits`: what is left, who holds it, and what a person may do about it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.stores.sqlite import SqliteStore
from bursar.tracing.ledger import Ledger
from bursar.tracing.users import hash_user, load_user_key
from bursar.words.clock import first_id
from bursar.words.events import Amounts, CostStatus, Usage, UsageSource
from bursar.words.ports import Denied, Held, Scope
from bursar.words.records import ModelCall, RunRecord, Tags, Who

TODAY = time.strftime("day:%Y-%m-%d", time.gmtime())
ENV = Scope("env", "production", TODAY)


def cli(*arguments: str, fails: int = 0) -> str:
    done = CliRunner().invoke(app, ["limits", *arguments])
    assert done.exit_code == fails or (fails and done.exception), done.output
    return done.output if not fails else done.output + str(done.exception)


@pytest.fixture
def store(ledger: Path) -> Any:
    store = SqliteStore.at(ledger)
    store.define(ENV, {"usd": 10_000_000_000, "model_calls": 100})
    yield store
    store.close()


def test_the_list_says_what_is_left(store: SqliteStore) -> None:
    """A line for each unit: limit, settled, held, left; nothing of windows that are over unless asked."""
    store.define(Scope("env", "production", "day:2020-01-01"), {"usd": 1})
    store.settle("a/0", (ENV,), Amounts(nusd=2_500_000_000, model_calls=1), measured=True)
    store.reserve("b/0", (ENV,), Amounts(nusd=500_000_000, model_calls=1))
    lines = [line.split() for line in cli().splitlines()[2:]]
    assert lines == [
        ["env/production", TODAY[4:], "usd", "$10.00", "$2.500", "$0.5000", "$7.000", "1"],
        ["env/production", TODAY[4:], "model_calls", "100", "1", "1", "98", "1"],
    ]
    assert "2020-01-01" in cli("--all")
    (found,) = json.loads(cli("--json"))
    assert (found["settled"]["nusd"], found["held"]["nusd"]) == (2_500_000_000, 500_000_000)
    assert [holder["call_id"] for holder in found["holders"]] == ["b/0"]


def test_a_limit_can_be_set_and_raised_for_the_window(store: SqliteStore) -> None:
    """By hand it goes before what is configured, also when that is defined again."""
    cli("set", "env/production", "usd", "0.50")
    assert store.balance(ENV).limits["usd"] == 500_000_000
    store.define(ENV, {"usd": 10_000_000_000, "model_calls": 100})
    assert isinstance(store.reserve("a/0", (ENV,), Amounts(nusd=600_000_000)), Denied)
    assert "limited to $0.7500" in cli("raise", "env/production", "usd", "0.25")
    assert isinstance(store.reserve("a/0", (ENV,), Amounts(nusd=600_000_000)), Held)
    cli("raise", "env/production", "model_calls", "5")
    assert store.balance(ENV).limits["model_calls"] == 105


def test_a_scope_can_be_frozen(store: SqliteStore) -> None:
    """Every call is refused, whatever it costs, until it is thawed."""
    cli("freeze", "env/production")
    assert isinstance(store.reserve("a/0", (ENV,), Amounts(nusd=0)), Denied)
    assert "FROZEN" in cli()
    cli("thaw", "env/production")
    assert isinstance(store.reserve("a/0", (ENV,), Amounts(nusd=0)), Held)


def test_a_user_is_found_by_his_name(store: SqliteStore, ledger: Path) -> None:
    """He is kept as a hash; whoever has the key may name him."""
    scope = Scope("user", hash_user("ana", load_user_key(ledger)), TODAY)
    store.define(scope, {"usd": 1_000_000_000})
    cli("set", "user/ana", "usd", "2")
    assert store.balance(scope).limits["usd"] == 2_000_000_000


def test_what_a_dead_process_was_presumed_to_spend_can_be_taken_back(store: SqliteStore, ledger: Path) -> None:
    """With evidence, once; a call in flight of a process that lives is left alone."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom bursar.stores.sqlite import SqliteStore\n"
        "from bursar.words.events import Amounts\nfrom bursar.words.ports import Scope\n"
        f"store = SqliteStore.at(Path(sys.argv[1]))\nstore.reserve('dead/0', ({ENV!r},), Amounts(nusd=4000000000))\n"
        "store.sent('dead/0')\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(ledger)], check=False)
    assert "its process is gone" in cli("--holders")
    assert "$4.00" in cli("release", "dead/0", "--evidence", "not on the invoice")
    assert store.balance(ENV).settled.nusd == 0
    cli("release", "dead/0", "--evidence", "not on the invoice")
    assert store.balance(ENV).settled.nusd == 0
    assert store.audit() == []
    store.reserve("mine/0", (ENV,), Amounts(nusd=1))
    assert "its process lives" in cli("release", "mine/0", "--evidence", "x", fails=1)
    store.settle("mine/0", (ENV,), Amounts(nusd=1), measured=True)
    assert "its provider counted" in cli("release", "mine/0", "--evidence", "x", fails=1)
    assert "no call 'none/0'" in cli("release", "none/0", "--evidence", "x", fails=1)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("set", "env/production", "usd", "1.5.2"), "1.5.2"),
        (("set", "env/production", "usd", "-1"), "-1"),
        (("set", "env/production", "euro", "1"), "euro"),
        (("set", "env/production", "model_calls", "1.5"), "1.5"),
        (("set", "env/nobody", "usd", "1"), "env/nobody"),
        (("raise", "env/production", "tokens", "5"), "no limit on tokens"),
    ],
)
def test_what_cannot_be_meant_is_named(store: SqliteStore, arguments: tuple[str, ...], what: str) -> None:
    """A wrong unit, amount or scope changes nothing and is in the message."""
    before = store.balance(ENV)
    assert what in cli(*arguments, fails=1)
    assert store.balance(ENV) == before


def test_several_windows_are_told_apart(store: SqliteStore) -> None:
    """A scope with a limit a day and in total wants to know which."""
    store.define(ENV._replace(window="total"), {"usd": 5})
    assert "--window" in cli("set", "env/production", "usd", "1", fails=1)
    cli("set", "env/production", "usd", "1", "--window", "total")
    assert store.balance(ENV).limits["usd"] == 10_000_000_000


def test_suggestions_are_toml_from_what_was_spent(ledger: Path) -> None:
    """The 99th percentile, up to a cent, with what it would have stopped; too few runs are said."""
    writer = Ledger(ledger)
    now_us = time.time_ns() // 1_000
    for number in range(100):
        at_us = now_us - (number + 1) * 3_600_000_000
        who = Who(Tags(workflow="my flow", env="production"), user="ana")
        cost = 400_000_000 if number == 7 else number * 1_000_000
        run_id = first_id(at_us) + "0" * 16
        writer.write(RunRecord(run_id, None, who, at_us, at_us + 1, "finished", cost_nusd=cost))
        writer.write(
            ModelCall(
                f"{run_id}/0", run_id, 0, at_us, who, "openai", "gpt-4o", "sync", run_id=run_id, usage=Usage(1, 1),
                usage_source=UsageSource.PROVIDER, cost_nusd=cost, cost_status=CostStatus.LIST_PRICE,
            )
        )  # fmt: skip
    writer.close()
    done = CliRunner().invoke(app, ["limits", "suggest"])
    found = tomllib.loads(done.stdout)
    assert found == {"workflow": {"my flow": {"usd_per_run": "0.1"}}}
    assert "99 % of 100 runs; it would have stopped 1 of them" in done.stdout
    assert "fewer than 20" in done.stderr
    assert "env production" in done.stderr


def test_without_a_ledger_there_is_nothing_to_show(tmp_path: Path) -> None:
    """It is said, and none is made."""
    assert "no ledger" in cli("--ledger", str(tmp_path / "none.db"), fails=1)
    assert not (tmp_path / "none.db").exists()
