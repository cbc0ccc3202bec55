"""The trace log: what may be one, what stands in it, and how it is read back."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

import bursar
from bursar import Budget, BursarWarning, ConfigError
from bursar.runs.process import process
from bursar.tracing.ledger import Ledger
from bursar.tracing.log import TraceLog
from bursar.tracing.log_reader import read_trace
from bursar.tracing.recorder import Recorder
from bursar.words.records import ModelCall, RunRecord, Tags, Verdict, Who

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:run 'w' ended and saw no model call")


class Evil:
    """An object that must not be asked for anything."""

    def __repr__(self) -> str:
        raise AssertionError

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        raise AssertionError


def cycle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def deep() -> dict[str, Any]:
    nest: dict[str, Any] = {}
    for _ in range(100_000):
        nest = {"in": nest}
    return nest


def test_a_log_is_private_and_says_who_wrote_it(tmp_path: Path) -> None:
    """Mode 0600; the first line has the process, the last line ends it, numbers run from zero."""
    log = TraceLog(tmp_path / "runs.jsonl")
    log.append("test", {"n": 1})
    log.close()
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    trace = read_trace(log.path)
    assert [(record["seq"], record["event"]) for record in trace.records] == [
        (0, "bursar.log_opened"), (1, "test"), (2, "bursar.log_closed"),
    ]  # fmt: skip
    assert trace.records[0]["pid"] == os.getpid()
    assert (trace.gaps, trace.torn, trace.unclosed) == ([], [], [])


@pytest.mark.parametrize("kind", ["fifo", "link", "directory", "device", "missing directory", "another user's"])
def test_what_cannot_be_a_log_is_refused_at_the_start(tmp_path: Path, kind: str) -> None:
    """By `configure`, with the path and the reason; nothing hangs, and nothing is written there."""
    path = tmp_path / "runs.jsonl"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = path.__class__("/dev/null")
    elif kind == "missing directory":
        path = tmp_path / "none" / "runs.jsonl"
    elif os.geteuid() == 0:
        path.touch()
        os.chown(path, 12_345, 12_345)
    else:
        pytest.skip("only root can give a file away")
    with pytest.raises(ConfigError, match=path.name):
        bursar.configure(trace=path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("value", ["", " ", "a\0b", 7, "s3://bucket/runs"])
def test_a_setting_that_is_no_path_is_named(value: object) -> None:
    """The error has the name and the value."""
    with pytest.raises(ConfigError, match="trace="):
        bursar.configure(trace=value)


def test_the_environment_turns_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is written when it opens and when it ends, behind the ledger; a bad path stops the first run."""
    path = tmp_path / "runs.jsonl"
    monkeypatch.setenv("BURSAR_TRACE", str(path))
    with bursar.run("w", Budget(usd="1"), user="ada@example.org", session="s"):
        pass
    process().close()
    trace = read_trace(path)
    runs = [record for record in trace.records if record["event"] == "bursar.run"]
    assert [(run["workflow"], run["ended_us"] is None) for run in runs] == [("w", True), ("w", False)]
    assert runs[0]["user_hash"].startswith("k1:")
    assert b"ada@" not in path.read_bytes()
    assert trace.unclosed == []


def test_a_run_of_another_directory_writes_where_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is meant from where it was given."""
    monkeypatch.chdir(tmp_path)
    bursar.configure(trace="runs.jsonl")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with bursar.run("w", Budget(usd="1")):
        pass
    assert (tmp_path / "runs.jsonl").exists()


def test_each_kind_of_record_is_a_flat_event(ledger: Path, tmp_path: Path) -> None:
    """Under the ledger's names, unknown as null; the ledger has it as well."""
    log = TraceLog(tmp_path / "runs.jsonl")
    writer = Ledger(ledger)
    recorder = Recorder(writer, log)
    who = Who(Tags("w", extra=(("team", "red"),)), "u", "s")
    recorder.write(RunRecord("R", None, who, 1, limits=(("usd", 5),)))
    assert recorder.try_write(ModelCall("a/0", "a", 0, 2, who, "openai", "gpt-4o", "sync", run_id="R"))
    recorder.write(Verdict(3, "R", "a", "budget", "deny", "no_room"))
    recorder.close()
    writer.close()
    run, call, verdict = read_trace(log.path).records[1:-1]
    assert (run["event"], run["limits"], run["extra"]) == ("bursar.run", {"usd": 5}, {"team": "red"})
    assert (call["event"], call["request_model"], call["cost_nusd"]) == ("bursar.model_call", "gpt-4o", None)
    assert (call["status"], call["cost_status"], call["session_id"]) == ("ok", "unknown", "s")
    assert (verdict["event"], verdict["action"], verdict["acted"]) == ("bursar.verdict", "deny", True)


@pytest.mark.parametrize(
    "value",
    [
        "\ud800", b"bytes", {1, 2}, dt.datetime(2026, 11, 1, tzinfo=dt.UTC), float("nan"), 2**70, cycle(),
        deep(), "x" * 10**7, Evil(), {"evil": Evil(), "\ud800": 1}, '\n{"boot":"a","seq":1}\n',
    ],
    ids=["surrogate", "bytes", "set", "datetime", "nan", "2**70", "cycle", "deep", "long", "evil", "nested", "newline"],
)  # fmt: skip
def test_any_value_is_one_line(tmp_path: Path, value: object) -> None:
    """What JSON cannot hold is made to fit; nothing is raised, no object is asked, and its neighbours are whole."""
    log = TraceLog(tmp_path / "runs.jsonl")
    log.append("test", {"n": 0, "value": value})
    log.append("test", {"n": 1})
    log.close()
    trace = read_trace(log.path)
    assert [record.get("n") for record in trace.records[1:3]] == [0, 1]
    assert (trace.torn, trace.gaps) == ([], [])


def test_a_reader_passes_over_what_is_no_record(tmp_path: Path) -> None:
    """Blank and torn lines, other people's JSON, a line of 2 MB: each torn one with its offset, the records whole."""
    path = tmp_path / "runs.jsonl"
    log = TraceLog(path)
    with path.open("ab") as file:
        begin = file.tell()
        file.write(b'\n\n\n{"boot":"x","seq":')
    log.append("test", {"n": 0})
    with path.open("ab") as file:
        for line in (b"[]", b'{"boot":"x","seq":true}', b'{"seq":1}', b"z" * 2 * 10**6, b"\xff\0"):
            file.write(b"\n" + line + b"\n")
    log.append("test", {"n": 1})
    log.close()
    trace = read_trace(path)
    assert [record["n"] for record in trace.records if record["event"] == "test"] == [0, 1]
    assert [torn.start[:9] for torn in trace.torn] == [
        b'{"boot":"', b"[]\n", b'{"boot":"', b'{"seq":1}', b"zzzzzzzzz", b"\xff\0\n",
    ]  # fmt: skip
    assert trace.torn[0].offset == begin + 3
    assert trace.gaps == []


def test_a_lost_beginning_and_a_lost_middle_are_proven(tmp_path: Path) -> None:
    """Lines taken out of the file are gaps with their numbers, not confessed by anybody."""
    log = TraceLog(tmp_path / "runs.jsonl")
    for n in range(6):
        log.append("test", {"n": n})
    log.close()
    lines = [line for line in log.path.read_bytes().split(b"\n") if line]
    log.path.write_bytes(b"\n".join(lines[2:4] + lines[5:7]) + b"\n")
    trace = read_trace(log.path)
    assert [gap[1:] for gap in trace.gaps] == [(0, 1, False), (4, 4, False)]
    assert trace.unclosed == [trace.records[0]["boot"]]


def test_writing_is_quick_enough_for_every_call(tmp_path: Path) -> None:
    """Far below a millisecond, on any machine that runs tests."""
    import timeit

    log = TraceLog(tmp_path / "runs.jsonl")
    fields = {f"field_{k}": k for k in range(50)}
    assert min(timeit.repeat(lambda: log.append("test", fields), number=100, repeat=5)) / 100 < 0.001
    log.close()


def test_a_log_that_fails_is_no_reason_to_fail_a_call(tmp_path: Path) -> None:
    """Its directory gone: the records are in the ledger, and one warning says so."""
    place = tmp_path / "logs"
    place.mkdir()
    bursar.configure(trace=place / "runs.jsonl")
    with bursar.run("w", Budget(usd="1")) as first:
        pass
    (place / "runs.jsonl").unlink()
    place.rmdir()
    process().recorder._listener.close()  # type: ignore[union-attr]  # it was configured
    with pytest.warns(BursarWarning, match="cannot be opened"):
        with bursar.run("w", Budget(usd="1")) as second:
            pass
    assert first.id != second.id
    from bursar.tracing.queries import Reader

    with Reader(process().ledger.path) as reader:
        assert len(reader.runs()) == 2


def test_a_line_is_json_for_everybody(tmp_path: Path) -> None:
    """Another program reads it line by line."""
    log = TraceLog(tmp_path / "runs.jsonl")
    log.append("test", {"text": "é\u202e\x1b"})
    log.close()
    lines = [json.loads(line) for line in log.path.read_text(encoding="utf-8").split("\n") if line]
    assert lines[1]["text"] == "é\u202e\x1b"
