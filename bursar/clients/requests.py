"""Translate what an SDK is about to send into a neutral request, and a cap back into its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar._events import ModelRequest, Transcript
from bursar.clients.transcript import measure

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUFFIXES: Final = {"/v1/messages": "messages", "/chat/completions": "chat", "/responses": "responses"}
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
_CEILING_UNKNOWN: Final = 128_000
_REASONING: Final = ("o1", "o3", "o4", "gpt-5", "gpt-6")


def api_of(method: str, url: str) -> str | None:
    """Which metered entry point a request goes to: "messages", "chat", "responses", or None."""
    if method.lower() != "post":
        return None
    path = url.split("?", 1)[0]
    return next((api for suffix, api in _SUFFIXES.items() if path.endswith(suffix)), None)


def read(api: str, body: Any, host: str | None) -> ModelRequest:
    """Translate a body; one that cannot be read is bounded by its size and left for the provider to refuse."""
    try:
        return _READERS[api](body, host)
    except (TypeError, ValueError, AttributeError, RecursionError):
        size = len(repr(type(body))) if not isinstance(body, dict) else len(str(body)[:10_000_000])
        model = _text(body.get("model")) if isinstance(body, dict) else ""
        provider = "anthropic" if api == "messages" else "openai"
        script = Transcript((size,), utf8_bytes=4 * size, unbounded=True)
        return ModelRequest(
            provider,
            model,
            api,
            stream=False,
            transcript=script,
            cap=None,
            cap_default=_CEILING_UNKNOWN,
            clampable=False,
        )


def of_messages(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to Anthropic's Messages."""
    thinking = _field(body, "thinking", "budget_tokens")
    caching = _cache_life(body)
    return ModelRequest(
        provider="anthropic",
        model=_text(body.get("model")),
        api="messages",
        stream=bool(body.get("stream")),
        transcript=measure(_list(body.get("messages")), [body.get("system"), *_list(body.get("tools"))]),
        cap=_cap(body.get("max_tokens")),
        cap_default=64_000,
        host=host,
        thinking=thinking if isinstance(thinking, int) else 0,
        reasoning=body.get("thinking") is not None,
        clampable=body.get("output_format") is None and _field(body, "output_config", "format") is None,
        cache_write=caching,
        service_tier=_word(body.get("service_tier")),
        speed=_word(body.get("speed")),
        searches=_searches(body.get("tools")),
        tools_offered=len(_list(body.get("tools"))),
    )


def of_chat(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Chat Completions."""
    model = _text(body.get("model"))
    choices = body.get("n")
    structured = _field(body, "response_format", "type") in ("json_schema", "json_object")
    cap = body.get("max_completion_tokens")
    return ModelRequest(
        provider="openai",
        model=model,
        api="chat",
        stream=bool(body.get("stream")),
        transcript=measure(_list(body.get("messages")), [*_list(body.get("tools")), body.get("response_format")]),
        cap=_cap(body.get("max_tokens") if cap is None else cap),
        cap_default=_ceiling(model),
        host=host,
        reasoning=_bare(model).startswith(_REASONING),
        clampable=not structured,
        choices=choices if isinstance(choices, int) and not isinstance(choices, bool) and choices > 0 else 1,
        cache_write="30m",
        service_tier=_word(body.get("service_tier")),
        tools_offered=len(_list(body.get("tools"))),
    )


def of_responses(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Responses."""
    model = _text(body.get("model"))
    said = body.get("input")
    stored = body.get("previous_response_id") or body.get("conversation")
    structured = _field(_dict(body.get("text")), "format", "type") in ("json_schema", "json_object")
    return ModelRequest(
        provider="openai",
        model=model,
        api="responses",
        stream=bool(body.get("stream")),
        transcript=measure(
            [said] if isinstance(said, str) else _list(said),
            [body.get("instructions"), *_list(body.get("tools")), body.get("text")],
            first=str(stored) if stored else None,
            unbounded=bool(stored),
        ),
        cap=_cap(body.get("max_output_tokens")),
        cap_default=_ceiling(model),
        host=host,
        reasoning=_bare(model).startswith(_REASONING),
        clampable=not structured,
        cache_write="30m",
        service_tier=_word(body.get("service_tier")),
        searches=_searches(body.get("tools")),
        tools_offered=len(_list(body.get("tools"))),
    )


def with_cap(api: str, body: Mapping[str, Any], cap: int | None) -> dict[str, Any]:
    """Put an output cap into a copy of the body, in the parameter that this caller and API use."""
    if cap is None:
        return dict(body)
    if api == "messages":
        return {**body, "max_tokens": cap}
    if api == "responses":
        return {**body, "max_output_tokens": cap}
    name = "max_tokens" if body.get("max_tokens") is not None else "max_completion_tokens"
    return {**body, name: cap}


def _cap(value: Any) -> int | None:
    # What the provider will refuse anyway (a text, a float, a negative) is left for it to refuse.
    return value if value.__class__ is int and value > 0 else None


def _ceiling(model: str) -> int:
    bare = _bare(model)
    return next((ceiling for prefix, ceiling in _CEILINGS if bare.startswith(prefix)), _CEILING_UNKNOWN)


def _bare(model: str) -> str:
    return model.rsplit("/", 1)[-1].removeprefix("ft:")


def _cache_life(body: Mapping[str, Any]) -> str | None:
    life: str | None = None
    for holder in _breakpoints(body):
        if holder.get("ttl") == "1h":
            return "1h"
        life = "5m"
    return life


def _breakpoints(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    marked = [body, *_list(body.get("tools"))]
    for part in [body.get("system"), *(_dict(message).get("content") for message in _list(body.get("messages")))]:
        marked += _list(part)
    return [found for item in marked if (found := _dict(_dict(item).get("cache_control")))]


def _searches(tools: Any) -> int:
    # A search tool may be used as often as it says, else a few times: the fee is part of the bound.
    allowed = 0
    for tool in _list(tools):
        kind = _dict(tool).get("type")
        if isinstance(kind, str) and kind.startswith("web_search"):
            uses = _dict(tool).get("max_uses")
            allowed += uses if isinstance(uses, int) and not isinstance(uses, bool) and uses > 0 else 5
    return allowed


def _field(body: Mapping[str, Any], outer: str, inner: str) -> Any:
    return _dict(body.get(outer)).get(inner)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)[:200]


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_READERS: Final = {"messages": of_messages, "chat": of_chat, "responses": of_responses}
