"""Who answers what gates ask, with nobody sitting there: functions where it is asked, and processes at the inbox.

`python -m scripts.soak.approvers SEED` is one of the latter. Answers are by chance: yes, yes for longer, yes to other
arguments, yes and more money, no, and nothing at all.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from bursar import ConfigError, CostGate
from bursar.approvals import Reply
from bursar.approvals.book import Book
from bursar.db import open_ledger
from bursar.words.clock import CLOCK
from scripts.soak.place import here, ledger_of

if TYPE_CHECKING:
    from bursar.approvals import Question

_ROOT: Final = Path(__file__).parents[2]
_RAISE: Final = "0.01"
_dice = random.Random()


def answer(kind: str, arguments: str | None, dice: random.Random, *, by: str) -> Reply | None:
    """One answer by chance; what cannot be meant of this question is refused by whoever takes it."""
    point = dice.random()
    given = json.loads(arguments) if kind == "tool" and arguments else None
    if point < 0.15 and isinstance(given, dict) and "amount" in given:
        return Reply(yes=True, arguments={**given, "amount": 0}, by=by)
    if point < 0.3:
        return Reply(yes=True, raise_usd=_RAISE, by=by, reason="more")
    if point < 0.35:
        return Reply(yes=True, scope=dice.choice(["run", "tool"]), up_to_usd="0.05", until="5s", by=by)
    if point < 0.75:
        return Reply(yes=True, by=by)
    return Reply(yes=False, reason="not now", by=by) if point < 0.95 else None


def policy(question: Question) -> Reply | None:
    """Answers in the process that asks, some time later."""
    time.sleep(_dice.uniform(0, 0.2))
    return answer(question.kind, question.arguments, _dice, by="policy")


async def awaited_policy(question: Question) -> Reply | None:
    """The same as a coroutine."""
    await asyncio.sleep(_dice.uniform(0, 0.2))
    return answer(question.kind, question.arguments, _dice, by="awaited policy")


APPROVERS: Final[tuple[Any, ...]] = (
    "inbox", "inbox", ["inbox 1s", policy], policy, awaited_policy, "python:scripts.soak.approvers:policy",
)  # fmt: skip


def gate(dice: random.Random, **what: Any) -> CostGate:
    """A gate with some approver, which has a few seconds."""
    return CostGate(**what, approver=dice.choice(APPROVERS), timeout=dice.choice(["1s", "6s"]))


def resumption(dice: random.Random) -> Any:
    """What somebody says who resumes a graph."""
    edit = {"decision": "edit", "arguments": {"amount": 0, "nonce": f"edit-{dice.getrandbits(64):x}"}}
    more = {"decision": "approve", "raise_usd": _RAISE, "by": "resumer"}
    return dice.choice(["yes", {"decision": "approve", "by": "resumer"}, more, edit, "no", {"decision": "reject"}])


class Desks:
    """Processes at the inbox; one of them is killed now and then, and another takes its place."""

    def __init__(self, count: int, every_s: float) -> None:
        self.kills = self._seed = 0
        self._count, self._every_s = count, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        self._seed += 1
        return subprocess.Popen([sys.executable, "-m", "scripts.soak.approvers", str(self._seed)], cwd=_ROOT)

    def _keep(self) -> None:
        dice = random.Random(3)
        alive = [self._start() for _ in range(self._count)]
        while not self._over.wait(dice.uniform(0.5, 1.5) * self._every_s):
            victim = alive.pop(0)
            victim.kill()
            victim.wait()
            self.kills += 1
            alive.append(self._start())
        for each in alive:
            each.kill()
            each.wait()


def main(seed: int) -> None:
    """Answer what is open, in any order, beside others who do the same, until killed."""
    ledger, dice, name = ledger_of(here()), random.Random(seed), f"desk {seed}"
    while not ledger.exists():
        time.sleep(0.1)
    database = open_ledger(ledger)
    book = Book(lambda: database, CLOCK.wall_us)
    while True:
        rows = [row for row in book.open_ones() if row.asking == "inbox"]
        dice.shuffle(rows)
        for row in rows[:10]:
            reply = answer(row.kind, row.arguments, dice, by=name)
            if reply is None:
                continue
            try:
                book.decide(row.id, reply, by=name, via="inbox")
            except ConfigError:
                book.decide(row.id, Reply(yes=True, by=name), by=name, via="inbox")
        time.sleep(0.05)


if __name__ == "__main__":
    main(int(sys.argv[1]))
