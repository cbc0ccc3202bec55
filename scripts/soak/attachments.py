"""Pictures and papers to send: small files that are what they say."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random


def blocks(kind: str, dice: random.Random) -> list[dict[str, Any]]:
    """One or two attachments in the words of an API."""
    made = [_picture(dice) if dice.random() < 0.6 else _paper(dice) for _ in range(dice.randint(1, 2))]
    return [_block(kind, media_type, data) for media_type, data in made]


def _block(kind: str, media_type: str, data: bytes) -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    url, picture = f"data:{media_type};base64,{text}", media_type.startswith("image")
    if kind == "messages":
        source = {"type": "base64", "media_type": media_type, "data": text}
        return {"type": "image" if picture else "document", "source": source}
    if kind == "responses" and picture:
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    if kind == "responses":
        return {"type": "input_file", "filename": "a.pdf", "file_data": url}
    if picture:
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": url}}


def _picture(dice: random.Random) -> tuple[str, bytes]:
    width, height = dice.randint(1, 2_400), dice.randint(1, 1_600)
    lines = b"".join(b"\x00" + bytes(width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return "image/png", b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _paper(dice: random.Random) -> tuple[str, bytes]:
    pages = dice.randint(1, 6)
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count %d >>" % pages]
    objects += [b"<< /Type /Page /Parent 2 0 R >>"] * pages
    body = b"".join(b"%d 0 obj %s endobj\n" % (number, each) for number, each in enumerate(objects, 1))
    return "application/pdf", b"%PDF-1.4\n" + body + b"trailer << /Root 1 0 R >>\n%%EOF\n"
