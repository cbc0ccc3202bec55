"""What a limit that processes share costs a call: the stores alone, the whole flow, and many processes at once.

    python -m benchmarks.shared            # some two minutes
    python -m benchmarks.shared --quick
    python -m benchmarks.shared --json

`pair` is a reserve and a settle on a path of two scopes; `bare pair` is what SQLite alone takes for two transactions of
as many pages (two and three) in a file of their own, with nothing around them. `call` is the whole flow of one call
with its committed row: without a shared limit, and with one. Processes run as fast as they can, all on one limit that
never runs out: `max` is the longest that any of their pairs took. Wall clock; every balance is checked at the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw

import bursar
from benchmarks.common import as_json, facts, own_ledger, show_facts, table
from bursar.stores.base import HoldStore
from bursar.stores.memory import MemoryStore
from bursar.stores.sqlite import SqliteStore
from bursar.words.events import Amounts
from bursar.words.ports import Scope

PATH = (Scope("env", "production", "day:2026-11-24"), Scope("user", "u", "day:2026-11-24"))
AMOUNTS = Amounts(1_000, 10, 10, 5, 5, 1, 0)
PLENTY = 10**15
BARS = {"memory": "p50 <= 10", "SQLite": "p50 <= 150", "call with a shared limit": "p50 <= 200", "8": "max <= 250,000"}


def pairs(store: HoldStore, n: int, prefix: str) -> list[float]:
    """Microseconds of each pair."""
    taken = []
    for number in range(n):
        call_id = f"{prefix}{number}/0"
        began = time.perf_counter_ns()
        store.reserve(call_id, PATH, AMOUNTS)
        store.settle(call_id, PATH, AMOUNTS, measured=True)
        taken.append((time.perf_counter_ns() - began) / 1_000)
    return taken


def bare(n: int) -> list[float]:
    """Microseconds of each two transactions of SQLite's own."""
    taken = []
    with tempfile.TemporaryDirectory(prefix="bursar-bench-") as directory:
        connection = apsw.Connection(f"{directory}/bare.db")
        run = connection.cursor().execute
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0"):
            run(f"PRAGMA {pragma}").fetchall()
        for place in range(3):
            run(f"CREATE TABLE t{place} (id INTEGER PRIMARY KEY, v INTEGER)")
            run(f"INSERT INTO t{place} VALUES (1, 0)")
        updates = [f"UPDATE t{place} SET v = ? WHERE id = 1" for place in range(3)]
        for number in range(n):
            if number % 500 == 0:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            began = time.perf_counter_ns()
            for pages in (2, 3):
                run("BEGIN IMMEDIATE")
                for update in updates[:pages]:
                    run(update, (number,))
                run("COMMIT")
            taken.append((time.perf_counter_ns() - began) / 1_000)
        connection.close()
    return taken


def define(store: HoldStore) -> None:
    """Two limits that never run out."""
    for scope in PATH:
        store.define(scope, {"usd": PLENTY, "tokens": PLENTY})


def check(store: HoldStore, n: int) -> None:
    """The books agree with what was done."""
    balance = store.balance(PATH[0])
    if balance.settled.nusd != n * AMOUNTS.nusd or any(balance.held) or store.audit():
        raise SystemExit(f"{n} pairs, and the balance is {balance}")


def worker(path: str, n: int, number: int, begin: Any, results: Any) -> None:
    """One of several processes that saturate the file."""
    store = SqliteStore.at(Path(path))
    begin.wait()
    results.put(pairs(store, n, f"{number}-"))
    store.close()


def crowd(processes: int, n: int) -> list[float]:
    """So many processes at once, each so many pairs."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bursar-bench-") as directory:
        path = Path(directory) / "ledger.db"
        store = SqliteStore.at(path)
        define(store)
        begin, results = context.Barrier(processes), context.Queue()
        children = [
            context.Process(target=worker, args=(str(path), n, number, begin, results)) for number in range(processes)
        ]
        for child in children:
            child.start()
        taken = [one for _ in children for one in results.get()]
        for child in children:
            child.join()
        check(store, processes * n)
        store.close()
    return taken


def calls(n: int, config: str | None) -> list[float]:
    """Microseconds of each call through the flow, with its committed row."""
    # Not above: the SDKs that these bring are nothing that every one of the crowd should load.
    from benchmarks.overhead import answers, one_call, prepared
    from bursar.clients.guard import Guard
    from bursar.runs.frames import make_who

    with own_ledger() as path:
        if config is not None:
            (path.parent / "bursar.toml").write_text(config)
            bursar.configure(config=path.parent / "bursar.toml")
        guard, requests, ended = Guard(make_who(None), []), prepared(), answers(n)
        taken = []
        with bursar.run("bench", bursar.Budget(usd="1000000", tokens=10**14)):
            for number in range(n):
                began = time.perf_counter_ns()
                one_call(guard, requests[number & 63], ended[number])
                taken.append((time.perf_counter_ns() - began) / 1_000)
        if config is not None:
            bursar.configure(config=None)
    return taken[n // 10 :]


def row(name: str, taken: list[float], bar: str) -> tuple[Any, ...]:
    """A line of the table."""
    ordered = sorted(taken)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0, 0.5, 0.99, 0.999)]
    return (name, *(f"{value:,.0f}" for value in at), f"{ordered[-1]:,.0f}", bar, len(taken))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    n = 2_000 if given.quick else 10_000
    found, rows = facts(), []
    memory = MemoryStore()
    define(memory)
    rows.append(row("pair, memory", pairs(memory, n, "m"), BARS["memory"]))
    check(memory, n)
    rows.append(row("bare pair, SQLite, 1 process", bare(n // 2), ""))
    for processes in (1, 4, 8):
        bar = BARS.get(str(processes), BARS["SQLite"])
        rows.append(
            row(f"pair, SQLite, {processes} process{'es' if processes > 1 else ''}", crowd(processes, n // 2), bar)
        )
    rows.append(row("call without a shared limit", calls(n, None), ""))
    limit = '[env.benchmark]\nusd_per_day = "1000000"\n'
    rows.append(row("call with a shared limit", calls(n, limit), BARS["call with a shared limit"]))
    heads = ("microseconds", "least", "p50", "p99", "p99.9", "max", "we want", "n")
    if given.json:
        print(as_json({"facts": found, "lines": [dict(zip(heads, each, strict=True)) for each in rows]}))
    else:
        print(show_facts(found))
        print(table(heads, rows))


if __name__ == "__main__":
    main()
