"""Recorded conversations, in each of the wire forms, and what must hold of a trimmed one."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from anthropic.types import MessageParam
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai.chat_models.base import _convert_message_to_dict
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

RECORDED = Path(os.environ.get("BURSAR_RECORDED", Path(__file__).parents[3] / "shared" / "data" / "trajectories"))
"""Where recorded runs are, if anywhere: most checkouts have none."""
CLEARED = "[context window] This result was cleared to save space. Call the tool again if it is needed."
MODELS: dict[str, TypeAdapter[Any]] = {
    "chat": TypeAdapter(ChatCompletionMessageParam),
    "messages": TypeAdapter(MessageParam),
    "responses": TypeAdapter(ResponseInputItemParam),
}


def recorded(name: str = "*") -> list[list[dict[str, Any]]]:
    """The recorded conversations beside a checkout, as plain chat messages; none where there are none."""
    found: list[list[dict[str, Any]]] = []
    for path in sorted(RECORDED.glob(f"{name}.jsonl.gz")):
        if not path.name.startswith("skeleton"):
            with gzip.open(path) as lines:
                found += [clean(json.loads(line)["messages"]) for line in lines]
    return found


def agent(steps: int, *, users: int = 1, words: int = 60) -> list[dict[str, Any]]:
    """An agent that looks at pages; the user speaks again from time to time; every third step has two calls."""
    said: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Read all."}]
    every = max(1, steps // users)
    for step in range(steps):
        ids = [f"c{step}"] if step % 3 else [f"c{step}", f"c{step}b"]
        calls = [
            {"id": id_, "type": "function", "function": {"name": "look", "arguments": f'{{"page": {step}}}'}}
            for id_ in ids
        ]
        said.append({"role": "assistant", "content": f"step {step}", "tool_calls": calls})
        said += [
            {"role": "tool", "tool_call_id": id_, "content": f"page {step} " + "word " * (words + 7 * (step % 5))}
            for id_ in ids
        ]
        if step % every == every - 1:
            said += [{"role": "assistant", "content": f"done {step}"}, {"role": "user", "content": f"and then? {step}"}]
    return said


def clean(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an API takes of a recorded message, each call with an id of its own."""
    out: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for at, message in enumerate(messages):
        kept: dict[str, Any] = {"role": message["role"], "content": message.get("content")}
        if message.get("tool_calls"):
            kept["tool_calls"] = []
            for call in message["tool_calls"]:
                names[call["id"]] = f"{call['id']}-{at}"
                kept["tool_calls"].append(
                    {"id": names[call["id"]], "type": "function", "function": dict(call["function"])}
                )
        if message["role"] == "tool":
            kept["tool_call_id"] = names[message["tool_call_id"]]
        if kept["content"] is None and "tool_calls" not in kept:
            kept["content"] = ""
        out.append(kept)
    return out


def requests(messages: list[dict[str, Any]]) -> list[int]:
    """After how many messages the model was asked."""
    return [at for at, message in enumerate(messages) if message["role"] == "assistant" and at]


def as_chat(messages: list[dict[str, Any]]) -> list[Any]:
    return list(messages)


def as_messages(messages: list[dict[str, Any]]) -> list[Any]:
    """Anthropic's: results in one message of the user, thinking with a signature before each call."""
    out: list[Any] = []
    for at, message in enumerate(messages):
        text = [{"type": "text", "text": message["content"]}] if message.get("content") else []
        if message["role"] == "system":
            continue
        if message["role"] == "assistant" and not out:
            # Anthropic's conversations begin with the user.
            out.append({"role": "user", "content": "(the call is connected)"})
        if message["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"] or ""}
            if out[-1]["role"] == "user" and isinstance(out[-1]["content"], list):
                out[-1]["content"].append(block)
            else:
                out.append({"role": "user", "content": [block]})
        elif message.get("tool_calls"):
            thinking = {"type": "thinking", "thinking": f"thought {at}", "signature": f"sig{at}"}
            uses = [
                {
                    "type": "tool_use",
                    "id": call["id"],
                    "name": call["function"]["name"],
                    "input": {"given": call["function"]["arguments"]},
                }
                for call in message["tool_calls"]
            ]
            out.append({"role": "assistant", "content": [thinking, *text, *uses]})
        else:
            out.append({"role": message["role"], "content": message["content"] or "..."})
    return out


def as_responses(messages: list[dict[str, Any]]) -> list[Any]:
    """Items of Responses: reasoning before each call, an item a call and an item a result."""
    out: list[Any] = []
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            out.append(
                {"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"] or ""}
            )
            continue
        if message.get("tool_calls"):
            out.append({"type": "reasoning", "id": f"rs_{at}", "summary": [], "encrypted_content": f"sig{at}"})
        if message.get("content"):
            out.append({"role": message["role"], "content": message["content"]})
        out += [
            {
                "type": "function_call",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            }
            for call in message.get("tool_calls", [])
        ]
    return out


def as_langchain(messages: list[dict[str, Any]]) -> list[Any]:
    out: list[BaseMessage] = []
    for at, message in enumerate(messages):
        content = message.get("content") or ""
        if message.get("tool_calls"):
            content = [
                {"type": "thinking", "thinking": f"thought {at}", "signature": f"sig{at}"},
                *([{"type": "text", "text": content}] if content else []),
            ]
        if message["role"] == "assistant":
            calls = [
                {"id": call["id"], "name": call["function"]["name"], "args": {"given": call["function"]["arguments"]}}
                for call in message.get("tool_calls", [])
            ]
            out.append(AIMessage(content, tool_calls=calls))
        elif message["role"] == "tool":
            out.append(ToolMessage(content, tool_call_id=message["tool_call_id"]))
        else:
            out.append((SystemMessage if message["role"] == "system" else HumanMessage)(content))
    return out


FORMS: dict[str, Callable[[list[dict[str, Any]]], list[Any]]] = {
    "chat": as_chat, "messages": as_messages, "responses": as_responses, "langchain": as_langchain,
}  # fmt: skip


_known: dict[int, tuple[Any, dict[str, Any]]] = {}
_accepted: dict[int, Any] = {}
"""What was read or accepted once, by identity: the same message comes again at every later step."""


def data_of(message: Any) -> dict[str, Any]:
    """One message as plain data; the same object for the same message."""
    if isinstance(message, dict):
        return message
    known = _known.get(id(message))
    if known is None or known[0] is not message:
        known = _known[id(message)] = (message, read(message))
    return known[1]


def read(message: Any) -> dict[str, Any]:
    if isinstance(message, BaseMessage):
        role = {"human": "user", "ai": "assistant"}.get(message.type, message.type)
        data = {"role": role, "content": message.content}
        if isinstance(message, AIMessage):
            data["tool_calls"] = [{"id": call["id"]} for call in message.tool_calls]
        if isinstance(message, ToolMessage):
            data["tool_call_id"] = message.tool_call_id
        return data
    return dict(message)


def blocks_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    content = data.get("content")
    return content if isinstance(content, list) else []


def calls_of(data: dict[str, Any]) -> list[str]:
    if data.get("type") == "function_call":
        return [data["call_id"]]
    blocks = blocks_of(data)
    return [call["id"] for call in data.get("tool_calls") or []] + [b["id"] for b in blocks if b["type"] == "tool_use"]


def results_of(data: dict[str, Any]) -> list[str]:
    if data.get("type") == "function_call_output":
        return [data["call_id"]]
    if data.get("role") == "tool":
        return [data["tool_call_id"]]
    blocks = blocks_of(data)
    return [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]


def is_user(data: dict[str, Any]) -> bool:
    return data.get("role") == "user" and not results_of(data)


def check(form: str, given: list[Any], sent: list[Any]) -> None:
    """Whatever the strategy: what was sent is a conversation, and what must stay has stayed."""
    if len(_known) > 20_000:
        # Never between the two: the same message has to be the same object in both.
        _known.clear()
    before, after = [data_of(m) for m in given], [data_of(m) for m in sent]
    assert after, "never empty"
    check_pairs(after)
    check_kept(before, after)
    if form in MODELS:
        for data in after:
            accept(MODELS[form], data)
    else:
        accept_langchain(sent)


def check_pairs(after: list[dict[str, Any]]) -> None:
    """Each result answers a call in the model's turn just before it, and each call but the last turn's has a result."""
    open_calls: set[str] = set()
    answered: set[str] = set()
    for data in after:
        if data.get("role") == "assistant" or data.get("type") in ("function_call", "reasoning"):
            if answered or data.get("type") is None:
                assert not open_calls - answered, "a call lost its result"
                open_calls, answered = set(), set()
            open_calls |= set(calls_of(data))
        for result in results_of(data):
            assert result in open_calls, "a result lost its call"
            answered.add(result)


def check_kept(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    kept = {id(data) for data in after}
    # Two messages may say the same; what a provider received is told by what it says alone.
    told = kept.isdisjoint(id(data) for data in before)

    def there(data: dict[str, Any]) -> bool:
        return data in after if told else id(data) in kept

    users = [data for data in before if is_user(data)]
    if users:
        first = next(data for data in after if is_user(data))
        assert (
            str(first["content"]).startswith(str(users[0]["content"]))
            or first["content"][:1] == users[0]["content"][:1]
        )
        assert there(users[-1]) or users[-1] is users[0], "the latest message of the user"
    for data in before:
        if data.get("role") in ("system", "developer"):
            assert there(data)
    last = max((i for i, data in enumerate(before) if not results_of(data) and not is_user(data)), default=0)
    assert after[len(after) - (len(before) - last) :][1:] == before[last:][1:], "the last turn is whole"
    for data, answer in pairwise(before):
        if data.get("type") == "reasoning":
            assert there(data) == there(answer), "what was thought goes with what was done"
        if is_user(data) and answer.get("role") == "assistant" and answer["content"] and there(answer):
            assert there(data) or data is users[0], "an answer lost its question"
    # Whatever stayed and is neither the note's place nor a cleared result is the same, signatures and all.
    same = {id(data) for data in before}
    others = [json.dumps(data, sort_keys=True, default=str) for data in after if id(data) not in same]
    plain = [text for text in others if "[context window] " not in text]
    originals = {json.dumps(data, sort_keys=True, default=str) for data in before} if plain else set()
    assert originals.issuperset(plain), "a message was changed"


def accept(model: TypeAdapter[Any], data: dict[str, Any]) -> None:
    """The SDK's own type takes it, nested lists included."""
    if _accepted.get(id(data)) is data:
        return
    if len(_accepted) > 20_000:
        _accepted.clear()
    _accepted[id(data)] = data
    read = model.validate_python(data)
    content = read.get("content") if isinstance(read, dict) else None
    if content is not None and not isinstance(content, str | list):
        list(content)


def accept_langchain(sent: list[Any]) -> None:
    """LangChain makes of each message what the SDK's type takes."""
    for message in sent:
        if _accepted.get(id(message)) is not message:
            _accepted[id(message)] = message
            accept(MODELS["chat"], _convert_message_to_dict(message))


def text_of(form: str, messages: list[Any]) -> list[str]:
    """The bytes that a provider sees, message by message."""
    return [json.dumps(data_of(message), sort_keys=True, default=str) for message in messages]


def extends(before: list[str], after: list[str]) -> bool:
    """Whether the second request is the first and something added."""
    return after[: len(before)] == before
