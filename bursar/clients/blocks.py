"""Hashes of the blocks of a prompt: what changed between two versions of it is seen, and not a word of it is kept."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_MOST_KNOWN: Final = 1_024
_known: dict[int, str] = {}


def block_hash(marks: Sequence[int], texts: Callable[[], Iterable[str]]) -> str | None:
    """Hash the texts of a block to 48 bits, as hexadecimal digits; None where there are none.

    The hash has no key, so that the ledgers of two branches can be compared. `marks` are hashes of this process: of a
    block that was seen before, the texts are not looked at.
    """
    if not marks:
        return None
    key = hash(tuple(marks))
    found = _known.get(key)
    if found is None:
        digest = blake2b(digest_size=6)
        for text in texts():
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = digest.hexdigest()
    return found
