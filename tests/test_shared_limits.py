"""Limits of `bursar.toml` that runs, threads and processes share."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, BursarWarning, ConfigError, PriceUnknown
from bursar.runs.process import process
from bursar.stores.manage import freeze
from bursar.stores.rows import AccountRow
from bursar.testing import Provider, Reply
from bursar.tracing.queries import Reader
from bursar.words.events import Amounts

REQUEST: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Where is my order?"}],
    "max_completion_tokens": 200,
}
ONE = 2_030_000
"""About what a call costs: 200 tokens out and a dozen in, in nano-dollars."""


def write(place: Path, text: str) -> Path:
    path = place / "bursar.toml"
    path.write_text(text)
    bursar.configure(config=path)
    return path


def account(kind: str) -> AccountRow:
    (found,) = [row for row in process().shared.every_account() if row.scope.kind == kind]
    return found


@pytest.fixture
def script() -> list[Reply]:
    """The last of these is what the provider answers."""
    return [Reply(output_tokens=200)]


@pytest.fixture
def provider(script: list[Reply]) -> Any:
    with Provider(latency_s=0.02, replies=lambda _: script[-1]) as provider:
        yield provider


@pytest.fixture
def client(provider: Provider) -> Any:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        yield bursar.wrap(bare)


def ask(client: Any, n: int = 0) -> bool:
    try:
        client.chat.completions.create(**{**REQUEST, "messages": [{"role": "user", "content": f"{n} where?"}]})
    except BudgetExceeded:
        return False
    return True


def test_a_daily_limit_is_shared_by_runs(tmp_path: Path, provider: Provider, client: Any) -> None:
    """Two runs of one day share what the environment may spend; the books are the provider's."""
    write(tmp_path, '[env.development]\nusd_per_day = "0.01"\n')
    served = 0
    for _ in range(2):
        with bursar.run("w", Budget.unlimited()):
            served += sum(ask(client, n) for n in range(4))
    assert served == 4
    row = account("env")
    assert row.settled.nusd == provider.billed_nusd <= 10_000_000
    assert (row.held.nusd, row.holds) == (0, 0)
    assert process().shared.audit() == []


def test_calls_outside_any_run_are_limited_too(tmp_path: Path, provider: Provider, client: Any) -> None:
    """A wrapped client outside of any run holds on the shared limits that apply to it."""
    write(tmp_path, '[[limit]]\nper = "env"\nwindow = "total"\nmodel_calls = 2\n')
    assert [ask(client) for _ in range(3)] == [True, True, False]
    assert account("env").settled.model_calls == 2


def test_a_limit_on_each_run_is_each_runs_own(tmp_path: Path, client: Any) -> None:
    """By any tag; it is the budget of a run that names none, and holds beside one that does."""
    limit = '[[limit]]\nper = "{}"\nwindow = "run"\nmodel_calls = {}\n'
    write(tmp_path, limit.format("user", 2) + limit.format("feature", 1) + 'of = "inbox"\n')
    served = {}
    for name, budget in (("first", Budget(usd="1")), ("second", None)):
        with bursar.run("w", *([] if budget is None else [budget]), user="ana"):
            served[name] = [ask(client) for _ in range(3)]
    with bursar.run("w", Budget.unlimited(), user="ana", feature="inbox") as run:
        served["inbox"] = [ask(client) for _ in range(2)]
    with bursar.run("w", Budget(model_calls=3)):
        served["nobody"] = [ask(client) for _ in range(3)]
    assert served == {
        "first": [True, True, False], "second": [True, True, False], "inbox": [True, False], "nobody": [True] * 3,
    }  # fmt: skip
    assert run.stop_reason == "budget"
    assert process().shared.every_account() == []


def test_a_limit_on_each_run_may_only_warn(tmp_path: Path, client: Any) -> None:
    """Beyond it calls go on, with a verdict and one warning."""
    write(tmp_path, '[[limit]]\nper = "env"\nwindow = "run"\nmodel_calls = 1\nover = "warn"\n')
    with pytest.warns(bursar.BursarWarning, match="model_calls"), bursar.run("w", Budget(usd="1")):
        assert [ask(client) for _ in range(3)] == [True, True, True]


def test_a_shared_limit_survives_a_power_cut_where_that_was_said(tmp_path: Path, client: Any, monkeypatch: Any) -> None:
    """What is about to leave is on the disk before it does, and so are the hold and the row."""
    synced: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path, '[bursar]\ndurability = "power"\n[env.development]\nmodel_calls_per_day = 9\n')
    with bursar.run("w", Budget(usd="1")):
        assert [ask(client) for _ in range(2)] == [True, True]
    # The folder of the journal, and a line of each call.
    assert len(synced) == 3
    assert process().ledger.database().execute("PRAGMA synchronous") == [(2,)]


def test_each_user_has_his_own(tmp_path: Path, provider: Provider, client: Any) -> None:
    """A limit per user counts each by himself, under a hash; a call without a user is not under it."""
    write(tmp_path, '[[limit]]\nper = "user"\nwindow = "day"\nmodel_calls = 1\n')
    served = {}
    for user in ("ana", "bob", None, None):
        with bursar.run("w", Budget.unlimited(), user=user):
            served[user] = [ask(client), ask(client)]
    assert served == {"ana": [True, False], "bob": [True, False], None: [True, True]}
    names = [row.scope.name for row in process().shared.every_account()]
    assert len(names) == 2
    assert not any("ana" in name or "bob" in name for name in names)


def test_fifty_threads_and_two_limits(tmp_path: Path, provider: Provider, client: Any) -> None:
    """Fifty calls at once under a day's limit for about ten and a run's for twenty: ten, to the last cent."""
    write(tmp_path, f'[env.development]\nusd_per_day = "{ONE * 10.5 / 1e9:.6f}"\n')
    with bursar.run("w", Budget(usd=f"{ONE * 20 / 1e9:.6f}")) as run, ThreadPoolExecutor(50) as pool:
        served = sum(pool.map(run.bind(partial(ask, client)), range(50)))
    assert served == 10
    assert account("env").settled.nusd == provider.billed_nusd
    assert account("env").holds == 0
    assert run.spend.held.nusd == 0


def test_fifty_tasks(tmp_path: Path, provider: Provider) -> None:
    """The same on an event loop."""
    write(tmp_path, f'[env.development]\nusd_per_day = "{ONE * 10.5 / 1e9:.6f}"\n')

    async def everything() -> int:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)

            async def one(n: int) -> bool:
                try:
                    await client.chat.completions.create(
                        **{**REQUEST, "messages": [{"role": "user", "content": f"{n} where?"}]}
                    )
                except BudgetExceeded:
                    return False
                return True

            async with bursar.run("w", Budget.unlimited()):
                return sum(await asyncio.gather(*(one(n) for n in range(50))))

    assert asyncio.run(everything()) == 10
    assert account("env").settled.nusd == provider.billed_nusd
    assert account("env").holds == 0


WORKER = """
import sys, openai, bursar
from concurrent.futures import ThreadPoolExecutor
bursar.configure(config=sys.argv[1], ledger=sys.argv[2])
client = bursar.wrap(openai.OpenAI(base_url=sys.argv[3], api_key="x", max_retries=0))
def ask(n):
    try:
        client.chat.completions.create(model="gpt-4o", max_completion_tokens=200,
                                       messages=[{"role": "user", "content": f"{n} where?"}])
    except bursar.BudgetExceeded:
        return False
    return True
print("ready", flush=True)
sys.stdin.readline()
with bursar.run("w", bursar.Budget.unlimited()) as run, ThreadPoolExecutor(10) as pool:
    print(sum(pool.map(run.bind(ask), range(20))))
"""


def test_processes_share_a_limit(tmp_path: Path, ledger: Path, provider: Provider) -> None:
    """Four processes of twenty calls each under one day's limit for ten: ten are served in all."""
    config = write(tmp_path, f'[env.development]\nusd_per_day = "{ONE * 10.5 / 1e9:.6f}"\n')
    command = [sys.executable, "-c", WORKER, str(config), str(ledger), provider.openai_url]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    outputs = [worker.communicate("go\n", timeout=60)[0] for worker in workers]
    assert sum(map(int, outputs)) == 10
    assert account("env").settled.nusd == provider.billed_nusd
    assert account("env").holds == 0
    assert process().shared.audit() == []


def test_a_price_is_needed_under_a_shared_limit_in_dollars(tmp_path: Path, provider: Provider, client: Any) -> None:
    """Nothing leaves for a model without a price where the day's dollars are limited."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    with bursar.run("w", Budget(model_calls=5)), pytest.raises(PriceUnknown):
        client.chat.completions.create(**{**REQUEST, "model": "nobody-knows"})
    assert provider.requests == []


def test_a_limit_added_at_noon_counts_the_morning(tmp_path: Path, provider: Provider, client: Any) -> None:
    """What the ledger has on the day, the workflow and the user is spent already when a limit on them appears."""
    with bursar.run("w", Budget.unlimited(), user="ana", team="blue"):
        assert all(ask(client, n) for n in range(3))
    morning = provider.billed_nusd
    write(
        tmp_path,
        '[env.development]\nusd_per_day = "1"\n[workflow.w]\nusd_per_month = "1"\n'
        '[[limit]]\nper = "user"\nwindow = "week"\nmodel_calls = 4\n[[limit]]\nper = "team"\nwindow = "day"\nusd = "1"\n'
        '[[limit]]\nper = "feature"\nwindow = "day"\nusd = "1"\n',
    )
    with bursar.run("w", Budget.unlimited(), user="ana", team="blue", feature="new"):
        assert [ask(client, n) for n in range(2)] == [True, False]
    assert provider.billed_nusd > morning
    for kind in ("env", "workflow", "user", "team"):
        assert account(kind).settled.nusd == provider.billed_nusd
        assert account(kind).settled.model_calls == 4
    assert account("feature").settled.nusd == provider.billed_nusd - morning
    assert process().shared.audit() == []


def test_a_limit_lowered_below_what_is_spent_forgives_nothing(tmp_path: Path, provider: Provider, client: Any) -> None:
    """The debt stays and calls are refused; raised again, they go on."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    assert ask(client)
    write(tmp_path, '[env.development]\nusd_per_day = "0.001"\n')
    assert not ask(client)
    assert account("env").settled.nusd == provider.billed_nusd
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    assert ask(client)


def test_a_frozen_limit_says_that_it_is_frozen(tmp_path: Path, client: Any) -> None:
    """Plenty is left, and every call is refused: the message does not send anybody to raise the limit."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    assert ask(client)
    freeze(process().shared, account("env").scope, frozen=True)
    with pytest.raises(BudgetExceeded, match=r"has frozen it.*`bursar limits thaw`") as refused:
        client.chat.completions.create(**REQUEST)
    assert refused.value.why == "frozen"
    freeze(process().shared, account("env").scope, frozen=False)
    assert ask(client)


def test_retries_and_failures_free_what_they_held(
    tmp_path: Path, client: Any, provider: Provider, script: list[Reply]
) -> None:
    """A refused call releases its shared hold, a call without usage is charged at its bound."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    script.append(Reply(status=429))
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**REQUEST)
    assert account("env").settled.nusd == account("env").held.nusd == account("env").holds == 0
    script.append(Reply(fault="no_usage"))
    client.chat.completions.create(**REQUEST)
    row = account("env")
    assert row.settled.nusd == row.unmeasured.nusd >= provider.billed_nusd > 0
    assert row.holds == 0


def test_streams_hold_until_they_end(tmp_path: Path, provider: Provider, client: Any) -> None:
    """A stream holds on the shared limit while it runs and is charged when it ends."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    with client.chat.completions.create(**REQUEST, stream=True) as stream:
        next(iter(stream))
        assert account("env").holds == 1
        for _ in stream:
            pass
    assert account("env").holds == 0
    assert account("env").settled.nusd == provider.billed_nusd


def test_observing_stops_nothing(tmp_path: Path, provider: Provider, client: Any) -> None:
    """In observe mode a used-up day is written down and nobody is refused."""
    path = write(tmp_path, '[env.development]\nusd_per_day = "0.001"\n')
    bursar.configure(config=path, mode="observe")
    assert ask(client)
    assert ask(client)
    assert account("env").settled.nusd == provider.billed_nusd
    verdicts = process().ledger.database().execute("SELECT action, scope, acted FROM verdict")
    assert verdicts
    assert all(row[0] == "deny" and row[1].startswith("env development day:") and row[2] == 0 for row in verdicts)


def test_a_store_that_cannot_be_reached_refuses(tmp_path: Path, ledger: Path, provider: Provider, client: Any) -> None:
    """Where the ledger file is no database any more, calls are refused; allowed by name, they go and are flagged."""
    path = write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    ledger.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(bursar.StoreUnavailable, match="doctor"):
        ask(client)
    assert provider.requests == []
    bursar.configure(config=path, on_store_error="allow")
    with pytest.warns(BursarWarning, match="cannot be written"):
        assert ask(client)
    ledger.unlink()
    bursar.configure(config=path)
    assert ask(client)
    with Reader(ledger) as reader:
        flags = reader._database.execute("SELECT e.flags FROM model_call c JOIN ending e ON e.id = c.ending")
    assert ("unreserved",) in flags
    assert account("env").settled.nusd == provider.billed_nusd
    assert process().shared.audit() == []


def test_a_busy_file_is_waited_for_beside_the_loop(tmp_path: Path, ledger: Path, provider: Provider) -> None:
    """While another process has the file, the event loop goes on; the call waits, and nothing is lost."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    process().shared.every_account()
    handle = os.open(f"{ledger}.lock", os.O_RDWR)
    ticks = 0

    async def everything() -> None:
        nonlocal ticks
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)
            await client.chat.completions.create(**REQUEST)
            fcntl.flock(handle, fcntl.LOCK_EX)
            call = asyncio.create_task(client.chat.completions.create(**REQUEST))
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                await asyncio.sleep(0.005)
                ticks += 1
            assert not call.done()
            fcntl.flock(handle, fcntl.LOCK_UN)
            await call

    asyncio.run(everything())
    os.close(handle)
    assert ticks > 20
    assert account("env").settled.nusd == provider.billed_nusd
    assert account("env").holds == 0


def test_a_task_cancelled_while_the_file_is_busy_holds_nothing(
    tmp_path: Path, ledger: Path, provider: Provider
) -> None:
    """A thread that goes on reserving for a task that has gone gives back what it gets."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    handle = -1

    async def everything() -> None:
        nonlocal handle
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)
            await client.chat.completions.create(**REQUEST)
            handle = os.open(f"{ledger}.lock", os.O_RDWR)
            fcntl.flock(handle, fcntl.LOCK_EX)
            call = asyncio.create_task(client.chat.completions.create(**REQUEST))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            fcntl.flock(handle, fcntl.LOCK_UN)
            await asyncio.sleep(0.2)

    asyncio.run(everything())
    os.close(handle)
    assert len(provider.requests) == 1
    assert account("env").holds == 0


def test_what_a_dead_process_held_is_settled(
    tmp_path: Path, ledger: Path, provider: Provider, client: Any, script: list[Reply]
) -> None:
    """A process killed in the middle of a call: its hold is charged, and whoever needs the room finds it settled."""
    config = write(tmp_path, '[[limit]]\nper = "env"\nwindow = "day"\nmodel_calls = 2\n')
    script.append(Reply(latency_s=30.0))
    code = WORKER.replace("range(20)", "range(1)")
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(config), str(ledger), provider.openai_url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    assert worker.stdin is not None
    worker.stdout.readline()
    worker.stdin.write("go\n")
    worker.stdin.flush()
    until = time.monotonic() + 20
    while not provider.requests and time.monotonic() < until:
        time.sleep(0.02)
    worker.kill()
    worker.communicate()
    script.pop()
    assert account("env").holds == 1
    assert [ask(client), ask(client)] == [True, False]
    row = account("env")
    assert (row.holds, row.settled.model_calls) == (0, 2)
    assert row.unmeasured.model_calls == 1


def test_a_forked_child_is_an_owner_of_its_own(tmp_path: Path, provider: Provider, client: Any) -> None:
    """What a child holds is not its parent's; it ends by itself and both count."""
    write(tmp_path, '[[limit]]\nper = "env"\nwindow = "day"\nmodel_calls = 3\n')
    assert ask(client)
    child = os.fork()
    if child == 0:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            os._exit(0 if ask(bursar.wrap(bare)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [ask(client), ask(client)] == [True, False]
    assert account("env").settled.model_calls == 3
    assert process().shared.audit() == []


def test_a_call_is_charged_to_the_window_that_it_began_in(
    tmp_path: Path, provider: Provider, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another hour is another account; what was spent in the last one stays there."""
    write(tmp_path, "[env.development]\nmodel_calls_per_hour = 1\n")
    assert [ask(client), ask(client)] == [True, False]
    clock = type(process().world.clock)
    monkeypatch.setattr(clock, "wall_us", lambda self: time.time_ns() // 1_000 + 3_600_000_000)
    assert [ask(client), ask(client)] == [True, False]
    rows = process().shared.every_account()
    assert [row.settled.model_calls for row in rows] == [1, 1]
    assert rows[0].scope.window != rows[1].scope.window


def test_waiting_for_another_process_ends_when_it_does(tmp_path: Path, provider: Provider, client: Any) -> None:
    """A call that waits for room another connection holds goes on as soon as that is given back."""
    write(tmp_path, '[[limit]]\nper = "env"\nwindow = "day"\nmodel_calls = 2\n')
    assert ask(client)
    other = type(process().shared).at(process().ledger.path)
    scope = account("env").scope
    other.reserve("other/0", (scope,), Amounts(model_calls=1))
    timer = threading.Timer(0.3, lambda: other.release("other/0"))
    timer.start()
    began = time.monotonic()
    assert ask(client)
    # It would otherwise be refused after `max_wait`, a minute.
    assert 0.25 < time.monotonic() - began < 30
    timer.join()
    other.close()


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("[env.production]\nusd_per_day = 200.0\n", 2, "never a float"),
        ('[env.production]\nusd_per_dya = "200"\n', 2, "did you mean 'usd_per_day'"),
        ('[bursar]\nmode = "enforec"\n', 2, "enforce and observe"),
        ('[bursar]\n\n\ntimezone = "Mars/Base"\n', 4, "time zone"),
        ('[[limit]]\nper = "user"\nwindow = "day"\nusd = "5"\n\n[[limit]]\nper = "user"\nwindow = "fortnight"\n', 8, "fortnight"),
        ('[[limit]]\nper = "user"\nwindow = "day"\n', 1, "limits something"),
        ('[[limit]]\nper = "user"\nwindow = "day"\nusd = "-1"\n', 4, "'-1'"),
        ('[[limit]]\nper = "user"\nwindow = "day"\nmodel_calls = 0\n', 4, "between 1 and"),
        ('[[limit]]\nper = "user"\nwindow = "day"\nusd = "1"\nover = "throttle:fast"\n', 5, "throttle:fast"),
        ('[[limit]]\nper = "user"\nwindow = "run"\nusd = "1"\nover = "throttle:6/min"\n', 5, "refused or warned of"),
        ("[workflow.w]\nusd_per_outcome = 0.5\n", 2, "never a float"),
        ('[bursar]\nrequire = "work flow"\n', 2, "no list of tags"),
        ('[[gate]]\ntol = "wire_*"\n', 2, "did you mean 'tool'"),
        ('[bursar]\nbudget_store = "redis://x"\n', 2, "not in this version"),
        ("limit = 3\n", 1, r"write \[\[limit\]\]"),
        ('[env]\nusd_per_day = "1"\n', 2, "has tables"),
        ("[workflow.w]\nusd_per_run = 0.5\n", 2, "never a float"),
        ("[bursar\n", None, "line 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named_with_its_line(tmp_path: Path, text: str, line: int | None, what: str) -> None:
    """Every error of the file says where it stands, what was found and what is allowed."""
    place = rf"bursar\.toml:{line}: " if line else r"bursar\.toml: "
    with pytest.raises(ConfigError, match=place + ".*" + what):
        write(tmp_path, text)


def test_the_nearest_file_upwards_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the working directory upwards; the variable names another, and none when it is empty."""
    (tmp_path / "bursar.toml").write_text('[bursar]\nenv = "staging"\n')
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert bursar.configure().env == "development"
    monkeypatch.delenv("BURSAR_CONFIG")
    assert bursar.configure().env == "staging"
    monkeypatch.setenv("BURSAR_ENV", "production")
    assert bursar.configure().env == "production"
    monkeypatch.setenv("BURSAR_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        bursar.configure()


def test_a_ledger_of_the_file_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path in the file begins where the file is."""
    monkeypatch.delenv("BURSAR_LEDGER")
    (tmp_path / "bursar.toml").write_text('[bursar]\nledger = "data/l.db"\n')
    assert bursar.configure(config=tmp_path / "bursar.toml").ledger == tmp_path / "data" / "l.db"


def test_a_connection_that_forgets_its_turn_is_waited_for(tmp_path: Path, ledger: Path, client: Any) -> None:
    """A program that holds SQLite's own lock is waited for; beyond that, calls are refused and say why."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    assert ask(client)
    other = apsw.Connection(str(ledger))
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    assert ask(client, 1)
    timer.join()
    other.close()


def test_a_workflow_has_its_budget_owner_and_promise_from_the_file(
    tmp_path: Path, provider: Provider, client: Any
) -> None:
    """What the file says of a workflow applies to each of its runs, beside what the code says."""
    write(tmp_path, '[workflow.w]\nusd_per_run = "0.005"\nowner = "support"\npromise = "near"\n')
    with bursar.run("w", Budget(model_calls=50)) as run:
        assert [ask(client, n) for n in range(4)] == [True, True, False, False]
    assert (run.who.tags.owner, run.who.tags.promise) == ("support", "near")
    with bursar.run("w", Budget.unlimited(), owner="mine") as run:
        assert [ask(client, n) for n in range(4)] == [True, True, False, False]
    assert run.who.tags.owner == "mine"
    with bursar.run("other", Budget(model_calls=3)):
        assert [ask(client, n) for n in range(4)] == [True, True, True, False]


def test_tags_may_be_required_in_the_file(tmp_path: Path, provider: Provider, client: Any) -> None:
    """A call without a required tag is refused before anything is sent."""
    write(tmp_path, '[bursar]\nrequire = ["workflow", "feature"]\n')
    with bursar.run("w", Budget(usd="1")), pytest.raises(bursar.Unattributed, match="no feature"):
        ask(client)
    with bursar.run("w", Budget(usd="1"), feature="inbox"):
        assert ask(client)
    assert len(provider.requests) == 1


def test_a_shared_limit_may_only_warn(tmp_path: Path, provider: Provider, client: Any) -> None:
    """Beyond it calls go on, once with a warning and each with a verdict."""
    write(tmp_path, '[env.development]\nmodel_calls_per_day = 1\nover = "warn"\n')
    assert ask(client)
    with pytest.warns(BursarWarning, match="over='warn'"):
        assert ask(client, 1)
    assert ask(client, 2)
    assert account("env").settled.model_calls == 3
    verdicts = process().ledger.database().execute("SELECT action, scope FROM verdict")
    assert [action for action, _ in verdicts] == ["over", "over"]


def test_a_shared_limit_may_slow_down(tmp_path: Path, ledger: Path, provider: Provider, client: Any) -> None:
    """Beyond it calls of all processes go at the stated rate."""
    config = write(tmp_path, '[env.development]\nmodel_calls_per_day = 1\nover = "throttle:4/s"\n')
    assert ask(client)
    began = time.monotonic()
    code = WORKER.replace("range(20)", "range(3)")
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(config), str(ledger), provider.openai_url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    worker.stdout.readline()
    began = time.monotonic()
    thread = threading.Thread(target=lambda: [ask(client, n) for n in range(3)])
    thread.start()
    assert worker.communicate("go\n", timeout=60)[0] == "3\n"
    thread.join()
    assert time.monotonic() - began > 5 * 0.25 - 0.05
    assert account("env").settled.model_calls == 7
    assert process().shared.audit() == []


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path, ledger: Path, provider: Provider, client: Any) -> None:
    """When the file cannot grow, calls are refused; the end of one in flight is kept aside and taken back later."""
    write(tmp_path, '[env.development]\nusd_per_day = "1"\n')
    assert ask(client)
    before = provider.billed_nusd
    database = process().ledger.database()
    stream = client.chat.completions.create(**REQUEST, stream=True)
    database.execute("CREATE TABLE filler (x)")
    (pages,) = database.execute("PRAGMA page_count")[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.warns(BursarWarning, match="cannot be written"):
        with pytest.raises(apsw.FullError):
            while True:
                database.execute("INSERT INTO filler VALUES (zeroblob(3000))")
        for _ in stream:
            pass
        with pytest.raises(bursar.StoreUnavailable):
            for n in range(200):
                ask(client, n)
    sent = len(provider.requests)
    with pytest.raises(bursar.StoreUnavailable):
        ask(client)
    assert len(provider.requests) == sent
    database.execute("PRAGMA max_page_count = 1000000")
    assert ask(client)
    assert account("env").settled.nusd == provider.billed_nusd > before
    assert account("env").holds == 0
    assert process().shared.audit() == []


def test_what_is_done_in_parts_counts_for_whom_it_is_done(client: Any, tmp_path: Path) -> None:
    """A run within a run is of the same user, session and tenant, unless it names others."""
    write(tmp_path, '[[limit]]\nper = "user"\nwindow = "day"\nmodel_calls = 1\n')
    with bursar.run("outer", Budget(usd="1"), user="ana", session="s-1", tenant="north", feature="inbox") as outer:
        with bursar.run("part", Budget(usd="1")) as part:
            assert ask(client)
            assert not ask(client, 1)
        with bursar.run("another", Budget(usd="1"), user="bob", session="s-2", tenant="south") as another:
            assert ask(client)
        assert not ask(client)
    assert (part.who.user, part.who.session, part.who.tags.tenant) == ("ana", "s-1", "north")
    assert (another.who.user, another.who.session, another.who.tags.tenant) == ("bob", "s-2", "south")
    assert part.who.tags.feature is None
    assert outer.spend.settled.model_calls == 2
