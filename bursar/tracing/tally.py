"""Add attempts up, for every value of every tag at once."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.tracing.bins import bin_of, spread
from bursar.tracing.hours import DAY, HOUR_US
from bursar.tracing.lanes import COUNTED, REASONS, STATUSES, lane, wide
from bursar.tracing.marks import Marks, marks, unite
from bursar.tracing.tags import AGGREGATE, BY, CALLS, NOBODY_WAITED, NONE, TIMES, WRITES
from bursar.words.events import RetryReason, Status, UsageSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
    Row = tuple[Any, ...]
    # Attempts with the same tags and ending in the same hour: their sums, and the bins of their latencies and inputs.
    Part = tuple[int, Sequence[int], Sequence[int]]

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
_RELATED: Final = (
    ("workflow", "model", "workflow,model"),
    ("feature", "owner", "day", "feature,day"),
    ("env", "release", "prompt_version"),
    ("provider", "tier", "path"),
    ("hour", "week", "month"),
)
_TOGETHER: Final = tuple(
    tuple(NUMBER[name] for name in names)
    for names in (*_RELATED, *((name,) for name in FACETS if not any(name in names for names in _RELATED)))
)
"""Facets in groups: what is related has few combinations, and is summed by these first."""
_REPEAT: Final = lane("repeats")
_FIRST: Final = ("", "/0")
"""What follows an operation's id in the id of its first attempt."""
_BATCH: Final = 8_192
"""Rows that are held at once."""
_USUAL_WRITES: Final = "c.cache_write_5m_tokens + c.cache_write_30m_tokens + c.cache_write_1h_tokens"
_COLUMNS: Final = {
    # Most rows have nothing rare, and it takes a while to look for it in each.
    "cache_write_tokens": f"iif(c.rare IS NULL, {_USUAL_WRITES}, {WRITES})",
    "nusd": "c.cost_nusd",
    "unpriced": f"iif(c.cost_nusd IS NULL, {CALLS}, 0)",
    "fees_nusd": "c.cost_fees_nusd",
    "more": "iif(c.rare IS NULL, 0, c.requests - 1)",
    "counted": "iif(c.rare IS NULL, 0, c.requests IS NOT NULL)",
    **{f"{part}_nusd": f"c.cost_{part}_nusd" for part in ("input", "output", "cache_read", "cache_write")},
}
_HEAD: Final = 8
_MORE: Final = _HEAD + COUNTED.index("more")
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

    def add(self, other: Cell) -> None:
        """Add another cell."""
        self.sums += other.sums
        self.latency += other.latency
        self.input += other.input


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
    """Tags. `sums` count attempts with them; `each` of these, every call of a row that stands for several."""

    values: tuple[str, ...]
    feature: str
    pair: str
    waited: bool
    sums: int
    each: int
    resent: bool


class _Ending(NamedTuple):
    """How attempts ended; `sums` and `each` as of `_Dimension`."""

    ok: bool
    aggregate: bool
    sums: int
    each: int


class Names:
    """What the numbers of tag tuples and endings stand for; read once each. `number` gives users theirs, if any."""

    def __init__(self, ask: Ask, number: Callable[[set[str]], dict[str, int]]) -> None:
        self._ask, self.users = ask, number
        self._dimensions: dict[int, _Dimension] = {}
        self._endings: dict[int, _Ending] = {}
        self._times: dict[int, tuple[str, str, str, str]] = {}

    def dimension(self, number: int) -> _Dimension:
        """A tuple of tags."""
        found = self._dimensions.get(number)
        if found is None:
            columns = ", ".join(BY[name] for name in _TAGS)
            ((*values, path, source),) = self._ask(
                f"SELECT {columns}, d.path, d.attempt_source FROM dimension d WHERE d.id = ?", (number,)
            )
            sums, each = lane("harness") if source == "harness" else 0, lane("batch") if path == "batch" else 0
            keys = tuple(NONE if value is None else str(value) for value in values)
            found = self._dimensions[number] = _Dimension(
                keys,
                keys[_FEATURE] + PAIR,
                _pair(keys),
                path not in NOBODY_WAITED,
                sums + each,
                each,
                source not in (None, "fallback"),
            )
        return found

    def values(self, number: int, hour: int) -> tuple[str, ...]:
        """The value of every facet of attempts with these tags in an hour."""
        dimension, times = self.dimension(number), self._times.get(hour)
        if times is None:
            at = datetime.fromtimestamp(hour * 3_600, UTC)
            date = f"{at:%Y-%m-%d}"
            times = self._times[hour] = f"{date}T{hour % DAY:02}Z", date, f"{at:%G-W%V}", date[:7]
        return *dimension.values, *times, dimension.feature + times[1], dimension.pair

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
            each = lane(f"cost {cost}") if cost in STATUSES else 0
            if source in (UsageSource.ESTIMATED, UsageSource.STREAM_PARTIAL):
                each += lane("unmeasured")
            if "clamped" in flags:
                sums += lane("clamped")
            if reason is not None:
                sums += lane(f"reason {reason if reason in REASONS else RetryReason.OTHER}")
            aggregate = AGGREGATE in flags
            if aggregate:
                sums += lane("aggregates")
            found = self._endings[number] = _Ending(status == Status.OK, aggregate, sums + each, each)
        return found


class Tally:
    """Sums of some attempts."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, str], Cell] = {}
        self.seen: dict[str, Seen] = {}

    def add(self, rows: Iterable[Row], names: Names, ask: Ask) -> int:
        """Add rows, and say how many they were; `ask` tells of earlier attempts at the same operations."""
        size, rest = 0, iter(rows)
        while batch := list(islice(rest, _BATCH)):
            size += len(batch)
            self._add(batch, names)
            for row in batch:
                if row[0][26:] not in _FIRST:
                    self._repeat(row, names, ask)
        return size

    def _add(self, rows: Sequence[Row], names: Names) -> None:
        groups: dict[tuple[int, int, int], list[Row]] = defaultdict(list)
        for row in rows:
            groups[row[1], row[2], row[3] // HOUR_US].append(row)
        parts: list[Part] = []
        present: dict[str, list[Row]] = defaultdict(list)
        for (number, ending, _), some in groups.items():
            dimension = names.dimension(number)
            parts.append(_part(some, dimension, names.ending(ending)))
            present[dimension.values[0]] += some
        self._spread(parts, [names.values(number, hour) for number, _, hour in groups])
        self._see_all(present, names)

    def _see_all(self, present: Mapping[str, Sequence[Row]], names: Names) -> None:
        """Add the users and runs of the rows of each workflow."""
        known = names.users({row[5] for rows in present.values() for row in rows} - {None})
        for workflow, rows in present.items():
            users = {row[5] for row in rows} - {None}
            numbers = [known[user] for user in users if user in known]
            runs = {row[6] for row in rows} - {None}
            self.see(workflow, Seen(marks(numbers), marks(runs), users - known.keys()))

    def _spread(self, parts: Sequence[Part], values: Sequence[tuple[str, ...]]) -> None:
        """Add each part to the cells of its values."""
        columns = list(zip(*values, strict=True))
        whole = _cell(parts)
        for facets in _TOGETHER:
            keys = list(zip(*(columns[facet] for facet in facets), strict=True))
            # Most tags that nobody gives have one value: all of it.
            cells = {keys[0]: whole} if len(set(keys)) == 1 else _cells(keys, parts)
            for key, cell in cells.items():
                for facet, value in zip(facets, key, strict=True):
                    self.merge((facet, value), cell)

    def merge(self, key: tuple[int, str], other: Cell) -> None:
        """Add a cell of other sums."""
        found = self.cells.get(key)
        if found is None:
            self.cells[key] = Cell(other.sums, other.latency, other.input)
        else:
            found.add(other)

    def see(self, workflow: str, some: Seen) -> None:
        """Add users and runs of a workflow."""
        found = self.seen.get(workflow)
        if found is None:
            found = self.seen[workflow] = Seen({}, {})
        found.add(some)

    def _repeat(self, row: Row, names: Names, ask: Ask) -> None:
        earlier = ask("SELECT dimension, ts_us FROM attempt WHERE call_id >= ? AND call_id < ?", (row[0][:26], row[0]))
        had = [
            set(values) for values in zip(*(names.values(of, ts_us // HOUR_US) for of, ts_us in earlier), strict=True)
        ]
        if had:
            for key in enumerate(names.values(row[1], row[3] // HOUR_US)):
                if key[1] in had[key[0]]:
                    self.cells[key].sums += _REPEAT


def _part(rows: Sequence[Row], dimension: _Dimension, ending: _Ending) -> Part:
    sums = wide([row[_HEAD:] for row in rows]) + len(rows) * (ending.sums + dimension.sums)
    each = ending.each + dimension.each
    if each:
        sums += each * sum([row[_MORE] for row in rows])
    if dimension.resent:
        sums += lane("resent_tokens", sum(row[_HEAD] if row[_HEAD] > 0 else row[_HEAD - 1] for row in rows))
    inputs = [bin_of(row[_HEAD]) for row in rows] if ending.ok and not ending.aggregate else ()
    waited = ending.ok and dimension.waited
    return sums, [bin_of(row[4]) for row in rows if row[4] is not None] if waited else (), inputs


def _cells(keys: Sequence[tuple[str, ...]], parts: Sequence[Part]) -> dict[tuple[str, ...], Cell]:
    members: dict[tuple[str, ...], list[Part]] = defaultdict(list)
    for key, part in zip(keys, parts, strict=True):
        members[key].append(part)
    return {key: _cell(some) for key, some in members.items()}


def _cell(parts: Sequence[Part]) -> Cell:
    sums, latencies, inputs = zip(*parts, strict=True)
    return Cell(sum(sums), spread(chain.from_iterable(latencies)), spread(chain.from_iterable(inputs)))


def _pair(values: Sequence[str]) -> str:
    return f"{values[NUMBER['workflow']]}{PAIR}{values[NUMBER['model']]}"
