"""Translate what an SDK is about to send into a neutral request, and a cap back into its own words."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.sellers import residence
from bursar.clients.summed import may_be_summed
from bursar.clients.transcript import measure
from bursar.clients.usage import word
from bursar.words.events import ModelRequest, Transcript

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUFFIXES: Final = {
    "/v1/messages": "messages",
    "/v1/messages/batches": "message_batches",
    "/batches": "batches",
    "/chat/completions": "chat",
    "/responses": "responses",
    "/responses/compact": "compact",
    "/embeddings": "embeddings",
    "/completions": "completions",
}
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
_COMPLETION_DEFAULT: Final = 16
"""Tokens that a legacy completion writes where the request names no cap: the vendor's API reference."""
_LEAST_COMPACTED: Final = 2_000
"""Tokens that a compacted conversation may have, however short it was."""
_REASONING: Final = ("o1", "o3", "o4", "gpt-5", "gpt-6")
_MOST_TOKENS: Final = 10**9
_MOST_CHOICES: Final = 10**6
"""What is asked for above these is refused by every provider; below them the sums stay within 2**53."""
_CHAT_CAPS: Final = ("max_completion_tokens", "max_tokens")


@lru_cache(maxsize=256)
def api_of(method: str, url: str) -> str | None:
    """Which metered entry point a request goes to, by the end of its path; None for every other one."""
    if method.lower() != "post":
        return None
    path = url.split("?", 1)[0].rstrip("/")
    return next((api for suffix, api in _SUFFIXES.items() if path.endswith(suffix)), None)


def read(api: str, body: Any, host: str | None, seller: str | None = None, region: str | None = None) -> ModelRequest:
    """Translate a body; one that cannot be read is bounded by its size and left for the provider to refuse.

    `seller` is who bills for it where that is not the vendor of the API: a cloud, in OpenTelemetry's words; `region` is
    where it does.
    """
    request = _read(api, body, host)
    if seller is None:
        return request
    return request._replace(provider=seller, region=region)


def _read(api: str, body: Any, host: str | None) -> ModelRequest:
    try:
        return _READERS[api](body, host)
    except Exception:  # noqa: BLE001 - objects of the caller may raise what they like
        size = _size(body)
        model = _text(body.get("model")) if isinstance(body, dict) else ""
        provider = "anthropic" if api in ("messages", "message_batches") else "openai"
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
            choices=_choices(_dict(body).get("n")),
            deferred="batch" if api in ("message_batches", "batches") else None,
        )


def of_messages(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to Anthropic's Messages."""
    model, tools, said = _text(body.get("model")), _list(body.get("tools")), _list(body.get("messages"))
    thinking, asked, system = body.get("thinking"), body.get("max_tokens"), body.get("system")
    request = ModelRequest(
        provider="anthropic",
        model=model,
        api="messages",
        stream=bool(body.get("stream")),
        transcript=measure(
            said, [system], tools=tools, tool_choice=body.get("tool_choice"), provider="anthropic", model=model
        ),
        # Zero warms the cache and writes nothing.
        cap=0 if asked.__class__ is int and asked == 0 else _cap(asked),
        cap_default=64_000,
        host=host,
        thinking=_cap(_dict(thinking).get("budget_tokens")) or 0,
        reasoning=thinking is not None,
        clampable=body.get("output_format") is None
        and _field(body, "output_config", "format") is None
        and _meant(asked),
        cache_write=cache_life((body,), tools, system, *[_dict(message).get("content") for message in said]),
        service_tier=word(body.get("service_tier")),
        speed=word(body.get("speed")),
        searches=_searches(tools) if tools else 0,
        tools_offered=len(tools),
        region=word(body.get("inference_geo")),
    )
    return request._replace(summed=True) if may_be_summed(body, request) else request


def of_chat(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Chat Completions."""
    model, tools = _text(body.get("model")), _list(body.get("tools"))
    family, form = _family(model), body.get("response_format")
    structured = _dict(form).get("type") in ("json_schema", "json_object")
    caps = [body[name] for name in _CHAT_CAPS if body.get(name) is not None]
    script = measure(_list(body.get("messages")), [form], tools=[*tools, *_list(body.get("functions"))], model=model)
    spoken = body.get("audio") is not None or "audio" in _list(body.get("modalities"))
    return ModelRequest(
        provider="openai",
        model=model,
        api="chat",
        stream=bool(body.get("stream")),
        transcript=script,
        cap=_cap(caps[0]) if caps else None,
        cap_default=family.ceiling,
        host=host,
        reasoning=family.reasons,
        clampable=not structured and all(_meant(cap) for cap in caps),
        choices=_choices(body.get("n")),
        cache_write="30m",
        service_tier=word(body.get("service_tier")),
        searches=int(body.get("web_search_options") is not None),
        tools_offered=len(tools),
        region=residence(host),
        heard=bool(script.media) and _has_sound(body.get("messages")),
        spoken=spoken,
    )


def of_responses(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Responses."""
    model, tools, said = _text(body.get("model")), _list(body.get("tools")), body.get("input")
    family = _family(model)
    stored = body.get("previous_response_id") or body.get("conversation")
    structured = _field(_dict(body.get("text")), "format", "type") in ("json_schema", "json_object")
    return ModelRequest(
        provider="openai",
        model=model,
        api="responses",
        stream=bool(body.get("stream")),
        transcript=measure(
            [said] if isinstance(said, str) else _list(said),
            [body.get("instructions"), body.get("text"), body.get("prompt")],
            tools=tools,
            first=str(stored) if stored else None,
            unbounded=bool(stored or body.get("prompt")),
            model=model,
        ),
        cap=_cap(body.get("max_output_tokens")),
        cap_default=family.ceiling,
        host=host,
        reasoning=family.reasons,
        clampable=not structured and _meant(body.get("max_output_tokens")),
        cache_write="30m",
        service_tier=word(body.get("service_tier")),
        searches=_searches(tools),
        tools_offered=len(tools),
        region=residence(host),
        deferred="background" if body.get("background") is True else None,
    )


def of_compact(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to make a conversation of Responses shorter: nobody can cap what comes; it is no longer than before."""
    asked = of_responses(body, host)
    script = asked.transcript
    if script.unbounded:
        return asked._replace(clampable=False)
    most = max(_LEAST_COMPACTED, sum(script.tokens) + script.fixed_tokens)
    return asked._replace(clampable=False, cap_default=min(asked.cap_default, most))


def of_embeddings(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Embeddings: all input, no output."""
    return ModelRequest(
        provider="openai",
        model=_text(body.get("model")),
        api="embeddings",
        stream=False,
        transcript=_prompts(body.get("input")),
        cap=0,
        cap_default=0,
        host=host,
        clampable=False,
    )


def of_completions(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's legacy Completions: each prompt is answered `n` times, `best_of` of them written."""
    prompt, asked = body.get("prompt"), body.get("max_tokens")
    prompts = len(prompt) if isinstance(prompt, list) and not _numbers(prompt) else 1
    written = max(_choices(body.get("n")), _choices(body.get("best_of")))
    return ModelRequest(
        provider="openai",
        model=_text(body.get("model")),
        api="completions",
        stream=bool(body.get("stream")),
        transcript=_prompts(prompt),
        cap=_cap(asked),
        cap_default=_COMPLETION_DEFAULT,
        host=host,
        clampable=_meant(asked),
        choices=max(1, prompts) * written,
    )


def of_message_batch(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """An order of Anthropic's Message Batches; what its requests ask for is read by `batches.py`."""
    models = [_text(_field(_dict(each), "params", "model")) for each in _list(body.get("requests"))]
    return _batch("anthropic", "message_batches", models[0] if len(set(models)) == 1 else "", host)


def of_batch(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """An order of OpenAI's Batch API, whose requests lie in a file."""
    del body
    return _batch("openai", "batches", "", host)


def _batch(provider: str, api: str, model: str, host: str | None) -> ModelRequest:
    return ModelRequest(
        provider=provider,
        model=model,
        api=api,
        stream=False,
        transcript=Transcript(),
        cap=0,
        cap_default=0,
        host=host,
        clampable=False,
        service_tier="batch",
        region=residence(host) if provider == "openai" else None,
        deferred="batch",
    )


def with_cap(api: str, body: Mapping[str, Any], cap: int | None) -> dict[str, Any]:
    """Put an output cap into a copy of the body, in the parameter that this caller and API use."""
    if cap is None:
        return dict(body)
    if api == "messages":
        return {**body, "max_tokens": cap}
    if api == "responses":
        return {**body, "max_output_tokens": cap}
    if api == "completions":
        return {**body, "max_tokens": cap}
    given = [name for name in _CHAT_CAPS if body.get(name) is not None]
    return {**body, **dict.fromkeys(given or _CHAT_CAPS[:1], cap)}


def without_tool_use(api: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Forbid the use of tools in a copy of the body, and keep them: leaving them out would change the cached prefix."""
    if not _list(body.get("tools")):
        return dict(body)
    return {**body, "tool_choice": {"type": "none"} if api == "messages" else "none"}


def _cap(value: Any) -> int | None:
    # What the provider will refuse anyway (a text, a float, a negative) is left for it to refuse.
    return min(value, _MOST_TOKENS) if value.__class__ is int and value > 0 else None


def _meant(cap: Any) -> bool:
    # Nothing that a provider would refuse is made acceptable by lowering it.
    return cap is None or (cap.__class__ is int and cap > 0)


def _choices(value: Any) -> int:
    return min(value, _MOST_CHOICES) if value.__class__ is int and value > 0 else 1


def _prompts(value: Any) -> Transcript:
    # Texts are measured; lists of token numbers say their size themselves, and no text is bounded by it.
    if _numbers(value):
        value = [value]
    items = [value] if isinstance(value, str) else _list(value)
    counted = [len(item) for item in items if _numbers(item)]
    script = measure([item for item in items if not _numbers(item)], [])
    return script._replace(fixed_tokens=sum(counted), utf8_bytes=script.utf8_bytes + sum(counted))


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(item.__class__ is int for item in value)


def _size(body: Any) -> int:
    try:
        return len(json.dumps(body, default=lambda value: type(value).__name__, skipkeys=True))
    except Exception:  # noqa: BLE001 - what cannot be written as JSON cannot be sent either
        return 1_000


class _Family(NamedTuple):
    """What the name of a model of OpenAI's says of it."""

    ceiling: int
    reasons: bool


@lru_cache(maxsize=256)
def _family(model: str) -> _Family:
    bare = model.rsplit("/", 1)[-1].removeprefix("ft:")
    ceiling = next((ceiling for prefix, ceiling in _CEILINGS if bare.startswith(prefix)), _CEILING_UNKNOWN)
    return _Family(ceiling, bare.startswith(_REASONING))


def cache_life(*parts: Any) -> str | None:
    """The longest lifetime of cache write that these lists of blocks ask for; None where they ask for none."""
    life: str | None = None
    for part in parts:
        if not isinstance(part, list | tuple):
            continue
        for item in part:
            marked = item.get("cache_control") if isinstance(item, dict) else None
            if marked and isinstance(marked, dict):
                if marked.get("ttl") == "1h":
                    return "1h"
                life = "5m"
    return life


def _searches(tools: Any) -> int:
    # A search tool may be used as often as it says, else a few times: the fee is part of the bound.
    allowed = 0
    for tool in _list(tools):
        kind = _dict(tool).get("type")
        if isinstance(kind, str) and kind.startswith("web_search"):
            uses = _dict(tool).get("max_uses")
            allowed += uses if isinstance(uses, int) and not isinstance(uses, bool) and uses > 0 else 5
    return allowed


def _has_sound(messages: Any) -> bool:
    parts = [part for message in _list(messages) for part in _list(_dict(message).get("content"))]
    # Of its own earlier answers that were spoken the model hears the sound again.
    return any(_dict(part).get("type") == "input_audio" for part in parts) or any(
        _dict(message).get("audio") is not None for message in _list(messages)
    )


def _field(body: Mapping[str, Any], outer: str, inner: str) -> Any:
    return _dict(body.get(outer)).get(inner)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: Any) -> str:
    # Of a member of an enumeration its text; of an object of the caller nothing that it would have to be asked for.
    return str.__str__(value) if isinstance(value, str) else type(value).__name__


_READERS: Final = {
    "messages": of_messages,
    "chat": of_chat,
    "responses": of_responses,
    "compact": of_compact,
    "embeddings": of_embeddings,
    "completions": of_completions,
    "message_batches": of_message_batch,
    "batches": of_batch,
}
