"""What pictures, PDFs and recordings weigh in tokens, by the vendors' published rules as of November 2026.

Anthropic, "Images and vision" and "Coordinates and bounding boxes": one token for each patch of 28 by 28 pixels, of
the picture scaled down until both sides and the patches are within the model's limits. The older form of the
rule, width * height / 750, is up to 5 % above: it is the bound.
OpenAI, "Images and vision": tiles of 512 pixels for the GPT-4o, GPT-4.1, o1, o3 and GPT-5 models, patches of 32
pixels times a factor for the others. What is published for no model of that name is weighed as a patch model.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from math import ceil, sqrt
from typing import Final, NamedTuple

Size = tuple[int, int]


class Weight(NamedTuple):
    """Tokens that one thing probably is, and that it is at most; `unbounded` where the latter is not certain."""

    likely: int
    most: int
    unbounded: bool = False


TYPICAL: Final = (1_024, 1_024)
"""Pixels assumed of a picture that only the provider sees."""
PAGE_LIKELY: Final = 2_300
PAGE_MOST: Final = 4_600
"""Tokens of a page of a PDF. Anthropic's "PDF support" publishes 1,500 to 3,000 of text, and its picture on top; a
measurement of October 2026 (the data set pdf-token-cost) found 2,100 to 2,480 in all for a page of text or of a
table, and 1,600 for a scan, which is the picture alone."""
PAGE_TEXT: Final = (600, 3_000)
"""Tokens of a page's text beside its picture: OpenAI's "File inputs" says that both are put in, but not how many."""
UNSEEN_PAGES: Final = (5, 20)
"""Pages assumed, probably and at most, of a file that only the provider sees; ours, for vendors take a hundred."""
PAGE_BYTES: Final = 30_000
"""Bytes of a page, where a PDF hides how many it has."""
AUDIO_PER_S: Final = 10
"""Tokens of a second of audio: one for 100 ms, OpenAI's "Managing costs" of the Realtime API."""
AUDIO_BYTES: Final = (4_000, 1_000)
"""Bytes of a second of compressed audio, probably (32 kbit/s) and at least (8 kbit/s)."""
_CLAUDE_PATCH: Final = 28
_CLAUDE_AREA: Final = 750
_CLAUDE_VERSION: Final = re.compile(r"claude-(?:([a-z]+)-)?(\d{1,2})(?:[-.](\d{1,2})(?!\d))?")
_PATCH: Final = 32
_PATCHES_LOW: Final = 256
_TILE: Final = 512
_MOST_TILES: Final = 8
_TILES: Final = (
    ("gpt-4o-mini", 2_833, 5_667),
    ("gpt-4o", 85, 170),
    ("chatgpt-4o", 85, 170),
    ("gpt-4.5", 85, 170),
    ("gpt-4.1", 85, 170),
    ("gpt-4", 85, 170),
    ("gpt-5", 70, 140),
    ("o1", 75, 150),
    ("o3", 75, 150),
    ("computer-use", 65, 129),
)
"""Start of the model's name, tokens of a picture, tokens of each of its tiles."""


class _Patches(NamedTuple):
    """A model's factor, and for `high` and `original` its most patches and longest side; `auto` is one of the two."""

    factor: float
    high: tuple[int, int] = (1_536, 2_048)
    original: tuple[int, int] | None = None
    auto: str = "high"


_HIGH: Final = (2_500, 2_048)
_WHOLE: Final = (30_000, 65_535)
"""The newest models refuse a picture above this many patches and scale none down."""
_PATCHES: Final = (
    ("gpt-4.1-mini", _Patches(1.62)),
    ("gpt-4.1-nano", _Patches(2.46)),
    ("o4-mini", _Patches(1.72)),
    ("gpt-5-mini", _Patches(1.2)),
    ("gpt-5-nano", _Patches(1.5)),
    ("gpt-5-codex", _Patches(1.2)),
    ("gpt-5.4-mini", _Patches(1.2)),
    ("gpt-5.4-nano", _Patches(1.2)),
    ("gpt-5.4", _Patches(1.2, _HIGH, (10_000, 6_000))),
    ("gpt-5.5", _Patches(1.2, _HIGH, (10_000, 6_000), "original")),
    ("gpt-5.6", _Patches(1.2, _HIGH, _WHOLE, "original")),
    ("gpt-5.", _Patches(1.2)),
    ("gpt-6", _Patches(1.2, _HIGH, _WHOLE, "original")),
)
_UNKNOWN: Final = _Patches(1.2, _HIGH)


def claude_version(model: str) -> tuple[str, tuple[int, int]]:
    """The family and the version in a model's name; the newest where it has none."""
    found = _CLAUDE_VERSION.search(model)
    if found is None:
        return "", (99, 0)
    return found[1] or "", (int(found[2]), int(found[3] or 0))


def claude_image(model: str, size: Size | None) -> Weight:
    """A picture for Claude; without a size the largest that the model takes in."""
    edge, budget = (2_576, 4_784) if claude_version(model)[1] >= (4, 7) else (1_568, 1_568)
    if size is None:
        return Weight(_claude_patches(*_claude_scaled(TYPICAL, edge, budget)), budget, unbounded=True)
    width, height = _claude_scaled(size, edge, budget)
    patches = _claude_patches(width, height)
    return Weight(patches, max(patches, ceil(width * height / _CLAUDE_AREA)))


def _claude_scaled(size: Size, edge: int, budget: int) -> Size:
    long, short = max(size), min(size)

    def scaled(side: int) -> Size:
        return side, max(1, round(side * short / long))

    def too_large(side: int) -> bool:
        return ceil(side / _CLAUDE_PATCH) * _CLAUDE_PATCH > edge or _claude_patches(*scaled(side)) > budget

    return scaled(bisect_left(range(1, long + 1), True, key=too_large))  # noqa: FBT003 - the first that is too large


def _claude_patches(width: int, height: int) -> int:
    return ceil(width / _CLAUDE_PATCH) * ceil(height / _CLAUDE_PATCH)


def gpt_image(model: str, size: Size | None, detail: str) -> Weight:
    """A picture for one of OpenAI's models, or for a model behind its API; without a size the largest taken in."""
    name = model.rsplit("/", 1)[-1].removeprefix("ft:")
    patches = next((rule for start, rule in _PATCHES if name.startswith(start)), None)
    if patches is not None:
        return _patched(patches, size, detail)
    for start, base, tile in _TILES:
        if name.startswith(start):
            return _tiled(base, tile, size, detail)
    return _patched(_UNKNOWN, size, detail)._replace(unbounded=True)


def _patched(rule: _Patches, size: Size | None, detail: str) -> Weight:
    if detail == "low":
        tokens = ceil(_PATCHES_LOW * rule.factor)
        return Weight(tokens, tokens)
    asked = rule.auto if detail not in {"high", "original"} else detail
    budget, edge = rule.original if asked == "original" and rule.original else rule.high
    if size is None:
        likely = ceil(min(budget, _count(TYPICAL, _PATCH)) * rule.factor)
        return Weight(likely, ceil(budget * rule.factor), unbounded=True)
    fitted = _fitted(size, budget, edge)
    tokens = ceil(_count(fitted, _PATCH) * rule.factor)
    # How a scaled side is rounded decides about a row of patches: at most all of the budget is used.
    return Weight(tokens, tokens if fitted[0] == size[0] else ceil(budget * rule.factor))


def _fitted(size: Size, budget: int, edge: int) -> tuple[float, float]:
    # As published: to the edge, then to the budget, then until a whole number of patches fits one of the sides.
    by = min(1.0, edge / max(size))
    width, height = size[0] * by, size[1] * by
    if _count((width, height), _PATCH) <= budget:
        return width, height
    by = sqrt(_PATCH * _PATCH * budget / (width * height))
    across, down = width * by / _PATCH, height * by / _PATCH
    by *= min(max(1, int(side)) / side for side in (across, down))
    return max(1, int(width * by)), max(1, int(height * by))


def _tiled(base: int, tile: int, size: Size | None, detail: str) -> Weight:
    if detail == "low":
        return Weight(base, base)
    if size is None:
        return Weight(base + 4 * tile, base + _MOST_TILES * tile, unbounded=True)
    by = min(1.0, 2_048 / max(size))
    width, height = size[0] * by, size[1] * by
    # Whether a small picture is enlarged to 768 is not said: probably not, at most it is.
    by = 768 / min(width, height)
    tiles = [_count((width * scale, height * scale), _TILE) for scale in (min(1.0, by), by)]
    likely, most = (base + min(_MOST_TILES, count) * tile for count in tiles)
    return Weight(likely, most)


def _count(size: tuple[float, float], side: int) -> int:
    # A side that comes to a whole number of pieces by a fraction of floats is that number.
    return ceil(size[0] / side - 1e-9) * ceil(size[1] / side - 1e-9)


def claude_pages(pages: int) -> Weight:
    """Pages of a PDF for Claude."""
    return Weight(pages * PAGE_LIKELY, pages * PAGE_MOST, unbounded=True)


def gpt_pages(model: str, pages: int) -> Weight:
    """Pages of a PDF for OpenAI's models: the text of each and its picture, whose size is not published."""
    picture = gpt_image(model, None, "high")
    return Weight(pages * (PAGE_TEXT[0] + picture.likely), pages * (PAGE_TEXT[1] + picture.most), unbounded=True)


def text_file(size: int) -> Weight:
    """A file of so many bytes that is no PDF: its text is put in, which is more than its bytes where it is packed."""
    return Weight(size // 4 + 1, size + 1, unbounded=True)


def gpt_audio(seconds: float | None, size: int) -> Weight:
    """A recording of so many seconds; where they are not known, of so many bytes."""
    if seconds is not None:
        tokens = ceil(seconds * AUDIO_PER_S)
        return Weight(tokens, tokens + 1)
    likely, most = (AUDIO_PER_S * (size // each + 1) for each in AUDIO_BYTES)
    return Weight(likely, most, unbounded=True)
