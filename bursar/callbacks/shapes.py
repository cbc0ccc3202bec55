"""What the requests of a model have in common from call to call: read once, and found by what LangChain says of them.

All but the messages: the model, its cap, its tools. LangChain names it anew for each call, so it is known by its
content; what cannot be written as JSON is read each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.clients.requests import read
from bursar.clients.shapes import Shapes
from bursar.pricing.rates import find_provider

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
_shapes: Final = Shapes()


def shape_of(params: Mapping[str, Any], metadata: Mapping[str, Any], open_ended: bool | None) -> ModelRequest | None:  # noqa: FBT001
    """The request without messages; None where with messages it has to be read as a whole.

    `params` are LangChain's invocation parameters, `metadata` its `ls_...` ones; `open_ended` as in `whole`.
    """
    get = metadata.get
    told = (params, get("ls_provider"), get("ls_max_tokens"), get("ls_model_name"), open_ended)
    request = _shapes.find(told, lambda: whole([], params, metadata, open_ended))
    script = request.transcript
    # A system prompt of its own is hashed together with messages, and what could not be read is bounded by its size.
    return None if script.system_hash is not None or script.unbounded or script.tokens else request


def whole(
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    metadata: Mapping[str, Any],
    open_ended: bool | None,  # noqa: FBT001
) -> ModelRequest:
    """A request read as a whole.

    `open_ended` says whether nobody can put a cap into it; None: if it has none.
    """
    body = body_of(params, metadata)
    vendor = metadata.get("ls_provider")
    provider = PROVIDERS.get(vendor, vendor) if isinstance(vendor, str) else find_provider(body["model"]) or "unknown"
    request = read("messages" if provider == "anthropic" else "chat", {**body, "messages": messages}, None)
    if request.provider != provider:
        request = request._replace(provider=provider)
    if open_ended or (open_ended is None and request.cap is None):
        least = COLD_OUTPUT if request.cap is None else request.cap
        request = request._replace(open_ended=True, clampable=False, cap_default=least + request.thinking)
    return request


def body_of(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent with every call, in the words of one API."""
    body = {**params, "model": model_of(params, metadata)}
    cap = None
    for name in _CAPS:
        asked = body.pop(name, None)
        cap = asked if cap is None else cap
    cap = metadata.get("ls_max_tokens") if cap is None else cap
    if cap is not None:
        body[_CAPS[0]] = cap
    return body


def model_of(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """The model's name as it is sent."""
    name = params.get("model") or params.get("model_name") or metadata.get("ls_model_name")
    return name if isinstance(name, str) else "unknown"
