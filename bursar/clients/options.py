"""What a request asks for beside what it says: its model, its cap, its tools; without one of its messages."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.helpers import helpers_of
from bursar.clients.sellers import residence
from bursar.clients.transcript import offered
from bursar.clients.usage import word
from bursar.words.events import ModelRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CEILINGS: Final = (
    ("gpt-5", 128_000),
    ("gpt-6", 128_000),
    ("gpt-4.1", 32_768),
    ("gpt-4o", 16_384),
    ("chatgpt-4o", 16_384),
    ("gpt-4-turbo", 4_096),
    ("gpt-4", 8_192),
    ("gpt-3.5", 4_096),
    ("o1", 100_000),
    ("o3", 100_000),
    ("o4", 100_000),
)
"""Output tokens that a family allows where the request names no cap: the vendor's model pages."""
CEILING_UNKNOWN: Final = 128_000
"""Those of any other."""
_REASONING: Final = ("o1", "o3", "o4", "gpt-5", "gpt-6")
_MOST_TOKENS: Final = 10**9
_MOST_CHOICES: Final = 10**6
"""What is asked for above these is refused by every provider; below them the sums stay within 2**53."""
_LISTS: Final = (list, tuple)
CHAT_CAPS: Final = ("max_completion_tokens", "max_tokens")


def of_messages(told: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to Anthropic's Messages."""
    model, tools = name_of(told.get("model")), _list(told.get("tools"))
    thinking, asked = told.get("thinking"), told.get("max_tokens")
    return ModelRequest(
        provider="anthropic",
        model=model,
        api="messages",
        stream=bool(told.get("stream")),
        transcript=offered(tools, told.get("tool_choice"), provider="anthropic", model=model),
        # Zero warms the cache and writes nothing.
        cap=0 if asked.__class__ is int and asked == 0 else cap_of(asked),
        cap_default=64_000,
        host=host,
        thinking=cap_of(_dict(thinking).get("budget_tokens")) or 0,
        reasoning=thinking is not None,
        clampable=told.get("output_format") is None
        and _field(told, "output_config", "format") is None
        and meant(asked),
        cache_write=cache_life((told,), tools),
        service_tier=word(told.get("service_tier")),
        speed=word(told.get("speed")),
        searches=_searches(tools),
        tools_offered=len(tools),
        region=word(told.get("inference_geo")),
        helpers=helpers_of(told, tools),
    )


def of_chat(told: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Chat Completions."""
    model, tools = name_of(told.get("model")), _list(told.get("tools"))
    family = _family(model)
    structured = _dict(told.get("response_format")).get("type") in ("json_schema", "json_object")
    caps = [told[name] for name in CHAT_CAPS if told.get(name) is not None]
    return ModelRequest(
        provider="openai",
        model=model,
        api="chat",
        stream=bool(told.get("stream")),
        transcript=offered([*tools, *_list(told.get("functions"))], model=model),
        cap=cap_of(caps[0]) if caps else None,
        cap_default=family.ceiling,
        host=host,
        reasoning=family.reasons,
        clampable=not structured and all(meant(cap) for cap in caps),
        choices=choices(told.get("n")),
        cache_write="30m",
        service_tier=word(told.get("service_tier")),
        searches=int(told.get("web_search_options") is not None),
        tools_offered=len(tools),
        region=residence(host),
        spoken=told.get("audio") is not None or "audio" in _list(told.get("modalities")),
    )


def of_responses(told: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Responses."""
    model, tools, asked = name_of(told.get("model")), _list(told.get("tools")), told.get("max_output_tokens")
    family = _family(model)
    structured = _field(_dict(told.get("text")), "format", "type") in ("json_schema", "json_object")
    return ModelRequest(
        provider="openai",
        model=model,
        api="responses",
        stream=bool(told.get("stream")),
        transcript=offered(tools, model=model),
        cap=cap_of(asked),
        cap_default=family.ceiling,
        host=host,
        reasoning=family.reasons,
        clampable=not structured and meant(asked),
        cache_write="30m",
        service_tier=word(told.get("service_tier")),
        searches=_searches(tools, told.get("max_tool_calls")),
        tools_offered=len(tools),
        region=residence(host),
        deferred="background" if told.get("background") is True else None,
    )


def cap_of(value: Any) -> int | None:
    """A cap as it was asked for; what the provider will refuse anyway is left for it to refuse."""
    return min(value, _MOST_TOKENS) if value.__class__ is int and value > 0 else None


def meant(cap: Any) -> bool:
    """Whether a cap may be lowered: nothing that a provider would refuse is made acceptable by that."""
    return cap is None or (cap.__class__ is int and cap > 0)


def choices(value: Any) -> int:
    """How many answers are asked for."""
    return min(value, _MOST_CHOICES) if value.__class__ is int and value > 0 else 1


class _Family(NamedTuple):
    """What the name of a model of OpenAI's says of it."""

    ceiling: int
    reasons: bool


@lru_cache(maxsize=256)
def _family(model: str) -> _Family:
    bare = model.rsplit("/", 1)[-1].removeprefix("ft:")
    ceiling = next((ceiling for prefix, ceiling in _CEILINGS if bare.startswith(prefix)), CEILING_UNKNOWN)
    return _Family(ceiling, bare.startswith(_REASONING))


def cache_life(*parts: Any) -> str | None:
    """The longest lifetime of cache write that these lists of blocks ask for; None where they ask for none."""
    life: str | None = None
    for part in parts:
        if not isinstance(part, _LISTS):
            continue
        for item in part:
            marked = item.get("cache_control") if isinstance(item, dict) else None
            if marked and isinstance(marked, dict):
                if marked.get("ttl") == "1h":
                    return "1h"
                life = "5m"
    return life


def _searches(tools: Any, most: Any = None) -> int:
    # A search tool may be used as often as it says, or the request of all its tools, else a few times: the fee is part
    # of the bound.
    allowed = 0
    for tool in _list(tools):
        kind = _dict(tool).get("type")
        if isinstance(kind, str) and kind.startswith("web_search"):
            uses = _dict(tool).get("max_uses")
            allowed += uses if isinstance(uses, int) and not isinstance(uses, bool) and uses > 0 else 5
    return min(most, _MOST_CHOICES) if allowed and most.__class__ is int and most >= 0 else allowed


def _field(body: Mapping[str, Any], outer: str, inner: str) -> Any:
    return _dict(body.get(outer)).get(inner)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, _LISTS) else ()


def name_of(value: Any) -> str:
    """The name of a model: of a member of an enumeration its text, of any other object nothing but its type."""
    return str.__str__(value) if isinstance(value, str) else type(value).__name__
