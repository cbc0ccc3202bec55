"""Pack the o200k token ranks for shipping: `python scripts/pack_ranks.py o200k_base.tiktoken`.

The ranks are published by OpenAI for tiktoken. They are numbered from 0 without a gap, so the tokens alone, in
order, each behind a byte with its length, say everything; LZMA then halves them.
"""

from __future__ import annotations

import base64
import hashlib
import lzma
import sys
from pathlib import Path

PUBLISHED = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""SHA-256 of the published file, as tiktoken itself checks it."""
TARGET = Path(__file__).parents[1] / "bursar" / "pricing" / "o200k.xz"


def main(source: str) -> None:
    """Check the published file and write the packed one."""
    raw = Path(source).read_bytes()
    if hashlib.sha256(raw).hexdigest() != PUBLISHED:
        sys.exit(f"{source} is not the published o200k_base.tiktoken")
    tokens = []
    for rank, line in enumerate(raw.splitlines()):
        token, number = line.split()
        assert int(number) == rank, "ranks are numbered without a gap"
        tokens.append(base64.b64decode(token))
    packed = b"".join(bytes([len(token)]) + token for token in tokens)
    TARGET.write_bytes(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME))
    digest = hashlib.sha256(packed).hexdigest()
    print(f"{len(tokens)} tokens, {TARGET.stat().st_size} bytes, sha256 of the content {digest}")


if __name__ == "__main__":
    main(sys.argv[1])
