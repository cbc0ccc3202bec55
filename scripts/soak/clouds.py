"""Clients of the clouds and gateways that sell the vendors' models, at a provider on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anthropic
import httpx2
import openai

if TYPE_CHECKING:
    from bursar.testing import Provider

_ROUTER: Final = "https://openrouter.ai/api/v1"


def azure(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """OpenAI's client for Azure."""
    made: Any = openai.AsyncAzureOpenAI if is_async else openai.AzureOpenAI
    return made(azure_endpoint=provider.anthropic_url, api_key="x", api_version="2026-01-01", **options)


def vertex(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's for Google's Vertex, whose global prices are the vendor's."""
    made: Any = anthropic.AsyncAnthropicVertex if is_async else anthropic.AnthropicVertex
    return made(base_url=provider.anthropic_url, region="global", project_id="p", access_token="x", **options)


def bedrock(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's for Amazon's Bedrock."""
    made: Any = anthropic.AsyncAnthropicBedrock if is_async else anthropic.AnthropicBedrock
    return made(base_url=provider.anthropic_url, api_key="x", aws_region="us-east-1", **options)


def foundry(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's for Microsoft's Foundry."""
    made: Any = anthropic.AsyncAnthropicFoundry if is_async else anthropic.AnthropicFoundry
    return made(base_url=f"{provider.anthropic_url}/anthropic", api_key="x", **options)


def openrouter(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """OpenAI's for OpenRouter. Who bills is told by the host, so only the way there is another one."""
    made: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
    http: Any = openai.DefaultAsyncHttpxClient if is_async else openai.DefaultHttpxClient
    way = _AsyncDetour(provider.anthropic_url) if is_async else _Detour(provider.anthropic_url)
    return made(base_url=_ROUTER, api_key="x", http_client=http(transport=way), **options)


class _Detour(httpx2.HTTPTransport):
    """Leads every request to one host."""

    def __init__(self, to: str) -> None:
        super().__init__()
        self._to = httpx2.URL(to)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it there."""
        request.url = _led(request.url, self._to)
        return super().handle_request(request)


class _AsyncDetour(httpx2.AsyncHTTPTransport):
    """The same on a loop."""

    def __init__(self, to: str) -> None:
        super().__init__()
        self._to = httpx2.URL(to)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it there."""
        request.url = _led(request.url, self._to)
        return await super().handle_async_request(request)


def _led(url: httpx2.URL, to: httpx2.URL) -> httpx2.URL:
    return url.copy_with(scheme=to.scheme, host=to.host, port=to.port)
