"""Translate what an SDK is about to send into a neutral request, and a cap back into its own words."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.options import CEILING_UNKNOWN, CHAT_CAPS, cap_of, choices, meant, name_of
from bursar.clients.sellers import residence
from bursar.clients.shapes import CONVERSATIONS, conversation
from bursar.clients.transcript import measure
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
_COMPLETION_DEFAULT: Final = 16
"""Tokens that a legacy completion writes where the request names no cap: the vendor's API reference."""
_LEAST_COMPACTED: Final = 2_000
"""Tokens that a compacted conversation may have, however short it was."""


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
    try:
        if api in CONVERSATIONS:
            return conversation(api, body, host, seller, region)
        request = _READERS[api](body, host)
    except Exception:  # noqa: BLE001 - objects of the caller may raise what they like
        request = _unread(api, body)
    return request if seller is None else request._replace(provider=seller, region=region)


def _unread(api: str, body: Any) -> ModelRequest:
    size = _size(body)
    script = Transcript((size,), utf8_bytes=4 * size, unbounded=True)
    return ModelRequest(
        "anthropic" if api in ("messages", "message_batches") else "openai",
        name_of(body.get("model")) if isinstance(body, dict) else "",
        api,
        stream=False,
        transcript=script,
        cap=None,
        cap_default=CEILING_UNKNOWN,
        clampable=False,
        choices=choices(_dict(body).get("n")),
        deferred="batch" if api in ("message_batches", "batches") else None,
    )


def of_compact(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to make a conversation of Responses shorter: nobody can cap what comes; it is no longer than before."""
    asked = conversation("responses", body, host, None, None)
    script = asked.transcript
    if script.unbounded:
        return asked._replace(clampable=False)
    most = max(_LEAST_COMPACTED, sum(script.tokens) + script.fixed_tokens)
    return asked._replace(clampable=False, cap_default=min(asked.cap_default, most))


def of_embeddings(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """A request to OpenAI's Embeddings: all input, no output."""
    return ModelRequest(
        provider="openai",
        model=name_of(body.get("model")),
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
    written = max(choices(body.get("n")), choices(body.get("best_of")))
    return ModelRequest(
        provider="openai",
        model=name_of(body.get("model")),
        api="completions",
        stream=bool(body.get("stream")),
        transcript=_prompts(prompt),
        cap=cap_of(asked),
        cap_default=_COMPLETION_DEFAULT,
        host=host,
        clampable=meant(asked),
        choices=max(1, prompts) * written,
    )


def of_message_batch(body: Mapping[str, Any], host: str | None) -> ModelRequest:
    """An order of Anthropic's Message Batches; what its requests ask for is read by `batches.py`."""
    models = [name_of(_field(_dict(each), "params", "model")) for each in _list(body.get("requests"))]
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


def merged(options: Any) -> Any:
    """An SDK's options with what the caller added to the body in its place; the same where he added nothing."""
    # What the caller adds by extra_body wins over what he named: the SDK merges it as it builds the request.
    body, extra = options.json_data, options.extra_json
    if not isinstance(extra, dict) or not (body is None or isinstance(body, dict)):
        return options
    copy = options.model_copy()
    copy.json_data, copy.extra_json = {**(body or {}), **extra}, None
    return copy


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
    given = [name for name in CHAT_CAPS if body.get(name) is not None]
    return {**body, **dict.fromkeys(given or CHAT_CAPS[:1], cap)}


def without_tool_use(api: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Forbid the use of tools in a copy of the body, and keep them: leaving them out would change the cached prefix."""
    if not _list(body.get("tools")):
        return dict(body)
    return {**body, "tool_choice": {"type": "none"} if api == "messages" else "none"}


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


def _field(body: Mapping[str, Any], outer: str, inner: str) -> Any:
    return _dict(body.get(outer)).get(inner)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


_READERS: Final = {
    "compact": of_compact,
    "embeddings": of_embeddings,
    "completions": of_completions,
    "message_batches": of_message_batch,
    "batches": of_batch,
}
