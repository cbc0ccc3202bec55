"""The end of a soak on the screen, and its exit code."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any, NoReturn

from bursar.stores.sqlite import SqliteStore
from scripts.soak import lineage
from scripts.soak.asks import Asks
from scripts.soak.books import read_bill, read_ledger
from scripts.soak.judge import Judgement

if TYPE_CHECKING:
    from bursar.testing import Provider
    from scripts.soak.house import House
    from scripts.soak.operators import Findings

_MOST = 40


def arguments(description: str | None, **defaults: float) -> argparse.Namespace:
    """Read the command line: for how long, and what else has a default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-operators", action="store_true", help="leave out the people at the command line")
    return parser.parse_args()


def conclude(
    house: House,
    served: Provider,
    wrong: list[str],
    *,
    user_limit_nusd: int,
    more: dict[str, Any],
    as_json: bool,
    findings: Findings,
) -> NoReturn:
    """Judge and show the books; leave with 1 where they do not balance or something else was `wrong`."""
    served.wait_idle(60)
    store = SqliteStore.at(house.ledger)
    recovered = store.recover()
    drift = [str(each) for each in store.audit()]
    store.close()
    kept = read_ledger(house.ledger)
    books = (house.diary.read(), read_bill(served), kept)
    asks, made = Asks(house.ledger), house.diary.read_made()
    judgement = Judgement(*books, user_limit_nusd=user_limit_nusd, asks=asks, made=made)
    said = findings.conclude(house, served, judgement)
    lineage_faults = lineage.faults(house.ledger, books[0])
    faults = [*wrong, *judgement.faults, *drift, *lineage_faults, *findings.faults()]
    found = {**more, **judgement.figures(), "holds recovered at the end": recovered, **said, "faults": faults}
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            many = value if isinstance(value, list) else [value]
            print("\n".join(f"{name if n == 0 else '':28}{line}" for n, line in enumerate(many[:_MOST] or ["none"])))
    raise SystemExit(1 if faults else 0)


def until(minutes: float) -> float:
    """When to stop, on the monotonic clock."""
    return time.monotonic() + minutes * 60
