"""The objects of OpenAI's Responses API: the response, its output items, its usage."""

from typing import Any

from bursar.testing.dialect import Answer
from bursar.testing.generation import Section

_ECHOED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "max_output_tokens": None,
}


def started(answer: Answer) -> dict[str, Any]:
    """The response while it is generated."""
    body = answer.request.body
    return {
        "id": f"resp_{answer.ident}",
        "object": "response",
        "created_at": answer.created_s,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": answer.model,
        "output": [],
        "service_tier": answer.tier,
        "usage": None,
        **{name: body.get(name, default) for name, default in _ECHOED.items()},
    }


def finished(answer: Answer) -> dict[str, Any]:
    """The response at its end; "incomplete" when the cap cut it."""
    cut = answer.generation.truncated
    sections = enumerate(answer.generation.sections)
    body = {name: value for name, value in started(answer).items() if name != "usage"}
    body |= {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [
            *_compactions(answer),
            *_searches(answer),
            *(item(answer, index, section) for index, section in sections),
        ],
    }
    return answer.reply.with_usage(body, _usage(answer))


def item_id(answer: Answer, index: int, section: Section) -> str:
    """The id of an output item."""
    prefix = {"thinking": "rs", "text": "msg", "tool": "fc"}[section.kind]
    return f"{prefix}_{answer.ident}{index:02d}"


def empty_item(answer: Answer, index: int, section: Section) -> dict[str, Any]:
    """An output item as it starts."""
    ident = item_id(answer, index, section)
    if section.kind == "thinking":
        return {"id": ident, "type": "reasoning", "summary": []}
    if section.tool is not None:
        call = {"call_id": section.call_id("call"), "name": section.tool.name, "arguments": ""}
        return {"id": ident, "type": "function_call", "status": "in_progress", **call}
    return {"id": ident, "type": "message", "status": "in_progress", "role": "assistant", "content": []}


def item(answer: Answer, index: int, section: Section) -> dict[str, Any]:
    """An output item at its end."""
    empty = empty_item(answer, index, section)
    status = "completed" if section.complete else "incomplete"
    if section.kind == "thinking":
        return empty
    if section.tool is not None:
        return {**empty, "status": status, "arguments": section.text}
    return {**empty, "status": status, "content": [part(section.text)]}


def part(text: str) -> dict[str, Any]:
    """A part of a message item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _compactions(answer: Answer) -> list[dict[str, Any]]:
    # What they cost is billed and in no usage: nobody has said that it is.
    return [
        {
            "id": f"cmp_{answer.ident}{index:02d}",
            "type": "compaction",
            "encrypted_content": "x" * 6 * entry.output_tokens,
        }
        for index, entry in enumerate(answer.reply.extras.iterations)
        if entry.kind == "compaction"
    ]


def _searches(answer: Answer) -> list[dict[str, Any]]:
    # Each search, and one look into a page that it found, which costs nothing of its own.
    extras = answer.reply.extras
    actions: list[dict[str, Any]] = [{"type": "search", "query": "news"}] * extras.web_searches
    actions += [{"type": "open_page", "url": "https://example.com"}] * extras.web_fetches
    return [
        {"id": f"ws_{answer.ident}{index:02d}", "type": "web_search_call", "status": "completed", "action": action}
        for index, action in enumerate(actions)
    ]


def _usage(answer: Answer) -> dict[str, Any]:
    prompt, output = answer.prompt, answer.output_tokens
    return {
        "input_tokens": prompt.total,
        "input_tokens_details": {
            "cached_tokens": prompt.cache_read,
            "cache_write_tokens": prompt.cache_write,
            "cache_write_tokens_details": {
                "ttl_30m_tokens": prompt.cache_write_30m,
                "ttl_12h_tokens": prompt.cache_write_12h,
            },
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": answer.generation.thinking_tokens},
        "total_tokens": prompt.total + output,
    }
