"""What happened in a conversation, read from the messages of every wire form."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.clients.steps import Refused, Round, Spoke, StepReader, UserSpoke
from bursar.guards.loop_notes import NOTE_MARK

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"page": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "look", "arguments": '{"page": 2}'}},
    ]},
    {"role": "tool", "tool_call_id": "b", "content": "two"},
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "one"}]},
    {"role": "assistant", "content": "done"},
    {"role": "user", "content": "thanks"},
]  # fmt: skip
OLDER = [
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": '{"page": 1}'}},
    {"role": "function", "name": "look", "content": "one"},
    {"role": "assistant", "content": "done"},
    {"role": "user", "content": "thanks"},
]
MESSAGES = [
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "a", "name": "look", "input": {"page": 1}},
        {"type": "tool_use", "id": "b", "name": "look", "input": {"page": 2}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "a", "content": "one"},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "two"}], "is_error": True},
        {"type": "text", "text": "<reminder>be quick</reminder>"},
    ]},
    {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
    {"role": "user", "content": [{"type": "text", "text": "thanks"}]},
]  # fmt: skip
RESPONSES = [
    {"role": "user", "content": "look"},
    {"type": "reasoning", "id": "r", "summary": []},
    {"type": "function_call", "call_id": "a", "name": "look", "arguments": '{"page": 1}'},
    {"type": "custom_tool_call", "call_id": "b", "name": "look", "input": "page 2"},
    {"type": "function_call_output", "call_id": "a", "output": "one"},
    {"type": "custom_tool_call_output", "call_id": "b", "output": "two"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
    {"role": "user", "content": [{"type": "input_text", "text": "thanks"}]},
]


def read(messages: list[Any]) -> list[Any]:
    reader = StepReader()
    return [found for n, message in enumerate(messages) for found in reader.feed(message, n)] + list(reader.finish())


@pytest.mark.parametrize(
    "messages", [CHAT, OLDER, MESSAGES, RESPONSES], ids=["chat", "older chat", "messages", "responses"]
)
def test_every_form_says_the_same(messages: list[Any]) -> None:
    """The user, one round of calls in the order they were asked for with their results, the answer, the user."""
    first, round_, spoke, last = read(messages)
    assert isinstance(first, UserSpoke)
    assert isinstance(round_, Round)
    assert [call.call_id for call in round_.calls] == (["look"] if messages is OLDER else ["a", "b"])
    assert {call.tool for call in round_.calls} == {"look"}
    assert round_.calls[0].content in ("one", [{"type": "text", "text": "one"}])
    assert spoke == Spoke("done", len(messages) - 2)
    assert isinstance(last, UserSpoke)


def test_a_flag_of_failure_is_read() -> None:
    """Where the protocol has one."""
    round_ = read(MESSAGES)[1]
    assert [call.is_error for call in round_.calls] == [None, True]


def test_calls_without_results_are_not_complete() -> None:
    """A round is what has come back; what was never asked for is passed over."""
    assert [len(found.calls) for found in read(CHAT[:4]) if isinstance(found, Round)] == [1]
    assert read([{"role": "tool", "tool_call_id": "x", "content": "orphan"}, 7, None, {}, {"role": 3}]) == []


def test_notes_of_the_guard_are_nobodys_words() -> None:
    """A note is no message of the user and no part of a result."""
    noted = [
        *CHAT[:3],
        {**CHAT[3], "content": f"{NOTE_MARK}stop\ntwo"},
        CHAT[4],
        {"role": "user", "content": f"{NOTE_MARK}stop"},
    ]
    first, round_ = read(noted)
    assert isinstance(first, UserSpoke)
    assert round_.calls[1].content == "two"


def test_a_refused_call_is_told_as_one() -> None:
    """What stands in place of a result makes no round; a call beside it that was made does."""
    refused = {**CHAT[3], "content": f"{NOTE_MARK}Not done."}
    assert read([*CHAT[:3], CHAT[4], refused])[2] == Refused(CHAT[3]["tool_call_id"], "look")
    _, round_, _ = read([*CHAT[:3], CHAT[4], refused])
    assert [call.call_id for call in round_.calls] == [CHAT[4]["tool_call_id"]]


def test_one_round_after_the_other() -> None:
    """Calls of Responses that come back one by one are rounds of their own; ids may be used again."""
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    assert [len(found.calls) for found in read([call, output, call, output])] == [1, 1]


def test_objects_of_an_sdk_are_read_as_their_data() -> None:
    """A message that the caller appended as the SDK gave it."""
    from openai.types.chat import ChatCompletionMessage

    message = ChatCompletionMessage.model_validate(CHAT[2])
    (round_,) = read([message, *CHAT[3:5]])
    assert [call.tool for call in round_.calls] == ["look", "look"]
