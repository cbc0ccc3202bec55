"""More clients of clouds, at a provider on loopback: those that few programs use. None where an SDK has no such class."""

from __future__ import annotations

from typing import Any

import anthropic
import openai

from bursar.testing import Provider


def mantle(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's for Amazon's Bedrock, in the protocol of Anthropic."""
    made: Any = anthropic.AsyncAnthropicBedrockMantle if is_async else anthropic.AnthropicBedrockMantle
    return made(base_url=f"{provider.anthropic_url}/anthropic", api_key="x", aws_region="us-east-1", **options)


def aws(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's own platform, paid for at Amazon."""
    made: Any = anthropic.AsyncAnthropicAWS if is_async else anthropic.AnthropicAWS
    return made(
        base_url=provider.anthropic_url, api_key="x", aws_region="us-east-1", workspace_id="wrkspc_1", **options
    )


def google_cloud(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """Anthropic's own platform, paid for at Google."""
    made: Any = anthropic.AsyncAnthropicGoogleCloud if is_async else anthropic.AnthropicGoogleCloud
    url = f"{provider.anthropic_url}/v1/projects/p/locations/us-central1/workspaces/wrkspc_1/invoke"
    return made(
        base_url=url,
        project="p",
        location="us-central1",
        workspace_id="wrkspc_1",
        token_provider=lambda: "x",
        **options,
    )


def bedrock_openai(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """OpenAI's for Amazon's Bedrock."""
    made: Any = openai.AsyncBedrockOpenAI if is_async else openai.BedrockOpenAI
    return made(base_url=f"{provider.anthropic_url}/openai/v1", api_key="x", aws_region="us-east-1", **options)


def openai_bedrock(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """OpenAI's usual client, told to go to Amazon's Bedrock."""
    from openai.providers import bedrock

    made: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
    where = bedrock(base_url=f"{provider.anthropic_url}/openai/v1", api_key="x", region="us-east-1")
    return made(provider=where, **options)


def openai_vertex(provider: Provider, *, is_async: bool = False, **options: Any) -> Any:
    """OpenAI's usual client, told to go to Google's Vertex."""
    from openai.providers import vertex

    made: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
    url = f"{provider.anthropic_url}/v1/projects/p/locations/global/publishers/openai/v1"
    return made(provider=vertex(base_url=url, token_provider=lambda: "x"), **options)
