"""A process of its own in which something is odd: `python -m scripts.soak.elsewhere MODE`.

forks: children go on by themselves. ahead: the wall clock is an hour ahead, so that windows roll over. full: no file
may grow any more, so that records go to the spool. required: calls without an owner are refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import warnings
from typing import Any, Final

_DEATH: Final = 1
_HOUR_NS: Final = 3_600 * 1_000_000_000
_BYTES: Final = 64 * 1024


def forks() -> None:
    """Two children of a process with an open run: neither has it, each is charged by itself."""
    import bursar
    from bursar import Budget
    from scripts.soak.claims import claim
    from scripts.soak.house import House
    from scripts.soak.runs import several
    from scripts.soak.tenants import tenant

    limit = Budget(usd="0.03")
    with tenant("forked", limit) as (run, mark):
        several(mark, 1)
        spent, children = run.spend.settled, []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                _child()
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        claim("a child has no run", codes == [0, 0] and run.spend.settled == spent, (codes, spent))
        several(mark, 1)
    assert House.here().ledger.exists()
    assert bursar.current_run() is None


def _child() -> None:
    # Clients of its own: a connection of the parent's would be read by both.
    code = 1
    with contextlib.suppress(BaseException):
        import bursar
        from bursar import Budget
        from bursar.runs.process import process
        from scripts.soak import runs, tenants

        runs.calls.clients = runs.house.clients()
        with tenants.tenant("child", Budget(usd="0.02")) as (run, mark):
            runs.several(mark, 2)
        (above,) = tenants.asked("SELECT parent_run_id FROM run WHERE run_id = ?", run.id)
        code = 0 if above == (None,) and bursar.current_run() is None else 2
        process().close()
    os._exit(code)


def ahead() -> None:
    """Calls in the next hour, while everybody else's are in this one."""
    real = time.time_ns
    time.time_ns = lambda: real() + _HOUR_NS
    from bursar import Budget
    from bursar.runs.process import process
    from scripts.soak.claims import claim
    from scripts.soak.runs import several
    from scripts.soak.tenants import tenant

    with tenant("ahead", Budget(usd="0.02"), name="north") as (_, mark):
        several(mark, 3)
    hour = time.strftime("hour:%Y-%m-%dT%HZ", time.gmtime(time.time_ns() / 1e9))
    windows = {row.scope.window for row in process().shared.every_account() if row.scope[:2] == ("tenant", "north")}
    claim("a clock ahead has its own window", hour in windows, sorted(windows))


def full() -> None:
    """A run without shared limits where the ledger cannot grow: its calls are served, its records wait or are there."""
    from scripts.soak.place import here

    bare = here() / "bare.toml"
    bare.write_text('[bursar]\nledger = "ledger.db"\nenv = "bare"\n')
    os.environ["BURSAR_CONFIG"] = str(bare)
    from bursar import Budget
    from bursar.runs.process import process
    from bursar.tracing.spool import spools
    from scripts.soak.claims import claim
    from scripts.soak.runs import house, several
    from scripts.soak.tenants import asked, tenant

    limit, spent = Budget(usd="0.03"), 0
    process().ledger.database()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # What is imported meanwhile is not to be kept: half of it would be, for everybody who comes after.
    sys.dont_write_bytecode = True
    with house.diary.later():
        resource.setrlimit(resource.RLIMIT_FSIZE, (_BYTES, resource.RLIM_INFINITY))
        with tenant("full", limit) as (run, mark):
            several(mark, 4)
            spent = run.spend.settled.model_calls
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sql = "SELECT count(*) FROM model_call c JOIN run r ON r.number = c.run WHERE r.run_id = ?"
    waiting = b"".join(
        path.read_bytes() for first in spools(house.ledger) for path in first.parent.glob(f"{first.name}*")
    )
    kept = asked(sql, run.id)[0][0] + waiting.count(run.id.encode())
    claim("records wait in the spool", kept >= spent, (spent, kept))


def required() -> None:
    """Whoever does not say whom a call is for is refused before anything is sent."""
    os.environ["BURSAR_REQUIRE"] = "workflow,owner"
    import bursar
    from bursar import Budget
    from scripts.soak.claims import claim
    from scripts.soak.marks import new_mark
    from scripts.soak.runs import several
    from scripts.soak.tenants import tenant

    refused = 0
    for opened in (contextlib.nullcontext(), bursar.run("soak required", Budget.unlimited())):
        with contextlib.suppress(bursar.Unattributed), opened:
            try:
                several(new_mark("nobody"), 1)
            except bursar.Unattributed:
                refused += 1
                raise
    with tenant("required", Budget(usd="0.02"), owner="desk") as (_, mark):
        several(mark, 1)
    claim("what has no owner is refused", refused == 2, refused)


def dies() -> None:
    """A run that somebody else goes on with: two calls, its id and what it has spent, and the end of this process."""
    import bursar
    from bursar import Budget
    from scripts.soak.marks import Mark
    from scripts.soak.runs import several

    mark = Mark(sys.argv[2], sys.argv[3])
    with bursar.run("soak revived", Budget(usd="0.03"), user=mark.user, tenant="south") as run:
        with contextlib.suppress(bursar.Stopped):
            several(mark, 1)
            with bursar.run("soak part", Budget.unlimited()):
                several(mark, 1)
        print(run.id, run.spend.settled.nusd, run.steps, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


_MODES: Final[dict[str, Any]] = {"forks": forks, "ahead": ahead, "full": full, "required": required, "dies": dies}


def main() -> None:
    """Do one of them, and end with whoever has started it."""
    ctypes.CDLL(None).prctl(_DEATH, signal.SIGKILL)
    warnings.simplefilter("ignore")
    _MODES[sys.argv[1]]()
    from bursar.runs.process import process

    process().close()


if __name__ == "__main__":
    main()
