"""Tokens of what stands in recorded messages: their text, the names and arguments of calls, the results of tools."""

from __future__ import annotations

from typing import Any

import orjson

from bursar.pricing.tokens import COUNTER


def content_tokens(content: Any) -> int:
    """Tokens of the content of a message: text, blocks, or nothing."""
    if content is None:
        return 0
    if isinstance(content, str):
        return _count(content)
    if isinstance(content, list):
        return sum(_block(block) for block in content)
    return _count(_text(content))


def _block(block: Any) -> int:
    if not isinstance(block, dict):
        return content_tokens(block)
    kind = block.get("type")
    if isinstance(block.get("text"), str):
        return _count(block["text"])
    if kind == "tool_use":
        return _count(str(block.get("name"))) + _count(_text(block.get("input")))
    if kind == "tool_result":
        return content_tokens(block.get("content"))
    return _count(_text(block))


def call_tokens(calls: Any) -> int:
    """Tokens of the tool calls of a message of OpenAI's form."""
    total = 0
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            arguments = function.get("arguments")
            total += _count(str(function.get("name")))
            total += _count(arguments if isinstance(arguments, str) else _text(arguments))
    return total


def _text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        return str(value)


def _count(text: str) -> int:
    size = COUNTER.measure(text)
    return size.tokens if size.exact else COUNTER.count(text)
