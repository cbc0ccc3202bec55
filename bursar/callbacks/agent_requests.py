"""Translate the request of an agent's model node into a neutral one, and a decision back into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.callbacks.agent_tools import schema_of
from bursar.callbacks.requests import request_of
from bursar.callbacks.shapes import PROVIDERS

if TYPE_CHECKING:
    from bursar.flow.call import Attempt
    from bursar.words.events import ModelRequest

_CAPPED: Final = frozenset({"anthropic", "openai", "azure.ai.openai"})
"""Providers whose LangChain models take `max_tokens` for a single call."""
_SET: Final = ("thinking", "service_tier", "n")
"""What of a model is sent with every call and is part of what a call may cost."""
_CAPS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def request_of_agent(request: Any) -> ModelRequest:
    """A neutral request of what a model node is about to ask."""
    model, settings = request.model, request.model_settings
    known: dict[str, Any] = dict(model._get_ls_params(**settings))  # noqa: SLF001 - what every integration overrides
    params = _set_in(model)
    params.update(model=known.get("ls_model_name"), **settings)
    params["tools"] = [tool if isinstance(tool, dict) else schema_of(tool) for tool in request.tools]
    params = {name: value for name, value in params.items() if value is not None}
    messages = request.messages if request.system_message is None else [request.system_message, *request.messages]
    asked = request_of(messages, params, known, open_ended=False)
    if asked.provider not in _CAPPED:
        return request_of(messages, params, known)._replace(clampable=False)
    return asked if request.response_format is None else asked._replace(clampable=False)


def clamped(request: Any, attempt: Attempt, provider: str) -> Any:
    """The request with the cap that was admitted, and without the use of tools where it is the last."""
    if attempt.cap is not None:
        given = [name for name in _CAPS if name in request.model_settings] or [_CAPS[0]]
        request = request.override(model_settings={**request.model_settings, **dict.fromkeys(given, attempt.cap)})
    return without_tools(request, provider) if attempt.last else request


def provider_of(model: Any) -> str:
    """OpenTelemetry's name of who serves a model."""
    vendor: str = model._get_ls_params().get("ls_provider", "")  # noqa: SLF001 - as above
    return PROVIDERS.get(vendor, vendor)


def without_tools(request: Any, provider: str) -> Any:
    """The request, in which the model may not ask for tools; they stay in it, where the provider has cached them."""
    if not request.tools:
        return request
    if request.response_format is not None:
        # A format may be asked for as a tool, which is then the only one. Claude takes no calls in a history without
        # tools: there it has to be told when it goes on.
        is_tool = type(request.response_format).__name__ == "ToolStrategy"
        return request.override(tools=[]) if is_tool or provider != "anthropic" else request
    return request.override(tool_choice={"type": "none"} if provider == "anthropic" else "none")


def _set_in(model: Any) -> dict[str, Any]:
    # A field that one of LangChain's models lacks takes it long to miss: where they can be, they are looked up.
    try:
        own = model.__dict__
    except AttributeError:
        own = {}
    kind = type(model)
    return {
        name: own[name] if name in own else getattr(model, name, None)
        for name in _SET
        if name in own or hasattr(kind, name) or getattr(model, "__pydantic_extra__", None)
    }
