"""Hand-written agent loops, as users write them: one for each protocol, sync and async, plain and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import openai

import bursar
from bursar.runs.process import process
from bursar.tracing.queries import Reader

if TYPE_CHECKING:
    from bursar.testing import Provider
    from bursar.words.rows import ToolRow

Tools = Mapping[str, Callable[..., Any]]
TURNS = 6


def claude_loop(provider: Provider, tools: Tools, *, stream: bool = False) -> None:
    messages: list[Any] = [{"role": "user", "content": "go"}]
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": messages}
            if stream:
                with client.messages.stream(**asked) as events:
                    answer = events.get_final_message()
            else:
                answer = client.messages.create(**asked)
            uses = [block for block in answer.content if block.type == "tool_use"]
            if not uses:
                return
            results = [
                {"type": "tool_result", "tool_use_id": use.id, "content": str(tools[use.name](**use.input))}
                for use in uses
            ]
            messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def chat_loop(provider: Provider, tools: Tools) -> None:
    messages: list[Any] = [{"role": "user", "content": "go"}]
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            asked: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": messages}
            message = client.chat.completions.create(**asked).choices[0].message
            if not message.tool_calls:
                return
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                assert call.type == "function"
                result = tools[call.function.name](**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})


def chat_stream_loop(provider: Provider, tools: Tools) -> None:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            asked: Any = {
                "model": "gpt-4o",
                "max_completion_tokens": 300,
                "messages": [{"role": "user", "content": "go"}],
            }
            found: dict[int, list[str]] = {}
            for chunk in client.chat.completions.create(**asked, stream=True):
                for call in (chunk.choices and chunk.choices[0].delta.tool_calls) or []:
                    name, text = found.setdefault(call.index, ["", ""])
                    function = call.function
                    assert function is not None
                    found[call.index] = [name + (function.name or ""), text + (function.arguments or "")]
            if not found:
                return
            for name, text in found.values():
                tools[name](**json.loads(text))


def responses_loop(provider: Provider, tools: Tools, *, stream: bool = False) -> None:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            asked: Any = {"model": "gpt-4o", "max_output_tokens": 300, "input": "go"}
            if stream:
                events = list(client.responses.create(**asked, stream=True))
                answer: Any = events[-1].response
            else:
                answer = client.responses.create(**asked)
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                return
            for call in calls:
                tools[call.name](**json.loads(call.arguments))


async def claude_aloop(provider: Provider, tools: Tools) -> None:
    messages: list[Any] = [{"role": "user", "content": "go"}]
    async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
        client = bursar.wrap(bare)
        for _ in range(TURNS):
            asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": messages}
            answer = await client.messages.create(**asked)
            uses = [block for block in answer.content if block.type == "tool_use"]
            if not uses:
                return
            results = [
                {"type": "tool_result", "tool_use_id": use.id, "content": str(await tools[use.name](**use.input))}
                for use in uses
            ]
            messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def tools_of(run: bursar.Run) -> list[ToolRow]:
    """The tool calls of a run as the ledger has them."""
    with Reader(Path(process().ledger.path)) as reader:
        return reader.tools(reader.family(run.id))
