"""Agents of tenants: runs that only watch, decorated functions, threads that have lost their run, declared workflows.

Each says what it has found in `claims.py`. The odd ones are processes of their own: `elsewhere.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import apsw

import bursar
from bursar import Budget
from scripts.soak.claims import claim
from scripts.soak.marks import new_mark
from scripts.soak.runs import dice, house, quietly, several
from scripts.soak.windows import DECLARED, DECLARED_NUSD, TENANTS, WATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bursar import Run
    from scripts.soak.marks import Mark

MODES: Final = ("forks", "ahead", "full", "required")


@contextlib.contextmanager
def tenant(
    feature: str, limit: Budget | None, *, name: str | None = None, mark: Mark | None = None, **more: Any
) -> Iterator[tuple[Run, Any]]:
    """Open a run of a tenant for somebody who comes once, with a mark; write down its end."""
    mark, stopped = mark or new_mark(f"x{uuid.uuid4().hex[:12]}"), None
    told = {"user": mark.user, "feature": feature, "tenant": name or dice.choice(TENANTS), **more}
    run: Run
    try:
        with bursar.run(told.pop("workflow", f"soak {feature}"), *((limit,) if limit else ()), **told) as run:
            yield run, mark
    except bursar.Stopped as stop:
        stopped = type(stop).__name__
    finally:
        limits = run.limits if limit is None else limit.limits()
        house.diary.note(mark, feature, run.id, limits.get("usd"), run.spend.held.nusd, stopped or run.stop_reason)


def asked(sql: str, *values: Any) -> list[Any]:
    """Rows of the ledger as it is now."""
    ledger = apsw.Connection(str(house.ledger), flags=apsw.SQLITE_OPEN_READONLY)
    ledger.set_busy_timeout(30_000)
    try:
        return ledger.execute(sql, values).fetchall()
    finally:
        ledger.close()


def watched() -> None:
    """A run that only watches: three calls where one is allowed; what would have been refused is on record."""
    made = 0
    with tenant("watched", None, mode="observe", name=WATCHED) as (run, mark), bursar.budget(model_calls=1):
        for _ in range(3):
            several(mark, 1)
            made += 1
    said = asked("SELECT action, acted FROM verdict WHERE run_id = ?", run.id)
    denied = [acted for action, acted in said if action == "deny"]
    claim("what is watched is not refused", made == 3 and len(denied) >= 2 and not any(denied), (made, said))


def decorated() -> None:
    """A function and a coroutine that are runs: each call of them has its own, and no more than its budget."""
    seen: list[tuple[str, int]] = []

    def work() -> None:
        run = bursar.current_run()
        assert run is not None
        mark = new_mark(f"x{uuid.uuid4().hex[:12]}")
        quietly(several, mark, 4)
        spent = run.spend
        seen.append((run.id, spent.settled.model_calls))
        house.diary.note(mark, "decorated", run.id, None, spent.held.nusd, run.stop_reason)

    @bursar.run("soak decorated", Budget(model_calls=2), tenant=dice.choice(TENANTS))
    def plain() -> None:
        work()

    @bursar.run("soak decorated", Budget(model_calls=2), tenant=dice.choice(TENANTS))
    async def awaited() -> None:
        await asyncio.to_thread(work)

    plain()
    plain()
    asyncio.run(awaited())
    fine = len({each[0] for each in seen}) == 3 and all(count <= 2 for _, count in seen)
    claim("a decorated function has a run for each call", fine and bursar.current_run() is None, seen)


def lost() -> None:
    """A thread without its run: its call is nobody's, and flagged; with `bind` the same is the run's."""
    mark = new_mark(f"x{uuid.uuid4().hex[:12]}")
    with tenant("lost", Budget(usd="0.02")) as (run, bound):
        before = time.time_ns() // 1_000
        stray = threading.Thread(target=quietly, args=(several, mark, 1))
        tied = threading.Thread(target=run.bind(quietly), args=(several, bound, 1))
        for each in (stray, tied):
            each.start()
        for each in (stray, tied):
            each.join()
        found = asked(
            "SELECT count(*) FROM model_call c JOIN ending e ON e.id = c.ending "
            "WHERE c.run IS NULL AND c.ts_us >= ? AND e.flags LIKE '%lost_context%'", before,
        )  # fmt: skip
    claim("a lost thread is flagged", found[0][0] >= 1, found)


def declared() -> None:
    """A workflow of the configuration: its budget, its owner and its promise are those of the file."""
    with tenant("declared", None, workflow=DECLARED) as (run, mark):
        limited = run.limits
        several(mark, 6)
    rows = asked(
        "SELECT DISTINCT d.owner, d.promise FROM model_call c JOIN dimension d ON d.id = c.dimension "
        "JOIN run r ON r.number = c.run WHERE r.run_id = ?", run.id,
    )  # fmt: skip
    claim(
        "a workflow has its settings", limited == {"usd": DECLARED_NUSD} and rows in ([], [("desk", "offline")]), rows
    )


def hourly() -> None:
    """A tenant's calls until its own limit, or its hour's or its day's, says no; and no other tenant's."""
    name, refused = dice.choice(TENANTS), None
    with tenant("hourly", Budget(usd="0.05"), name=name) as (run, mark):
        try:
            several(mark, 8)
        except bursar.BudgetExceeded as stop:
            refused = stop.scope
            raise
    kinds = ("run", "tenant", "user", "env")
    claim("a tenant ends where its hour does", refused is None or refused.startswith(kinds), (run.id, refused))


def soft() -> None:
    """Beyond a limit that slows down, and one that warns, every call is made."""
    with tenant("soft", Budget(usd="0.05"), name="soft", channel="mail", topic="orders") as (run, mark):
        several(mark, 4)
    stopped = asked("SELECT scope FROM verdict WHERE run_id = ? AND action = 'deny' AND acted", run.id)
    fine = not any(scope.startswith(("channel", "topic")) for (scope,) in stopped if scope)
    claim("a soft limit refuses nothing", fine, stopped)


def timed() -> None:
    """A deadline, and a word when half is spent."""
    heard: list[Any] = []
    late, limit = 0, Budget(usd="0.05", seconds=1, warn_at="50%", on_warn=heard.append)
    began_s = time.monotonic()
    with tenant("timed", limit) as (_, mark):
        for _ in range(1_000):
            begun_late = time.monotonic() - began_s > 1.5
            several(mark, 1, read="plain")
            late += begun_late
    claim("no call begins after its deadline", not late and len(heard) <= 2, (late, heard))


def finished() -> None:
    """Work until the budget ends, then one last call and no second one."""
    served = second = False
    with tenant("finished", Budget(usd="0.01", reserve_final="auto")) as (run, mark):
        quietly(several, mark, 20)
        with run.final():
            several(mark, 1, read="plain")
            served = True
        second = bool(run.stop_reason)
        with contextlib.suppress(bursar.BudgetExceeded), run.final():
            several(mark, 1, read="plain")
    claim("a last call is served from what was set aside", served or second or bool(run.stop_reason), run.id)


def revived() -> None:
    """A run whose process has killed itself goes on here, with what it has spent there."""
    mark = new_mark(f"x{uuid.uuid4().hex[:12]}")
    command = [sys.executable, "-m", "scripts.soak.elsewhere", "dies", mark.name, mark.user]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    run_id, nusd, steps = done.stdout.split()
    with tenant("revived", Budget(usd="0.03"), mark=mark, id=run_id) as (run, _):
        found = run.spend.settled.nusd, run.steps
        several(mark, 12)
    # A step that was refused has a number and no row.
    fine = found[0] == int(nusd) and found[1] <= int(steps)
    claim("a killed run goes on with what it has spent", fine, (found, done.stdout))


def elsewhere() -> None:
    """A process of its own: that forks, whose clock is ahead, whose disk is full, that asks for tags."""
    mode = dice.choice(MODES)
    command = [sys.executable, "-m", "scripts.soak.elsewhere", mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    claim("elsewhere it ends well", done.returncode == 0, f"{mode} {done.returncode} {done.stderr[-250:]}")


FEATURES: Final[tuple[Callable[[], None], ...]] = (
    watched, decorated, lost, declared, hourly, soft, timed, finished, revived, elsewhere,
)  # fmt: skip


def any_of_them() -> None:
    """One at random; what falls out of it is a fault."""
    feature = dice.choice(FEATURES)
    try:
        feature()
    except Exception as error:  # noqa: BLE001 - written down, and judged
        claim("a feature ends well", holds=False, detail=f"{feature.__name__}: {type(error).__name__}: {error}")


def endpoint(user: str) -> None:  # noqa: ARG001 - asked for like every other
    """The same as an endpoint of the service."""
    any_of_them()
