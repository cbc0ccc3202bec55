"""Read a large ledger by its sums: the same answers as from its rows, but for percentiles, which are within 3.2 %.

What is small, asked by user or session, or cannot be summed (a file that may not be written), is read from the rows.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from bursar.tracing.bins import quantile
from bursar.tracing.hours import LAST, plan
from bursar.tracing.lanes import REASONS, numbers
from bursar.tracing.queries import Reader
from bursar.tracing.sums import NUSD_BETWEEN
from bursar.tracing.tags import BETWEEN
from bursar.tracing.tally import NUMBER, PAIR, Cell, Seen, Tally
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError
from bursar.words.rows import SpendRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bursar.tracing.rollup import Rollup

FEW: Final = 5_000
"""Attempts up to which rows are read: quick enough, and percentiles are exact."""


class Rolled(Reader):
    """A view of a ledger file that folds it when it is first asked for much.

    `note` is told of what is folded; `now_us` is until when that is done, None for now.
    """

    def __init__(self, path: Path, note: Callable[[int], object] | None = None, now_us: int | None = None) -> None:
        super().__init__(path)
        self._note, self._now_us = note, now_us
        self._rollup: Rollup | None = None
        self._folded = False
        self._tallies: dict[tuple[str, str], Tally] = {}

    def __exit__(self, *exc: object) -> None:
        if self._rollup is not None:
            self._rollup.close()
        super().__exit__(*exc)

    def spend_by(self, by: str, since_us: int = 0, until_us: int | None = None) -> list[SpendRow]:
        """As from the rows; percentiles of more than `FEW` attempts are within 3.2 %."""
        rollup = self._sums(since_us, until_us) if by in NUMBER else None
        if rollup is None:
            return super().spend_by(by, since_us, until_us)
        rows = [
            _spend(key.replace(PAIR, BETWEEN), cell)
            for key, cell in self._cells(rollup, by, since_us, until_us).items()
        ]
        return sorted(rows, key=lambda row: (-row.nusd, row.key))

    def _sums(self, since_us: int, until_us: int | None) -> Rollup | None:
        """The sums, folded; None where the rows are to be read."""
        few = self._ask(
            "SELECT count(*) FROM (SELECT 1 FROM attempt WHERE call_id >= ? AND call_id < ? LIMIT ?)",
            (first_id(since_us), LAST if until_us is None else first_id(until_us), FEW + 1),
        )
        if few[0][0] <= FEW:
            return None
        if not self._folded:
            self._folded = True
            self._rollup = self._fold()
        return self._rollup

    def _fold(self) -> Rollup | None:
        import apsw

        from bursar.tracing.rollup import Rollup

        # What cannot be summed is read from the rows, slowly.
        with suppress(LedgerError, apsw.Error, OSError):
            rollup = Rollup(self._database.path)
            try:
                rollup.fold(time.time_ns() // 1_000 if self._now_us is None else self._now_us, self._note)
            except BaseException:
                rollup.close()
                raise
            return rollup
        return None

    def _cells(self, rollup: Rollup, facet: str, since_us: int, until_us: int | None) -> dict[str, Cell]:
        """The sums of every value of a facet in a period."""
        found: dict[str, Cell] = {}
        number = NUMBER[facet]
        with self._parts(rollup, since_us, until_us) as (spans, tallies):
            for span in spans:
                for key, cell in rollup.cells(number, *span):
                    found.setdefault(key, Cell()).add(cell)
            for tally in tallies:
                for (of, key), cell in tally.cells.items():
                    if of == number:
                        found.setdefault(key, Cell()).add(cell)
        return found

    def _numbers(self, rollup: Rollup, facet: str, since_us: int, until_us: int | None) -> dict[str, dict[str, int]]:
        """As `_cells`, but each sum by its name alone."""
        found: dict[str, int] = defaultdict(int)
        number = NUMBER[facet]
        with self._parts(rollup, since_us, until_us) as (spans, tallies):
            for span in spans:
                for key, sums in rollup.sums(number, *span):
                    found[key] += sums
            for tally in tallies:
                for (of, key), cell in tally.cells.items():
                    if of == number:
                        found[key] += cell.sums
        return {key: numbers(sums) for key, sums in found.items()}

    def _seen(self, rollup: Rollup, since_us: int, until_us: int | None) -> dict[str, Seen]:
        """Users and runs of every workflow in a period."""
        found = Tally()
        with self._parts(rollup, since_us, until_us) as (spans, tallies):
            for span in spans:
                for workflow, some in rollup.seen(*span):
                    found.see(workflow, some)
            for tally in tallies:
                for workflow, some in tally.seen.items():
                    found.see(workflow, some)
        return found.seen

    def _cost(self, rollup: Rollup, since_us: int, until_us: int) -> int:
        """What all attempts in a period cost, in nano-dollars."""
        with rollup.reading() as mark:
            parts = plan(mark, since_us, until_us)
            sums = sum(sums for span in parts.sums for _, sums in rollup.sums(NUMBER["path"], *span))
            return numbers(sums)["nusd"] + sum(self._row_cost(*rows) for rows in parts.rows)

    def _row_cost(self, first: str, end: str) -> int:
        return int(self._ask(NUSD_BETWEEN, (first, end))[0][0])

    @contextmanager
    def _parts(
        self, rollup: Rollup, since_us: int, until_us: int | None
    ) -> Iterator[tuple[tuple[tuple[int, int, int], ...], list[Tally]]]:
        """A period as it is at one moment: the hours and days that are summed, and the rows at its ends, added up."""
        with rollup.reading() as mark:
            parts = plan(mark, since_us, until_us)
            yield parts.sums, [self._tally(rollup, *rows) for rows in parts.rows]

    def _tally(self, rollup: Rollup, first: str, end: str) -> Tally:
        # The ends of a period are the same for everything that is asked about it.
        found = self._tallies.get((first, end))
        if found is None:
            found = self._tallies[first, end] = rollup.tally(first, end)
        return found


def _spend(key: str, cell: Cell) -> SpendRow:
    found = numbers(cell.sums)
    most = min(REASONS, key=lambda reason: (-found[f"reason {reason}"], reason))
    return SpendRow(
        key=key,
        requests=found["attempts"] - found["repeats"] + found["more"],
        attempts=found["attempts"] + found["more"],
        errors=found["errors"],
        input_tokens=found["input_tokens"],
        output_tokens=found["output_tokens"],
        cache_read_tokens=found["cache_read_tokens"],
        cache_write_tokens=found["cache_write_tokens"],
        reasoning_tokens=found["reasoning_tokens"],
        tool_calls=found["tool_calls"],
        retries=found["repeats"] + found["harness"],
        retry_reason=most.value if found[f"reason {most}"] else None,
        p50_us=quantile(cell.latency, 1, 2),
        p95_us=quantile(cell.latency, 19, 20),
        nusd=found["nusd"],
        unpriced=found["unpriced"],
        unmeasured=found["unmeasured"],
        clamped=found["clamped"],
        resent_tokens=found["resent_tokens"],
        trimmed_tokens=found["trimmed_tokens"],
        batch=found["batch"],
        p50_input=quantile(cell.input, 1, 2),
        p95_input=quantile(cell.input, 19, 20),
        list_priced=found["cost list_price"],
        bounded=found["cost upper_bound"] + found["cost lower_bound"],
        estimated=found["cost estimated"],
        provider_priced=found["cost provider"],
    )
