"""Who bills for the calls of a client, and where: by the SDK's class, else by the host that it sends to."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from bursar.clients.usage import word

_SELLERS: Final = {
    "AzureOpenAI": "azure.ai.openai",
    "BedrockOpenAI": "aws.bedrock",
    "AnthropicBedrock": "aws.bedrock",
    "AnthropicBedrockMantle": "aws.bedrock",
    "AnthropicVertex": "gcp.vertex_ai",
    "AnthropicFoundry": "azure.ai.inference",
}
"""Not AnthropicAWS and AnthropicGoogleCloud: there Anthropic runs its own API and sells it at its own prices, whoever
sends the bill ("Claude Platform on AWS", "Claude Models on Google Cloud (Anthropic managed)")."""
_PROVIDERS: Final = {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai"}
"""What `OpenAI(provider=...)` may have been given, by the name that the SDK has for it."""
_HOSTS: Final = (
    (re.compile(r".*\.(?:openai\.azure\.com|cognitiveservices\.azure\.com)"), "azure.ai.openai"),
    (re.compile(r".*\.services\.ai\.azure\.com"), "azure.ai.inference"),
    (re.compile(r"bedrock[a-z-]*\.[a-z0-9-]+\.(?:amazonaws\.com|api\.aws)"), "aws.bedrock"),
    (re.compile(r"(?:[a-z0-9-]+-)?aiplatform\.googleapis\.com"), "gcp.vertex_ai"),
    (re.compile(r"generativelanguage\.googleapis\.com"), "gcp.gemini"),
    (re.compile(r"openrouter\.ai"), "openrouter"),
    (re.compile(r"api\.groq\.com"), "groq"),
    (re.compile(r"api\.deepseek\.com"), "deepseek"),
    (re.compile(r"api\.mistral\.ai"), "mistral_ai"),
    (re.compile(r"(?:[a-z0-9-]+\.)?api\.x\.ai"), "x_ai"),
    (re.compile(r"api\.perplexity\.ai"), "perplexity"),
    (re.compile(r"api\.moonshot\.(?:ai|cn)"), "moonshot_ai"),
    (re.compile(r"api\.together\.(?:xyz|ai)"), "together"),
    (re.compile(r"api\.fireworks\.ai"), "fireworks"),
    (re.compile(r"api\.cerebras\.ai"), "cerebras"),
)
"""Who bills for what is sent to a host in another vendor's protocol: their own guides on using either SDK."""
_RESIDENCE: Final = re.compile(r"([a-z]{2})\.api\.openai\.com")
"""OpenAI's hosts of one region: the guide on data residency."""
_ORIGIN: Final = "_bursar_origin"


def seller_of(client: Any) -> str | None:
    """Say who bills the calls of a client: by the SDK's class, what it was made with, the host; None is the vendor."""
    return origin_of(client)[1]


@lru_cache(maxsize=256)
def _seller(kind: Any) -> str | None:
    names = {cls.__name__.removeprefix("Async") for cls in kind.__mro__}
    return next((seller for name, seller in _SELLERS.items() if name in names), None)


@lru_cache(maxsize=256)
def _seller_at(host: str) -> str | None:
    return next((seller for pattern, seller in _HOSTS if pattern.fullmatch(host)), None)


def region_of(client: Any) -> str | None:
    """Say where a cloud processes the calls of a client, where the client knows: Vertex."""
    return word(getattr(client, "region", None)) if seller_of(client) == "gcp.vertex_ai" else None


def host_of(client: Any) -> str:
    """The host that a client sends to."""
    return origin_of(client)[0]


def origin_of(client: Any) -> tuple[str, str | None]:
    """Host and seller of a client. Its URL has to decode the one, and a client mostly has one URL all its life."""
    url = client.base_url
    known: tuple[Any, tuple[str, str | None]] | None = client.__dict__.get(_ORIGIN)
    if known is None or known[0] is not url:
        kind: Any = type(client)
        host = url.host
        known = client.__dict__[_ORIGIN] = (url, (host, _seller(kind) or _seller_named(client) or _seller_at(host)))
    return known[1]


def _seller_named(client: Any) -> str | None:
    return _PROVIDERS.get(getattr(client.__dict__.get("_provider_runtime"), "name", ""))


@lru_cache(maxsize=256)
def residence(host: str | None) -> str | None:
    """Name the region of a host of OpenAI's that keeps data in one; None for every other host."""
    found = _RESIDENCE.fullmatch(host or "")
    return found[1] if found else None
