"""Text of others made harmless for a terminal."""

from __future__ import annotations

import unicodedata
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what commands a terminal, turns text round, takes no room or breaks lines."""


def safe(text: str | None, longest: int = 60) -> str:
    """Make text from a record harmless: control and format characters are shown as their code, long text is cut."""
    if text is None:
        return ""
    shown = "".join(
        character if unicodedata.category(character) not in _UNSEEN else f"\\u{{{ord(character):x}}}"
        for character in text
    )
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
