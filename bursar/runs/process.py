"""What one process has: settings, the store of its runs, the ledger, prices, and what was learned.

Everything is made at first use, and made anew in a forked child: a child that went on with its parent's runs
would spend their budgets twice.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bursar.flow.call import World
from bursar.flow.gates import rules_of_file
from bursar.ledger_file import default_ledger_path
from bursar.pricing.estimate import Estimator
from bursar.pricing.shelf import price_list
from bursar.runs.drive import Desk
from bursar.runs.earlier import Earlier
from bursar.settings.config import Settings, parse_age, read_settings
from bursar.stores.memory import MemoryStore
from bursar.stores.sqlite import SqliteStore
from bursar.stores.tiers import Tiers
from bursar.tracing.content import Contents, expire
from bursar.tracing.ledger import Ledger
from bursar.tracing.orders import Orders
from bursar.tracing.recorder import Recorder, check_trace, listener_of
from bursar.words.asks import Asks
from bursar.words.canonical import Fingerprints
from bursar.words.clock import CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.approvals.desk import ApprovalDesk
    from bursar.words.ports import Store


_KEEP_US: Final = 1_000_000


class Process:
    """The parts that all runs of one process share."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.rules = settings, rules_of_file(settings)
        path = settings.ledger or default_ledger_path()
        self.memory = MemoryStore(passing=True)
        durable = settings.durability == "power"
        self.shared = SqliteStore(path, lambda: self.ledger.opened(), durable=durable)  # noqa: PLW0108 - the ledger is made after it
        self.ledger = Ledger(path, self.shared.post, durable=durable)
        self.orders = Orders(self.ledger, self.shared)
        estimator = Estimator()
        estimator.load(self.ledger.load_calibration())
        self.world = World(CLOCK, price_list(path, settings), estimator, Earlier())
        self.recorder = Recorder(self.ledger, listener_of(settings.trace))
        self.store: Store = self.memory
        self.desk = Desk(self.store, self.recorder, self.memory)
        if settings.limits:
            self.share()
        self.contents = (
            None
            if settings.content == "off"
            else Contents(self.ledger, settings.content, parse_age(settings.keep_content, "keep_content"))
        )
        if self.ledger.path.exists():
            expire(self.ledger)
        self.asks, self.fingerprints = Asks(), Fingerprints(self.ledger.key)
        self.forked = self.ended = False
        self._kept_us = -_KEEP_US
        self.orphans: deque[Callable[[], Any]] = deque()

    @cached_property
    def approvals(self) -> ApprovalDesk:
        """Who asks people, made at the first question."""
        from bursar.approvals.desk import ApprovalDesk

        return ApprovalDesk(self.ledger)

    def share(self) -> None:
        """Hold calls in the ledger file as well where a limit lies there."""
        if self.store is self.memory:
            self.store = Tiers(self.memory, self.shared)
            self.desk = Desk(self.store, self.recorder, Tiers(self.memory, self.shared, wait=False))

    def adopt(self) -> None:
        """Conclude what the garbage collector found abandoned (it cannot: it may run inside any lock)."""
        while self.orphans:
            self.orphans.popleft()()

    def keep_learned(self) -> None:
        """Keep what was learned, at most once a second: short runs learn little, and each write is a commit."""
        now_us = self.world.clock.monotonic_us()
        if now_us >= self._kept_us + _KEEP_US:
            self._kept_us = now_us
            self.ledger.save_calibration(self.world.estimator.dump())

    def close(self) -> None:
        """Keep what was learned and close ledger and trace log."""
        self.adopt()
        if "approvals" in self.__dict__:
            self.approvals.close()
        self.shared.close()
        self.ledger.save_calibration(self.world.estimator.dump())
        self.recorder.close()
        self.ledger.close()


_lock = threading.Lock()
_process: Process | None = None
_given: dict[str, object] = {}
_inherited: list[Process] = []


def process() -> Process:
    """The process's parts, made at the first call. Raises `ConfigError`, `LedgerError`."""
    found = _process
    if found is not None:
        return found
    with _lock:
        return _process or _start()


def configure(**settings: object) -> Settings:
    """Set what applies to every run of this process.

    That is `ledger`, `mode`, `env`, `release`, the default budget, `trace`, `content` and `keep_content`. What is not
    named here is read from `BURSAR_LEDGER`, `BURSAR_MODE` and so on. Runs that are open go on as they are. Returns the
    settings as they now stand. Raises `ConfigError` with the name and the value.
    """
    global _process
    checked = read_settings({**_given, **settings})
    check_trace(checked.trace)
    with _lock:
        _given.update(settings)
        old, _process = _process, None
    if old is not None:
        old.ended = True
        old.close()
    return replace(checked, ledger=checked.ledger or Path(default_ledger_path()))


def _start() -> Process:
    global _process  # noqa: PLW0603
    _process = Process(read_settings(_given))
    return _process


def _close_at_exit() -> None:
    if _process is not None:
        _process.close()


def _forget_in_child() -> None:
    global _lock, _process  # noqa: PLW0603
    _lock = threading.Lock()
    if _process is not None:
        # Its frames are dropped wherever they turn up; its connection is never used here, nor closed by a collector.
        _process.forked = _process.ended = True
        _inherited.append(_process)
    _process = None


atexit.register(_close_at_exit)
os.register_at_fork(after_in_child=_forget_in_child)
