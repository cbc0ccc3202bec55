"""Contexts that a vendor sums up within a call, which reads all of them once more.

Anthropic, in no total of its usage: after the guides on compaction at a token threshold (`context_management.edits`,
150,000 tokens unless the request says otherwise, 50,000 at least) and on demand (`compaction`). OpenAI, and nobody says
whether its usage counts it: after the guide on compaction (`context_management`, as the answer is written too) and the
input item `compaction_trigger`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.clients.usage import get
from bursar.pricing.estimate import hard_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.words.events import ModelRequest

_BEGINS: Final = "compact_"
_USUAL: Final = 150_000
_LEAST: Final = 50_000


def may_be_summed(body: Mapping[str, Any], request: ModelRequest) -> bool:
    """Whether a summary may be made: asked for, and the context may be long enough for it."""
    if body.get("compaction") is not None:
        return True
    managed = body.get("context_management")
    edits = managed.get("edits") if isinstance(managed, dict) else None
    if not isinstance(edits, list):
        return False
    told = [edit for edit in edits if isinstance(edit, dict) and str(edit.get("type")).startswith(_BEGINS)]
    most = hard_input(request.provider, request.transcript, request.tools_offered)
    return bool(told) and min(map(_begins_at, told)) <= most


def may_be_compacted(body: Mapping[str, Any], request: ModelRequest) -> bool:
    """As `may_be_summed`, of a request to OpenAI's Responses, whose context grows by what is written."""
    said, managed = body.get("input"), body.get("context_management")
    if isinstance(said, list) and said and get(said[-1], "type") == "compaction_trigger":
        return True
    told = [get(entry, "compact_threshold") for entry in managed] if isinstance(managed, list) else []
    if request.transcript.unbounded or not all(begins.__class__ is int for begins in told):
        return bool(told)
    written = request.cap_default if request.cap is None else request.cap
    most = hard_input(request.provider, request.transcript, request.tools_offered) + written
    return bool(told) and min(told) <= most


def _begins_at(edit: Mapping[str, Any]) -> int:
    trigger = edit.get("trigger")
    value = trigger.get("value", _USUAL) if isinstance(trigger, dict) else _USUAL
    return max(_LEAST, value) if value.__class__ is int else _LEAST
