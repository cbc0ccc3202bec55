"""Read what two periods, releases or prompt versions are compared by: who used which model how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.tracing.hours import HOUR_US
from bursar.tracing.marks import size
from bursar.tracing.rolled import Rolled
from bursar.tracing.tags import AGGREGATE, BY, CALLS, MORE, WRITES
from bursar.tracing.tally import PAIR
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError
from bursar.words.rows import MixRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bursar.tracing.rollup import Rollup

_TAGS: Final = ("release", "prompt_version", "env", "feature", "owner", "tenant")
DAY_US: Final = 24 * HOUR_US
_MODEL: Final = BY["model"]
_SHOWS: Final = {
    "calls per run": "count(DISTINCT substr(n.call_id, 1, 26))",
    "retries": "count(*) - count(DISTINCT substr(n.call_id, 1, 26))",
    "input tokens per call": "total(n.input_tokens) / count(*)",
    "output tokens per call": "total(n.output_tokens) / count(*)",
    "cache": "total(n.input_tokens - n.cache_read_tokens - n.writes)",
    "": "total(n.cost_nusd)",
}
"""What a run has most of that shows a cause best; its cost, for every other cause."""
_LOOKED_AT: Final = 50_000
"""Attempts of a workflow, the newest, in which a run is looked for: of more, grouping takes seconds each."""


class Slice(NamedTuple):
    """A part of a ledger: from a time (included) to another (not), and with tags of these values."""

    since_us: int = 0
    until_us: int | None = None
    tags: tuple[tuple[str, str], ...] = ()


class Changes(Rolled):
    """Reads a ledger in slices. Raises `LedgerError` for what is no tag."""

    def __init__(self, path: Path, note: Callable[[int], object] | None = None, now_us: int | None = None) -> None:
        super().__init__(path, note, now_us)
        self._shown: dict[tuple[Slice, str], list[tuple[Any, ...]]] = {}

    def ends_us(self) -> int | None:
        """Where the last days end in a ledger whose newest row is a sum of an export; None where it is a call.

        Spans of an export lie where they begin, so days that end now would have one span more or less. Spans of a day
        end with it; of shorter ones the last is taken to be of an hour.
        """
        newest = self._ask(
            """SELECT c.ts_us, instr(e.flags, ?) FROM model_call c JOIN ending e ON e.id = c.ending
            ORDER BY c.call_id DESC LIMIT 1""",
            (AGGREGATE,),
        )
        if not newest or not newest[0][1]:
            return None
        at_us = int(newest[0][0])
        finer = self._ask(
            "SELECT 1 FROM model_call WHERE call_id >= ? AND ts_us % ? <> 0 LIMIT 1",
            (first_id(at_us - 14 * DAY_US), DAY_US),
        )
        return at_us + (HOUR_US if finer else DAY_US)

    def mix(self, part: Slice) -> list[MixRow]:
        """Each workflow and model of a slice; calls that were blocked, or cost nothing by their ending, count too."""
        rollup = None if part.tags else self._sums(part.since_us, part.until_us)
        return self._mix(part) if rollup is None else self._summed_mix(rollup, part)

    def _summed_mix(self, rollup: Rollup, part: Slice) -> list[MixRow]:
        span = part.since_us, part.until_us
        people, found = self._seen(rollup, *span), []
        for pair, sums in self._numbers(rollup, "workflow,model", *span).items():
            workflow, _, model = pair.rpartition(PAIR)
            seen = people[workflow]
            users, runs = size(seen.users) + len(seen.strangers), size(seen.runs)
            found.append(
                MixRow(
                    workflow, model, users, runs, sums["attempts"] - sums["repeats"] + sums["more"],
                    sums["attempts"] + sums["more"],
                    **{name: sums[name] for name in MixRow._fields[6:-1]},
                    uncounted=sums["aggregates"] - sums["counted"],
                )
            )  # fmt: skip
        return sorted(found)

    def _mix(self, part: Slice) -> list[MixRow]:
        where, values = sliced(part)
        people = {
            workflow: (users, runs)
            for workflow, users, runs in self._ask(
                f"""SELECT d.workflow, count(DISTINCT c.user_hash), count(DISTINCT c.run) FROM model_call c
                JOIN dimension d ON d.id = c.dimension WHERE {where} GROUP BY d.workflow""",
                values,
            )
        }
        rows = self._ask(
            f"""SELECT d.workflow, {_MODEL}, count(DISTINCT substr(c.call_id, 1, 26)) + {MORE}, count(*) + {MORE},
                total({CALLS} * (c.cost_nusd IS NULL)), total(c.input_tokens), total(c.cache_read_tokens),
                total({WRITES}), total(c.output_tokens), total(c.cost_input_nusd), total(c.cost_cache_read_nusd),
                total(c.cost_cache_write_nusd), total(c.cost_output_nusd), total(c.cost_fees_nusd),
                total(c.requests IS NULL AND instr(e.flags, '{AGGREGATE}') > 0)
            FROM model_call c JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending
            WHERE {where} GROUP BY d.workflow, {_MODEL} ORDER BY 1, 2""",
            values,
        )
        # total() adds as a double, exact to 2**53; sum() fails beyond 64 bits.
        return [
            MixRow._make((workflow, model, *people[workflow], *(int(number) for number in numbers)))
            for workflow, model, *numbers in rows
        ]

    def telling_run(self, part: Slice, workflow: str, factor: str) -> str | None:
        """The run of a workflow that shows a cause best, among the newest; None where its calls are in no run."""
        runs = self._runs_of(part, workflow)
        column = list(_SHOWS).index(factor if factor in _SHOWS else "")
        return min(runs, key=lambda row: (-row[1 + column], row[0]))[0] if runs else None

    def _runs_of(self, part: Slice, workflow: str) -> list[tuple[Any, ...]]:
        found = self._shown.get((part, workflow))
        if found is None:
            where, values = sliced(part)
            found = self._shown[part, workflow] = self._ask(
                f"""WITH newest AS (
                    SELECT c.call_id, c.run, c.input_tokens, c.output_tokens, c.cache_read_tokens, {WRITES} AS writes,
                        c.cost_nusd
                    FROM model_call c CROSS JOIN dimension d ON d.id = c.dimension
                    WHERE {where} AND d.workflow = ? AND c.run IS NOT NULL ORDER BY c.call_id DESC LIMIT {_LOOKED_AT})
                SELECT r.run_id, {", ".join(_SHOWS.values())}
                FROM newest n JOIN run r ON r.number = n.run GROUP BY n.run""",
                (*values, workflow),
            )
        return found


def sliced(part: Slice) -> tuple[str, Sequence[Any]]:
    """The condition of a slice on `c`, a call, and `d`, its dimension, and its values. Raises `LedgerError`."""
    conditions, values = ["c.call_id >= ?", "c.call_id < ?"], [first_id(part.since_us)]
    # An id begins with its time: a range of time is a range of the primary key.
    values.append("~" if part.until_us is None else first_id(part.until_us))
    for tag, value in part.tags:
        if tag not in _TAGS:
            raise LedgerError(f"{tag!r} is not a tag to compare by; known are {', '.join(_TAGS)}")
        conditions.append(f"d.{tag} = ?")
        values.append(value)
    return " AND ".join(conditions), values
