"""The objects of Anthropic's Messages API: the message, its blocks, its usage."""

from typing import Any

from bursar.testing.dialect import Answer
from bursar.testing.generation import Section

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
    body = {**head(answer), "content": blocks, "stop_reason": stop_reason(answer)}
    return answer.reply.with_usage(body, usage(answer, answer.output_tokens))


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
