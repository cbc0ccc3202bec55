"""What LangChain and LangGraph know of a call, as tags: agent, node, step, thread, and what users wrote themselves."""

from __future__ import annotations

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
    "lc_source": "source",
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
_known: dict[str, str] = {}
"""Our name of a key of metadata, "" for what is no tag: the same keys come with every call."""
Tags = tuple[tuple[str, str], ...]


def tags_of(metadata: Mapping[str, Any] | None) -> Tags:
    """The tags in a call's metadata. What is no text, number or truth value is left out."""
    if not metadata:
        return ()
    found: dict[str, str] = {}
    extra = 0
    for name, value in metadata.items():
        ours = _known.get(name)
        if ours is None:
            ours = _named(name)
        if not ours:
            continue
        if ours == name and name not in _NAMED:
            extra += 1
        if value.__class__ not in _PLAIN or extra > MOST_TAGS:
            continue
        text = str(value).strip()[:LONGEST]
        if text:
            # What the user named himself wins over a thread's id.
            found[ours] = found.get(ours, text) if name in _GRAPH else text
    return tuple(found.items())


def tagged(frame: ScopedFrame, tags: Tags) -> ScopedFrame:
    """The frame with these tags added: what the run says of itself wins."""
    if not tags:
        return frame
    known: dict[str, str] = {}
    extra: list[tuple[str, str]] = []
    user = session = None
    for tag in tags:
        name, value = tag
        if name in _PLACES:
            known[name] = value
        elif name == "user":
            user = value
        elif name == "session":
            session = value
        elif name != "workflow":
            extra.append(tag)
    return told(frame, Who(Places(extra=tuple(sorted(extra)), **known), user, session))


def _named(name: str) -> str:
    ours = _GRAPH.get(name) or ("" if name.startswith(_THEIRS) else name)
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[name] = ours
    return ours
