"""Prompt caches: Anthropic's, which the caller marks, and OpenAI's, which happens by itself."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bursar.testing import tokenizer
from bursar.testing.billing import InputTokens

Ttl = Literal["5m", "1h"]

MINIMUM_TOKENS = 1024
STEP_TOKENS = 128
_SECONDS: dict[Ttl, float] = {"5m": 300.0, "1h": 3600.0}
_AUTOMATIC_SECONDS = 600.0
_MOST_ENTRIES = 500_000


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the prompt: its text and `overhead` tokens; `ttl` marks the end of a prefix to cache."""

    text: str
    overhead: int = 0
    ttl: Ttl | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the cache had of a prompt, and what it will have once the answer begins."""

    tokens: InputTokens
    entries: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Mark:
    key: int
    tokens: int
    ttl: Ttl | None


class PromptCache:
    """Prefixes of prompts by model, each with a time to live that a read renews."""

    def __init__(self, inflation: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._inflation = inflation
        self._clock = clock
        self._lives: dict[int, tuple[float, float]] = {}

    def measure(self, segments: Sequence[Segment]) -> int:
        """The tokens of a prompt, no cache considered."""
        return self.scaled(sum(segment.overhead + tokenizer.count(segment.text) for segment in segments))

    def read_marked(self, model: str, segments: Sequence[Segment]) -> Reading:
        """The longest prefix stored is read; from there up to each mark is written, for that mark's time."""
        marks = self._marks(model, segments)
        total = marks[-1].tokens if marks else 0
        asked = [index for index, mark in enumerate(marks) if mark.ttl and mark.tokens >= MINIMUM_TOKENS]
        if not asked:
            return Reading(InputTokens(uncached=total))
        hits = [mark for mark in marks[: asked[-1] + 1] if self._alive(mark.key)]
        position = read = hits[-1].tokens if hits else 0
        written: dict[Ttl, int] = {"5m": 0, "1h": 0}
        entries = [(hits[-1].key, self._lives[hits[-1].key][1])] if hits else []
        for mark in (marks[index] for index in asked):
            if mark.ttl is not None and mark.tokens > position:
                written[mark.ttl] += mark.tokens - position
                position = mark.tokens
                entries.append((mark.key, _SECONDS[mark.ttl]))
        tokens = InputTokens(total - position, read, written["5m"], written["1h"])
        return Reading(tokens, tuple(entries))

    def read_automatic(self, model: str, segments: Sequence[Segment]) -> Reading:
        """The longest prefix seen lately is read, in steps of 128 tokens, from 1024 on; writing is free."""
        key, total, known, unbroken, entries = hash(model), 0, 0, True, []
        for segment in segments:
            for digest, tokens in (*tokenizer.blocks(segment.text, STEP_TOKENS), (0, segment.overhead)):
                key = hash((key, digest, tokens))
                total += tokens
                unbroken = unbroken and self._alive(key)
                known = total if unbroken else known
                entries.append((key, _AUTOMATIC_SECONDS))
        read = self.scaled(known) // STEP_TOKENS * STEP_TOKENS
        if read < MINIMUM_TOKENS:
            read = 0
        whole = self.scaled(total)
        return Reading(InputTokens(whole - read, read), tuple(entries) if whole >= MINIMUM_TOKENS else ())

    def keep(self, reading: Reading) -> None:
        """Stores or renews the prefixes of a prompt whose answer has begun."""
        now = self._clock()
        for key, seconds in reading.entries:
            self._lives.pop(key, None)
            self._lives[key] = (now + seconds, seconds)
        while len(self._lives) > _MOST_ENTRIES:
            del self._lives[next(iter(self._lives))]

    def clear(self) -> None:
        """Forgets every prefix."""
        self._lives.clear()

    def _marks(self, model: str, segments: Sequence[Segment]) -> list[_Mark]:
        key, total, marks = hash(model), 0, []
        for segment in segments:
            key = hash((key, segment.text, segment.overhead))
            total += segment.overhead + tokenizer.count(segment.text)
            marks.append(_Mark(key, self.scaled(total), segment.ttl))
        return marks

    def _alive(self, key: int) -> bool:
        life = self._lives.get(key)
        return life is not None and life[0] > self._clock()

    def scaled(self, tokens: int) -> int:
        """`tokens` of input as they are billed: times the inflation, rounded up."""
        # The tiny step back keeps 10 x 1.1, which floats make 11.000000000000002, from becoming 12.
        return math.ceil(tokens * self._inflation - 1e-9)
