"""A ledger of ten million calls: what it weighs, how long folding takes, and the first screen and reports from it.

    uv run --with duckdb --with polars python -m benchmarks.ledger_scale [--rows N] [--keep FILE] [--quick] [--json]

The ledger is made by direct insert, so the figures are of reading. DuckDB and Polars get the same rows in a columnar
file of their own; every answer is checked to be the same before it is timed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import apsw

from benchmarks.common import as_json, facts, show_facts, spread, table
from bursar.db import open_ledger
from bursar.tracing import bins, rolled
from bursar.tracing.changes import Changes, Slice
from bursar.tracing.charted import ChartReader
from bursar.tracing.hours import HOUR_US
from bursar.tracing.overview import OverviewReader
from bursar.tracing.rolled import Rolled
from bursar.tracing.rollup import LAG_US, Rollup
from bursar.tracing.sums_file import beside
from bursar.words.clock import first_id
from bursar.words.rows import SpendRow

DAYS = 90
DAY_US = 86_400_000_000
CALLS_PER_RUN = 6
RUNS_PER_SESSION = 2
USERS = 20_000
BATCH = 50_000
MOST_SORTED = 1_000_000
"""Rows up to which every answer is made from the rows too: percentiles of more take minutes each."""
UNSORTED = ("first screen", "tokens by feature and day")
"""Answers without percentiles: made from the rows however many there are."""
COLUMNS = (
    "call_id", "run", "step", "dimension", "ending", "caller", "ts_us", "latency_us", "ttft_us",
    "queue_us", "response_id", "request_id", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_5m_tokens", "cache_write_30m_tokens", "cache_write_1h_tokens", "reasoning_tokens", "tool_calls",
    "messages", "tools_offered", "max_tokens", "sent_max_tokens",
    "est_input_tokens", "held_nusd", "held_tokens", "cost_nusd", "cost_input_nusd", "cost_output_nusd",
    "cost_cache_read_nusd", "cost_cache_write_nusd", "cost_fees_nusd", "trimmed_tokens",
)  # fmt: skip
ENDINGS = (
    ("ok", None, None, "provider", "", "list_price"),
    ("ok", None, None, "provider", "clamped", "list_price"),
    ("ok", None, None, "provider", "", "upper_bound"),
    ("ok", None, None, "estimated", "", "estimated"),
    ("error", "RateLimitError", "rate_limit", "none", "", "list_price"),
    ("error", "APITimeoutError", "timeout", "estimated", "", "estimated"),
    ("ok", None, None, "provider", "", "unknown"),
)

RUNS = """
    INSERT INTO run (
        number, run_id, dimension, started_us, ended_us, stop_reason, steps, tool_calls, tokens, cost_nusd, unpriced,
        unmeasured_nusd
    )
    SELECT run, ? || printf('%016d', run), min(dimension), min(ts_us), max(ts_us + latency_us), 'finished',
        max(step) + 1, 0, sum(input_tokens + output_tokens), ifnull(sum(cost_nusd), 0), sum(cost_nusd IS NULL), 0
    FROM attempt GROUP BY run"""


def dimensions() -> list[tuple[Any, ...]]:
    """1,152 tuples of tags: twelve features of eight workflows, three models, two environments, four releases, ..."""
    return [
        (f"workflow-{feature % 8}", env, f"feature-{feature}", f"team-{feature % 4}", release, f"v{release % 3}",
         "chat", "anthropic", model, model, path)
        for feature in range(12) for env in ("production", "staging") for model in ("large", "middle", "small")
        for release in range(4) for path in ("sync", "stream", "batch", "background")
    ]  # fmt: skip


def calls(rows: int, now_us: int, chance: random.Random) -> Iterator[tuple[Any, ...]]:
    """Rows in the order of their ids; one operation in thirty is sent twice."""
    tuples = len(dimensions())
    # Few tags have most of the calls.
    weights = [1 / (place + 5) for place in range(tuples)]
    order = list(range(1, tuples + 1))
    chance.shuffle(order)
    chosen = iter(chance.choices(order, weights, k=rows))
    begin_us, step = now_us - DAYS * DAY_US, DAYS * DAY_US / rows
    sent, number = 0, 0
    while sent < rows:
        number += 1
        at_us = int(begin_us + sent * step)
        op_id = first_id(at_us)[:10] + f"{chance.getrandbits(80):020x}"[:16].upper()
        run = number // CALLS_PER_RUN + 1
        caller = run // RUNS_PER_SESSION + 1
        for attempt in range(2 if number % 30 == 0 else 1):
            if sent >= rows:
                return
            sent += 1
            ending = 5 if number % 30 == 0 and attempt == 0 else 7 if number % 211 == 0 else 1 + (number % 40 == 7)
            given, out = int(chance.lognormvariate(7.2, 0.8)), int(chance.lognormvariate(5, 0.7))
            read = given // 2 if number % 3 else 0
            costs = (given - read) * 3_000, out * 15_000, read * 300
            cost = None if ending == 7 else sum(costs)
            yield (
                f"{op_id}/{attempt}", run, number % CALLS_PER_RUN, next(chosen), ending, caller,
                at_us + attempt * 2_000_000, int(chance.lognormvariate(14, 0.6)), None, 0,
                f"msg_01{chance.getrandbits(120):x}"[:30], f"req_011C{chance.getrandbits(100):x}"[:28],
                given, out, read, 0, 0, 0, 0, number % 2, 9, 4, 4_096, 4_096, given + 40, 2 * sum(costs),
                given + 4_096, cost, *costs, 0, 0, 0,
            )  # fmt: skip


def callers(count: int) -> Iterator[tuple[int, str, str]]:
    """Sessions, each of one of the users."""
    chance = random.Random(5)
    users = [f"k1:{chance.getrandbits(128):032x}" for _ in range(USERS)]
    return ((number, users[number * 7_919 % USERS], f"session-{number:x}") for number in range(1, count))


def make(path: Path, rows: int, now_us: int) -> None:
    """Write the ledger, and say how far it is."""
    open_ledger(path).close()
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous=OFF; PRAGMA cache_size=-400000; BEGIN")
    names = "workflow, env, feature, owner, release, prompt_version, operation, provider, request_model, "
    names += "response_model, path"
    connection.executemany(f"INSERT INTO dimension ({names}) VALUES (?,?,?,?,?,?,?,?,?,?,?)", dimensions())
    ending = "status, error_type, retry_reason, usage_source, flags, cost_status"
    connection.executemany(f"INSERT INTO ending ({ending}) VALUES (?, ?, ?, ?, ?, ?)", ENDINGS)
    insert = f"INSERT INTO attempt ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    made = calls(rows, now_us, random.Random(4))
    for start in range(0, rows, BATCH):
        connection.executemany(insert, (row for row, _ in zip(made, range(BATCH), strict=False)))
        connection.execute("COMMIT; BEGIN")
        progress("rows", min(rows, start + BATCH), rows)
    runs = rows // CALLS_PER_RUN + 2
    connection.executemany("INSERT INTO caller VALUES (?, ?, ?)", callers(runs // RUNS_PER_SESSION + 2))
    connection.execute(RUNS, (first_id(now_us)[:10],))
    connection.execute("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def progress(what: str, done: int, of: int) -> None:
    end = "\n" if done >= of else "\r"
    print(f"{what}: {done:,} of {of:,}", end=end, file=sys.stderr, flush=True)


def timed(work: Callable[[], Any], times: int = 5) -> tuple[float, float]:
    """Median and least milliseconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took), min(took)


def asked(path: Path, now_us: int) -> dict[str, Callable[[], Any]]:
    """What is timed, from opening the ledger to the answer; the sums are brought up to date each time."""

    def report(by: str, since_us: int = 0) -> Callable[[], Any]:
        def work() -> Any:
            with Rolled(path, now_us=now_us) as reader:
                return reader.spend_by(by, since_us)

        return work

    def tokens() -> Any:
        with ChartReader(path, now_us=now_us) as reader:
            return reader.tokens_per_feature(0, None)

    def screen() -> Any:
        with OverviewReader(path, now_us=now_us) as reader:
            day = reader.overview(now_us, ZoneInfo("UTC"))
        week_us = (now_us - 7 * DAY_US + HOUR_US // 2) // HOUR_US * HOUR_US
        with Changes(path, now_us=now_us) as changes:
            return day, changes.mix(Slice(week_us - 7 * DAY_US, week_us)), changes.mix(Slice(week_us))

    return {
        "first screen": screen,
        "report by feature": report("feature"),
        "report by day": report("day"),
        "report by model": report("model"),
        "tokens by feature and day": tokens,
        "report by feature, last 7 days to the minute": report("feature", now_us - 7 * DAY_US),
    }


def by_rows(work: Callable[[], Any]) -> Any:
    """The same answer from the rows alone."""
    with patch.object(rolled, "FEW", 1 << 60):
        return work()


def near(one: Any, other: Any) -> bool:
    """Whether two answers are the same; percentiles may be as far apart as is said of them."""
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(near(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, int) and isinstance(other, int) and not isinstance(one, bool):
        return one == other or abs(one - other) <= bins.WORST * abs(other)
    return bool(one == other)


def same(one: Any, other: Any) -> bool:
    """Whether two answers are the same to the last digit, but for percentiles."""
    if isinstance(one, SpendRow):
        exact = {"p50_us", "p95_us", "p50_input", "p95_input"}
        return near(one, other) and all(
            getattr(one, name) == getattr(other, name) for name in SpendRow._fields if name not in exact
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def append(path: Path, at_us: int, count: int) -> None:
    """Add new rows behind all others."""
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN")
    insert = f"INSERT INTO attempt ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    rows = calls(count, at_us + DAYS * DAY_US, random.Random(at_us))
    for row in rows:
        moved = first_id(at_us)[:10] + row[0][10:]
        connection.execute(insert, (moved, *row[1:6], at_us, *row[7:]))
    connection.execute("COMMIT")
    connection.close()


def folding(path: Path, now_us: int, rounds: int = 9) -> tuple[list[float], list[float]]:
    """Milliseconds, of wall and of CPU time, to fold a thousand rows that are new, in a hour that has others."""
    wall, cpu = [], []
    with Rollup(path) as sums:
        sums.fold(now_us)
        for number in range(rounds):
            at_us = now_us + (number + 1) * 1_000_000
            append(path, at_us, 1_000)
            began, spent = time.perf_counter(), time.process_time()
            sums.fold(at_us + 1_000_000 + LAG_US)
            wall.append((time.perf_counter() - began) * 1_000)
            cpu.append((time.process_time() - spent) * 1_000)
    return wall, cpu


AGENT = b'{"model": {"id": "claude-sonnet-4-5"}, "cost": {"total_cost_usd": 1.5}}'
"""What a coding agent tells the status line."""


def commands(path: Path, rounds: int = 9) -> dict[str, dict[str, float]]:
    """Milliseconds of whole processes, from start to end: what a person waits for; `python -c pass` is of it."""
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    ids = [
        reader.execute(f"SELECT response_id FROM attempt ORDER BY call_id {order} LIMIT 1").fetchall()[0][0]
        for order in ("DESC", "ASC")
    ]
    reader.close()
    bursar = [sys.executable, "-c", "from bursar.cli import main; main()"]
    asked = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "bursar": bursar,
        "bursar statusline": [*bursar, "statusline", "--no-import"],
        "bursar limits": [*bursar, "limits"],
        "bursar report --by feature": [*bursar, "report", "--by", "feature"],
        "bursar report --by day": [*bursar, "report", "--by", "day"],
        "bursar explain": [*bursar, "explain"],
        "bursar trace, newest response": [*bursar, "trace", str(ids[0])],
        "bursar trace, oldest response": [*bursar, "trace", str(ids[1])],
        "bursar trace, no such id": [*bursar, "trace", "msg_nobody"],
    }
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in asked}
    environment = os.environ | {"BURSAR_LEDGER": str(path)}
    for _ in range(rounds):
        for name, command in asked.items():
            began = time.perf_counter()
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            assert process.stdin is not None
            process.stdin.write(AGENT)
            process.stdin.close()
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
            took[name][0].append((time.perf_counter() - began) * 1_000)
            took[name][1].append((used.ru_utime + used.ru_stime) * 1_000)
    return {
        name: {"median_ms": statistics.median(wall), "least_ms": min(wall), "p95_ms": sorted(wall)[-1 - rounds // 20],
               "cpu_ms": statistics.median(cpu), "least_cpu_ms": min(cpu)}
        for name, (wall, cpu) in took.items()
    }  # fmt: skip


def columnar(path: Path, folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]] | None:
    """Tokens by feature and day from DuckDB and from Polars, of the same rows; None where they are not installed."""
    try:
        import duckdb
        import polars as pl
    except ImportError:
        return None
    import csv

    text = folder / "rows.csv"
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    with text.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["feature", "ts_us", "input_tokens", "output_tokens"])
        writer.writerows(
            connection.execute(
                "SELECT d.feature, c.ts_us, c.input_tokens, c.output_tokens FROM model_call c "
                "JOIN dimension d ON d.id = c.dimension"
            )
        )
    connection.close()
    duck = duckdb.connect(str(folder / "rows.duckdb"))
    duck.execute(f"CREATE TABLE calls AS SELECT * FROM read_csv('{text}')")
    parquet = folder / "rows.parquet"
    duck.execute(f"COPY calls TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)")

    def by_duck() -> Any:
        return duck.execute(
            "SELECT strftime(make_timestamp(ts_us), '%Y-%m-%d') AS day, feature, "
            "CAST(sum(input_tokens + output_tokens) AS BIGINT) FROM calls GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()

    def by_polars() -> Any:
        day = pl.from_epoch("ts_us", time_unit="us").dt.strftime("%Y-%m-%d").alias("day")
        found = (
            pl.scan_parquet(parquet)
            .group_by(day, "feature")
            .agg((pl.col("input_tokens") + pl.col("output_tokens")).sum())
            .sort("day", "feature")
        )
        return found.collect().rows()

    return by_duck, by_polars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="200,000 rows")
    parser.add_argument("--keep", type=Path, help="a ledger to make, or to use if it is there; kept afterwards")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = 200_000 if given.quick else given.rows
    with tempfile.TemporaryDirectory(prefix="bursar-scale-") as folder:
        path = given.keep or Path(folder) / "ledger.db"
        found = measure(path, rows, Path(folder))
    print(as_json(found) if given.json else show(found))


def measure(path: Path, rows: int, folder: Path) -> dict[str, Any]:
    now_us = time.time_ns() // 1_000
    found: dict[str, Any] = {"facts": facts(), "rows": rows}
    if not path.exists():
        make(path, rows, now_us)
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    ((last_us,),) = reader.execute("SELECT ts_us FROM model_call ORDER BY call_id DESC LIMIT 1").fetchall()
    now_us = int(str(last_us)) + 1
    reader.close()
    found["bytes_a_row"] = path.stat().st_size / rows
    folded = 0
    began, spent = time.perf_counter(), time.process_time()

    def note(added: int) -> None:
        nonlocal folded
        folded += added
        progress("folded", folded, rows)

    with Rollup(path) as sums:
        sums.fold(now_us + LAG_US, note)
    found["first_fold_s"] = (time.perf_counter() - began, time.process_time() - spent)
    found["sums_bytes_a_row"] = beside(path).stat().st_size / rows
    answers: dict[str, Any] = {}
    works = asked(path, now_us)
    for name, work in works.items():
        answers[name] = dict(zip(("median_ms", "least_ms"), timed(work), strict=True))
        if rows <= MOST_SORTED or name in UNSORTED:
            began = time.perf_counter()
            from_rows = by_rows(work)
            answers[name]["from_rows_ms"] = (time.perf_counter() - began) * 1_000
            summed = work()
            if not (same(summed, from_rows) if isinstance(summed, list) else near(summed, from_rows)):
                raise SystemExit(f"{name}: the sums and the rows do not say the same")
        print(f"{name}: {answers[name]}", file=sys.stderr, flush=True)
    found["answers"] = answers
    others = columnar(path, folder)
    if others is not None:
        expected = [(day, feature, tokens) for day, feature, tokens in works["tokens by feature and day"]()]
        for name, work in zip(("DuckDB", "Polars"), others, strict=True):
            if [tuple(row) for row in work()] != expected:
                raise SystemExit(f"{name} does not say the same")
            found[name] = dict(zip(("median_ms", "least_ms"), timed(work), strict=True))
    found["commands"] = commands(path)
    wall, cpu = folding(path, now_us)
    found["fold_1000_ms"] = {"wall": spread(wall), "cpu": spread(cpu)}
    return found


def show(found: dict[str, Any]) -> str:
    lines = [show_facts(found["facts"]), f"{found['rows']:,} rows, {found['bytes_a_row']:.0f} bytes each"]
    wall, cpu = found["first_fold_s"]
    lines.append(f"first fold {wall:.0f} s ({cpu:.0f} s CPU), sums {found['sums_bytes_a_row']:.1f} bytes a row")
    fold = found["fold_1000_ms"]
    lines.append(
        f"1,000 new rows: {fold['wall']['median']:.1f} ms ({fold['wall']['min']:.1f}), CPU {fold['cpu']['median']:.1f}"
    )
    heads = ["", "median ms", "least ms", "from the rows, ms"]
    cells = [
        [
            name,
            f"{each['median_ms']:.0f}",
            f"{each['least_ms']:.0f}",
            f"{each['from_rows_ms']:,.0f}" if "from_rows_ms" in each else "",
        ]
        for name, each in found["answers"].items()
    ]
    cells += [
        [f"{name}: tokens by feature and day", f"{found[name]['median_ms']:.0f}", f"{found[name]['least_ms']:.0f}", ""]
        for name in ("DuckDB", "Polars")
        if name in found
    ]
    whole = [
        [name, *(f"{each[figure]:,.0f}" for figure in ("median_ms", "least_ms", "cpu_ms", "least_cpu_ms"))]
        for name, each in found["commands"].items()
    ]
    processes = table(["whole process", "median ms", "least ms", "CPU ms", "least CPU ms"], whole)
    return "\n".join([*lines, table(heads, cells), processes])


if __name__ == "__main__":
    main()
