"""Recorded runs as the loop detectors see them: steps with their calls, hashes and tokens, and the hand labels."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bursar.clients.steps import Refused, Round, StepReader, UserSpoke
from bursar.guards.calls import ToolFact, fact
from bursar.guards.results import EMPTY, digest, text_of

MODERN = ("tau-bench", "tau2-bench", "terminal-bench-mini")
SWE = ("multi-swe-bench-java",)


@dataclass(frozen=True)
class Call:
    """One completed call; `raw` is the hash of its result byte for byte, `made_us` what making its fact took."""

    fact: ToolFact
    raw: str
    made_us: float | None = None

    @property
    def tool(self) -> str:
        return self.fact.tool

    @property
    def key(self) -> str:
        return self.fact.call


@dataclass(frozen=True)
class Step:
    """One model step, or a message of the user (`user`); `text` is a hash, `first` the number of its first call."""

    user: bool = False
    tokens: int = 0
    text: str = ""
    calls: tuple[Call, ...] = ()
    first: int = 0


@dataclass
class LoopRun:
    """One recorded run. `onset` is its first call of a mechanical loop: six stale calls in a row."""

    id: str
    source: str
    success: bool | None
    steps: list[Step]
    onset: int | None = None
    total: int = 0
    after: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.onset = mechanical_onset(self.steps)
        left = self.total = sum(step.tokens for step in self.steps)
        for step in self.steps:
            left -= step.tokens
            for n in range(len(step.calls)):
                self.after[step.first + n] = left

    @property
    def group(self) -> str:
        return "modern" if self.source in MODERN else "SWE" if self.source in SWE else "2023 and others"


def mechanical_onset(steps: list[Step]) -> int | None:
    """Where six calls in a row bring a (call, result) that the run has seen before; a user's message breaks it."""
    seen: set[tuple[str, str]] = set()
    streak = onset = 0
    for step in steps:
        if step.user:
            streak = 0
        for n, call in enumerate(step.calls):
            pair = (call.key, call.fact.result)
            if pair in seen:
                streak += 1
                onset = step.first + n if streak == 1 else onset
                if streak == 6:
                    return onset
            else:
                streak = 0
            seen.add(pair)
    return None


def load(folder: Path) -> Iterator[LoopRun]:
    """Every run of a folder."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                run = json.loads(line)
                steps = _skeleton(run["steps"]) if "steps" in run else _messages(run["messages"])
                yield LoopRun(run["id"], run["source"], run["success"], steps)


def labels(folder: Path) -> dict[str, str]:
    """What a person said of some runs: loop, partial or no_loop."""
    lines = (folder / "labels.jsonl").read_text().splitlines()
    return {label["id"]: label["label"] for label in map(json.loads, lines)}


def _skeleton(steps: list[Any]) -> list[Step]:
    found, number = [], 0
    for step in steps:
        if step == ["u"]:
            found.append(Step(user=True))
            continue
        calls = tuple(
            Call(ToolFact(tool, key, normal, masked, error=bool(error), empty=normal == EMPTY), raw)
            for tool, key, raw, normal, masked, error, _ in step[4]
            if normal is not None
        )
        found.append(Step(tokens=step[1] + step[2], text=step[3] or "", calls=calls, first=number))
        number += len(calls)
    return found


def _messages(messages: list[Any]) -> list[Step]:
    # Tokens as in the skeletons: the provider's usage where recorded, else characters / 4 of all that came before.
    reader, found, number, before = StepReader(), list[Step](), 0, 0
    spoken: dict[int, tuple[int, str]] = {}
    happened = []
    for at, message in enumerate(messages):
        said = len(text_of(message.get("content"))) + len(json.dumps(message.get("tool_calls") or ""))
        usage = message.get("usage") or {}
        tokens = (usage.get("prompt_tokens") or 0) + (usage.get("completion_tokens") or 0) or (before + said) // 4
        spoken[at] = (tokens, digest(text_of(message.get("content")).encode()))
        before += said
        happened += list(reader.feed(message, at))
    for event in [*happened, *reader.finish()]:
        if isinstance(event, UserSpoke):
            found.append(Step(user=True))
            continue
        if isinstance(event, Refused):
            # Nobody refused anything in a recorded run.
            continue
        tokens, text = spoken[event.mark]
        calls = []
        for done in event.calls if isinstance(event, Round) else ():
            began = time.perf_counter()
            one = fact(done.tool, done.arguments, done.content, call_id=done.call_id, is_error=done.is_error)
            made_us = (time.perf_counter() - began) * 1e6
            calls.append(Call(one, digest(text_of(done.content).encode()), made_us))
        found.append(Step(tokens=tokens, text=text, calls=tuple(calls), first=number))
        number += len(calls)
    return found
