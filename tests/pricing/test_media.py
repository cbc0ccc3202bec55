"""Sizes read from headers: what is there is read, what is not or lies about itself is None, and nothing raises."""

from __future__ import annotations

import base64
import io
import struct
import time
import wave
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bursar.pricing.media import Base64, image_size, is_pdf, pdf_pages, wav_seconds

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x02\x00\x00\x00"
EXIF = b"\xff\xe1" + struct.pack(">H", 60_002) + b"\xff\xc0" * 30_000
SOF = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 480, 640) + b"\x03" + b"\x00" * 9
JPEG = b"\xff\xd8\xff\xe0\x00\x04\x00\x00" + EXIF + b"\xff\xff" + SOF
GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + b"\x00" * 20
RIFF = b"RIFF\x00\x00\x00\x00WEBP"
VP8X = RIFF + b"VP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
VP8L = RIFF + b"VP8L\x0a\x00\x00\x00\x2f" + (639 | 479 << 14).to_bytes(4, "little") + b"\x00" * 9
VP8 = RIFF + b"VP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 480)
TREE = b"<< /Type /Pages /Count 7 /Kids [] >>"


def sent(data: bytes) -> Base64:
    return Base64(base64.b64encode(data).decode())


def wav(seconds: float, hertz: int = 8_000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((2, 2, hertz, 0, "NONE", ""))
        sound.writeframes(b"\x00" * 4 * int(seconds * hertz))
    return file.getvalue()


@pytest.mark.parametrize("data", [PNG, JPEG, GIF, VP8X, VP8L, VP8], ids=["png", "jpeg", "gif", "vp8x", "vp8l", "vp8"])
def test_the_size_stands_in_the_header(data: bytes) -> None:
    """Every format that the vendors take says its size; cut before it, or zero, there is none."""
    assert image_size(sent(data)) == (640, 480)
    assert image_size(Base64(base64.encodebytes(data).decode())) == (640, 480)
    assert image_size(sent(data[:9])) is None


def test_a_thumbnail_is_not_the_picture() -> None:
    """The sizes of pictures inside of a JPEG's other parts are passed over."""
    assert b"\xff\xc0" in EXIF
    assert image_size(sent(JPEG)) == (640, 480)
    assert image_size(sent(JPEG[:60_000])) is None


def test_a_large_picture_is_not_decoded() -> None:
    """Thirty megabytes are sized in a few milliseconds."""
    text = base64.b64encode(PNG).decode() + "AAAA" * 10_000_000
    begun = time.thread_time()
    assert image_size(Base64(text)) == (640, 480)
    assert time.thread_time() - begun < 0.02


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        (b"%PDF-1.4\n1 0 obj\n" + TREE, 7),
        (b"%PDF-1.4\n" + b"<< /Type /Page /Parent 1 0 R >>\n<</Type/Page>>" + b"x" * 3_000_000 + TREE, 7),
        (b"%PDF-1.4\n" + b"<< /Type /Page /Parent 1 0 R >>\n<</Type/Page>>", 2),
        (b"%PDF-1.5\n1 0 obj\n<< /Linearized 1 /L 900 /H [ 1 2 ] /O 3 /E 4 /N 31 /T 5 >>", 31),
        (b"%PDF-1.5\n<< /Type /ObjStm /N 2 /Filter /FlateDecode >>\nstream\r\n" + zlib.compress(TREE), 7),
        (b"%PDF-1.5\n<< /Type /ObjStm >>\nstream\nno compressed data at all", None),
        (b"%PDF-1.4\n<< /Type /Pages /Count 999999 >>", None),
        (b"%PDF-1.4\n", None),
    ],
    ids=["tree", "tree at the end", "pages", "linearized", "packed", "damaged", "a lie", "empty"],
)
def test_pages_are_counted(data: bytes, pages: int | None) -> None:
    """The page tree, plain or packed, says how many pages there are; else those seen are counted."""
    assert is_pdf(sent(data))
    assert pdf_pages(sent(data)) == pages


def test_a_pdf_is_scanned_within_bounds() -> None:
    """A bomb of packed objects and fifty megabytes of marks take no longer than a small file."""
    bomb = b"/ObjStm stream\n" + zlib.compress(b"\x00" * 50_000_000)
    for data in (bomb * 20, b"/ObjStm" * 7_000_000, b"/Linearized" * 4_000_000):
        file = sent(b"%PDF-1.5\n" + data)
        begun = time.thread_time()
        assert pdf_pages(file) is None
        assert time.thread_time() - begun < 0.5


def test_a_recording_lasts_as_long_as_its_bytes() -> None:
    """A WAV's seconds come from its format and its size, whatever length it claims; compressed ones are unknown."""
    assert wav_seconds(sent(wav(3.0))) == pytest.approx(3.0, abs=0.01)
    lying = bytearray(wav(3.0))
    lying[40:44] = b"\x01\x00\x00\x00"
    assert wav_seconds(sent(bytes(lying))) == pytest.approx(3.0, abs=0.01)
    compressed = bytearray(wav(3.0))
    compressed[20:22] = b"\x55\x00"
    assert wav_seconds(sent(bytes(compressed))) is None


@given(
    st.sampled_from(
        [b"", PNG[:16], JPEG[:6], b"\xff\xd8\xff", GIF[:6], RIFF, b"%PDF-1.5\n", b"RIFF\x00\x00\x00\x00WAVEfmt "]
    ),
    st.binary(max_size=200),
)
@example(b"\xff\xd8", b"\xff\xe1\x00\x00" * 1_000)
def test_nothing_raises(head: bytes, rest: bytes) -> None:
    """Whatever bytes follow a known beginning, and whatever text is no base64."""
    for data in (
        sent(head + rest),
        Base64((head + rest).decode("latin1")),
        Base64("é" + base64.b64encode(head).decode()),
    ):
        assert image_size(data) is None or min(image_size(data) or ()) > 0
        assert (pdf_pages(data) or 1) > 0
        assert (wav_seconds(data) or 0) >= 0
