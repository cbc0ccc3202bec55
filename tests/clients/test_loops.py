"""Loops of real agent loops on the loopback provider: told, ended with their work kept, and what that saves."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, BursarWarning, ConfigError, LoopDetected, LoopGuard, ToolTraits
from bursar.clients.notes import with_notes
from bursar.guards.loop_notes import NOTE_MARK
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.rows import VerdictRow
from tests.clients.books import verdicts_of
from tests.clients.looping_agents import chat, chat_async, forbidden, messages, responses, told, until

Door = Callable[[Provider, Callable[[dict[str, Any]], str]], str]
DOORS = [chat, chat_async, messages, responses]


def nothing(arguments: dict[str, Any]) -> str:
    return "nothing on this page"


def verdicts(run: bursar.Run) -> list[VerdictRow]:
    return [row for row in verdicts_of(run) if row.guard == "loops"]


def history(request: Any) -> list[Any]:
    found: list[Any] = request.body.get("messages") or request.body["input"]
    return found


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_a_loop_is_told_and_goes_another_way(door: Door) -> None:
    """The model asks for one page until a note stands in what it reads, at the third equal result; then it answers."""
    with Provider(latency_s=0.0, replies=until(told)) as provider:
        with bursar.run("look", Budget(usd="5"), LoopGuard()) as run:
            assert door(provider, nothing) == "what I have is this"
        assert len(provider.requests) == 4
    assert run.stop_reason == "finished"
    first, second = verdicts(run)
    assert (first.action, first.streak, second.action, second.streak) == ("notice", 1, "nudge", 2)
    assert (second.reason, second.onset, second.scope) == ("identical_result", 1, "look")
    assert second.tokens
    assert second.nusd


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_a_loop_that_goes_on_is_ended_with_its_work(door: Door) -> None:
    """The model goes on until it may not call tools: its last answer comes at the seventh result, the tools are kept
    in the request, the run says why it ended, and most of what forty turns cost is saved."""
    costs = {}
    for guards in ((), (LoopGuard(),)):
        with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
            with bursar.run("look", Budget(usd="50"), *guards) as run:
                answer = door(provider, nothing)
            costs[bool(guards)] = provider.billed_nusd
            requests = list(provider.requests)
    assert answer == "what I have is this"
    assert len(requests) == 8
    assert requests[-1].body["tools"] == requests[0].body["tools"]
    assert run.stop_reason == "loop"
    assert [row.action for row in verdicts(run)] == ["notice", "nudge", "notice", "block", "notice", "finish"]
    assert costs[True] < 0.25 * costs[False]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_notes_stay_where_they_are(door: Door) -> None:
    """Every request begins with the one before it: a note keeps its place and its bytes, right after the results."""
    with Provider(latency_s=0.0, replies=until(forbidden)) as provider:
        with bursar.run("look", Budget(usd="50"), LoopGuard()):
            door(provider, nothing)
        sent = [history(request) for request in provider.requests]
    for before, after in pairwise(sent):
        assert json.dumps(after).startswith(json.dumps(before)[:-1])
    assert sum(json.dumps(message).count(NOTE_MARK) for message in sent[-1]) == 3


def test_a_model_that_cannot_stop_is_stopped() -> None:
    """Tools are called even where they are forbidden: the next request is refused with its numbers, nothing is sent."""
    with Provider(latency_s=0.0, replies=until(lambda _: False)) as provider:
        with bursar.run("look", Budget(usd="50"), LoopGuard()) as run, pytest.raises(LoopDetected) as stopped:
            chat(provider, nothing)
        assert len(provider.requests) == 8
    error = stopped.value
    assert (error.kind, error.streak, error.onset, error.run) == ("identical_result", 7, 1, run)
    assert error.tokens > 0
    assert error.usd
    assert not error.sent
    assert run.stop_reason == "loop"
    assert verdicts(run)[-1].action == "deny"


def test_raise_at_once() -> None:
    """`on_loop="raise"`: no last answer is asked for."""
    with Provider(latency_s=0.0, replies=until(lambda _: False)) as provider:
        with bursar.run("look", Budget(usd="50"), LoopGuard(on_loop="raise")), pytest.raises(LoopDetected):
            chat(provider, nothing)
        assert len(provider.requests) == 7


def test_a_poll_that_is_declared_goes_on() -> None:
    """Thirty equal answers of a poll: not a word, and the answer after them."""
    with Provider(latency_s=0.0, replies=until(lambda request: len(history(request)) > 60)) as provider:
        guard = LoopGuard(tools={"look": ToolTraits(effect="poll")})
        with bursar.run("look", Budget(usd="50"), guard) as run:
            assert chat(provider, nothing)
    assert verdicts(run) == []
    assert run.stop_reason == "finished"


def test_observe_says_and_does_nothing() -> None:
    """What would have been said is recorded as not acted; requests are as the caller made them."""
    with Provider(latency_s=0.0, replies=until(lambda request: len(history(request)) > 20)) as provider:
        with bursar.run("look", Budget(usd="50"), LoopGuard(), mode="observe") as run:
            chat(provider, nothing)
        assert not any(told(request) or forbidden(request) for request in provider.requests)
    assert {row.action for row in verdicts(run)} >= {"nudge", "block", "finish"}
    assert not any(row.acted for row in verdicts(run))
    assert run.stop_reason == "finished"


def test_the_user_may_ask_again() -> None:
    """The same question six times by the user is six times the same call, and no loop."""
    replies = iter([Reply(text="", tool_calls=[ToolUse("look", {"page": 1})]), Reply(text="this")] * 6)
    said: list[Any] = []
    with Provider(latency_s=0.0, replies=lambda _: next(replies)) as provider:
        with bursar.run("look", Budget(usd="50"), LoopGuard()) as run:
            for _ in range(6):
                said.append({"role": "user", "content": "look for it"})
                chat(provider, nothing, messages=said)
    assert verdicts(run) == []


def test_a_rewritten_history_is_read_once() -> None:
    """What the caller drops may be read again; what is left of the history is not counted twice."""
    answers = iter(
        [*[Reply(text="", tool_calls=[ToolUse("look", {"page": n})]) for n in (1, 2, 3, 1, 2, 3)], Reply(text="x")]
    )
    with Provider(latency_s=0.0, replies=lambda _: next(answers)) as provider:
        with (
            openai.OpenAI(base_url=provider.openai_url, api_key="x") as bare,
            bursar.run("x", Budget(usd="9"), LoopGuard()) as run,
        ):
            client, said = bursar.wrap(bare), list[Any]([{"role": "user", "content": "go"}])
            for n in range(7):
                message = client.chat.completions.create(model="gpt-4o", messages=said).choices[0].message
                said.append(message)
                for call in message.tool_calls or []:
                    said.append({"role": "tool", "tool_call_id": call.id, "content": "page"})
                if n == 4:
                    del said[1:7]
    # Page 1 was asked for while it was still there; 2 and 3 only after they had been dropped.
    assert [row.action for row in verdicts(run)] == ["notice"]


def test_the_innermost_loop_guard_holds() -> None:
    """A run in a run has its own; one without uses that around it, or the client's."""
    with Provider(latency_s=0.0, replies=until(told)) as provider:
        with bursar.run("outer", Budget(usd="50"), LoopGuard(nudge=1)):
            chat(provider, nothing)
            assert len(provider.requests) == 3
            with bursar.run("inner", Budget(usd="50")):
                chat(provider, nothing)
            assert len(provider.requests) == 6
            with bursar.run("inner", Budget(usd="50"), LoopGuard(nudge=3)):
                chat(provider, nothing)
            assert len(provider.requests) == 11


def test_agents_with_one_prompt_are_conversations_of_their_own() -> None:
    """Eight at once in one run ask the same: each is told of its own loop only, after its own third result."""
    with Provider(latency_s=0.0, replies=until(told)) as provider:
        with bursar.run("look", Budget(usd="50"), LoopGuard()) as run, ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(run.bind(chat), provider, nothing) for _ in range(8)]
            assert [one.result() for one in asked] == ["what I have is this"] * 8
        assert len(provider.requests) == 8 * 4


def test_two_loop_guards_are_one_too_many() -> None:
    """Which of the two would hold is not said."""
    with pytest.raises(ConfigError, match="two LoopGuards"):
        bursar.run("x", LoopGuard(), LoopGuard(nudge=1))


def test_a_defect_of_the_guard_is_said_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key function of the user that fails counts all arguments; what breaks the guard itself is a warning."""

    def odd(*_: Any) -> Any:
        raise RuntimeError("odd")

    guard = LoopGuard(tools={"look": ToolTraits(loop_key=lambda _: 1 / 0)})
    with Provider(latency_s=0.0, replies=until(told)) as provider, bursar.run("look", Budget(usd="9"), guard):
        assert chat(provider, nothing)
        assert len(provider.requests) == 4
        monkeypatch.setattr("bursar.clients.loops.take_in", odd)
        with pytest.warns(BursarWarning, match="RuntimeError: odd"):
            chat(provider, nothing)
        assert len(provider.requests) > 4


def test_a_note_of_the_older_form_has_its_place() -> None:
    """Results that are told apart by the name of a function only: the how manieth it was."""
    call = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}
    result = {"role": "function", "name": "look", "content": "x"}
    body = {"messages": [call, result, call, result, call, result]}
    noted = with_notes("chat", body, {("look", 1): "note"})
    assert noted["messages"][4] == {"role": "user", "content": "note"}
    assert len(noted["messages"]) == 7
    assert with_notes("chat", {"messages": 7}, {("look", 1): "note"}) == {"messages": 7}
