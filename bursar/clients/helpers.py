"""Other models that a request to Anthropic lets the provider ask within the call: advisors and fallbacks.

After the types of the advisor tool (`advisor_20260301`) and of `fallbacks` in `anthropic.types.beta`. Which models
"default" fallbacks are is known to the provider alone: their price is that of the model that was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.words.events import Helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USES: Final = 3
"""How often an advisor is taken to be asked where the request does not say."""
_MOST: Final = 10**6
_LISTS: Final = (list, tuple)
_LIVES: Final = ("5m", "1h")


def helpers_of(told: Mapping[str, Any], tools: Sequence[Any]) -> tuple[Helper, ...]:
    """All of them. What the provider would refuse is left for it to refuse."""
    found = []
    for tool in tools:
        if (
            isinstance(tool, dict)
            and str(tool.get("type")).startswith("advisor_")
            and isinstance(tool.get("model"), str)
        ):
            caching = tool.get("caching")
            life = caching.get("ttl", _LIVES[0]) if isinstance(caching, dict) else None
            uses = _count(tool.get("max_uses")) or USES
            found.append(Helper(tool["model"], uses, _count(tool.get("max_tokens")), life if life in _LIVES else None))
    fallbacks = told.get("fallbacks")
    for entry in fallbacks if isinstance(fallbacks, _LISTS) else ():
        if isinstance(entry, dict) and isinstance(entry.get("model"), str):
            speed = entry.get("speed", told.get("speed"))
            cap = _count(entry.get("max_tokens"))
            found.append(Helper(entry["model"], 0, cap, speed=speed if isinstance(speed, str) else None))
    return tuple(found)


def _count(value: Any) -> int | None:
    return min(value, _MOST) if value.__class__ is int and value > 0 else None
