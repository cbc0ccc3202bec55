"""Prices that change while calls run: what an operator types, and processes that began before it and after.

One begins before anything is typed, one after `bursar prices set`, one after `bursar prices update` from an address on
loopback, one after `--undo`; each lives on beside the next. A process goes on with the prices that it began with: where
those know of no price its rows have none, and `bursar prices unpriced` lists just these; else they are the bill. Each
such round is judged by the provider's bill when all is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bursar.db import open_ledger
from bursar.testing import ModelPrice, Provider, Reply, rates
from bursar.testing.billing import InputTokens
from bursar.testing.prices import LIST_PRICES
from scripts.soak import papers
from scripts.soak.commands import Command
from scripts.soak.house import House
from scripts.soak.operators import Findings, Operators
from scripts.soak.shopper import AGREED, HOUSE, LISTED, MODELS, NEWEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from bursar.testing import Charge

_OURS: Final = {"input": "2", "output": "8"}
_DISCOUNT: Final = "12 %"
_BILLED: Final = {
    HOUSE: ModelPrice("openai", rates("2", "8")),
    NEWEST: ModelPrice("openai", rates("3", "12")),
    AGREED: ModelPrice("openai", rates("0.132", "0.528", read="0.066")),
}
"""What is billed for models of which the list that bursar comes with has nothing, or not what was agreed."""
_NEWER: Final = {
    "anthropic": (("claude-sonnet-5-5", 2, 10, 0.1),),
    "openai": ((LISTED, 2.5, 10, 1.25), (AGREED, 0.15, 0.6, 0.075), (NEWEST, 3, 12, 3)),
}
_STAGE_S: Final = 4.0
_PATIENCE_S: Final = 120.0
_ROOT: Final = Path(__file__).parents[2]
_ROWS: Final = """
SELECT c.response_id, d.request_model, c.cost_nusd, e.price_version, json_extract(d.extra, '$.stage')
FROM model_call c JOIN ending e ON e.id = c.ending JOIN dimension d ON d.id = c.dimension
WHERE e.usage_source = 'provider'
"""


class _Row(NamedTuple):
    answer: str
    model: str
    nusd: int | None
    version: str | None
    stage: str


class _Shopper(NamedTuple):
    process: subprocess.Popen[bytes]
    end: Path


class Market:
    """From its beginning to its end. `figures` and `faults` when it is over."""

    def __init__(self, place: Path) -> None:
        self.place, self.ledger = place, place / "ledger.db"
        (place / "lists").mkdir(parents=True)
        (place / "bursar.toml").write_text('[bursar]\nledger = "ledger.db"\n')
        papers.prices(place / "lists", _NEWER, "newer.json")
        slip = {**_NEWER, "openai": ((LISTED, 250, 10, 1.25),)}
        papers.prices(place / "lists", slip, "slip.json")
        self._over, self._started = threading.Event(), 0
        self._hand = threading.Thread(target=self._work)
        self.faults: list[str] = []
        self.figures: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._served = Provider(latency_s=0.02, replies=lambda _: Reply(output_tokens=60), models=_BILLED).__enter__()
        handler = partial(_Quiet, directory=str(self.place / "lists"))
        self._lists = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._address = f"http://127.0.0.1:{self._lists.server_address[1]}"
        threading.Thread(target=self._lists.serve_forever, daemon=True).start()
        self._house = House(self.place, self._served.anthropic_url, self._served.openai_url)
        self._typist = Operators(self._house, 9)
        self._hand.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._hand.join()
        self._lists.shutdown()
        self._lists.server_close()
        self._served.wait_idle(60)
        if kind is None:
            self._judge()
        self._served.__exit__(kind, error, trace)

    def _work(self) -> None:
        """Round after round; the first one to its end."""
        rounds = 0
        while not self._over.is_set():
            rounds += 1
            self.ledger.with_name("prices.toml").unlink(missing_ok=True)
            steps: tuple[Callable[[], None], ...] = (self._wait_for_nothing, self._set, self._update, self._undo)
            alive: deque[_Shopper] = deque()
            for stage, step in enumerate(steps):
                if rounds == 1 or not self._over.is_set():
                    step()
                    alive.append(self._start(stage))
                    if len(alive) > 2:
                        self._end(alive.popleft())
                    self._over.wait(_STAGE_S)
            for shopper in alive:
                self._end(shopper)
            if len(self._copies()):
                self._type("prices", "update", "--undo")
        self.figures["rounds"] = rounds

    def _wait_for_nothing(self) -> None:
        """The first of a round begins with the prices that bursar comes with."""

    def _set(self) -> None:
        """What has no price is listed; what nobody lists, and what was agreed, are set."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and not any(row.model == NEWEST and row.nusd is None for row in self._rows()):
            time.sleep(0.2)
        unpriced = {row["request_model"] for row in json.loads(self._type("prices", "unpriced", "--json") or "[]")}
        if unpriced != {HOUSE, NEWEST}:
            self.faults.append(f"without a price are said to be {sorted(unpriced)}")
        rate = [word for name, value in _OURS.items() for word in (f"--{name}", value)]
        self._type("prices", "set", HOUSE, "--provider", "openai", *rate)
        self._type("prices", "set", AGREED, "--provider", "openai", "--discount", _DISCOUNT)

    def _update(self) -> None:
        """A list with a slip in it is refused; the right one is taken."""
        self._type("prices", "update", f"{self._address}/slip.json", ok=(1,))
        if self._copies():
            self.faults.append("a list that was refused is kept")
        # Only the models of this place are in it: thousands of rates are gone, and none has moved.
        self._type("prices", "update", f"{self._address}/newer.json")
        self._type("prices", NEWEST, "--json")

    def _undo(self) -> None:
        """Back to the list that bursar comes with; what was set stays."""
        self._type("prices", "update", "--undo")
        self._type("prices", NEWEST, "--json", ok=(1,))
        self._type("prices", HOUSE, "--provider", "openai", "--json")

    def _type(self, *words: str, ok: tuple[int, ...] = (0,)) -> str:
        return self._typist.type(Command(words, ok=ok, ledger=self.ledger))

    def _copies(self) -> list[Path]:
        return list((self.place / "price-data").glob("*.json"))

    def _start(self, stage: int) -> _Shopper:
        self._started += 1
        end = self.place / f"end-{self._started}"
        environment = os.environ | {
            "BURSAR_CONFIG": str(self.place / "bursar.toml"),
            "BURSAR_MARKET": json.dumps([self._served.openai_url, stage, str(end)]),
        }
        environment.pop("BURSAR_LEDGER", None)
        command = [sys.executable, "-m", "scripts.soak.shopper"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=_ROOT)
        assert process.stdout is not None
        # Its prices are those of this moment: nothing is typed before.
        process.stdout.readline()
        return _Shopper(process, end)

    def _end(self, shopper: _Shopper) -> None:
        shopper.end.touch()
        try:
            code: int | None = shopper.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            shopper.process.kill()
            code = None
        if code != 0:
            self.faults.append(f"a process at the market left with {code}")

    def _rows(self) -> list[_Row]:
        if not self.ledger.exists():
            return []
        with contextlib.closing(open_ledger(self.ledger, read_only=True)) as database:
            return [_Row(*found) for found in database.execute(_ROWS)]

    def _judge(self) -> None:
        charges = {charge.answer: charge for charge in self._served.charges}
        rows = self._rows()
        for row in rows:
            charge = charges.pop(row.answer.rpartition("-")[2])
            due = _due(row, charge)
            if row.nusd != due:
                said = f"{row.model} of stage {row.stage} is {row.nusd} ({row.version}) and should be {due}"
                self.faults.append(f"{said}, billed at {charge.nusd}")
        self.faults += [f"billed and in no row: {charge}" for charge in charges.values()]
        listed = json.loads(self._type("prices", "unpriced", "--json") or "[]")
        shown = {each["request_model"]: each["calls"] for each in listed}
        without = Counter(row.model for row in rows if row.nusd is None)
        if shown != dict(without):
            self.faults.append(f"without a price are {dict(without)}, and {shown} are said to be")
        newer = sum(row.stage == "2" and "genai-prices data" in str(row.version) for row in rows)
        seen = {(row.model, row.stage) for row in rows}
        self.faults += [
            f"nobody called {model} in stage {stage}"
            for model in MODELS
            for stage in "0123"
            if (model, stage) not in seen
        ]
        if not newer:
            self.faults.append("no price was of the newer list")
        if "rounds" not in self.figures:
            self.faults.append("the operator at the market died")
        typed = Findings(self._house, absent=False)
        self.faults += typed.faults()
        by_stage = Counter(f"begun in stage {row.stage}" for row in rows)
        counted = {"calls": len(rows), "without a price": without.total(), "at prices of the newer list": newer}
        self.figures |= {**counted, **dict(sorted(by_stage.items())), "typed": len(typed.lines())}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _due(row: _Row, charge: Charge) -> int | None:
    """What a process that began in that stage has to charge."""
    stage = int(row.stage)
    known = {HOUSE: stage >= 1, NEWEST: stage == 2}.get(row.model, True)
    if row.model == AGREED and stage == 0:
        prompt = InputTokens(charge.input_tokens, charge.cache_read)
        return LIST_PRICES[AGREED].nusd("standard", prompt, charge.output_tokens)
    return charge.nusd if known else None
