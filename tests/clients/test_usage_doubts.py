"""Usage that cannot be the whole: it makes no call cheaper than it was, and the row says so."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.words.events import NOTHING
from tests.clients.books import rows_of
from tests.clients.http import HTTP

HI: Any = [{"role": "user", "content": "hi"}]
CHAT: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": HI}
CLAUDE: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": HI}
RESPONSES: Any = {"model": "gpt-4o", "max_output_tokens": 300, "input": "hi"}
WORDS = "word " * 100
NONE_WRITTEN = {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10}
NONE_WRITTEN_CLAUDE = {"input_tokens": 10, "output_tokens": 0}


def on(payload: Any) -> Any:
    """A network that answers alike: a list is a stream of events, anything else a body."""
    streamed = isinstance(payload, list)
    lines = [f"event: {each.get('type', '')}\ndata: {json.dumps(each)}\n\n" for each in payload] if streamed else []
    text = "".join(lines) or json.dumps(payload)
    kind = {"content-type": "text/event-stream" if streamed else "application/json"}
    return HTTP.Client(transport=HTTP.MockTransport(lambda _: HTTP.Response(200, content=text.encode(), headers=kind)))


def ask(api: str, payload: Any, take: int | None = None, **more: Any) -> Any:
    """Ask once, read the answer (or its first events), and give the row."""
    stream: Any = {"stream": True} if isinstance(payload, list) else {}
    with on(payload) as http, bursar.run("doubts", Budget(usd="1")) as run:
        claude = bursar.wrap(anthropic.Anthropic(api_key="x", http_client=http, max_retries=0))
        gpt = bursar.wrap(openai.OpenAI(api_key="x", http_client=http, max_retries=0))
        if api == "messages":
            answer: Any = claude.messages.create(**CLAUDE | more, **stream)
        elif api == "responses":
            answer = gpt.responses.create(**RESPONSES | more, **stream)
        else:
            answer = gpt.chat.completions.create(**CHAT | more, **stream)
        if stream:
            with answer:
                for number, _ in enumerate(answer, 1):
                    if number == take:
                        break
    assert run.spend.held == NOTHING
    (row,) = rows_of(run)
    return row


def chat(usage: Any, text: str = WORDS, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": text} | message
    choices = [{"index": 0, "message": said, "finish_reason": "stop"}]
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": choices,
        "usage": usage,
    }


def chunk(text: str | None, usage: Any = None, finish: str | None = None) -> dict[str, Any]:
    """A chunk of a chat; without text and finish it has usage only."""
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return head | {"choices": choices if text is not None or finish else [], "usage": usage}


def claude(usage: Any, text: str = WORDS) -> dict[str, Any]:
    content = [{"type": "text", "text": text}] if text else []
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": content,
        "stop_reason": "end_turn",
        "usage": usage,
    }


def claude_stream(usage: Any) -> list[dict[str, Any]]:
    start = claude({"input_tokens": 10, "output_tokens": 1}, "") | {"stop_reason": None}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        delta,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]


def response(usage: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": WORDS, "annotations": []}
    item = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "gpt-4o",
        "status": "completed",
        "output": [item],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("api", "payload"),
    [
        ("chat", chat(NONE_WRITTEN)),
        ("chat", chat(NONE_WRITTEN, "", tool_calls=[{"id": "t", "type": "function", "function": {"name": "f"}}])),
        ("chat", [chunk(WORDS), chunk("", finish="stop"), chunk(None, NONE_WRITTEN)]),
        ("messages", claude(NONE_WRITTEN_CLAUDE)),
        ("messages", claude_stream({"output_tokens": 0})),
        ("responses", response(NONE_WRITTEN_CLAUDE | {"total_tokens": 10})),
    ],
)
def test_an_answer_that_was_written_did_not_cost_nothing_to_write(api: str, payload: Any) -> None:
    """A proxy that counts no output makes it not free: the bound is charged, and flagged."""
    row = ask(api, payload)
    assert (row.usage_source, row.output_tokens, row.flags) == ("estimated", 300, ("invalid_usage",))


@pytest.mark.parametrize(
    ("api", "payload", "nusd"),
    [("chat", chat(NONE_WRITTEN, ""), 25_000), ("messages", claude(NONE_WRITTEN_CLAUDE, ""), 20_000)],
)
def test_an_empty_answer_costs_its_input(api: str, payload: Any, nusd: int) -> None:
    """Nothing was written, and nothing is charged for it."""
    row = ask(api, payload)
    assert (row.usage_source, row.output_tokens, row.nusd, row.flags) == ("provider", 0, nusd, ())


@pytest.mark.parametrize("take", [4, None])
def test_a_count_that_comes_first_is_not_the_whole(take: int | None) -> None:
    """A server that says its usage before the answer: what follows is charged too, left early or read to the end."""
    events = [chunk(None, NONE_WRITTEN | {"completion_tokens": 1}), *[chunk(WORDS)] * 4, chunk("", finish="stop")]
    row = ask("chat", events, take)
    assert row.output_tokens >= 300
    assert row.cost_status == "estimated"


@pytest.mark.parametrize(
    ("told", "output"),
    [
        ({"completion_tokens": 20, "total_tokens": 130}, 120),
        (
            {"completion_tokens": 20, "total_tokens": 130, "completion_tokens_details": {"reasoning_tokens": 100}},
            120,
        ),
        ({"completion_tokens": 20, "total_tokens": 30, "completion_tokens_details": {"reasoning_tokens": 100}}, 120),
    ],
)
def test_thinking_that_only_the_total_has_is_charged(told: dict[str, Any], output: int) -> None:
    """Some vendors leave hidden thinking out of the output and bill it all the same."""
    row = ask("chat", chat({"prompt_tokens": 10, **told}))
    assert (row.output_tokens, row.nusd, row.flags) == (output, 25_000 + output * 10_000, ("inconsistent_usage",))


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_that_passes_by_is_seen(name: str) -> None:
    """A stream that is left while the model thinks aloud, in the words of one seller or another: it is charged."""
    thought = chunk("") | {"choices": [{"index": 0, "delta": {name: WORDS}, "finish_reason": None}]}
    said = [chunk(""), *[thought] * 3, chunk("yes", finish="stop"), chunk(None, NONE_WRITTEN)]
    row = ask("chat", said, 4, max_completion_tokens=3_000)
    assert row.usage_source == "stream_partial"
    assert row.output_tokens > 3 * 100
