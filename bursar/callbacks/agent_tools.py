"""The schemas of an agent's tools, as its model is told of them."""

from __future__ import annotations

import weakref
from typing import Any, Final

from langchain_core.utils.function_calling import convert_to_openai_tool

_MOST_KNOWN: Final = 1_024
# By the tool itself, as long as it is there and says the same of itself.
_known: dict[int, tuple[weakref.ref[Any], tuple[Any, ...], dict[str, Any]]] = {}


def schema_of(tool: Any) -> dict[str, Any]:
    """The schema of a tool; not to be changed: the next call is given the same. Making one takes as long as a call."""
    told = (getattr(tool, "name", None), getattr(tool, "description", None), getattr(tool, "args_schema", None))
    found = _known.get(id(tool))
    if (
        found is not None
        and found[0]() is tool
        and all(one is other for one, other in zip(found[1], told, strict=True))
    ):
        return found[2]
    schema = convert_to_openai_tool(tool)
    if isinstance(told[2], type):
        # A schema that is data, or none at all, may change without being another object.
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[id(tool)] = (weakref.ref(tool), told, schema)
    return schema
