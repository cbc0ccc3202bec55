"""Two sides of an inbox: a process that asks much at once, and processes that answer until they are killed."""

from __future__ import annotations

import asyncio
import random
import sys
import time
import warnings
from pathlib import Path

import bursar
from bursar import Budget, CostGate
from bursar.approvals import Reply
from bursar.approvals.book import Book
from bursar.db import open_ledger
from bursar.words.clock import CLOCK


async def ask(most: int, made: Path) -> None:
    """Ask about so many calls at once; each that is made leaves a line."""

    @bursar.tool(usd="0.001")
    async def pay(n: int) -> str:
        with made.open("a") as file:
            file.write(f"{n}\n")
        return "paid"

    with bursar.run("w", Budget(usd="5"), CostGate(tool="pay", ask="always", approver="inbox", timeout="60s")):
        said = await asyncio.gather(*(pay(n) for n in range(most)))
    print(sum(each == "paid" for each in said), sum("refused by" in each for each in said))


def answer(ledger: str, name: str) -> None:
    """Answer whatever is open, in any order, beside others who do the same; yes and no by chance."""
    database = open_ledger(Path(ledger))
    book = Book(lambda: database, CLOCK.wall_us)
    while True:
        rows = book.open_ones()
        random.shuffle(rows)
        for row in rows[:5]:
            book.decide(row.id, Reply(random.random() < 0.5), by=name, via="inbox")
        time.sleep(0.02)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "ask":
        asyncio.run(ask(int(sys.argv[2]), Path(sys.argv[3])))
    else:
        answer(sys.argv[2], sys.argv[3])
