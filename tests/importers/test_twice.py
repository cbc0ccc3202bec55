"""Importers, whatever state their files are in: cut anywhere, lines twice, read again as they grow; each thing is once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from bursar.importers.priced import Pricer
from bursar.importers.reading import read_any
from bursar.pricing.rates import PriceList
from bursar.tracing.imports import Imports
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from tests.importers.test_exports import openai_usage, write_csv
from tests.importers.transcripts import Transcript, usage

if TYPE_CHECKING:
    from pathlib import Path

PRICER = Pricer(PriceList())
Sums = tuple[int, int, int]
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Target:
    """A ledger that files are read into; what it has is counted from its rows."""

    def __init__(self, path: Path) -> None:
        for old in path.parent.glob(f"{path.name}*"):
            old.unlink()
        self.path, self.ledger = path, Ledger(path)
        self.ledger.database()
        self.imports = Imports(self.ledger)

    def take(self, file: Path) -> int:
        """Read a file; how many rows were new or have grown."""
        return sum(tally.new + tally.grown for tally in self.imports.take(read_any(file, PRICER).found.entries))

    def sums(self) -> Sums:
        """Rows, input and output tokens."""
        with Reader(self.path) as reader:
            rows = reader.spend_by("model")
        return (
            sum(row.requests for row in rows),
            sum(row.input_tokens for row in rows),
            sum(row.output_tokens for row in rows),
        )


def counted(lines: list[str]) -> Sums:
    """What whole lines say, counted without the importer: of each answer the usage that has most output."""
    best: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            message = json.loads(line)["message"]
        except ValueError:
            continue
        if message.get("role") == "assistant":
            known = best.get(message["id"])
            if known is None or message["usage"]["output_tokens"] >= known["output_tokens"]:
                best[message["id"]] = message["usage"]
    inputs = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    tokens = sum(each[name] for each in best.values() for name in inputs)
    return len(best), tokens, sum(each["output_tokens"] for each in best.values())


answers = some.lists(
    some.tuples(some.integers(1, 9_000), some.integers(0, 90_000), some.integers(2, 900), some.integers(1, 3)),
    min_size=1, max_size=8,
)  # fmt: skip


@quick
@given(answers, some.lists(some.integers(0, 30), max_size=6), some.data())
def test_a_transcript_that_grows_and_repeats_itself_is_counted_once(
    tmp_path: Path, ledger: Path, said: list[tuple[int, int, int, int]], again: list[int], data: some.DataObject
) -> None:
    """Read after any byte, then whole, then whole again and as a copy: the independent count, and nothing new."""
    lines = Transcript("s")
    for fresh, read, out, blocks in said:
        lines.user()
        lines.answer(usage(fresh, read, out=out), blocks=blocks)
    for number in again:
        lines.raw(lines.lines[number % len(lines.lines)])
    whole = lines.write(tmp_path)
    raw = whole.read_bytes()
    cut = data.draw(some.integers(raw.index(b"\n") + 1, len(raw)))
    target = Target(ledger)
    whole.write_bytes(raw[:cut])
    target.take(whole)
    assert target.sums() == counted(raw[:cut].decode().split("\n"))
    whole.write_bytes(raw)
    target.take(whole)
    assert target.sums() == counted(lines.lines)
    assert target.take(whole) == 0
    assert target.take(lines.write(tmp_path, "a copy in another session")) == 0
    assert target.sums() == counted(lines.lines)
    target.ledger.close()


@quick
@given(
    some.lists(
        some.tuples(some.integers(0, 13), some.sampled_from(["a", "b"]), some.integers(1, 10**6), some.integers(1, 500)),
        min_size=1, max_size=12, unique_by=lambda row: row[:2],
    ),
    some.data(),
)  # fmt: skip
def test_an_export_that_is_fetched_again_is_counted_once(
    tmp_path: Path, ledger: Path, spans: list[tuple[int, str, int, int]], data: some.DataObject
) -> None:
    """First some of its days, the last not yet over, then all in another order: the last file's own sums."""
    rows = [
        openai_usage(
            day, project_id=f"proj_{project}", input_tokens=tokens, input_cached_tokens=0, num_model_requests=calls
        )
        for day, project, tokens, calls in spans
    ]
    first = rows[: data.draw(some.integers(1, len(rows)))]
    partial = [*first[:-1], first[-1] | {"input_tokens": first[-1]["input_tokens"] // 2}]
    target = Target(ledger)
    target.take(write_csv(tmp_path / "first.csv", partial))
    target.take(write_csv(tmp_path / "usage.csv", data.draw(some.permutations(rows))))
    expected = sum(span[3] for span in spans), sum(span[2] for span in spans), sum(row["output_tokens"] for row in rows)
    assert target.sums() == expected
    assert target.take(write_csv(tmp_path / "again.csv", rows)) == 0
    assert target.sums() == expected
    target.ledger.close()
