"""What a picture, a PDF or a recording measures, read from a few bytes of its base64 text.

Nothing is decoded as a whole, and nothing raises: what cannot be read for what it says it is measures None.
"""

from __future__ import annotations

import binascii
import contextlib
import re
import struct
import zlib
from typing import Final

_LONGEST_SIDE: Final = 65_535
"""Pixels. No vendor takes a longer side, and JPEG and GIF cannot say one."""
_MOST_SEGMENTS: Final = 512
_JPEG_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_SCANNED: Final = 1 << 20
"""Bytes looked at from each end of a PDF."""
_UNPACKED: Final = 1 << 20
"""Bytes of compressed objects that are unpacked to find its page tree."""
_MOST_STREAMS: Final = 64
_MOST_PAGES: Final = 10_000
_PAGE: Final = re.compile(rb"/Type\s{0,8}/Page(?![A-Za-z])")
_COUNT: Final = re.compile(rb"/Count\s{0,8}(\d{1,6})(?!\d)")
_LINEARIZED: Final = re.compile(rb"/Linearized\b.{0,200}?/N\s{1,8}(\d{1,6})(?!\d)", re.DOTALL)
_OBJECTS: Final = re.compile(rb"stream\r?\n")
_DICTIONARY: Final = 400
"""Bytes from a stream's type to where it begins, at most."""
_WAV_FORMATS: Final = frozenset({1, 3, 0xFFFE})
"""Plain samples: integers, floats, and either with more said about them. All others are compressed."""
_FASTEST_HZ: Final = 384_000


class Base64:
    """Random access to the bytes behind a base64 text, which begins at `start`."""

    def __init__(self, text: str, start: int = 0) -> None:
        self._text = text
        self._start = start
        if "\n" in text[start : start + 128]:
            # Text in lines is rare, and only its beginning is then looked at.
            self._text, self._start = "".join(text[start : start + 4 * _SCANNED].split()), 0
        self.size = (len(text) - start) * 3 // 4
        """Bytes, some two too many where the text is padded."""

    def read(self, start: int, length: int) -> bytes:
        """The bytes from `start` on; fewer at the end, none where the text is no base64."""
        if start < 0 or length <= 0:
            return b""
        first = self._start + start // 3 * 4
        piece = self._text[first : first + (length // 3 + 2) * 4]
        try:
            return binascii.a2b_base64(piece[: len(piece) // 4 * 4])[start % 3 :][:length]
        except (binascii.Error, ValueError):
            return b""


def image_size(data: Base64) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG, GIF or WebP, from its header."""
    head = data.read(0, 32)
    size = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        size = struct.unpack(">II", head[16:24])
    elif head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        size = struct.unpack("<HH", head[6:10])
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        size = _webp_size(head)
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg_size(data)
    if size is None or not all(0 < side <= _LONGEST_SIDE for side in size):
        return None
    return size[0], size[1]


def _webp_size(head: bytes) -> tuple[int, ...] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return tuple(side & 0x3FFF for side in struct.unpack("<HH", head[26:30]))
    return None


def _jpeg_size(data: Base64) -> tuple[int, ...] | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        head = data.read(at, 9)
        if len(head) < 9 or head[0] != 0xFF:
            return None
        kind = head[1]
        if kind in _JPEG_SIZES:
            height, width = struct.unpack(">HH", head[5:9])
            return width, height
        # A marker may be led by any number of filling bytes.
        at += 1 if kind == 0xFF else 2 if kind in _JPEG_BARE else 2 + int.from_bytes(head[2:4], "big")
    return None


def is_pdf(data: Base64) -> bool:
    """Whether a file says that it is a PDF; readers take one whose first kilobyte says so."""
    return b"%PDF-" in data.read(0, 1_024)


def pdf_pages(data: Base64) -> int | None:
    """The pages of a PDF as its page tree counts them, or as many as are seen in its first and last megabyte.

    A page tree that is compressed is looked for in the first few streams of objects; no page is read.
    """
    head = data.read(0, _SCANNED)
    told = _LINEARIZED.search(head, 0, 2_048)
    if told:
        return _pages(int(told[1]))
    tail = data.read(max(len(head), data.size - _SCANNED), _SCANNED + 3)
    found = 0
    for part in (head, tail):
        found = max(found, *map(int, _COUNT.findall(part)), 0)
    seen = len(_PAGE.findall(head)) + len(_PAGE.findall(tail))
    return _pages(max(found, seen)) or _pages(_packed_count(head, tail))


def _packed_count(*parts: bytes) -> int:
    found, left = 0, _UNPACKED
    for part in parts:
        at = -1
        for _ in range(_MOST_STREAMS):
            at = part.find(b"/ObjStm", at + 1)
            if at < 0 or left <= 0:
                break
            start = _OBJECTS.search(part, at, at + _DICTIONARY)
            if start is None:
                continue
            with contextlib.suppress(zlib.error):
                objects = zlib.decompressobj().decompress(part[start.end() :], left)
                left -= len(objects)
                found = max(found, len(_PAGE.findall(objects)), *map(int, _COUNT.findall(objects)), 0)
    return found


def _pages(count: int) -> int | None:
    return count if 0 < count <= _MOST_PAGES else None


def wav_seconds(data: Base64) -> float | None:
    """How long a WAV of plain samples plays: by its own format, and by all its bytes whatever it says of them."""
    head = data.read(0, 12)
    if not (head.startswith(b"RIFF") and head[8:12] == b"WAVE"):
        return None
    at = 12
    for _ in range(_MOST_SEGMENTS):
        chunk = data.read(at, 24)
        if len(chunk) < 24:
            return None
        if chunk[:4] == b"fmt ":
            kind, channels, hertz, _, _, bits = struct.unpack("<HHIIHH", chunk[8:24])
            rate: float = channels * hertz * bits / 8
            if kind not in _WAV_FORMATS or not 0 < hertz <= _FASTEST_HZ or rate <= 0:
                return None
            return data.size / rate
        length = int.from_bytes(chunk[4:8], "little")
        at += 8 + length + length % 2
    return None
