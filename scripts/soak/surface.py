"""The whole surface of both SDKs beside the service: every door under faults, and what is billed besides tokens.

    python -m scripts.soak.surface --minutes 1

Workers go through `doors.py` and are killed now and then, with a provider, a ledger and a trace log of their own, which
is rotated meanwhile; every other one sends its records to structlog instead. All of `counter.py` must hold of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from scripts.soak.counter import Counter
from scripts.soak.specials import provider

if TYPE_CHECKING:
    from types import TracebackType

LOG: Final = "trace.jsonl"
_TOML: Final = """
[bursar]
ledger = "ledger.db"
content = "full"
keep_content = "1h"

# What a killed worker had in flight is in nobody's books without a limit that outlives it.
[env.development]
usd_per_day = "1000"

[[price]]
model = "*"
provider = "azure.ai.openai"
factor = "1"
"""
_ROTATED_S: Final = 3.0
_LIVES_S: Final = 25.0
_ROOT: Final = Path(__file__).parents[2]


class Surface:
    """Workers of its own, from its beginning to its end. `figures` and `faults` when it is over."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        (place / "bursar.toml").write_text(_TOML)
        self._over = threading.Event()
        self._lanes = [threading.Thread(target=self._keep, args=(lane,)) for lane in range(2)]
        self._lock = threading.Lock()
        self.started = self.kills = self.failed = 0
        self.figures: dict[str, Any] = {}
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._served = provider().__enter__()
        for lane in self._lanes:
            lane.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for lane in self._lanes:
            lane.join()
        self._served.wait_idle(60)
        if kind is None:
            found = Counter(self.place, self._served)
            self.faults = [*([f"{self.failed} workers failed by themselves"] if self.failed else []), *found.faults]
            self.figures = {"workers": self.started, "killed": self.kills, **found.figures()}
        self._served.__exit__(kind, error, trace)

    def _keep(self, lane: int) -> None:
        """One worker after the other, each second one killed; `lane` says where their records go."""
        for number in itertools.count(lane, len(self._lanes)):
            if self._over.is_set():
                return
            worker = self._start(number)
            until = time.monotonic() + _LIVES_S
            while time.monotonic() < until and not self._over.wait(_ROTATED_S):
                if lane:
                    self._rotate()
            killed = not self._over.is_set() and number // len(self._lanes) % 2 == 1
            worker.kill() if killed else worker.terminate()
            ended = worker.wait(300)
            with self._lock:
                self.started += 1
                self.kills += killed
                self.failed += ended != 0 and not killed

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "BURSAR_CONFIG": str(self.place / "bursar.toml"),
            "BURSAR_TRACE": str(self.place / LOG) if number % len(self._lanes) else "structlog",
            "BURSAR_SURFACE": json.dumps([str(self.place), self._served.anthropic_url, number]),
        }
        environment.pop("BURSAR_LEDGER", None)
        command = [sys.executable, "-m", "scripts.soak.doors"]
        worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=_ROOT)
        assert worker.stdout is not None
        # It takes a while to import both SDKs.
        worker.stdout.readline()
        return worker

    def _rotate(self) -> None:
        log = self.place / LOG
        if log.exists():
            log.rename(self.place / f"trace-{time.time_ns()}.jsonl")


def main() -> None:
    """Without the service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bursar-soak-") as directory:
        with Surface(Path(directory) / "surface") as surface:
            time.sleep(given.minutes * 60)
        print(json.dumps({**surface.figures, "faults": surface.faults}, indent=2))
    raise SystemExit(1 if surface.faults else 0)


if __name__ == "__main__":
    main()
