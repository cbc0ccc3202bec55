"""Reading the ledger: sums, ranges and percentiles against arithmetic by hand, and files that are not as they were."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from bursar import LedgerError
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from bursar.tracing.tags import BY, NONE, TIMES
from bursar.words.clock import first_id
from bursar.words.events import CostStatus, RetryReason, Status, Usage, UsageSource
from bursar.words.records import ModelCall, RunRecord, Tags, Verdict, Who

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_US = 3_600_000_000
START_US = 1_793_491_200_000_000
"""2026-11-01, midnight UTC."""


@pytest.fixture
def writer(ledger: Path) -> Iterator[Ledger]:
    writer = Ledger(ledger)
    yield writer
    writer.close()


def call(ts_us: int, number: int = 0, attempt: int = 0, **changes: Any) -> ModelCall:
    op_id = first_id(ts_us)[:10] + f"{number:016}"
    fields: dict[str, Any] = {
        "call_id": f"{op_id}/{attempt}",
        "op_id": op_id,
        "attempt": attempt,
        "ts_us": ts_us,
        "who": Who(Tags("w")),
        "provider": "openai",
        "request_model": "gpt-4o",
        "path": "sync",
        "run_id": "R",
        "usage": Usage(10, 2),
        "usage_source": UsageSource.PROVIDER,
        "cost_nusd": 100,
        "cost_status": CostStatus.LIST_PRICE,
    }
    return ModelCall(**(fields | changes))


def run_record(run_id: str, parent: str | None = None, **changes: Any) -> RunRecord:
    return RunRecord(
        **({"run_id": run_id, "parent_run_id": parent, "who": Who(Tags("w")), "started_us": START_US} | changes)
    )


def attempts(ledger: Path, since_us: int = 0, until_us: int | None = None) -> int:
    with Reader(ledger) as reader:
        return sum(row.attempts for row in reader.spend_by("workflow", since_us, until_us))


def test_a_range_of_time_has_its_beginning_and_not_its_end(ledger: Path, writer: Ledger) -> None:
    """Calls at each full hour: every range counts the hours from its beginning up to, but not, its end."""
    for hour in range(24):
        writer.write(call(START_US + hour * HOUR_US))
    for since in range(0, 25, 3):
        for until in range(since, 25, 4):
            assert attempts(ledger, START_US + since * HOUR_US, START_US + until * HOUR_US) == min(until, 24) - since
        assert attempts(ledger, START_US + since * HOUR_US) == 24 - since
    assert attempts(ledger, START_US + 1_000, START_US + HOUR_US) == 0
    assert attempts(ledger, -5) == 24


@pytest.mark.parametrize("size", [1, 2, 3, 19, 20, 21, 100, 101])
def test_percentiles_are_of_the_nearest_rank(ledger: Path, writer: Ledger, size: int) -> None:
    """The value at place ceil(n * p), counted from one, of the attempts that ended well, in each group apart."""
    chance = random.Random(size)
    latencies = [chance.randrange(1, 10**6) for _ in range(size)]
    for number, latency in enumerate(latencies):
        writer.write(call(START_US, number, latency_us=latency))
        writer.write(call(START_US, number, 1, latency_us=10**9, status=Status.ERROR))
        writer.write(call(START_US, number, 2, latency_us=7, who=Who(Tags("other"))))
    in_order = sorted(latencies)
    with Reader(ledger) as reader:
        rows = {row.key: row for row in reader.spend_by("workflow")}
    assert rows["w"].p50_us == in_order[-(-size * 50 // 100) - 1]
    assert rows["w"].p95_us == in_order[-(-size * 95 // 100) - 1]
    assert (rows["other"].p50_us, rows["other"].p95_us) == (7, 7)


def test_a_group_without_a_good_end_has_no_percentiles(ledger: Path, writer: Ledger) -> None:
    """Unknown is None, not zero."""
    writer.write(call(START_US, latency_us=5, status=Status.ERROR))
    with Reader(ledger) as reader:
        (row,) = reader.spend_by("workflow")
    assert (row.p50_us, row.p95_us, row.errors) == (None, None, 1)


def test_every_tag_groups_and_what_has_none_is_shown(ledger: Path, writer: Ledger) -> None:
    """Each way to group has one row a value, and one for the calls without: none is dropped."""
    extra = (
        ("agent", "a"), ("data_sources", "crm"), ("graph_step", "1"), ("node", "n"), ("prompt_name", "p"), ("purpose", "q"),
        ("source", "s"),
    )  # fmt: skip
    full = Who(Tags("w", "dev", "feat", "own", "ten", "prom", "rel", "pv", extra), "someone", "sess")
    named: dict[str, Any] = {"fallback_from": "gpt-5", "system_hash": "5a", "tools_hash": "7b"}
    writer.write(call(START_US, 1, who=full, response_model="gpt-4o-2024", **named))
    writer.write(call(START_US, 2))
    whole = {"workflow": {"w"}, "provider": {"openai"}, "model": {"gpt-4o", "gpt-4o-2024"}, "request_model": {"gpt-4o"}}
    # What every call has: a time, a tier and a way.
    same = {*TIMES, "tier", "path"}
    with Reader(ledger) as reader:
        for by in BY:
            rows = reader.spend_by(by)
            assert sum(row.attempts for row in rows) == 2
            assert sum(row.nusd for row in rows) == 200
            keys = {row.key for row in rows}
            if by in same:
                assert len(keys) == 1
                assert NONE not in keys
            else:
                assert keys == whole[by] if by in whole else NONE in keys and len(keys) == 2


def test_retries_are_sends_beyond_the_first(ledger: Path, writer: Ledger) -> None:
    """Requests count operations, retries what was sent again, and the reason is the one most often given."""
    reasons = [RetryReason.TIMEOUT, RetryReason.RATE_LIMIT, RetryReason.RATE_LIMIT, None]
    for attempt, reason in enumerate(reasons):
        writer.write(
            call(START_US, 1, attempt, retry_reason=reason, status=Status.OK if reason is None else Status.ERROR)
        )
    writer.write(call(START_US, 2))
    with Reader(ledger) as reader:
        (row,) = reader.spend_by("workflow")
    assert (row.requests, row.attempts, row.retries, row.retry_reason, row.errors) == (2, 5, 3, "rate_limit", 3)


def test_sums_beyond_64_bits_do_not_end_a_report(ledger: Path, writer: Ledger) -> None:
    """Numbers that no provider can mean are shown as large, and the other rows stay readable."""
    for number in range(3):
        writer.write(call(START_US, number, usage=Usage(2**70), cost_nusd=2**70, tool_calls=2**70))
    with Reader(ledger) as reader:
        (row,) = reader.spend_by("workflow")
    assert row.input_tokens == row.tool_calls == 2**63 - 1
    assert row.nusd >= 2**63 - 1


def test_a_family_is_a_run_and_all_below_it(ledger: Path, writer: Ledger) -> None:
    """Parents before children, no sibling of the one that was asked for, calls and verdicts of all."""
    for run_id, parent in (("A", None), ("B", "A"), ("C", "B"), ("D", "A"), ("X", None)):
        writer.write(run_record(run_id, parent))
        writer.write(call(START_US, ord(run_id), run_id=run_id))
        writer.write(Verdict(START_US, run_id, f"op{run_id}", "budget", "deny", "no_room"))
    with Reader(ledger) as reader:
        family = reader.family("A")
        assert [row.run_id for row in family] == ["A", "B", "D", "C"]
        assert [row.run_id for row in reader.calls(family)] == ["A", "B", "C", "D"]
        assert {row.run_id for row in reader.verdicts(family)} == {"A", "B", "C", "D"}
        assert [row.run_id for row in reader.family("B")] == ["B", "C"]
        assert reader.family("none") == []
        assert reader.calls([]) == []
        assert reader.verdicts([]) == []


def test_a_ring_of_runs_has_an_end(ledger: Path, writer: Ledger) -> None:
    """Runs that name each other as parents are each read once."""
    writer.write(run_record("A", "B"))
    writer.write(run_record("B", "A"))
    with Reader(ledger) as reader:
        assert [row.run_id for row in reader.family("A")] == ["A", "B"]


def test_a_run_with_forty_thousand_children_is_read(ledger: Path, writer: Ledger) -> None:
    """However many runs are asked for, it is one question."""
    writer.write(run_record("A"))
    writer.write(call(START_US, run_id="A"))
    with Reader(ledger) as reader:
        (row,) = reader.family("A")
        assert len(reader.calls([row] * 300_000)) == 1
        assert reader.verdicts([row] * 300_000) == []


def test_the_newest_runs_come_first(ledger: Path, writer: Ledger) -> None:
    """As many as were asked for; `last` is the first of them; where there is none, how to make one."""
    with pytest.raises(LedgerError, match="no ledger at"):
        Reader(ledger)
    writer.write(call(START_US, run_id=None))
    with Reader(ledger) as reader, pytest.raises(LedgerError, match="bursar demo"):
        reader.run("last")
    for run_id in ("AA", "AB", "AC"):
        writer.write(run_record(run_id))
    with Reader(ledger) as reader:
        assert [row.run_id for row in reader.runs(2)] == ["AC", "AB"]
        assert reader.run("last").run_id == "AC"


def test_a_prefix_that_is_not_unique_names_what_there_is(ledger: Path, writer: Ledger) -> None:
    """At most five of them; a whole id is always unique, also where another begins with it."""
    for number in range(7):
        writer.write(run_record(f"AB{number}"))
    writer.write(run_record("AB12"))
    with Reader(ledger) as reader:
        with pytest.raises(LedgerError, match=r"several runs begin with 'ab': AB0, AB1, AB12, AB2, AB3, \.\.\.$"):
            reader.run("ab")
        assert reader.run("ab1").run_id == "AB1"
        assert reader.run("AB12").run_id == "AB12"


@pytest.mark.parametrize("prefix", ["", "\udcff", "é", "Z" * 500, "%", "' OR 1=1 --", "\0"])
def test_what_is_no_run_id_finds_nothing(ledger: Path, writer: Ledger, prefix: str) -> None:
    """No text is a pattern, or an error of another kind; the message stays short."""
    writer.write(run_record("AB"))
    with Reader(ledger) as reader, pytest.raises(LedgerError, match="no run's id begins with") as none:
        reader.run(prefix)
    assert len(str(none.value)) < 150


def test_a_damaged_file_is_an_error_that_names_it(ledger: Path, writer: Ledger) -> None:
    """Pages that were overwritten: what cannot be read is said, in one sentence."""
    for number in range(300):
        writer.write(call(START_US, number))
    writer.close()
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-32_768] + b"\xff" * 32_768)
    with Reader(ledger) as reader, pytest.raises(LedgerError, match=r"ledger\.db cannot be read"):
        reader.spend_by("workflow")


def test_a_reader_works_beside_a_writer(ledger: Path, writer: Ledger) -> None:
    """Rows are seen as soon as they are in the table; a reader that stays open keeps no writer out."""
    writer.write(call(START_US, 0))
    with Reader(ledger) as reader:
        for number in range(1, 20):
            assert reader.spend_by("workflow")[0].attempts == number
            assert writer.try_write(call(START_US, number))
            writer.deliver()


def test_a_report_by_time_reads_only_its_range(ledger: Path, writer: Ledger) -> None:
    """The range is one of the primary key: no scan of the whole table."""
    writer.write(call(START_US))
    writer.close()
    connection = apsw.Connection(str(ledger))
    plan = list(
        connection.execute("EXPLAIN QUERY PLAN SELECT * FROM model_call WHERE call_id >= 'A' AND call_id < 'B'")
    )
    connection.close()
    assert "SEARCH a USING PRIMARY KEY" in plan[0][3]
