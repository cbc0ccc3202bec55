"""The end of a soak on the screen, and its exit code."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any, NoReturn

from bursar.stores.sqlite import SqliteStore
from bursar.tracing.ledger import Ledger
from bursar.tracing.spool import spools
from scripts.soak import lineage
from scripts.soak.asks import Asks
from scripts.soak.books import read_bill, read_ledger
from scripts.soak.claims import Claims
from scripts.soak.judge import Judgement
from scripts.soak.outcomes import Outcomes
from scripts.soak.windows import judge_windows

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
    left = drain(house)
    store = SqliteStore.at(house.ledger)
    recovered = store.recover()
    drift = [str(each) for each in store.audit()]
    store.close()
    kept = read_ledger(house.ledger)
    books = (house.diary.read(), read_bill(served), kept)
    asks, tools = Asks(house.ledger), house.diary.read_made()
    judgement = Judgement(*books, user_limit_nusd=user_limit_nusd, asks=asks, made=tools)
    # Before operators take back by hand what dead processes are charged for.
    unjust, windows = judge_windows(house.ledger)
    said = findings.conclude(house, served, judgement)
    outcomes, claims = Outcomes(house.place), Claims(house.place)
    came = outcomes.faults(judgement.ended, kept, house.ledger)
    made, strayed = claims.faults(), lineage.faults(house.ledger, books[0])
    faults = [*wrong, *left, *judgement.faults, *came, *drift, *unjust, *made, *strayed, *findings.faults()]
    more |= {"claims": claims.figures(), "windows": windows}
    found = {
        **more,
        **judgement.figures(),
        **outcomes.figures(),
        "holds recovered at the end": recovered,
        **said,
        "faults": faults,
    }
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            many = value if isinstance(value, list) else [value]
            print("\n".join(f"{name if n == 0 else '':28}{line}" for n, line in enumerate(many[:_MOST] or ["none"])))
    raise SystemExit(1 if faults else 0)


def drain(house: House) -> list[str]:
    """Take back what could not be written at the time; what is left of it."""
    ledger = Ledger(house.ledger)
    ledger.database()
    ledger.close()
    kept = [path for first in spools(house.ledger) for path in first.parent.glob(f"{first.name}*")]
    rejected = house.ledger.with_name(f"{house.ledger.name}.rejected")
    return [f"records are left in {path.name}" for path in (*kept, rejected) if path.exists()]


def until(minutes: float) -> float:
    """When to stop, on the monotonic clock."""
    return time.monotonic() + minutes * 60
