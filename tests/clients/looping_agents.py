"""Hand-written agent loops, one for each wire form, that call one tool until the model answers without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai

import bursar
from bursar.guards.loop_notes import NOTE_MARK
from bursar.testing import Provider, ReceivedRequest, Reply, ToolUse

Tool = Callable[[dict[str, Any]], str]
SCHEMA = {"type": "object", "properties": {"page": {"type": "integer"}}}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
TURNS = 40


def told(request: ReceivedRequest) -> bool:
    """Whether a note stands in what the model reads."""
    return NOTE_MARK in json.dumps(request.body)


def forbidden(request: ReceivedRequest) -> bool:
    """Whether the model may not call tools."""
    return request.body.get("tool_choice") in ("none", {"type": "none"})


def until(stops: Callable[[ReceivedRequest], bool], *, page: int = 1) -> Callable[[ReceivedRequest], Reply]:
    """A model that asks for one page again and again until something is so."""
    return lambda request: (
        Reply(text="what I have is this")
        if stops(request)
        else Reply(text="", tool_calls=[ToolUse("look", {"page": page})])
    )


def chat(provider: Provider, tool: Tool, *, messages: list[Any] | None = None) -> str:
    """By chat completions."""
    said: list[Any] = messages if messages is not None else [{"role": "user", "content": "look for it"}]
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            answer = client.chat.completions.create(model="gpt-4o", messages=said, tools=CHAT_TOOLS)
            message = answer.choices[0].message
            said.append(message)
            if not message.tool_calls:
                return message.content or ""
            for call in message.tool_calls:
                assert call.type == "function"
                result = tool(json.loads(call.function.arguments))
                said.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return ""


def chat_async(provider: Provider, tool: Tool) -> str:
    """By chat completions, awaited and streamed."""

    async def loop() -> str:
        said: list[Any] = [{"role": "user", "content": "look for it"}]
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)
            for _ in range(TURNS):
                text, calls = "", dict[int, dict[str, str]]()
                asked: Any = {"model": "gpt-4o", "messages": said, "tools": CHAT_TOOLS, "stream": True}
                async for chunk in await client.chat.completions.create(**asked):
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        for part in choice.delta.tool_calls or []:
                            call = calls.setdefault(part.index, {"id": "", "arguments": ""})
                            call["id"] += part.id or ""
                            call["arguments"] += part.function.arguments or ""
                if not calls:
                    return text
                made = [
                    {"id": c["id"], "type": "function", "function": {"name": "look", "arguments": c["arguments"]}}
                    for c in calls.values()
                ]
                said.append({"role": "assistant", "content": None, "tool_calls": made})
                said.extend(
                    {"role": "tool", "tool_call_id": c["id"], "content": tool(json.loads(c["arguments"]))}
                    for c in calls.values()
                )
        return ""

    return asyncio.run(loop())


def messages(provider: Provider, tool: Tool) -> str:
    """By Anthropic's Messages."""
    said: list[Any] = [{"role": "user", "content": "look for it"}]
    tools: Any = [{"name": "look", "input_schema": SCHEMA}]
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            answer = client.messages.create(model="claude-sonnet-5-5", max_tokens=500, messages=said, tools=tools)
            said.append({"role": "assistant", "content": answer.content})
            used = [block for block in answer.content if block.type == "tool_use"]
            if not used:
                return "".join(block.text for block in answer.content if block.type == "text")
            results = [{"type": "tool_result", "tool_use_id": use.id, "content": tool(dict(use.input))} for use in used]
            said.append({"role": "user", "content": results})
    return ""


def responses(provider: Provider, tool: Tool) -> str:
    """By Responses."""
    said: list[Any] = [{"role": "user", "content": "look for it"}]
    tools: Any = [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}]
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            answer = client.responses.create(model="gpt-4o", input=said, tools=tools)
            said += [item.model_dump(exclude_none=True) for item in answer.output]
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                return answer.output_text
            for call in calls:
                result = tool(json.loads(call.arguments))
                said.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
    return ""
