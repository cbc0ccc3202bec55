"""What a feature says of bursar as it is used: each line of a file is a claim, and whether it held.

A claim that did not hold is a fault; so is, after a while, a claim that nobody has come to make.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from scripts.soak.place import here

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "claims.jsonl"
_WANTED: Final = (
    "what is watched is not refused", "a decorated function has a run for each call", "a lost thread is flagged",
    "a workflow has its settings", "a tenant ends where its hour does", "a soft limit refuses nothing",
    "no call begins after its deadline", "a last call is served from what was set aside", "elsewhere it ends well",
    "a killed run goes on with what it has spent",
)  # fmt: skip


def claim(name: str, holds: bool, detail: object = "") -> None:  # noqa: FBT001 - reads as a sentence
    """Write down that something was looked at, and whether it is so."""
    line = json.dumps([name, bool(holds), str(detail)[:300]]).encode() + b"\n"
    handle = os.open(here() / _NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


class Claims:
    """All that were made in one place."""

    def __init__(self, place: Path) -> None:
        path = place / _NAME
        self.made = [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    def faults(self) -> list[str]:
        """Those that did not hold, and those that nobody has made."""
        names = {name for name, _, _ in self.made}
        wrong = [f"{name}: {detail or 'is not so'}" for name, holds, detail in self.made if not holds]
        return [*wrong, *(f"{name}: nobody came to look" for name in _WANTED if self.made and name not in names)]

    def figures(self) -> dict[str, Any]:
        """How often each was made."""
        return dict(sorted(Counter(name for name, _, _ in self.made).items()))
