"""The sums beside a ledger: whatever happened to it, they answer what its rows answer."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bursar.tracing import rolled
from bursar.tracing.bins import LANE, WORST, packed, unpacked
from bursar.tracing.changes import Changes, Slice
from bursar.tracing.charted import ChartReader
from bursar.tracing.lanes import COUNTED, MOST, PLACE, numbers, wide
from bursar.tracing.ledger import Ledger
from bursar.tracing.overview import OverviewReader
from bursar.tracing.rolled import Rolled
from bursar.tracing.rollup import LAG_US, Rollup
from bursar.tracing.tags import BY
from bursar.tracing.tally import NUMBER
from bursar.words.clock import first_id
from bursar.words.events import AttemptSource, CostStatus, RetryReason, Status, Usage, UsageSource
from bursar.words.records import UNATTRIBUTED, ModelCall, Tags, Who
from bursar.words.rows import SpendRow, Unpriced

START_US = 1_793_491_200_000_000
"""2026-11-01, midnight UTC."""
MINUTE_US = 60_000_000
DAYS = 3
LATER_US = 60 * 24 * 60 * MINUTE_US
NEAR = ("p50_us", "p95_us", "p50_input", "p95_input")

number = st.integers(0, 40)
minutes = st.integers(0, DAYS * 1_440)
step = st.one_of(
    # Few operations, so that many have several attempts.
    st.tuples(st.just("call"), st.integers(0, 11), number, st.integers(0, 2)),
    st.tuples(st.just("now"), number, number, st.integers(0, 2)),
    st.tuples(st.just("correct"), number, number, st.just(0)),
    st.tuples(st.just("forget"), number, number, st.just(0)),
    st.tuples(st.just("delete"), number, number, st.just(0)),
    st.tuples(st.just("fold"), minutes, number, st.just(0)),
)


def call(ts_us: int, made: int, kind: int, attempt: int) -> ModelCall:
    """An attempt like many others; `kind` decides on what it is of each sort."""
    op_id = first_id(ts_us)[:10] + f"{made:016}"
    extra = (("agent", "a"),) if kind % 7 == 0 else ()
    workflow = (UNATTRIBUTED, "triage", "search")[kind % 3]
    tags = Tags(workflow, "dev", ("inbox", None)[kind % 2], None, None, None, f"r{kind % 4}", None, extra)
    return ModelCall(
        call_id=f"{op_id}/{attempt}",
        op_id=op_id,
        attempt=attempt,
        # An attempt may begin long after its operation was asked for: in another hour, on another day.
        ts_us=ts_us + attempt * 50 * MINUTE_US,
        who=Who(tags, (None, "ann", "bob")[kind % 3], None),
        provider="openai",
        request_model="gpt-4o",
        response_model=(None, "gpt-4o-2024")[kind % 5 > 1],
        path=("sync", "stream", "batch")[kind % 3],
        run_id=(None, f"R{kind % 6}")[kind % 4 > 0],
        usage=Usage(kind * 97, kind * 5, kind, kind % 3),
        usage_source=(UsageSource.PROVIDER, UsageSource.ESTIMATED, UsageSource.NONE)[kind % 3],
        status=(Status.OK, Status.ERROR)[kind % 6 == 0],
        retry_reason=(None, RetryReason.TIMEOUT, RetryReason.RATE_LIMIT, None)[kind % 4],
        attempt_source=(None, AttemptSource.HARNESS, AttemptSource.SDK)[attempt],
        latency_us=kind * kind * 1_001,
        est_input_tokens=77,
        flags=("clamped",) if kind % 5 == 0 else (),
        cost_nusd=(kind * 1_003, None)[kind % 8 == 0],
        cost_status=tuple(CostStatus)[kind % 6],
        cost_input_nusd=kind * 1_000,
        cost_output_nusd=kind * 3,
        tool_calls=kind % 2,
        trimmed_tokens=kind % 9,
    )


class History:
    """A ledger to which things happen."""

    def __init__(self, path: Path) -> None:
        self.path, self.writer = path, Ledger(path)
        self.ids: list[str] = []
        self.now_us = START_US

    def do(self, what: str, one: int, other: int, third: int) -> None:
        if what in ("call", "now"):
            # Of one operation the attempts come in any order, and any of them may never come.
            at_us = START_US + one * 397 * MINUTE_US + 59_999_000 if what == "call" else self.now_us
            written = call(at_us, one, other, third)
            self.ids.append(written.call_id)
            self.writer.write(written)
        elif what == "fold":
            self.now_us = START_US + one * MINUTE_US
            with Rollup(self.path) as sums:
                sums.fold(self.now_us + LAG_US)
        elif self.ids:
            call_id = self.ids[one % len(self.ids)]
            sql = {
                "correct": f"UPDATE attempt SET input_tokens = {other}, cost_nusd = {other} WHERE call_id = ?",
                "forget": "UPDATE attempt SET caller = NULL WHERE call_id = ?",
                "delete": "DELETE FROM attempt WHERE call_id = ?",
            }[what]
            self.writer.transact(lambda run: run(sql, (call_id,)))


@contextmanager
def history() -> Iterator[History]:
    with tempfile.TemporaryDirectory() as folder:
        found = History(Path(folder) / "ledger.db")
        found.writer.database()
        try:
            yield found
        finally:
            found.writer.close()


def answers(path: Path, since_us: int, until_us: int | None, now_us: int) -> dict[str, Any]:
    """Everything that is asked of sums, about a period."""
    span = since_us, until_us
    with Rolled(path, now_us=now_us) as reader:
        found: dict[str, Any] = {by: reader.spend_by(by, *span) for by in BY}
    with Changes(path, now_us=now_us) as changes:
        found["mix"] = changes.mix(Slice(*span))
    with ChartReader(path, now_us=now_us) as charts:
        found["tokens"] = charts.tokens_per_feature(*span)
    with OverviewReader(path, now_us=now_us) as overview:
        found["today"] = overview.overview(now_us, ZoneInfo("Asia/Kathmandu"))
    # Else both answers would be of the rows.
    assert (reader._rollup is not None) == (changes._rollup is not None) == (rolled.FEW < 0)
    return found


def exactly(rows: list[SpendRow]) -> list[SpendRow]:
    nothing: dict[str, Any] = dict.fromkeys(NEAR)
    return [row._replace(**nothing) for row in rows]


def agree(path: Path, since_us: int, until_us: int | None, now_us: int, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rolled, "FEW", 10**9)
    by_rows = answers(path, since_us, until_us, now_us)
    patch.setattr(rolled, "FEW", -1)
    by_sums = answers(path, since_us, until_us, now_us)
    for by in BY:
        assert exactly(by_sums[by]) == exactly(by_rows[by]), by
        for near, exact in zip(by_sums.pop(by), by_rows.pop(by), strict=True):
            for name in NEAR:
                there, here = getattr(near, name), getattr(exact, name)
                assert (there is None) == (here is None)
                assert here is None or abs(there - here) <= WORST * here
    assert by_sums == by_rows


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([("call", 3, 4, 1), ("fold", 4_000, 0, 0), ("call", 3, 4, 0), ("fold", 4_100, 0, 0)], 0, 0, False)
@given(st.lists(step, min_size=5, max_size=60), minutes, minutes, st.booleans())
def test_after_any_history_the_sums_answer_what_the_rows_answer(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int, int, int]], since: int, until: int, ends: bool
) -> None:
    """Appended, late, corrected, forgotten, deleted, folded in between, in any order; for any period, by any tag."""
    with history() as past:
        for what in steps:
            past.do(*what)
        begin, end = sorted((since, until))
        span = START_US + begin * MINUTE_US + 1_000, START_US + end * MINUTE_US if ends else None
        agree(past.path, *span, past.now_us + LAG_US, monkeypatch)
        agree(past.path, 0, None, START_US + LATER_US, monkeypatch)


def test_a_day_is_summed_once_it_is_over(ledger: Path) -> None:
    """Until then a fold writes its hours alone; what comes late, or is corrected, is in the day's sums again."""
    day_us, day = 24 * 60 * MINUTE_US, START_US // (24 * 60 * MINUTE_US)
    writer = Ledger(ledger)

    def folded(until_us: int) -> tuple[list[int], list[int]]:
        with Rollup(ledger) as sums:
            sums.fold(until_us + LAG_US)
            spans = (24, day, day + 1), (1, day * 24, day * 24 + 24)
            by_day, by_hour = ([cell.sums for _, cell in sums.cells(NUMBER["workflow"], *span)] for span in spans)
            return [sums >> PLACE["attempts"] & MOST for sums in by_day], by_hour

    for made in range(3):
        writer.write(call(START_US + made * 5 * 60 * MINUTE_US, made, 1, 0))
    assert folded(START_US + day_us - MINUTE_US)[0] == []
    writer.write(call(START_US + day_us, 4, 1, 0))
    by_day, by_hour = folded(START_US + day_us + MINUTE_US)
    assert (by_day, len(by_hour)) == ([3], 3)
    writer.write(call(START_US + 60 * MINUTE_US, 5, 1, 0))
    assert folded(START_US + day_us + MINUTE_US)[0] == [4]
    writer.transact(lambda run: run("DELETE FROM attempt WHERE call_id < ?", (first_id(START_US + MINUTE_US),)))
    assert folded(START_US + day_us + MINUTE_US)[0] == [3]
    writer.close()


quiet = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quiet
@given(st.dictionaries(st.integers(0, 500), st.integers(1, 2**32 - 1), max_size=8))
def test_a_spread_is_kept_as_it_is(counted: dict[int, int]) -> None:
    """Whatever bins it has, and however many values fall into each."""
    spread = sum(count << (LANE * place) for place, count in counted.items())
    assert unpacked(packed(spread)) == spread


def attempts_of(most: int, up_to: int) -> Any:
    attempt = st.lists(st.integers(-most, most), min_size=len(COUNTED), max_size=len(COUNTED))
    return st.lists(attempt, min_size=1, max_size=up_to)


@quiet
@given(st.one_of(attempts_of(1000, 3), attempts_of(MOST, 3), attempts_of(2**70, 1)))
def test_attempts_are_added_lane_by_lane(attempts: list[list[int]]) -> None:
    """Also what is below zero; one attempt counts as no more than a provider can mean, so that no lane runs over."""
    found = numbers(wide(attempts))
    clamped = [[max(-MOST, min(MOST, number)) for number in attempt] for attempt in attempts]
    assert [found[name] for name in COUNTED] == [sum(column) for column in zip(*clamped, strict=True)]


def test_two_fold_while_a_third_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted twice or missed when two readers fold at once and rows come late all the while."""
    with history() as past:
        done = threading.Event()
        failed: list[BaseException] = []

        def fold() -> None:
            try:
                with Rollup(past.path) as sums:
                    while not done.is_set():
                        sums.fold(START_US + LATER_US)
            except BaseException as error:
                failed.append(error)
                raise

        folders = [threading.Thread(target=fold) for _ in range(2)]
        for folder in folders:
            folder.start()
        for made in range(400):
            past.do("call", made * 7 % 150, made % 41, made % 3)
            if made % 10 == 9:
                past.do(("correct", "delete")[made % 20 == 9], made, made % 31, 0)
        done.set()
        for folder in folders:
            folder.join()
        assert not failed
        agree(past.path, 0, None, START_US + LATER_US, monkeypatch)


def test_doubts_count_calls_and_not_rows(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that stands for seven calls without a workflow and a price is seven of each, by rows and by sums."""
    writer = Ledger(ledger)
    tagless = replace(
        call(START_US, 1, 8, 0), who=Who(), path="batch", cost_nusd=None, response_model="no-price",
        cost_status=CostStatus.UPPER_BOUND, usage_source=UsageSource.ESTIMATED,
    )  # fmt: skip
    writer.write(tagless)
    entry = "UPDATE attempt SET rare = json_set(coalesce(rare, '{}'), '$.requests', 7) WHERE call_id = ?"
    writer.transact(lambda run: run(entry, (tagless.call_id,)))
    writer.close()
    for few in (10**9, -1):
        monkeypatch.setattr(rolled, "FEW", few)
        with OverviewReader(ledger, now_us=START_US + 2 * LAG_US) as reader:
            found = reader.overview(START_US + 2 * LAG_US, ZoneInfo("UTC"))
        assert (found.calls, found.unattributed.calls) == (7, 7)
        assert found.unpriced == (Unpriced("no-price", 7),)
        with Changes(ledger, now_us=START_US + 2 * LAG_US) as changes:
            (spent,), (mix,), (model,) = changes.spend_by("workflow"), changes.mix(Slice()), changes.unpriced(0)
        assert (spent.attempts, spent.unpriced, spent.batch, spent.bounded, spent.unmeasured) == (7, 7, 7, 7, 7)
        assert (mix.operations, mix.unpriced, model.calls) == (7, 7, 7)


def test_a_copy_that_is_made_anew_is_not_read_by_the_sums_of_the_copy_before(ledger: Path, tmp_path: Path) -> None:
    """What was written late meanwhile is in the ledger's own sums, and its note is gone: the copy's are made again."""
    copy, later = tmp_path / "copy.db", START_US + 2 * LAG_US
    writer = Ledger(ledger)

    def late_call_then_copy(made: int) -> int:
        writer.write(call(START_US, made, 1, 0))
        with Rollup(ledger) as own:
            own.fold(later)
        copy.unlink(missing_ok=True)
        writer.database().execute("VACUUM INTO ?", (str(copy),))
        with Rollup(copy) as sums:
            sums.fold(later)
            with sums.reading() as mark:
                assert mark
            return sum(cell.sums >> PLACE["attempts"] & MOST for _, cell in sums.cells(0, 1, 0, 10**9))

    assert [late_call_then_copy(made) for made in range(3)] == [1, 2, 3]
    writer.close()
