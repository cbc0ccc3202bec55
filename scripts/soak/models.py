"""LangChain's models at the provider of a soak; those that are not wrapped have no retries: these are not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

if TYPE_CHECKING:
    from scripts.soak.house import House

_KEY = SecretStr("x")


def claude(house: House, retries: int) -> ChatAnthropic:
    """Anthropic's."""
    return ChatAnthropic(
        model_name="claude-haiku-5-5",
        max_tokens_to_sample=600,
        base_url=house.anthropic_url,
        api_key=_KEY,
        max_retries=retries,
        timeout=None,
        stop=None,
    )


def gpt(house: House, retries: int) -> ChatOpenAI:
    """OpenAI's."""
    return ChatOpenAI(
        model="gpt-4o-mini",
        max_completion_tokens=600,
        base_url=house.openai_url,
        api_key=_KEY,
        max_retries=retries,
        stream_usage=True,
    )


def embeddings(house: House) -> OpenAIEmbeddings:
    """OpenAI's vectors."""
    return OpenAIEmbeddings(
        model="text-embedding-3-small", check_embedding_ctx_length=False, base_url=house.openai_url, api_key=_KEY
    )
