"""A generation: the tokens of one answer, cut at the caller's cap, in the chunks they are produced in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from bursar.testing import tokenizer
from bursar.testing.reply import Reply, ToolUse

Kind = Literal["thinking", "text", "tool"]

# A call costs its name and arguments and the markers round them.
_TOOL_MARKERS = 8


@dataclass(frozen=True, slots=True)
class Section:
    """A contiguous part of an answer. `size` is its output tokens, markers included."""

    kind: Kind
    pieces: tuple[str, ...]
    size: int
    complete: bool
    tool: ToolUse | None = None
    ident: str = ""

    @property
    def text(self) -> str:
        """The prose, or the JSON of a tool's arguments (cut short where the cap cut)."""
        return "".join(self.pieces)

    def call_id(self, prefix: str, choice: int = 0) -> str:
        """The script's id of a tool call, or one with the vendor's prefix, another for each choice."""
        return self.tool.id if self.tool and self.tool.id else f"{prefix}_{self.ident}{choice:02d}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some tokens of one section, as they become ready together."""

    section: int
    text: str
    tokens: int
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model produced; `truncated` when the cap ended it."""

    sections: tuple[Section, ...]
    truncated: bool

    @property
    def size(self) -> int:
        """Output tokens, reasoning included."""
        return sum(section.size for section in self.sections)

    @property
    def thinking_tokens(self) -> int:
        """The reasoning among the output tokens."""
        return sum(section.size for section in self.sections if section.kind == "thinking")

    def of_kind(self, kind: Kind) -> list[tuple[int, Section]]:
        """The sections of one kind with their positions."""
        return [(index, section) for index, section in enumerate(self.sections) if section.kind == kind]

    @property
    def text(self) -> str:
        """All of the prose, without reasoning."""
        return "".join(section.text for _, section in self.of_kind("text"))

    def chunks(self, chunk_tokens: int) -> Iterator[Chunk]:
        """The answer in steps of about `chunk_tokens` tokens; no step spans two sections."""
        for index, section in enumerate(self.sections):
            yield from _chunks(index, section, max(1, chunk_tokens))


def generate(reply: Reply, cap: int, seed: int, ident: str) -> Generation:
    """The answer that `reply` asks for, at most `cap` tokens long; `ident` goes into made-up ids."""
    room, sections, truncated = max(0, cap), [], False
    for section in _natural(reply, seed, ident):
        kept = _cut(section, room)
        truncated = truncated or not kept.complete
        if kept.size == 0 and truncated:
            break
        sections.append(kept)
        room -= kept.size
    return Generation(tuple(sections), truncated)


def _natural(reply: Reply, seed: int, ident: str) -> Iterator[Section]:
    if reply.thinking_tokens > 0:
        pieces = tokenizer.prose(reply.thinking_tokens, seed + 1)
        yield Section("thinking", tuple(pieces), len(pieces), complete=True)
    pieces = tokenizer.prose(reply.output_tokens, seed) if reply.text is None else tokenizer.split(reply.text)
    if pieces:
        yield Section("text", tuple(pieces), len(pieces), complete=True)
    for position, tool in enumerate(reply.tool_calls):
        pieces = tokenizer.split(json.dumps(dict(tool.arguments)))
        size = _TOOL_MARKERS + tokenizer.count(tool.name) + len(pieces)
        yield Section("tool", tuple(pieces), size, complete=True, tool=tool, ident=f"{ident}{position:02d}")


def _cut(section: Section, room: int) -> Section:
    if section.size <= room:
        return section
    head = section.size - len(section.pieces)
    pieces = section.pieces[: max(0, room - head)]
    return replace(section, pieces=pieces, size=room, complete=False)


def _chunks(index: int, section: Section, chunk_tokens: int) -> Iterator[Chunk]:
    head = section.size - len(section.pieces)
    starts = range(0, max(1, len(section.pieces)), chunk_tokens)
    for start in starts:
        pieces = section.pieces[start : start + chunk_tokens]
        first, last = start == 0, start == starts[-1]
        yield Chunk(index, "".join(pieces), len(pieces) + (head if first else 0), first, last)
