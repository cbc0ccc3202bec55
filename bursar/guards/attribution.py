"""The attribution guard: which of the required tags a call lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar.words.records import UNATTRIBUTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.words.records import Who


def missing(who: Who, required: Sequence[str]) -> tuple[str, ...]:
    """The required tags that are not there, in the order they are required."""
    tags = {**dict(who.tags.extra), **who.tags._asdict(), "user": who.user, "session": who.session}
    if tags["workflow"] == UNATTRIBUTED:
        tags["workflow"] = None
    return tuple(name for name in required if tags.get(name) is None)
