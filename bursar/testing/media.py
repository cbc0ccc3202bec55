"""Media: what pictures, PDFs and sound are billed as, by this provider's own reading of the vendors' rules.

What is sent is decoded as a whole, since a provider has to look at it. A picture that is only named, or that is none,
counts as one of the vendors' larger ones.
"""

import base64
import io
import math
import re
import wave
from typing import Any

from bursar.testing.billing import Vendor

UNSEEN_TOKENS = 1500
_CLAUDE_PAGE = 2347
_GPT_PAGE_TEXT = 461
_GPT_PAGE = (1024, 1448)
_SECOND_TOKENS = 10
_PAGE = re.compile(rb"/Type ?/Page\b")
_OLD_CLAUDE = re.compile(r"claude-(\w+-)?(3|4(-[0-6])?)(-\d{8})?$")
_TILED = re.compile(r"(gpt-4o|gpt-4\.1|gpt-5)(-\d{4}-\d\d-\d\d)?$|o[13]")
_FACTORS = {"gpt-4.1-mini": 1.62, "gpt-4.1-nano": 2.46, "o4-mini": 1.72, "gpt-5-nano": 1.5}
_MOST_FACTOR = 1.2


def tokens(vendor: Vendor, model: str, block: dict[str, Any]) -> int:
    """The input tokens of one block that is no text."""
    data = _sent(block)
    if data.startswith(b"%PDF"):
        pages = len(_PAGE.findall(data))
        if vendor == "anthropic":
            return pages * _CLAUDE_PAGE
        return pages * (_GPT_PAGE_TEXT + _gpt_picture(model, *_GPT_PAGE, "high"))
    if data[8:12] == b"WAVE":
        with wave.open(io.BytesIO(data)) as sound:
            seconds: float = sound.getnframes() / sound.getframerate()
        return math.ceil(seconds * _SECOND_TOKENS)
    size = _size(data)
    if size is None:
        return UNSEEN_TOKENS
    if vendor == "anthropic":
        return _claude_picture(model, *size)
    asked = block.get("detail")
    nested = block.get("image_url")
    if isinstance(nested, dict):
        asked = nested.get("detail")
    return _gpt_picture(model, *size, str(asked or "auto"))


def _sent(block: dict[str, Any]) -> bytes:
    """The bytes sent with a block, none where it only names something."""
    texts = [text for text in _strings(block) if text.startswith("data:") or len(text) > 40]
    for text in texts:
        try:
            return base64.b64decode(text.rpartition(",")[2], validate=True)
        except ValueError:
            continue
    return b""


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


def _size(data: bytes) -> tuple[int, int] | None:
    if data[1:4] == b"PNG":
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data[:3] == b"GIF":
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    frame = re.search(rb"\xff[\xc0-\xc2]..\x08(..)(..)", data, re.DOTALL) if data[:2] == b"\xff\xd8" else None
    if frame:
        return int.from_bytes(frame[2]), int.from_bytes(frame[1])
    return None


def _claude_picture(model: str, width: int, height: int) -> int:
    edge, most = (1568, 1568) if _OLD_CLAUDE.search(model) else (2576, 4784)
    across, down = float(width), float(height)
    while max(across, down) > edge or _pieces(across, down, 28) > most:
        across, down = across * 0.999, down * 0.999
    return _pieces(across, down, 28)


def _gpt_picture(model: str, width: int, height: int, detail: str) -> int:
    if _TILED.match(model):
        base, tile = (75, 150) if model[0] == "o" else (70, 140) if model.startswith("gpt-5") else (85, 170)
        if detail == "low":
            return base
        shrink = min(1.0, 2048 / max(width, height))
        shrink *= min(1.0, 768 / (shrink * min(width, height)))
        return base + tile * _pieces(width * shrink, height * shrink, 512)
    factor = _FACTORS.get(model, _MOST_FACTOR)
    if detail == "low":
        return math.ceil(16 * 16 * factor)
    across, down = float(width), float(height)
    while max(across, down) > 2048 or _pieces(across, down, 32) > 1536:
        across, down = across * 0.999, down * 0.999
    return math.ceil(_pieces(across, down, 32) * factor)


def _pieces(width: float, height: float, side: int) -> int:
    return math.ceil(round(width) / side) * math.ceil(round(height) / side)
