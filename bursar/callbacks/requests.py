"""Translate what LangChain says of a call that is about to be sent into a neutral request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.clients.requests import read
from bursar.clients.usage import fields
from bursar.pricing.rates import find_provider

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bursar.words.events import ModelRequest

PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "openai-codex": "openai",
}
"""OpenTelemetry's names for LangChain's `ls_provider`, where they differ."""
COLD_OUTPUT: Final = 1_024
"""Output tokens that are held for a call without a cap before any call like it was seen: a long answer of an agent."""
_CAPS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def request_of(
    messages: Iterable[Any], params: Mapping[str, Any], metadata: Mapping[str, Any], *, open_ended: bool | None = None
) -> tuple[ModelRequest, dict[str, Any]]:
    """A request, and the body that it was read from.

    `params` are LangChain's invocation parameters, `metadata` its `ls_...` ones. `open_ended` says whether nobody can
    put a cap into the request; None: if it has none.
    """
    model = model_of(params, metadata)
    body = {**params, "model": model, "messages": [_message(message) for message in messages]}
    vendor = metadata.get("ls_provider")
    provider = PROVIDERS.get(vendor, vendor) if isinstance(vendor, str) else find_provider(model) or "unknown"
    cap = None
    for name in _CAPS:
        asked = body.pop(name, None)
        cap = asked if cap is None else cap
    cap = metadata.get("ls_max_tokens") if cap is None else cap
    if cap is not None:
        body[_CAPS[0]] = cap
    request = read("messages" if provider == "anthropic" else "chat", body, None)
    if request.provider != provider:
        request = request._replace(provider=provider)
    if open_ended or (open_ended is None and request.cap is None):
        least = COLD_OUTPUT if request.cap is None else request.cap
        request = request._replace(open_ended=True, clampable=False, cap_default=least + request.thinking)
    return request, body


def prompt_request(
    prompt: str, params: Mapping[str, Any], metadata: Mapping[str, Any], *, open_ended: bool | None = None
) -> tuple[ModelRequest, dict[str, Any]]:
    """As `request_of`, for a model that takes one text."""
    request, body = request_of((), params, metadata, open_ended=open_ended)
    script = read("completions", {"prompt": prompt}, None).transcript
    return request._replace(transcript=script), {**body, "messages": [{"role": "user", "content": prompt}]}


def model_of(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """The model's name as it is sent."""
    name = params.get("model") or params.get("model_name") or metadata.get("ls_model_name")
    return name if isinstance(name, str) else "unknown"


def _message(message: Any) -> dict[str, Any]:
    told = fields(message)
    said: dict[str, Any] = {"role": told.get("type"), "content": told.get("content")}
    calls = told.get("tool_calls")
    if calls:
        said["tool_calls"] = calls
    return said
