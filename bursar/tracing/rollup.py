"""Sums of the ledger by hour and day, in a file beside it that may be deleted at any time: it is made again.

Whoever reads a large ledger folds what is new into the sums, and then reads these. The ledger keeps a mark: attempts
whose ids come before it are summed. An ordinary row is written above the mark and pays nothing for all this; what is
written, changed or deleted below it is noted by triggers (`schema.py`) in the same transaction. So no attempt is
counted twice or missed:

1. The mark is moved, in a small transaction of the ledger: a minute behind the clock, since calls that are in flight
   write their rows late.
2. A snapshot is taken of the ledger. It shows every row below the mark that is not noted, and what is noted by then.
3. In one transaction of the sums' file the rows between its own mark and the ledger's are added, with those that are
   noted as late; hours in which something was changed or deleted are summed anew; mark and last note are kept.
4. Notes that have been followed are deleted.

A day is summed from its hours once the mark has passed it, and again when one of them changes: of the day at hand there
are hours alone, since its sums would be written again with every fold.

Notes of rows above the sums' own mark are passed over: a later step 3 will come to these rows. Whoever dies in between
leaves the sums as they were after the last step 3. Two who fold at once take turns.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import apsw

from bursar.db import open_ledger
from bursar.ledger_file import BUSY_MS
from bursar.tracing.hours import DAY, HOUR_US, days_over
from bursar.tracing.sums_file import State, SumsFile, beside
from bursar.tracing.tally import FACETS, ROWS, Cell, Names, Seen, Tally
from bursar.words.clock import first_id, time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

LAG_US: Final = 60_000_000
"""How far the mark stays behind the clock."""
_LEDGER_STATE: Final = (
    "SELECT ledger, folds, mark, "
    "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'rollup_change'), 0) FROM rollup_mark"
)
"""The last is the number of the last note that was ever made."""
_BETWEEN: Final = "c.call_id >= ? AND c.call_id < ?"


class _Change(NamedTuple):
    """What is added to the sums of an hour, or, where it was summed anew, takes their place."""

    hour: int
    tally: Tally
    anew: bool


class Rollup:
    """The sums of one ledger. Raises `LedgerError` where they can be neither made nor read, and apsw's errors."""

    def __init__(self, ledger: Path) -> None:
        self._writer = open_ledger(ledger)
        try:
            self._ledger = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
            self._ledger.set_busy_timeout(BUSY_MS)
            self._file = SumsFile(beside(ledger))
        except BaseException:
            self._writer.close()
            raise
        self._names = Names(self._ask, self._file.numbers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._file.close()
        self._ledger.close()
        self._writer.close()

    def fold(self, now_us: int, note: Callable[[int], object] | None = None) -> None:
        """Bring the sums up to a minute ago; `note` is told how many attempts were added, a day at a time."""
        self._move_mark(first_id(now_us - LAG_US))
        done = False
        while not done:
            added, seq, done = self._step()
            if seq:
                self._forget_notes(seq)
            if note is not None and added:
                note(added)

    @contextmanager
    def reading(self) -> Iterator[str]:
        """Read sums and ledger as they are at one moment; gives the mark of the sums."""
        with self._file.reading(), self._snapshot():
            yield self._state(self._ledger_state()).mark

    def tally(self, first: str, end: str) -> Tally:
        """Sum the attempts from one id up to another, that one not included, as they are in the ledger."""
        found = Tally()
        found.add(self._rows(_BETWEEN, (first, end)), self._names, self._ask)
        return found

    def cells(self, facet: int, span: int, since: int, until: int) -> Iterable[tuple[str, Cell]]:
        """The sums of one facet, of every hour or day that is over (`span` 1 or 24) from one up to another."""
        return self._file.cells(facet, span, since, until)

    def sums(self, facet: int, span: int, since: int, until: int) -> Iterable[tuple[str, int]]:
        """As `cells`, without how latencies and inputs are spread."""
        return self._file.sums(facet, span, since, until)

    def seen(self, span: int, since: int, until: int) -> Iterable[tuple[str, Seen]]:
        """Who was seen, of every hour or day that is over from one up to another."""
        return self._file.seen(span, since, until)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._ledger.execute("BEGIN")
        try:
            yield
        finally:
            self._ledger.execute("COMMIT")

    def _ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._ledger.execute(sql, values).fetchall()

    def _rows(self, where: str, values: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        return self._ledger.execute(ROWS + where, values)

    def _ledger_state(self) -> State:
        return State._make(self._ask(_LEDGER_STATE)[0])

    def _state(self, ledger: State) -> State:
        """How far the sums are; nowhere where they are another ledger's, or of this one before it was set back.

        Nor where notes are gone that they have not followed: beside a copy that is made anew now and then, the sums of
        the copy before would miss what the ledger's own have taken in meanwhile.
        """
        found, nowhere = self._file.state(), State(ledger.ledger, ledger.folds, "", 0)
        if found is None or found.ledger != ledger.ledger or found.folds > ledger.folds:
            return nowhere
        ((left,),) = self._ask("SELECT count(*) FROM rollup_change WHERE seq > ?", (found.seq,))
        return found if left == ledger.seq - found.seq else nowhere

    def _move_mark(self, to: str) -> None:
        mark = self._ledger_state().mark
        if to > mark and self._ask("SELECT 1 FROM attempt WHERE call_id >= ? AND call_id < ? LIMIT 1", (mark, to)):
            self._writer.transact(
                lambda run: run("UPDATE rollup_mark SET mark = max(mark, ?), folds = folds + 1", (to,))
            )

    def _forget_notes(self, upto: int) -> None:
        self._writer.transact(lambda run: run("DELETE FROM rollup_change WHERE seq <= ?", (upto,)))

    def _step(self) -> tuple[int, int, bool]:
        """Fold a day at most: how many attempts were added, up to which note was followed, and whether that is all."""
        with self._file.writing(), self._snapshot():
            ledger = self._ledger_state()
            state = self._state(ledger)
            if not state.mark:
                self._file.clear()
            notes = self._ask(
                "SELECT seq, call_id, changed FROM rollup_change WHERE seq > ? ORDER BY seq", (state.seq,)
            )
            changes = self._noted(notes, state.mark)
            added, mark = self._new(state.mark, ledger.mark, changes)
            for change in changes:
                self._apply(change)
            self._sum_days(changes, state.mark, mark)
            self._file.put_state(ledger._replace(mark=mark))
        return added, notes[-1][0] if notes else 0, mark >= ledger.mark

    def _noted(self, notes: Sequence[tuple[Any, ...]], mark: str) -> list[_Change]:
        """What was written late is added; hours in which something changed are summed anew."""
        late: dict[int, list[str]] = {}
        anew: set[int] = set()
        for _, call_id, changed in notes:
            if call_id < mark:
                hour = time_of(call_id) // HOUR_US
                # An attempt that comes after a later one of its operation changes what counts as the first of them.
                if changed or self._ask(
                    "SELECT 1 FROM attempt WHERE call_id > ? AND call_id < ? LIMIT 1", (call_id, call_id[:26] + "~")
                ):
                    anew.add(hour)
                else:
                    late.setdefault(hour, []).append(call_id)
        changes = [
            _Change(hour, self.tally(first_id(hour * HOUR_US), min(mark, first_id((hour + 1) * HOUR_US))), anew=True)
            for hour in anew
        ]
        for hour, ids in late.items():
            if hour not in anew:
                tally = Tally()
                for call_id in ids:
                    tally.add(self._rows("c.call_id = ?", (call_id,)), self._names, self._ask)
                changes.append(_Change(hour, tally, anew=False))
        return changes

    def _new(self, mark: str, upto: str, changes: list[_Change]) -> tuple[int, str]:
        """Add the attempts above the mark, of one day at most; how many, and where the mark is now."""
        found = self._ask("SELECT min(call_id) FROM attempt WHERE call_id >= ? AND call_id < ?", (mark, upto))
        first = found[0][0]
        if first is None:
            return 0, max(mark, upto)
        hour = time_of(first) // HOUR_US
        added, after = 0, (hour // DAY + 1) * DAY
        while hour < after and first_id(hour * HOUR_US) < upto:
            tally = Tally()
            begin, end = max(mark, first_id(hour * HOUR_US)), min(upto, first_id((hour + 1) * HOUR_US))
            size = tally.add(self._rows(_BETWEEN, (begin, end)), self._names, self._ask)
            if size:
                changes.append(_Change(hour, tally, anew=False))
                added += size
            hour += 1
        return added, min(upto, first_id(after * HOUR_US))

    def _apply(self, change: _Change) -> None:
        """Bring the sums of an hour up to date."""
        hour, tally, anew = change
        if anew:
            self._file.drop(1, hour)
            self._file.drop_seen(1, hour)
        else:
            for facet in range(len(FACETS)):
                for key, cell in self.cells(facet, 1, hour, hour + 1):
                    if (facet, key) in tally.cells:
                        tally.merge((facet, key), cell)
            for workflow, some in self.seen(1, hour, hour + 1):
                if workflow in tally.seen:
                    tally.see(workflow, some)
        self._file.put(1, hour, tally.cells)
        self._file.put_seen(1, hour, tally.seen)

    def _sum_days(self, changes: Sequence[_Change], before: str, now: str) -> None:
        """Sum days that are over now, and those among them in which something has changed."""
        touched = {change.hour // DAY for change in changes} | {days_over(before)}
        for number in touched:
            if number < days_over(now):
                self._sum_day(number)

    def _sum_day(self, number: int) -> None:
        day, hours = Tally(), (1, number * DAY, (number + 1) * DAY)
        for facet in range(len(FACETS)):
            for key, cell in self.cells(facet, *hours):
                day.merge((facet, key), cell)
        for workflow, some in self.seen(*hours):
            day.see(workflow, some)
        self._file.drop(DAY, number)
        self._file.drop_seen(DAY, number)
        self._file.put(DAY, number, day.cells)
        self._file.put_seen(DAY, number, day.seen)
