"""Weigh what a request attaches: pictures, files and recordings, in either vendor's form. Their base64 is no text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.pricing import vision
from bursar.pricing.media import Base64, image_size, is_pdf, pdf_pages, wav_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.pricing.vision import Weight

IMAGES: Final = frozenset({"image", "image_url", "input_image", "computer_screenshot", "image_generation_call"})
FILES: Final = frozenset({"document", "file", "input_file", "container_upload"})
RECORDINGS: Final = frozenset({"input_audio", "audio", "video"})
ATTACHED: Final = IMAGES | FILES | RECORDINGS
_HOLDERS: Final = ("source", "image_url", "file", "input_audio")
_INLINE: Final = ("data", "file_data", "result")
_ANYWHERE: Final = ("url", "image_url", "file_url")
"""Where an attachment itself stands, and where it or its address does."""
_MOST_KEPT: Final = 1_024


class Attached(NamedTuple):
    """One attachment: its weight, and a mark of all of it to know it again by, None where it has no known form."""

    weight: Weight
    mark: int | None


_pages: dict[tuple[int, int], int | None] = {}
"""Pages of the PDFs seen last: an agent sends the same ones with every step."""


def attached(provider: str, model: str, block: Mapping[str, Any]) -> Attached:
    """Weigh one block of the kinds in `ATTACHED`; what it holds may be anything, and nothing raises for it."""
    kind = str(block.get("type"))
    holder = next((block[name] for name in _HOLDERS if isinstance(block.get(name), dict)), block)
    data, text = _data(holder)
    named, detail = (asked if isinstance(asked := holder.get(name), str) else "" for name in ("file_id", "detail"))
    mark = hash((kind, named, detail, text)) if text or named else None
    if kind in FILES:
        return Attached(_file(provider, model, data, text), mark)
    if kind in RECORDINGS:
        return Attached(_recording(kind, data), mark)
    size = None if data is None else image_size(data)
    if provider == "anthropic":
        return Attached(vision.claude_image(model, size), mark)
    return Attached(vision.gpt_image(model, size, detail or "auto"), mark)


def _data(holder: Mapping[str, Any]) -> tuple[Base64 | None, str]:
    # What was sent, where it was sent and not named; and the text that says so.
    for name in (*_INLINE, *_ANYWHERE):
        text = holder.get(name)
        if isinstance(text, str):
            if text.startswith("data:"):
                # The comma of a data URL stands near its beginning or not at all.
                return Base64(text, text.find(",", 0, 256) + 1), text
            return (Base64(text) if name in _INLINE else None), text
    return None, ""


def _file(provider: str, model: str, data: Base64 | None, text: str) -> Weight:
    likely, most = vision.UNSEEN_PAGES
    if data is not None:
        if not is_pdf(data):
            return vision.text_file(data.size)
        likely = most = _pages_of(data, text)
    low, high = (
        vision.claude_pages(pages) if provider == "anthropic" else vision.gpt_pages(model, pages)
        for pages in (likely, most)
    )
    return low._replace(most=high.most)


def _pages_of(data: Base64, text: str) -> int:
    key = (hash(text), len(text))
    if key not in _pages:
        if len(_pages) >= _MOST_KEPT:
            _pages.clear()
        _pages[key] = pdf_pages(data)
    return _pages[key] or 1 + data.size // vision.PAGE_BYTES


def _recording(kind: str, data: Base64 | None) -> Weight:
    if data is None:
        # Heard before: the model's own answer, or a file that only the provider has. A minute, at most ten.
        return vision.Weight(60 * vision.AUDIO_PER_S, 600 * vision.AUDIO_PER_S, unbounded=True)
    weight = vision.gpt_audio(wav_seconds(data), data.size)
    return weight._replace(unbounded=True) if kind == "video" else weight
