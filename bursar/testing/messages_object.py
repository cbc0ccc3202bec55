"""The objects of Anthropic's Messages API: the message, its blocks, its usage."""

from itertools import pairwise
from typing import Any

from bursar.testing.bill import geo
from bursar.testing.dialect import Answer
from bursar.testing.extras import Iteration
from bursar.testing.generation import Section

_ENTRY = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation",
    "output_tokens",
)
SIGNATURE = "c2lnbmVkIGJ5IG5vYm9keQ=="


def head(answer: Answer) -> dict[str, Any]:
    """A message without content, as it starts."""
    return {
        "id": f"msg_{answer.ident}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def message(answer: Answer) -> dict[str, Any]:
    """The finished message."""
    blocks = [_block(section) for section in answer.generation.sections]
    body = {**head(answer), "content": [*handovers(answer), *blocks], "stop_reason": stop_reason(answer)}
    return answer.reply.with_usage(body, usage(answer, answer.output_tokens) | at_the_end(answer))


def usage(answer: Answer, output_tokens: int) -> dict[str, Any]:
    """The usage after `output_tokens` of the answer."""
    prompt = answer.prompt
    return {
        "input_tokens": prompt.uncached,
        "cache_creation_input_tokens": prompt.cache_write,
        "cache_read_input_tokens": prompt.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": prompt.cache_write_5m,
            "ephemeral_1h_input_tokens": prompt.cache_write_1h,
        },
        "output_tokens": output_tokens,
        "output_tokens_details": {"thinking_tokens": min(answer.generation.thinking_tokens, output_tokens)},
        "service_tier": answer.tier,
        "inference_geo": geo(answer.request.body, answer.reply.extras),
        "speed": answer.speed,
    }


def at_the_end(answer: Answer) -> dict[str, Any]:
    """What a usage has only when all is done: server tools, and the entries of beta features."""
    extras = answer.reply.extras
    found: dict[str, Any] = {}
    if extras.web_searches or extras.web_fetches:
        tools = {"web_search_requests": extras.web_searches, "web_fetch_requests": extras.web_fetches}
        found["server_tool_use"] = tools
    if extras.iterations or extras.served_by:
        beside = [_entry(iteration) for iteration in extras.iterations if iteration.kind != "message"]
        found["iterations"] = [*map(_entry, extras.declined()), _own(answer), *beside]
    return found


def handovers(answer: Answer) -> list[dict[str, Any]]:
    """A block for each model that has declined, before what the next one writes."""
    extras = answer.reply.extras
    hops = [*(str(entry.model) for entry in extras.declined()), str(extras.served_by)]
    trigger = {"type": "refusal", "category": "general_harms"}
    return [
        {"type": "fallback", "from": {"model": before}, "to": {"model": after}, "trigger": trigger}
        for before, after in pairwise(hops)
    ]


def _own(answer: Answer) -> dict[str, Any]:
    used = usage(answer, answer.output_tokens)
    served_by = answer.reply.extras.served_by
    named = {"type": "message"} if served_by is None else {"type": "fallback_message", "model": served_by}
    return {**named, **{name: used[name] for name in _ENTRY}}


def _entry(iteration: Iteration) -> dict[str, Any]:
    model = {} if iteration.model is None else {"model": iteration.model}
    return {
        "type": iteration.kind,
        **model,
        "input_tokens": iteration.input_tokens,
        "cache_creation_input_tokens": iteration.cache_write_5m,
        "cache_read_input_tokens": iteration.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": iteration.cache_write_5m, "ephemeral_1h_input_tokens": 0},
        "output_tokens": iteration.output_tokens,
    }


def stop_reason(answer: Answer) -> str:
    """Why the model stopped."""
    if answer.generation.truncated:
        return "max_tokens"
    return "tool_use" if answer.generation.of_kind("tool") else "end_turn"


def empty_block(section: Section) -> dict[str, Any]:
    """A content block as it starts."""
    if section.kind == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    if section.tool is not None:
        return {"type": "tool_use", "id": section.call_id("toolu"), "name": section.tool.name, "input": {}}
    return {"type": "text", "text": ""}


def _block(section: Section) -> dict[str, Any]:
    block = empty_block(section)
    if section.kind == "thinking":
        return {**block, "thinking": section.text, "signature": SIGNATURE}
    if section.tool is not None:
        return {**block, "input": dict(section.tool.arguments) if section.complete else {}}
    return {**block, "text": section.text}
