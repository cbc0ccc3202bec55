"""Whose a request is: a mark in its text, so that the provider's bill can be told apart without asking bursar."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any, NamedTuple

_FORM = re.compile(r"<mark (\w+) ([\w-]*) (\w*)>")
HARD = "hard"
"""The provider keeps every cap of this one: its limit is `bound="hard"`, and nothing may pass it."""


class Mark(NamedTuple):
    """One loop of an agent, its user and how the provider is to treat it."""

    name: str
    user: str = ""
    kind: str = ""

    @property
    def spared(self) -> bool:
        """Every third one meets no fault, so that some books can be compared to the nano-dollar."""
        return int(self.name[:8], 16) % 3 == 0

    def __str__(self) -> str:
        return f"<mark {self.name} {self.user} {self.kind}>"


def new_mark(user: str = "", kind: str = "") -> Mark:
    """Make a mark that nobody else has."""
    return Mark(uuid.uuid4().hex, user, kind)


def mark_of(body: dict[str, Any]) -> Mark | None:
    """Find the mark in a request."""
    found = _FORM.search(json.dumps(body))
    return None if found is None else Mark(*found.groups())
