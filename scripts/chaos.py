"""Kill processes that share one daily limit, again and again, and compare the books with an independent bill.

    python scripts/chaos.py                       # 6 workers, about 45 SIGKILLs a second, until the limit is used up
    python scripts/chaos.py --calls 20000 --json

Each worker reserves, notes that it is about to send, lets a provider bill (one line in a file of its own, which
nothing of bursar reads), and writes the row of the attempt with its charge. One settle in five is done twice, one call
in twenty is released unsent, one in fifty waits between its steps. The limit is worth so many calls; workers go on
until they are refused for good. Exit code 0 means: nothing billed beyond the limit, every balance follows from the
records, nothing held, unsent holds free, sent ones charged.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bursar.stores.base import State
from bursar.stores.sqlite import SqliteStore
from bursar.tracing.ledger import Ledger
from bursar.words.clock import new_id
from bursar.words.events import Amounts, CostStatus, Usage, UsageSource
from bursar.words.ports import Denied, Posting, Scope
from bursar.words.records import ModelCall, Who

ENV, USER = Scope("env", "production", "day:2026-11-24"), Scope("user", "u", "day:2026-11-24")
PATH = (ENV, USER)
MEAN = 1_000_000
"""What a call costs in the middle, in nano-dollars; it is held at up to 1.5 times of it."""


class Books:
    """One worker's view of the ledger."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path, lambda: self.ledger.database())  # noqa: PLW0108 - the ledger is made after it
        self.ledger = Ledger(path, self.store.post)


def amounts(nusd: int) -> Amounts:
    """A call that costs so much."""
    return Amounts(nusd, 1_000, 1_000, 800, 200, 1, 0)


def row(call_id: str, cost: int) -> ModelCall:
    """The ledger row of one call."""
    return ModelCall(
        call_id, call_id[:26], 0, time.time_ns() // 1_000, Who(), "openai", "gpt-4o", "sync",
        usage=Usage(800, 200), usage_source=UsageSource.PROVIDER, cost_nusd=cost, cost_status=CostStatus.LIST_PRICE,
    )  # fmt: skip


def work(path: Path, bill: Path, seed: int) -> None:
    """Call until nothing fits any more."""
    dice = random.Random(seed)
    books, provider = Books(path), os.open(bill, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    refused = 0
    while refused < 40:
        call_id, cost = f"{new_id()}/0", dice.randint(MEAN // 2, 3 * MEAN // 2)
        hold = amounts(int(cost * dice.uniform(1.0, 1.5)))
        if isinstance(books.store.reserve(call_id, PATH, hold), Denied):
            refused += 1
            time.sleep(0.01)
            continue
        refused = 0
        if dice.random() < 0.05:
            books.store.release(call_id)
            continue
        rest(dice)
        books.store.sent(call_id)
        os.write(provider, f"\n{call_id} {cost}\n".encode())
        rest(dice)
        posting = Posting(call_id, PATH, amounts(cost), measured=True)
        books.ledger.write(row(call_id, cost), posting)
        books.store.done(call_id)
        if dice.random() < 0.2:
            books.store.settle(call_id, PATH, amounts(cost), measured=True)
    books.store.close()
    books.ledger.close()


def rest(dice: random.Random) -> None:
    """Wait now and then, so that death comes at every step."""
    if dice.random() < 0.02:
        time.sleep(dice.uniform(0, 0.02))


def start(path: Path, bill: Path, seed: int) -> int:
    """Fork a worker."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = 1
        try:
            work(path, bill, seed)
            code = 0
        finally:
            os._exit(code)
    return child


def storm(path: Path, bill: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Keep the workers running, kill them at random, until they end by themselves."""
    dice = random.Random(given.seed)
    alive = {start(path, bill, n) for n in range(given.workers)}
    kills, born, ended, began = 0, given.workers, 0, time.monotonic()
    while alive:
        time.sleep(dice.expovariate(given.kills))
        victim = dice.choice(sorted(alive))
        os.kill(victim, signal.SIGKILL)
        kills += 1
        while alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            alive.discard(pid)
            if os.WIFEXITED(status):
                if os.WEXITSTATUS(status):
                    raise SystemExit("a worker failed by itself: see above")
                ended += 1
            elif not ended:
                born += 1
                alive.add(start(path, bill, born))
        if given.progress and sys.stderr.isatty():
            print(f"\r{kills} kills, {len(alive)} alive", end="", file=sys.stderr)
        if time.monotonic() - began > given.seconds:
            raise SystemExit(f"not done after {given.seconds} s")
    return {"kills": kills, "workers": born, "seconds": round(time.monotonic() - began, 1)}


def judge(path: Path, bill: Path, limit: int) -> dict[str, Any]:
    """Compare the books with the bill."""
    books = Books(path)
    books.store.recover()
    billed: dict[str, int] = {}
    for line in bill.read_text().split("\n"):
        if " " in line:
            call_id, cost = line.split()
            assert call_id not in billed, f"{call_id} was sent twice"
            billed[call_id] = int(cost)
    records = {record.call_id: record for record in books.store.scan()}
    states = [record.state for record in records.values()]
    rows = dict(books.ledger.database().execute("SELECT call_id, cost_nusd FROM model_call"))
    balance = books.store.balance(ENV)
    presumed = {call_id for call_id, record in records.items() if record.state is State.PRESUMED}
    faults = [str(drift) for drift in books.store.audit()]
    faults += [f"{call_id} was billed and is {records[call_id].state}" for call_id in billed
               if records[call_id].state not in (State.COMMITTED, State.PRESUMED)]  # fmt: skip
    faults += [f"{call_id} is committed at another price" for call_id, cost in rows.items()
               if records[call_id].charged.nusd != cost or billed.get(call_id) != cost]  # fmt: skip
    faults += [f"{call_id} has a charge and no row" for call_id, record in records.items()
               if record.state is State.COMMITTED and call_id not in rows]  # fmt: skip
    if sum(billed.values()) > limit:
        faults.append("billed beyond the limit")
    if balance.held.nusd or balance.holds or State.HELD in states:
        faults.append("something is still held")
    return {
        "billed_calls": len(billed),
        "billed_of_limit": round(sum(billed.values()) / limit, 4),
        "charged_of_limit": round(balance.settled.nusd / limit, 4),
        "presumed": len(presumed),
        "presumed_but_never_billed": len(presumed - billed.keys()),
        "released": states.count(State.RELEASED),
        "faults": faults,
    }


def main() -> None:
    """Run the storm and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5_000, help="how many calls the limit is worth")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--kills", type=float, default=45.0, help="SIGKILLs a second")
    parser.add_argument("--seconds", type=float, default=300.0, help="give up after")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-progress", dest="progress", action="store_false")
    given = parser.parse_args()
    limit = given.calls * MEAN
    with tempfile.TemporaryDirectory(prefix="bursar-chaos-") as directory:
        path, bill = Path(directory) / "ledger.db", Path(directory) / "bill"
        books = Books(path)
        for scope in PATH:
            books.store.define(scope, {"usd": limit})
        books.ledger.close()
        bill.touch()
        found = {"limit_calls": given.calls, **storm(path, bill, given), **judge(path, bill, limit)}
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n" + "\n".join(f"{name:28}{value}" for name, value in found.items()))
    raise SystemExit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
