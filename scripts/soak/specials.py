"""How the provider of `surface.py` answers: at fault now and then, and with whatever extra the request asks for."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Final

from bursar.testing import Extras, Iteration, ModelPrice, Provider, Reply, rates
from scripts.soak.marks import mark_of
from scripts.soak.provider import FAULTS

if TYPE_CHECKING:
    from bursar.testing import ReceivedRequest

RIVERS: Final = '{"rivers": "Elbe, Oder"}'
"""What a caller who has a parser can read."""

CHEAPER: Final = "openai/gpt-4o-mini"
"""A model that OpenRouter sells below the list, which only its answers say."""
_BYTES_A_TOKEN: Final = 5
_SUMMED_BYTES: Final = 250_000
"""More than 50,000 tokens: what a context has to have before it is summed up."""


def provider() -> Provider:
    """Make one, at which OpenRouter has found a cheaper house for one model."""
    return Provider(replies=reply, models={CHEAPER: ModelPrice("openai", rates("0.12", "0.50", read="0.06"))})


def reply(request: ReceivedRequest) -> Reply:
    """Answer one request."""
    dice, mark = random.Random(request.number), mark_of(request.body)
    asked: dict[str, Any] = {
        "text": RIVERS if "schema" in json.dumps(request.body) else None,
        "output_tokens": dice.randint(20, 200),
        "latency_s": dice.uniform(0.001, 0.03),
        "chunk_delay_s": 0.025 if request.stream else 0.0,
        "extras": _extras(request.body, dice),
    }
    point = 1.0 if mark is None or mark.spared else dice.random()
    for share, fault in FAULTS:
        if point < share:
            return Reply(**asked, **fault)
        point -= share
    return Reply(**asked)


def _extras(body: dict[str, Any], dice: random.Random) -> Extras:
    kinds = {str(tool.get("type")) for tool in body.get("tools") or () if isinstance(tool, dict)}
    if any(kind.startswith("web_search") for kind in kinds):
        return Extras(web_searches=dice.randint(0, 2))
    if "audio" in (body.get("modalities") or ()):
        return Extras(audio_output_tokens=dice.randint(1, 20))
    if body.get("prompt_cache_key"):
        longer = dice.randint(1, 10) if body.get("prompt_cache_retention") else 0
        return Extras(cache_write_12h=longer, cache_write_30m=dice.randint(1, 10))
    return _beside(body, kinds, dice)


def _beside(body: dict[str, Any], kinds: set[str], dice: random.Random) -> Extras:
    """What Claude does beside the answer, or before it."""
    if any(kind.startswith("advisor") for kind in kinds):
        turns = (_advice(body, dice) for _ in range(dice.randint(0, 2)))
        return Extras(iterations=tuple(turns))
    if body.get("fallbacks") and dice.random() < 0.6:
        return _declined(body, dice)
    if "context_management" in body and len(json.dumps(body)) > _SUMMED_BYTES:
        return Extras(iterations=(Iteration("compaction", dice.randint(40_000, 50_000), dice.randint(500, 3_000)),))
    return Extras()


def _declined(body: dict[str, Any], dice: random.Random) -> Extras:
    """The model that was asked reads all, and declines at once or in the middle."""
    said, cap = len(json.dumps(body["messages"])) // _BYTES_A_TOKEN, body["max_tokens"]
    first = Iteration("message", said, dice.choice([0, dice.randint(1, cap), cap]), model=body["model"])
    return Extras(iterations=(first,), served_by=body["fallbacks"][0]["model"])


def _advice(body: dict[str, Any], dice: random.Random) -> Iteration:
    """Another model reads what was said, and writes up to its cap."""
    said = len(json.dumps(body["messages"])) // _BYTES_A_TOKEN
    (advisor,) = body["tools"]
    return Iteration("advisor_message", said, dice.randint(50, advisor["max_tokens"]), model=advisor["model"])
