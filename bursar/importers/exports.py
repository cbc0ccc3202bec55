"""Exports of usage and costs: pages of the providers' administration APIs as JSON, and what their consoles save as CSV.

Both come down to rows: a span of time, what it is grouped by, and numbers.
"""

from __future__ import annotations

import csv
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.clients.usage import MOST_TOKENS
from bursar.importers.found import time_us
from bursar.words.errors import RecordingError
from bursar.words.money import MAX_AMOUNT, NANO_PER_USD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bursar.importers.found import Found

DAY_US: Final = 86_400_000_000
_MOST_SUM: Final = MOST_TOKENS * 1_000_000
"""More tokens than this nobody used in one span: such a number is a defect."""

OPENAI_USAGE, OPENAI_COSTS = "openai-usage", "openai-costs"
ANTHROPIC_USAGE, ANTHROPIC_COSTS = "anthropic-usage", "anthropic-costs"
KINDS: Final = {
    OPENAI_USAGE: frozenset({"num_model_requests", "input_tokens"}),
    OPENAI_COSTS: frozenset({"amount_value"}),
    ANTHROPIC_USAGE: frozenset({"usage_input_tokens_no_cache"}),
    ANTHROPIC_COSTS: frozenset({"cost_usd", "usage_date_utc"}),
}
"""The columns by which a CSV file is known."""


class Row(NamedTuple):
    """One line of an export. `line` counts from 1, None in JSON."""

    line: int | None
    since_us: int
    until_us: int
    values: Mapping[str, Any]


class Export(NamedTuple):
    """What kind of export a file is, and its rows."""

    kind: str
    rows: Iterator[Row]


def read_export(path: Path, found: Found) -> Export | None:
    """Open an export; None for a file that is none. Raises `RecordingError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError as error:
        raise RecordingError(str(path), None, f"cannot be read ({error.strerror})") from None
    if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"["):
        return _json(path, found)
    columns = set(head.partition(b"\n")[0].decode("utf-8-sig", "replace").strip().replace('"', "").split(","))
    kind = next((kind for kind, needed in KINDS.items() if needed <= columns), None)
    return None if kind is None else Export(kind, _csv(path, found))


def count(row: Row, name: str) -> int:
    """A number of tokens or calls; what is not there is zero. Raises ValueError for what is none."""
    value = row.values.get(name)
    if value is None or value == "":
        return 0
    number = int(value) if isinstance(value, str) else value
    if number.__class__ is not int or not 0 <= number <= _MOST_SUM:
        raise ValueError(f"{name} is {str(value)[:40]!r}, which is no count")
    return int(number)


def text(row: Row, *names: str) -> str | None:
    """The first of these fields that says something."""
    for name in names:
        value = row.values.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def nusd(value: Any, *, cents: bool = False) -> int:
    """An amount of dollars in nano-dollars, to the nearest. Raises ValueError for what is none, and below zero."""
    try:
        amount = Decimal(str(value)) * NANO_PER_USD / (100 if cents else 1)
        found = int(amount.to_integral_value(ROUND_HALF_UP))
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{str(value)[:40]!r} is no amount") from None
    if not 0 <= found <= MAX_AMOUNT:
        raise ValueError(f"{str(value)[:40]!r} is no amount that was spent: credits stay out of the ledger")
    return found


def _csv(path: Path, found: Found) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        found.lines += 1
        for values in _rows(path, reader):
            found.lines += 1
            since = _first_time(values, "start_time_iso", "start_time", "usage_date_utc", "date")
            until = _first_time(values, "end_time_iso", "end_time")
            if None in values or since is None:
                found.problem(reader.line_num, "has no time that can be one, or more cells than columns")
                continue
            yield Row(reader.line_num, since, until or since + DAY_US, values)


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, Any]]:
    try:
        yield from reader
    except csv.Error as error:
        raise RecordingError(str(path), reader.line_num, f"is no line of a CSV file ({error})") from None


def _first_time(values: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = values.get(name)
        if value:
            return time_us(int(value) if value.isascii() and value.isdigit() else value)
    return None


def _json(path: Path, found: Found) -> Export | None:
    raw = path.read_bytes()
    try:
        pages = orjson.loads(raw)
    except ValueError:
        try:
            pages = [orjson.loads(line) for line in raw.splitlines() if line.strip()]
        except ValueError:
            return None
    pages = pages if isinstance(pages, list) else [pages]
    buckets = [
        bucket
        for page in pages if isinstance(page, dict) and isinstance(page.get("data"), list)
        for bucket in page["data"] if isinstance(bucket, dict) and isinstance(bucket.get("results"), list)
    ]  # fmt: skip
    if not buckets:
        return None
    last = pages[-1]
    if isinstance(last, dict) and last.get("has_more") is True:
        found.problem(None, "is not all: its last page says has_more; fetch the next pages too")
    kinds = {_kind(result) for bucket in buckets for result in bucket["results"] if isinstance(result, dict)} - {None}
    if len(kinds) > 1:
        raise RecordingError(str(path), None, f"mixes {' and '.join(sorted(str(kind) for kind in kinds))}: one a file")
    # Buckets without results are of days on which nothing was used.
    kind = next(iter(kinds), OPENAI_USAGE)
    assert kind is not None
    return Export(kind, _results(buckets, found))


def _results(buckets: list[dict[str, Any]], found: Found) -> Iterator[Row]:
    for bucket in buckets:
        since = time_us(bucket.get("start_time", bucket.get("starting_at")))
        until = time_us(bucket.get("end_time", bucket.get("ending_at")))
        for result in bucket["results"]:
            found.lines += 1
            if since is None or not isinstance(result, dict):
                found.problem(None, f"result {found.lines:,} is in no bucket with a time, or is no object")
                continue
            yield Row(None, since, until or since + DAY_US, result)


def _kind(result: Mapping[str, Any]) -> str | None:
    name = str(result.get("object", ""))
    if name.startswith("organization.usage."):
        return OPENAI_USAGE
    if name.startswith("organization.costs."):
        return OPENAI_COSTS
    if "uncached_input_tokens" in result:
        return ANTHROPIC_USAGE
    if "amount" in result and "currency" in result:
        return ANTHROPIC_COSTS
    return None
