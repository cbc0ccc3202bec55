"""Translate the request of an agent's model node into a neutral one, and a decision back into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.utils.function_calling import convert_to_openai_tool

from bursar.callbacks.requests import PROVIDERS, request_of

if TYPE_CHECKING:
    from bursar.flow.call import Attempt
    from bursar.words.events import ModelRequest

_CAPPED: Final = frozenset({"anthropic", "openai", "azure.ai.openai"})
"""Providers whose LangChain models take `max_tokens` for a single call."""
_CAPS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def request_of_agent(request: Any) -> ModelRequest:
    """A neutral request of what a model node is about to ask."""
    model, settings = request.model, request.model_settings
    known: dict[str, Any] = dict(model._get_ls_params(**settings))  # noqa: SLF001 - what every integration overrides
    params = {name: getattr(model, name, None) for name in ("thinking", "service_tier", "n")}
    params |= {"model": known.get("ls_model_name"), **settings}
    params["tools"] = [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in request.tools]
    messages = request.messages if request.system_message is None else [request.system_message, *request.messages]
    asked, _ = request_of(messages, {k: v for k, v in params.items() if v is not None}, known, open_ended=False)
    if asked.provider not in _CAPPED:
        asked, _ = request_of(messages, {k: v for k, v in params.items() if v is not None}, known)
        return asked._replace(clampable=False)
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
