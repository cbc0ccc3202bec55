"""Ten minutes of agents with sub-agents under every fault, and their books against the provider's bill.

    python -m scripts.soak_agents
    python -m scripts.soak_agents --minutes 1 --workers 2 --json

Deep agents, agents under the middleware, graphs that send out sub-agents, interrupted and paused threads that go on in
other runs and processes: `scripts/soak/loops.py` has them, one for each feature; `scripts/soak/ways.py` has the other
ways of calling LangChain, `scripts/soak/threads.py` threads that go on when their process was killed. Workers are
killed now and then, and others take their place; so are those who answer what gates ask. Beside them
`scripts/soak/operators.py` types every command (`--no-operators` leaves it out). Exit code 0 means that all of
`scripts/soak/judge.py` and `scripts/soak/outcomes.py` holds.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.soak.approvers import Desks
from scripts.soak.house import USER_NUSD, House
from scripts.soak.operators import beside
from scripts.soak.provider import provider
from scripts.soak.show import arguments, conclude, until
from scripts.soak.worker import main as work

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


class Workforce:
    """Processes full of agents, each replaced when it is killed."""

    def __init__(self, ends_s: float) -> None:
        self.context = multiprocessing.get_context("spawn")
        # A manager's queue: one that is shared by a pipe is locked for good by a reader who is killed.
        self.manager = self.context.Manager()
        self.asks, self.gates = self.manager.Queue(), self.manager.Queue()
        self.ends_s, self.started, self.failed = ends_s, 0, 0

    def start(self) -> BaseProcess:
        """Start one more."""
        self.started += 1
        seconds = self.ends_s - time.monotonic()
        child = self.context.Process(target=work, args=(seconds, self.started, self.asks, self.gates))
        child.start()
        return child

    def keep(self, workers: int, every_s: float) -> int:
        """Kill one now and then until the time is over; how many were."""
        dice, kills = random.Random(1), 0
        alive = [self.start() for _ in range(workers)]
        while time.monotonic() + 2 * every_s < self.ends_s:
            time.sleep(dice.uniform(0.5, 1.5) * every_s)
            victim = alive.pop(dice.randrange(len(alive)))
            victim.kill()
            victim.join()
            kills += 1
            alive.append(self.start())
        for child in alive:
            child.join()
            self.failed += child.exitcode != 0
        return kills


def main() -> None:
    """Work, kill, judge."""
    given = arguments(__doc__, workers=3, kill=25.0)
    with tempfile.TemporaryDirectory(prefix="bursar-soak-") as directory, provider() as served:
        house = House(Path(directory), served.anthropic_url, served.openai_url)
        house.furnish()
        force = Workforce(until(given.minutes))
        with Desks(2, given.kill) as desks, beside(house, force.ends_s, absent=given.no_operators) as findings:
            more: dict[str, Any] = {"workers killed": force.keep(given.workers, given.kill)}
        more["processes at the inbox killed"] = desks.kills
        wrong = [f"{force.failed} workers failed by themselves"] if force.failed else []
        conclude(house, served, wrong, user_limit_nusd=USER_NUSD, more=more, as_json=given.json, findings=findings)


if __name__ == "__main__":
    main()
