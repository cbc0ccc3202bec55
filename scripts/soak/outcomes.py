"""What must come of single calls, beside the money: written down by who makes them, and judged when all is over.

What did not hold where it was looked at is a fault, and so is an error that is no stop and no failure of the provider.
An answer that a thread of LangGraph has kept is in exactly one row, however many processes went on with the thread. An
agent in which a call was refused was ended by that, and nothing has taken the stop for something else.
"""

from __future__ import annotations

import contextlib
import json
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import apsw

import bursar
from scripts.soak.books import answer_of
from scripts.soak.diary import KILLED, append, lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from scripts.soak.books import Kept
    from scripts.soak.diary import Ended

ENDED_BY_A_STOP: Final = frozenset(
    {"awaited", "cached", "events", "formed", "neighbours", "remembered", "returned", "selected", "team", "thrice"}
)
"""Features whose runs end with the first call that is refused."""
_IDENT: Final = 24


class Answered(NamedTuple):
    """What a thread was answered in the end, in however many runs: the ids of its answers, as JSON."""

    mark: str
    ids: str


class Outcomes:
    """Appends lines as the diary does."""

    def __init__(self, place: Path) -> None:
        self._faults, self._answers = place / "outcomes.faults", place / "outcomes.answers"

    def check(self, *, holds: bool, said: str) -> None:
        """Write down what does not hold."""
        if not holds:
            append(self._faults, (said,))

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Write down an error that nobody expects."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is
            self.check(holds=False, said=f"{traceback.format_exception(error)[-2:]}")

    def answered(self, mark: str, ids: Iterable[str]) -> None:
        """Write down what a thread was answered."""
        append(self._answers, Answered(mark, json.dumps(list(ids))))

    def faults(self, ended: Sequence[Ended], kept: Kept, ledger: Path) -> list[str]:
        """All that did not hold."""
        found = [said for (said,) in lines(self._faults)]
        idle = [] if ended else ["no run has ended: nothing was tried"]
        return [*idle, *found, *self._answers_kept(ended, kept), *_swallowed(ended, ledger)]

    def figures(self) -> dict[str, Any]:
        """What to show."""
        return {"threads that ended": len(lines(self._answers))}

    def _answers_kept(self, ended: Sequence[Ended], kept: Kept) -> Iterator[str]:
        for mark, ids in (Answered(*fields) for fields in lines(self._answers)):
            runs = {each.run_id for each in ended if each.mark == mark}
            rows = Counter(answer_of(row) for run_id in runs for row in kept.rows.get(run_id, ()))
            for answer in json.loads(ids):
                times = rows[answer[-_IDENT:]]
                if times != 1:
                    yield f"answer {answer} of a thread with the runs {sorted(runs)} is in {times} rows"


def _swallowed(ended: Sequence[Ended], ledger: Path) -> Iterator[str]:
    with contextlib.closing(apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)) as database:
        refused = {row[0] for row in database.execute("SELECT run_id FROM verdict WHERE action = 'deny' AND acted")}
    stops = {name for name in dir(bursar) if isinstance(kind := getattr(bursar, name), type) and _is_stop(kind)}
    for each in ended:
        # A run that was killed has said nothing of its end.
        if each.feature in ENDED_BY_A_STOP and each.run_id in refused and each.stopped not in {*stops, KILLED}:
            yield f"{each.feature} {each.run_id} was refused a call, and ended as {each.stopped}"


def _is_stop(kind: type) -> bool:
    return issubclass(kind, bursar.Stopped)
