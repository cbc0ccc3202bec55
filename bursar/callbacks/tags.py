"""What LangChain and LangGraph know of a call, as tags: agent, node, step, thread, and what users wrote themselves."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from bursar.runs.frames import told
from bursar.words.records import Tags as Places
from bursar.words.records import Who

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bursar.runs.scoped import ScopedFrame

MOST_TAGS: Final = 16
"""Tags of one call that are taken from a user's metadata, in the order in which he wrote them."""
LONGEST: Final = 200
"""Characters of a tag from metadata."""
_GRAPH: Final = {
    "lc_agent_name": "agent",
    "langgraph_node": "node",
    "langgraph_step": "graph_step",
    "lc_source": "purpose",
    "thread_id": "session",
}
"""LangChain's names and ours."""
_THEIRS: Final = ("ls_", "lc_", "langgraph_", "checkpoint", "__", "bursar", "langchain", "revision_id")
_NAMED: Final = frozenset(
    {"workflow", "user", "session", "feature", "owner", "tenant", "promise", "prompt_version", "env", "release"}
)
_PLACES: Final = frozenset(Places._fields) - {"workflow", "extra"}
_PLAIN: Final = frozenset({str, int, bool, float})
_MOST_KNOWN: Final = 1_024
_known: dict[tuple[str, ...], tuple[tuple[str, str, bool], ...]] = {}
"""What of metadata with these keys may be tags: the same keys come with every call of a node."""
Tags = tuple[tuple[str, str], ...]


def tags_of(metadata: Mapping[str, Any] | None) -> Tags:
    """The tags in a call's metadata. What is no text, number or truth value is left out."""
    if not metadata:
        return ()
    keys = tuple(metadata)
    wanted = _known.get(keys)
    if wanted is None:
        wanted = _known[keys] = _wanted(keys)
    if not wanted:
        return ()
    found: dict[str, str] = {}
    for name, ours, theirs in wanted:
        value = metadata[name]
        if value.__class__ in _PLAIN:
            text = str(value).strip()[:LONGEST]
            if text:
                # What the user named himself wins over a thread's id.
                found[ours] = found.get(ours, text) if theirs else text
    return tuple(found.items())


def tagged(frame: ScopedFrame, tags: Tags) -> ScopedFrame:
    """The frame with these tags added: what the run says of itself wins."""
    if not tags:
        return frame
    return told(frame, _who_of(tags))


@lru_cache(maxsize=1_024)
def _who_of(tags: Tags) -> Who:
    known: dict[str, str] = {}
    extra: list[tuple[str, str]] = []
    named: dict[str, str] = {}
    for tag in tags:
        name, value = tag
        if name in _PLACES:
            known[name] = value
        elif name in ("user", "session"):
            named[name] = value
        elif name != "workflow":
            extra.append(tag)
    return Who(Places(extra=tuple(sorted(extra)), **known), named.get("user"), named.get("session"))


def _wanted(keys: tuple[str, ...]) -> tuple[tuple[str, str, bool], ...]:
    """Of each key that may be a tag: our name of it, and whether the key is LangChain's."""
    wanted: list[tuple[str, str, bool]] = []
    extra = 0
    for name in keys:
        ours = _GRAPH.get(name)
        if ours is not None:
            wanted.append((name, ours, True))
        elif not name.startswith(_THEIRS):
            extra += name not in _NAMED
            if extra <= MOST_TAGS or name in _NAMED:
                wanted.append((name, name, False))
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    return tuple(wanted)
