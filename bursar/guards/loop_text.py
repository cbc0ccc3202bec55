"""A text that repeats itself while it is written: one piece again and again at its end, to the letter.

Found with two searches every few hundred characters: where the last words stood before tells how long the piece is,
and comparing the end with copies of it how often it came. Only whole repetition counts: lists, tables and data differ
somewhere. What has hardly a letter in it (rules, zeros, blanks) has to go on far longer, and so has what stands in a
fence of code.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LONGEST: Final = 1_000
"""Characters of a piece that is looked for."""
LEAST: Final = 4_000
"""Characters that have to be one piece repeated before a text counts as repeating itself: some thousand tokens."""
LEAST_TIMES: Final = 8
DATA_FACTOR: Final = 4
"""How much longer repeated data may be than repeated words."""
_PROBE: Final = 48
_STEP: Final = 512


class Repeated(NamedTuple):
    """How long the piece is that a text repeats at its end, how many times it came, and characters in all."""

    piece: int
    times: int
    characters: int


class TextEcho:
    """Listens to a text as it comes. `heard` is what it repeats, None while it does not."""

    __slots__ = ("_fences", "_length", "_look_at", "_tail", "heard")

    def __init__(self) -> None:
        self._tail = ""
        self._length = self._fences = 0
        self._look_at = LEAST
        self.heard: Repeated | None = None

    def said(self, text: str) -> None:
        """Take in the next piece of the text."""
        self._tail += text
        self._length += len(text)
        if self._length >= self._look_at:
            self._look_at = self._length + _STEP
            self._look()

    def _look(self) -> None:
        most = LEAST * DATA_FACTOR + LONGEST
        if len(self._tail) > 2 * most:
            self._fences += self._tail[:-most].count("```")
            self._tail = self._tail[-most:]
        found = repeated(self._tail)
        if found is None:
            return
        in_code = (self._fences + self._tail.count("```")) % 2 == 1
        piece = self._tail[-found.piece :]
        letters = sum(map(str.isalpha, piece))
        data = in_code or 3 * letters < found.piece
        if found.characters >= LEAST * (DATA_FACTOR if data else 1):
            self.heard = found


def repeated(text: str) -> Repeated | None:
    """What a text repeats at its end, at least `LEAST_TIMES` and `LEAST` characters of it."""
    if len(text) < LEAST:
        return None
    probe = text[-_PROBE:]
    before = text.rfind(probe, -LONGEST - _PROBE, -1)
    if before < 0:
        return None
    piece = len(text) - _PROBE - before
    unit, at, times = text[-piece:], len(text) - piece, 1
    while at >= piece and text.startswith(unit, at - piece):
        at -= piece
        times += 1
    characters = times * piece
    return Repeated(piece, times, characters) if times >= LEAST_TIMES and characters >= LEAST else None
