"""Providers and real clients for the tests."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import anthropic
import openai

from bursar.testing import Provider, Reply, scripted


@dataclass(frozen=True)
class Bench:
    """Opens providers and synchronous clients; SDK retries are off unless a test asks for them."""

    stack: ExitStack

    def provider(self, *replies: Reply, latency_s: float = 0.0, inflation: float = 1.0) -> Provider:
        script: Sequence[Reply] = replies or [Reply()]
        return self.stack.enter_context(Provider(latency_s=latency_s, replies=scripted(script), inflation=inflation))

    def anthropic(self, provider: Provider, max_retries: int = 0, timeout: float = 10) -> anthropic.Anthropic:
        return self.stack.enter_context(
            anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=max_retries, timeout=timeout)
        )

    def openai(self, provider: Provider, max_retries: int = 0, timeout: float = 10) -> openai.OpenAI:
        return self.stack.enter_context(
            openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=max_retries, timeout=timeout)
        )
