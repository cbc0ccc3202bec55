"""The counter of the soak of both SDKs' surface: it passes what balances, and names what does not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import apsw
import openai
import pytest
from openai import _module_client

import bursar
from scripts.soak.counter import Counter
from scripts.soak.diary import Diary
from scripts.soak.doors import Doors, go_through
from scripts.soak.specials import provider

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_lost_or_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nano-dollar, a door that nobody went through, lines that are gone: each is found, and nothing else."""
    monkeypatch.setenv("BURSAR_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.setenv("BURSAR_TRACE", str(tmp_path / "trace.jsonl"))
    for name in ("api_key", "base_url", "max_retries", "http_client", "_client", "_load_client"):
        monkeypatch.setattr(openai, name, getattr(openai, name))
    monkeypatch.setattr(_module_client, "_load_client", openai._load_client)
    bursar.configure()
    through = (Doors.spoken, Doors.bedrock, Doors.written)
    names = [door.__name__ for door in through]
    with provider() as served:
        doors, diary = Doors(served.anthropic_url, random.Random(1)), Diary(tmp_path / "diary.jsonl")
        for door in through:
            for _ in range(3):
                go_through(door, doors, diary, "1")
        served.wait_idle()
        (tmp_path / "events-0.jsonl").write_text('{"event": "bursar.model_call", "call_id": "x"}\n')
        log = tmp_path / "trace.jsonl"
        first, second = log.read_bytes()[:-1], b"\n"
        (tmp_path / "trace-1.jsonl").write_bytes(second)
        assert Counter(tmp_path, served, names).faults == []
        assert "no call through parsed" in str(Counter(tmp_path, served, [*names, "parsed"]).faults)
        lines = first.splitlines()
        log.write_bytes(b"\n".join(lines[: len(lines) // 2]) + b"\n")
        assert "are in no log" in str(Counter(tmp_path, served, names).faults)
        log.write_bytes(b"\n".join([*lines[:4], *lines[8:]]) + b"\n")
        assert "the trace log lacks" in str(Counter(tmp_path, served, names).faults)
        apsw.Connection(str(tmp_path / "ledger.db")).execute("UPDATE attempt SET cost_nusd = cost_nusd + 1")
        assert "billed at" in str(Counter(tmp_path, served, names).faults)
