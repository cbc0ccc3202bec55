"""Add attempts up, for every value of every tag at once."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.tracing.bins import bin_of, spread
from bursar.tracing.lanes import COUNTED, REASONS, STATUSES, lane, wide
from bursar.tracing.marks import Marks, marks, unite
from bursar.tracing.queries import AGGREGATE, BY, NOBODY_WAITED, NONE, TIMES, WRITES
from bursar.words.events import RetryReason, Status, UsageSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
    Row = tuple[Any, ...]

HOUR_US: Final = 3_600_000_000
PAIR: Final = "\x1f"
"""Between the two values of a pair of tags."""
_SPARED: Final = {
    "user", "session", "request_model", "fallback_from", "system_hash", "tools_hash", "prompt_name", "data_sources",
    "source", "purpose",
}  # fmt: skip
"""By these the rows are read: they have very many values, or are seldom asked for."""
_TAGS: Final = tuple(name for name in BY if name not in {*_SPARED, *TIMES})
FACETS: Final = (*_TAGS, "hour", "day", "week", "month", "feature,day", "workflow,model")
"""What sums are kept by. Weeks are no sums of days: an operation whose attempts lie in two is counted once."""
NUMBER: Final = {name: number for number, name in enumerate(FACETS)}
_FEATURE: Final = NUMBER["feature"]
_FIRST: Final = ("", "/0")
"""What follows an operation's id in the id of its first attempt."""
_COLUMNS: Final = {
    "cache_write_tokens": WRITES,
    "nusd": "c.cost_nusd",
    "unpriced": "c.cost_nusd IS NULL",
    "fees_nusd": "c.cost_fees_nusd",
    "more": "c.requests - 1",
    "unpriced_more": "(c.requests - 1) * (c.cost_nusd IS NULL)",
    "counted": "c.requests IS NOT NULL",
    **{f"{part}_nusd": f"c.cost_{part}_nusd" for part in ("input", "output", "cache_read", "cache_write")},
}
_HEAD: Final = 8
ROWS: Final = (
    "SELECT c.call_id, c.dimension, c.ending, c.ts_us, c.latency_us, c.user_hash, c.run, "
    "coalesce(c.est_input_tokens, 0), "
    + ", ".join(f"coalesce({_COLUMNS.get(name, f'c.{name}')}, 0)" for name in COUNTED)
    + " FROM model_call c WHERE "
)
"""Rows as `Tally.add` takes them; a condition on `c` follows."""


class Cell:
    """The sums of one value of one tag, and how its latencies (microseconds) and input tokens are spread."""

    __slots__ = ("input", "latency", "sums")

    def __init__(self, sums: int = 0, latency: int = 0, input_: int = 0) -> None:
        self.sums, self.latency, self.input = sums, latency, input_

    def add(self, other: Cell, times: int = 1) -> None:
        """Add another cell as often as said; minus once takes it away."""
        self.sums += times * other.sums
        self.latency += times * other.latency
        self.input += times * other.input


class Seen:
    """Users and runs of a workflow, by their numbers. `strangers` are users who have no number yet."""

    __slots__ = ("runs", "strangers", "users")

    def __init__(self, users: Marks, runs: Marks, strangers: Iterable[str] = ()) -> None:
        self.users, self.runs, self.strangers = users, runs, set(strangers)

    def add(self, other: Seen) -> None:
        """Add those of another."""
        unite(self.users, other.users)
        unite(self.runs, other.runs)
        self.strangers |= other.strangers


class _Dimension(NamedTuple):
    values: tuple[str, ...]
    pair: str
    waited: bool
    sums: int
    resent: bool


class _Ending(NamedTuple):
    ok: bool
    aggregate: bool
    sums: int


class Names:
    """What the numbers of tag tuples and endings stand for; read once each. `number` gives users theirs, if any."""

    def __init__(self, ask: Ask, number: Callable[[set[str]], dict[str, int]]) -> None:
        self._ask, self.users = ask, number
        self._dimensions: dict[int, _Dimension] = {}
        self._endings: dict[int, _Ending] = {}
        self._days: dict[int, tuple[str, str]] = {}

    def dimension(self, number: int) -> _Dimension:
        """A tuple of tags."""
        found = self._dimensions.get(number)
        if found is None:
            columns = ", ".join(BY[name] for name in _TAGS)
            ((*values, path, source),) = self._ask(
                f"SELECT {columns}, d.path, d.attempt_source FROM dimension d WHERE d.id = ?", (number,)
            )
            sums = lane("batch") if path == "batch" else 0
            sums += lane("harness") if source == "harness" else 0
            keys = tuple(NONE if value is None else str(value) for value in values)
            found = self._dimensions[number] = _Dimension(
                keys, _pair(keys), path not in NOBODY_WAITED, sums, source not in (None, "fallback")
            )
        return found

    def values(self, number: int, hour: int) -> tuple[str, ...]:
        """The value of every facet of attempts with these tags in an hour."""
        dimension = self.dimension(number)
        day = self._days.get(hour)
        if day is None:
            at = datetime.fromtimestamp(hour * 3_600, UTC)
            day = self._days[hour] = f"{at:%Y-%m-%d}", f"{at:%G-W%V}"
        values = dimension.values
        date, week = day
        times = f"{date}T{hour % 24:02}Z", date, week, date[:7]
        return *values, *times, f"{values[_FEATURE]}{PAIR}{date}", dimension.pair

    def ending(self, number: int) -> _Ending:
        """How attempts ended."""
        found = self._endings.get(number)
        if found is None:
            ((status, reason, source, flags, cost),) = self._ask(
                "SELECT status, retry_reason, usage_source, flags, cost_status FROM ending WHERE id = ?", (number,)
            )
            sums = lane("attempts")
            if status == Status.ERROR:
                sums += lane("errors")
            if source in (UsageSource.ESTIMATED, UsageSource.STREAM_PARTIAL):
                sums += lane("unmeasured")
            if "clamped" in flags:
                sums += lane("clamped")
            if reason is not None:
                sums += lane(f"reason {reason if reason in REASONS else RetryReason.OTHER}")
            if cost in STATUSES:
                sums += lane(f"cost {cost}")
            aggregate = AGGREGATE in flags
            if aggregate:
                sums += lane("aggregates")
            found = self._endings[number] = _Ending(status == Status.OK, aggregate, sums)
        return found


class _Group:
    """Attempts with the same tags in the same hour: their sums, and the bins that they fall into."""

    __slots__ = ("inputs", "latencies", "sums")

    def __init__(self) -> None:
        self.sums = 0
        self.latencies: list[int] = []
        self.inputs: list[int] = []

    def add(self, other: _Group) -> None:
        self.sums += other.sums
        self.latencies += other.latencies
        self.inputs += other.inputs


class Tally:
    """Sums of some attempts."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, str], Cell] = {}
        self.seen: dict[str, Seen] = {}

    def add(self, rows: Iterable[Row], names: Names, ask: Ask) -> int:
        """Add rows, and say how many they were; `ask` tells of earlier attempts at the same operations."""
        groups: dict[tuple[int, int], _Group] = defaultdict(_Group)
        again: list[Row] = []
        present: dict[str, tuple[set[str], set[int]]] = defaultdict(lambda: (set(), set()))
        size = 0
        for row in rows:
            size += 1
            call_id, number, ending_number, ts_us, latency, user, run, estimate = row[:_HEAD]
            dimension, ending = names.dimension(number), names.ending(ending_number)
            group = groups[number, ts_us // HOUR_US]
            group.sums += wide(row[_HEAD:]) + ending.sums + dimension.sums
            if ending.ok:
                if not ending.aggregate:
                    group.inputs.append(bin_of(row[_HEAD]))
                if dimension.waited and latency is not None:
                    group.latencies.append(bin_of(latency))
            if dimension.resent:
                group.sums += lane("resent_tokens", row[_HEAD] if row[_HEAD] > 0 else estimate)
            if call_id[26:] not in _FIRST:
                again.append(row)
            users, runs = present[dimension.values[0]]
            users.add(user)
            runs.add(run)
        self._spread(groups, names)
        known = names.users(set().union(*(users for users, _ in present.values())) - {None})
        for workflow, (users, runs) in present.items():
            numbers = [known[user] for user in users if user in known]
            strangers = users - known.keys() - {None}
            self.see(workflow, Seen(marks(numbers), marks(runs - {None}), strangers))
        for row in again:
            self._repeat(row, names, ask)
        return size

    def _spread(self, groups: dict[tuple[int, int], _Group], names: Names) -> None:
        """Add each group to the cell of its value, facet by facet."""
        whole = _Group()
        for group in groups.values():
            whole.add(group)
        values = [names.values(number, hour) for number, hour in groups]
        for facet, column in enumerate(zip(*values, strict=True)):
            cells: dict[str, _Group] = {}
            if len(set(column)) == 1:
                # Most tags that nobody gives are so: all of it has one value.
                cells[column[0]] = whole
            else:
                for value, group in zip(column, groups.values(), strict=True):
                    cell = cells.get(value)
                    if cell is None:
                        cell = cells[value] = _Group()
                    cell.add(group)
            for value, cell in cells.items():
                self.merge((facet, value), Cell(cell.sums, spread(cell.latencies), spread(cell.inputs)))

    def merge(self, key: tuple[int, str], other: Cell, times: int = 1) -> None:
        """Add a cell of other sums, or take it away."""
        found = self.cells.get(key)
        if found is None:
            found = self.cells[key] = Cell()
        found.add(other, times)

    def see(self, workflow: str, some: Seen) -> None:
        """Add users and runs of a workflow."""
        found = self.seen.get(workflow)
        if found is None:
            found = self.seen[workflow] = Seen({}, {})
        found.add(some)

    def _repeat(self, row: Row, names: Names, ask: Ask) -> None:
        earlier = ask(
            "SELECT dimension, ts_us FROM model_call WHERE call_id >= ? AND call_id < ?", (row[0][:26], row[0])
        )
        had = [
            set(values) for values in zip(*(names.values(of, ts_us // HOUR_US) for of, ts_us in earlier), strict=True)
        ]
        if had:
            for key in enumerate(names.values(row[1], row[3] // HOUR_US)):
                if key[1] in had[key[0]]:
                    self.cells[key].sums += lane("repeats")


def _pair(values: Sequence[str]) -> str:
    return f"{values[NUMBER['workflow']]}{PAIR}{values[NUMBER['model']]}"
