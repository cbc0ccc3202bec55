"""Clients of the clouds that sell the vendors' models, at a provider on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import openai

if TYPE_CHECKING:
    from bursar.testing import Provider


def azure(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """OpenAI's models at Azure."""
    """OpenAI's client for Azure."""
    made: Any = openai.AsyncAzureOpenAI if is_async else openai.AzureOpenAI
    return made(azure_endpoint=provider.anthropic_url, api_key="x", api_version="2026-01-01", **options)


def vertex(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's models at Google."""
    """Anthropic's for Google's Vertex, whose global prices are the vendor's."""
    made: Any = anthropic.AsyncAnthropicVertex if is_async else anthropic.AnthropicVertex
    return made(base_url=provider.anthropic_url, region="global", project_id="p", access_token="x", **options)


def bedrock(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's models at Amazon."""
    """Anthropic's for Amazon's Bedrock."""
    made: Any = anthropic.AsyncAnthropicBedrock if is_async else anthropic.AnthropicBedrock
    return made(base_url=provider.anthropic_url, api_key="x", aws_region="us-east-1", **options)


def foundry(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's models at Azure."""
    """Anthropic's for Microsoft's Foundry."""
    made: Any = anthropic.AsyncAnthropicFoundry if is_async else anthropic.AnthropicFoundry
    return made(base_url=f"{provider.anthropic_url}/anthropic", api_key="x", **options)
