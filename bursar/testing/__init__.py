"""An LLM provider on loopback for tests: real protocols, scripted answers, an honest bill.

    with Provider(replies=scripted([Reply(text="Hello"), Reply(status=429)])) as provider:
        client = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x")
        ...
        assert provider.billed_nusd <= 500_000_000  # nano-dollars: fifty cents

It shares no code with what it tests: prices, tokens and usage are its own.
"""

from bursar.testing.billing import ModelPrice, Rates, rates
from bursar.testing.books import Charge, ReceivedRequest
from bursar.testing.extras import Extras, Iteration
from bursar.testing.provider import Provider
from bursar.testing.reply import Reply, ToolUse, scripted

__all__ = [
    "Charge",
    "Extras",
    "Iteration",
    "ModelPrice",
    "Provider",
    "Rates",
    "ReceivedRequest",
    "Reply",
    "ToolUse",
    "rates",
    "scripted",
]
