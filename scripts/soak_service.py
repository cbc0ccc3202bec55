"""Ten minutes of a FastAPI service with four workers under every fault, and its books against the provider's bill.

    uv run --with fastapi --with uvicorn python -m scripts.soak_service
    uv run --with fastapi --with uvicorn python -m scripts.soak_service --minutes 1 --json

The endpoints are those of `scripts/soak/service.py` and `extras.py`, one for each feature; `surface.py` has the rest of
both SDKs beside them, `market.py` prices that change while calls run. The workers share a daily limit for the
environment and one for each user, which most users reach. They are killed now and then, and so are those who answer
what gates ask, while `scripts/soak/operators.py` types every command (`--no-operators` leaves it out). Exit
code 0 means that all of `scripts/soak/judge.py` holds.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from scripts.soak.approvers import Desks
from scripts.soak.house import USER_NUSD, House
from scripts.soak.market import Market
from scripts.soak.operators import beside
from scripts.soak.provider import provider
from scripts.soak.show import arguments, conclude, until
from scripts.soak.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Iterator

_USERS_AT_ONCE: Final = 8
_USER_S: Final = 30.0
"""How long a user comes before the next one takes his place, with a day's money of his own."""
_ROOT: Final = Path(__file__).parents[1]


class Traffic:
    """What comes from outside: requests and deaths."""

    def __init__(self, url: str, features: list[str], ends_s: float) -> None:
        self.url, self.features, self.ends_s, self.began_s = url, features, ends_s, time.monotonic()
        self.answers: Counter[str] = Counter()
        self.kills = 0

    def user(self, dice: random.Random) -> str:
        """Name one of those who come at this time."""
        shift = int((time.monotonic() - self.began_s) / _USER_S)
        return f"u{shift}-{dice.randrange(_USERS_AT_ONCE)}"

    def ask(self, seed: int) -> None:
        """Send one request after the other."""
        dice = random.Random(seed)
        while time.monotonic() < self.ends_s:
            try:
                with httpx.Client(timeout=120) as client:
                    asked = client.post(f"{self.url}/{dice.choice(self.features)}", params={"user": self.user(dice)})
                self.answers[str(asked.status_code)] += 1
            except httpx.HTTPError as error:
                self.answers[type(error).__name__] += 1
                time.sleep(0.2)

    def kill(self, server: int, every_s: float) -> None:
        """Kill a worker now and then; uvicorn starts another."""
        dice = random.Random(1)
        while time.monotonic() + every_s < self.ends_s:
            time.sleep(dice.uniform(0.5, 1.5) * every_s)
            victims = [pid for pid in _children(server) if _is_worker(pid)]
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(victims), signal.SIGKILL)
                    self.kills += 1


def main() -> None:
    """Serve, ask, kill, judge."""
    given = arguments(__doc__, workers=4, callers=8, kill=20.0)
    with tempfile.TemporaryDirectory(prefix="bursar-soak-") as directory, provider() as served:
        house = House(Path(directory), served.anthropic_url, served.openai_url)
        house.furnish()
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        with _server(port, given.workers, Path(directory) / "server.log") as server:
            traffic = Traffic(url, _features(url), until(given.minutes))
            work = [threading.Thread(target=traffic.ask, args=(n,)) for n in range(given.callers)]
            work.append(threading.Thread(target=traffic.kill, args=(server.pid, given.kill)))
            with (
                Desks(2, given.kill) as desks,
                Surface(Path(directory) / "surface") as surface,
                Market(Path(directory) / "market") as market,
                beside(house, traffic.ends_s, absent=given.no_operators) as findings,
            ):
                for each in work:
                    each.start()
                for each in work:
                    each.join()
        more = {
            "processes at the inbox killed": desks.kills,
            "answers": dict(traffic.answers),
            "surface": [f"{name}: {value}" for name, value in surface.figures.items()],
            "market": [f"{name}: {value}" for name, value in market.figures.items()],
            "workers killed": traffic.kills,
            "what workers wrote": _last_lines(Path(directory) / "server.log"),
        }
        wrong = [*surface.faults, *market.faults]
        wrong += [f"{count} answers were {status}" for status, count in traffic.answers.items() if status == "500"]
        conclude(house, served, wrong, user_limit_nusd=USER_NUSD, more=more, as_json=given.json, findings=findings)


@contextlib.contextmanager
def _server(port: int, workers: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "uvicorn", "scripts.soak.extras:app", "--port", str(port), "--log-level", "error"]
    with log.open("wb") as out:
        server = subprocess.Popen([*command, "--workers", str(workers)], stdout=out, stderr=out, cwd=_ROOT)
    try:
        yield server
    finally:
        server.terminate()
        server.wait(300)


def _features(url: str) -> list[str]:
    ends_s = until(5)
    while time.monotonic() < ends_s:
        with contextlib.suppress(httpx.HTTPError):
            found: list[str] = httpx.get(url).json()
            return found
        time.sleep(0.1)
    raise SystemExit("the service does not answer")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_worker(pid: int) -> bool:
    # Beside its workers Python's `spawn` starts one process that counts what they share.
    with contextlib.suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _last_lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-20:]


if __name__ == "__main__":
    main()
