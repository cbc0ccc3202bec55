"""LangChain's models at the provider on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

if TYPE_CHECKING:
    from bursar.testing import Provider

CAP = 400
KEY = SecretStr("x")


def claude(provider: Provider, **options: Any) -> ChatAnthropic:
    asked: dict[str, Any] = {"model": "claude-sonnet-5-5", "max_tokens": CAP, "max_retries": 0} | options
    return ChatAnthropic(base_url=provider.anthropic_url, api_key=KEY, **asked)


def gpt(provider: Provider, **options: Any) -> ChatOpenAI:
    asked: dict[str, Any] = {"model": "gpt-4o", "max_completion_tokens": CAP, "max_retries": 0} | options
    return ChatOpenAI(base_url=provider.openai_url, api_key=KEY, **asked)


def embeddings(provider: Provider, **options: Any) -> OpenAIEmbeddings:
    asked: dict[str, Any] = {"model": "text-embedding-3-small", "check_embedding_ctx_length": False} | options
    return OpenAIEmbeddings(base_url=provider.openai_url, api_key=KEY, **asked)
