"""The trace log under every way to die or to be hindered: nothing acknowledged is lost, what is missing is provable."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bursar import BursarWarning
from bursar.tracing.log import GAP, LONGEST_LINE, TraceLog
from bursar.tracing.log_reader import Trace, read_trace

WRITE = """
import os, sys, time
from pathlib import Path
from bursar.tracing.log import TraceLog
log = TraceLog(Path(sys.argv[1]))
n = 0
def write():
    global n
    log.append("test", {"n": n, "text": "x" * 300})
    n += 1
    os.write(1, b"%d\\n" % n)  # acknowledged
"""
ENDINGS = {
    "normal exit": "for _ in range(500): write()",
    "closed": "for _ in range(500): write()\nlog.close()",
    "exception": "for _ in range(500): write()\nraise RuntimeError",
    "os._exit": "for _ in range(500): write()\nos._exit(3)",
    "SIGTERM": "while True: write()",
    "SIGKILL": "while True: write()",
}


def child(path: Path, code: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITE + code, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options)


def written(trace: Trace) -> list[int]:
    return [record["n"] for record in trace.records if record["event"] == "test"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_acknowledged_is_there(tmp_path: Path, ending: str) -> None:
    """However the process ends, each acknowledged record is in the file, whole, once, and without a gap."""
    path = tmp_path / "runs.jsonl"
    with child(path, ENDINGS[ending]) as process:
        assert process.stdout is not None
        acknowledged = 0
        if ending.startswith("SIG"):
            while acknowledged < 400:
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGTERM if ending == "SIGTERM" else signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        acknowledged = int(rest[-1]) if rest else acknowledged
    trace = read_trace(path)
    found = written(trace)
    assert acknowledged >= 400
    # One more may have been under way when it died.
    assert found[:acknowledged] == list(range(acknowledged))
    assert len(found) <= acknowledged + 1
    assert trace.gaps == []
    assert (trace.unclosed == []) == (ending == "closed")


def test_parent_and_child_of_a_fork_are_told_apart(tmp_path: Path) -> None:
    """Both write on: each with a nonce and numbers of its own, none twice, the child named after its parent."""
    path = tmp_path / "runs.jsonl"
    code = "write()\npid = os.fork()\nfor _ in range(200): write()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)\nlog.close()"
    with child(path, code) as process:
        process.communicate()
    trace = read_trace(path)
    boots = {record["boot"] for record in trace.records}
    opened = [record for record in trace.records if record["event"] == "bursar.log_opened"]
    assert len(boots) == len(opened) == 2
    assert [record["parent"] for record in opened] == [None, opened[0]["boot"]]
    assert len(written(trace)) == 401
    assert (trace.gaps, trace.torn) == ([], [])
    assert trace.unclosed == [opened[1]["boot"]]


def test_a_fork_while_another_thread_writes_leaves_no_lock_behind(tmp_path: Path) -> None:
    """The child writes, whatever its parent's threads held."""
    log, stop = TraceLog(tmp_path / "runs.jsonl"), threading.Event()

    def write() -> None:
        while not stop.is_set():
            log.append("test", {"n": 0})

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        pid = os.fork()
        if not pid:
            signal.alarm(5)
            log.append("child", {})
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    log.close()
    trace = read_trace(log.path)
    assert sum(record["event"] == "child" for record in trace.records) == 10
    assert (trace.gaps, trace.torn) == ([], [])


def test_threads_lose_nothing(tmp_path: Path) -> None:
    """Four threads at once: every record, numbered without a hole, in the order of the numbers."""
    log = TraceLog(tmp_path / "runs.jsonl")

    def write(first: int) -> None:
        for n in range(first, first + 1_000):
            log.append("test", {"n": n})

    threads = [threading.Thread(target=write, args=(1_000 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    trace = read_trace(log.path)
    assert sorted(written(trace)) == list(range(4_000))
    assert [record["seq"] for record in trace.records] == list(range(4_002))
    assert (trace.gaps, trace.torn, trace.unclosed) == ([], [], [])


def test_rotation_by_renaming_is_noticed(tmp_path: Path) -> None:
    """Records go to the renamed file until the writer looks again, then to a new one; together they have no gap."""
    path, old = tmp_path / "runs.jsonl", tmp_path / "runs.jsonl.1"
    log = TraceLog(path)
    log.append("test", {"n": 0})
    path.rename(old)
    log.append("test", {"n": 1})
    log._next_look = 0.0
    log.append("test", {"n": 2})
    log.close()
    assert written(read_trace(old)) == [0, 1]
    assert written(read_trace(path)) == [2]
    both = read_trace(old, path)
    assert (both.gaps, both.unclosed) == ([], [])
    # Without the old file it is a log that goes on, not a loss; with a hole in between it is a loss.
    assert read_trace(path).gaps == []
    lines = old.read_bytes().split(b"\n\n")
    old.write_bytes(b"\n\n".join(lines[:-1]) + b"\n")
    assert [(gap.first_seq, gap.last_seq, gap.confessed) for gap in read_trace(old, path).gaps] == [(2, 2, False)]


def test_a_rotation_is_noticed_within_about_a_second(tmp_path: Path) -> None:
    """By the clock, and without being told; generously, for a machine that stands still for a while."""
    path = tmp_path / "runs.jsonl"
    log = TraceLog(path)
    path.rename(tmp_path / "runs.jsonl.1")
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        log.append("test", {"n": 0})
        time.sleep(0.02)
    log.close()


def test_a_log_whose_place_was_taken_goes_on_in_the_old_file(tmp_path: Path) -> None:
    """A pipe put where the log was is not written to, and nothing is lost."""
    path, old = tmp_path / "runs.jsonl", tmp_path / "runs.jsonl.1"
    log = TraceLog(path)
    path.rename(old)
    os.mkfifo(path)
    log._next_look = 0.0
    log.append("test", {"n": 0})
    log.close()
    assert written(read_trace(old)) == [0]


def test_copytruncate_loses_provably(tmp_path: Path) -> None:
    """What a truncation took is a gap from the first number on, and the file has no hole of zeros."""
    path = tmp_path / "runs.jsonl"
    log = TraceLog(path)
    for n in range(3):
        log.append("test", {"n": n})
    os.truncate(path, 0)
    log.append("test", {"n": 3})
    log.close()
    trace = read_trace(path)
    assert written(trace) == [3]
    assert b"\0" not in path.read_bytes()
    assert [(gap.first_seq, gap.last_seq, gap.n) for gap in trace.gaps] == [(0, 3, 4)]


@pytest.fixture
def small_files() -> Any:
    """No file may grow beyond 4 KiB: as on a full disk, writes come back short and then fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_loses_what_it_confesses(tmp_path: Path, small_files: Any) -> None:
    """Nothing is raised; one warning; on recovery a gap record comes first and names exactly what is missing."""
    log = TraceLog(tmp_path / "runs.jsonl")
    with pytest.warns(BursarWarning, match="cannot be written") as said:
        for n in range(100):
            log.append("test", {"n": n, "text": "x" * 300})
    assert len(said) == 1
    kept = written(read_trace(log.path))
    small_files()
    for n in range(100, 103):
        log.append("test", {"n": n})
    log.close()
    trace = read_trace(log.path)
    assert written(trace) == [*kept, 100, 101, 102]
    assert kept == list(range(len(kept)))
    assert 5 < len(kept) < 15
    (gap,) = trace.gaps
    assert (gap.n, gap.confessed) == (100 - len(kept), True)
    assert len(trace.torn) == 1
    lines = [line for line in log.path.read_bytes().split(b"\n") if line]
    confession = next(k for k, line in enumerate(lines) if GAP.encode() in line)
    assert b'"n":100' in lines[confession + 1]


def test_a_tmpfs_without_room_behaves_alike(tmp_path: Path) -> None:
    """The real thing, where the tests may mount one: ENOSPC, then room, then a confession."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        log = TraceLog(place / "runs.jsonl")
        with pytest.warns(BursarWarning, match="cannot be written"):
            for n in range(100):
                log.append("test", {"n": n, "text": "x" * 300})
        subprocess.run(["mount", "-o", "remount,size=64k", str(place)], check=True, capture_output=True)
        log.append("test", {"n": 100})
        log.close()
        trace = read_trace(log.path)
        assert written(trace)[-1] == 100
        assert [(gap.n, gap.confessed) for gap in trace.gaps] == [(101 - len(written(trace)), True)]
    finally:
        subprocess.run(["umount", str(place)], check=False, capture_output=True)


def test_a_record_of_any_size_is_a_line_that_a_kernel_writes_whole(tmp_path: Path) -> None:
    """Above 64 KiB it is cut and says how long it was; its numbers stay."""
    log = TraceLog(tmp_path / "runs.jsonl")
    log.append("test", {"n": 1, "tags": {f"tag {k}": "x" * 200 for k in range(1_000)}, "text": "y" * 10**6})
    log.close()
    record = read_trace(log.path).records[1]
    assert (record["n"], len(record["text"])) == (1, 200)
    assert record["cut_from_bytes"] > 10**6
    assert max(len(line) for line in log.path.read_bytes().split(b"\n")) < LONGEST_LINE
