"""`bursar.trim` in every wire form: what is sent is a conversation, and between two cuts it only grows."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bursar
from bursar import ConfigError, ContextWindow, WindowMemory, trim
from scripts.window_histories import examine
from tests.clients.conversations import FORMS, agent, check, extends, recorded, requests, text_of
from tests.clients.loopback_histories import histories

STRATEGIES = ["ladder", "drop", "clear_results", "summarise", "slide"]


def window(strategy: str, tokens: int) -> ContextWindow:
    if strategy == "slide":
        with pytest.warns(bursar.BursarWarning, match="written anew"):
            return ContextWindow(tokens=tokens, strategy="slide")
    summarise = (lambda messages: f"{len(messages)} messages") if strategy == "summarise" else None
    return ContextWindow(tokens=tokens, strategy=strategy, summarise=summarise)


def replay(form: str, strategy: str, messages: list[dict[str, Any]], tokens: int, *, stateless: bool = False) -> int:
    """Trim at every request of a run and check each; returns how many cuts were seen."""
    spec, memory = window(strategy, tokens), None if stateless else WindowMemory()
    whole, cuts, before = FORMS[form](messages), 0, None
    ends = [len(FORMS[form](messages[:at])) for at in requests(messages)]
    for end in ends:
        given_ = whole[:end]
        copy = json.dumps(text_of(form, given_))
        made = None if memory is None else memory.last
        sent = trim(given_, spec, memory=memory)
        assert json.dumps(text_of(form, given_)) == copy, "what was given is not changed"
        check(form, given_, sent)
        text = text_of(form, sent)
        if before is not None and not extends(before, text):
            cuts += 1
            assert memory is None or memory.last is not made, "the prefix changes by cuts alone"
        before = text
    return cuts


def sample(count: int) -> list[list[dict[str, Any]]]:
    """Recorded runs, the longest and some others; where there are none, runs at the provider on loopback.

    All of them, cut at every step, are for `scripts/window_histories.py`.
    """
    found = sorted(recorded("[!i]*") or histories(), key=len)
    return [*found[-count // 2 :], *random.Random(5).sample(found, count // 2)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("form", FORMS)
def test_recorded_runs_stay_conversations_and_grow_at_their_end(form: str, strategy: str) -> None:
    """Cut at every request: pairs whole, first and latest user message there, last turn whole, SDK's types satisfied."""
    cuts = [replay(form, strategy, messages, 2_000) for messages in sample(4)]
    assert sum(cuts) > 0


def test_cut_at_every_step_by_every_strategy() -> None:
    """What the script asks of every recorded run, of one that was had with the provider on loopback."""
    counts, failure = examine(("loopback", histories()[0]))
    assert not failure
    assert counts["cuts"] > counts["requests"]


@pytest.mark.parametrize("strategy", ["ladder", "drop", "clear_results"])
@pytest.mark.parametrize("form", FORMS)
def test_without_a_memory_the_cut_is_found_again(form: str, strategy: str) -> None:
    """No state at all: the cuts are as few as a window of half its size needs, and what is sent only grows between."""
    messages = agent(40, words=170)
    cuts = replay(form, strategy, messages, 4_000, stateless=True)
    assert 2 <= cuts <= 16


@settings(max_examples=30, deadline=None)
@given(
    steps=st.integers(0, 20),
    users=st.integers(1, 6),
    words=st.integers(0, 300),
    tokens=st.integers(200, 4_000),
    form=st.sampled_from(list(FORMS)),
    strategy=st.sampled_from(STRATEGIES),
    stateless=st.booleans(),
)
def test_any_agent_any_window(
    steps: int, users: int, words: int, tokens: int, form: str, strategy: str, stateless: bool
) -> None:
    """Whatever the sizes, what is sent is a conversation that has what must stay."""
    if stateless and strategy == "summarise":
        strategy = "ladder"
    replay(form, strategy, agent(steps, users=users, words=words), tokens, stateless=stateless)


SYSTEM: Any = {"role": "system", "content": "Be brief."}


def test_the_note_stands_in_the_first_message_of_the_user() -> None:
    """Roles go on in turn, and what the user wrote is still the beginning of what is sent."""
    sent = trim(agent(60), ContextWindow(tokens=3_000, strategy="drop"))
    assert sent[0] == SYSTEM
    assert sent[1]["content"].startswith("Read all.\n\n[context window] ")
    assert sent[2]["role"] == "assistant"
    for form, kind in (("messages", "text"), ("responses", "input_text")):
        given_ = FORMS[form](agent(60))
        first = next(i for i, message in enumerate(given_) if message["role"] == "user")
        given_[first] = {"role": "user", "content": [{"type": kind, "text": "Read all."}]}
        content = trim(given_, ContextWindow(tokens=3_000, strategy="drop"))[first]["content"]
        assert content[0] == {"type": kind, "text": "Read all."}
        assert content[1]["type"] == kind
        assert content[1]["text"].startswith("[context window] ")


def test_what_was_trimmed_may_be_trimmed_again() -> None:
    """A loop that keeps only what it was given back: one note, and pairs as whole as before."""
    memory, spec = WindowMemory(), ContextWindow(tokens=2_000, strategy="drop")
    for kept in (memory, None):
        messages: list[Any] = agent(1)
        for step in agent(60)[5:]:
            if step["role"] == "assistant":
                before = messages
                messages = trim(messages, spec, memory=kept)
                check("chat", before, messages)
            messages.append(step)
        assert messages[1]["content"].count("[context window]") == 1
        assert len(messages) < 40


def test_without_a_user_the_note_stands_alone() -> None:
    """A conversation of the model and its tools: the note is a message of the user after what the system says."""
    for form in ("chat", "langchain"):
        given_ = FORMS[form]([message for message in agent(40) if message["role"] != "user"])
        sent = trim(given_, ContextWindow(tokens=2_000, strategy="drop"))
        assert "[context window] " in text_of(form, sent)[1]
        assert len(sent) < len(given_)


def test_pinned_messages_stay_and_a_rule_that_fails_drops_nothing() -> None:
    """What `pin` says yes to is there with its whole turn, after every cut."""
    keep = ContextWindow(tokens=2_000, pin=lambda message: "page 3 " in str(message["content"]))  # type: ignore[index]
    sent = trim(agent(60), keep)
    assert next(m for m in agent(60) if "page 3 " in str(m["content"])) in sent
    assert next(m for m in agent(60) if m["content"] == "step 3") in sent
    assert trim(agent(60), ContextWindow(tokens=2_000, pin=lambda message: message["nothing"])) == agent(60)  # type: ignore[index]


def test_a_result_in_pictures_is_not_cleared() -> None:
    """What stands for a picture would have to be one: such a result stays as it is until its turn is dropped."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA" * 1_000}}
    given_: list[Any] = [{"role": "user", "content": "look"}]
    for n in range(8):
        given_.append(
            {"role": "assistant", "content": [{"type": "tool_use", "id": f"c{n}", "name": "look", "input": {}}]}
        )
        content: Any = [picture] if n == 0 else "word " * 500
        given_.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"c{n}", "content": content}]}
        )
    sent = trim(given_, ContextWindow(tokens=4_500, strategy="clear_results"))
    assert sent[2] == given_[2]
    assert sent[4]["content"][0]["content"].startswith("[context window] ")
    assert sent[4]["content"][0]["tool_use_id"] == "c1"


def test_objects_of_the_sdks_are_read_as_what_they_send() -> None:
    """An agent that appends `response.content` and `response.output` as they are is trimmed like one of plain data."""
    from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock
    from openai.types.responses import ResponseFunctionToolCall

    blocks: list[Any] = [{"role": "user", "content": "look"}]
    items: list[Any] = [{"role": "user", "content": "look"}]
    for n in range(30):
        said = [ThinkingBlock(type="thinking", thinking="hm", signature="s"), TextBlock(type="text", text="a")]
        use = ToolUseBlock(type="tool_use", id=f"c{n}", name="look", input={"page": n})
        blocks.append({"role": "assistant", "content": [*said, use]})
        blocks.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"c{n}", "content": "word " * 90}]}
        )
        items.append(
            ResponseFunctionToolCall(type="function_call", call_id=f"c{n}", name="look", arguments=f'{{"page": {n}}}')
        )
        items.append({"type": "function_call_output", "call_id": f"c{n}", "output": "word " * 90})
    for given_ in (blocks, items):
        sent = trim(given_, ContextWindow(tokens=1_500, strategy="drop"))
        assert 3 < len(sent) < 40
        assert all(any(message is other for other in given_) for message in sent[1:])
    asked = [item.call_id for item in sent if isinstance(item, ResponseFunctionToolCall)]
    assert asked == [item["call_id"] for item in sent if isinstance(item, dict) and "call_id" in item]


def test_the_memory_goes_on_in_another_process() -> None:
    """Dumped as JSON and loaded, the next request still begins as the last one."""
    memory, spec, messages = WindowMemory(), ContextWindow(tokens=3_000), agent(40)
    for end in requests(messages):
        sent = trim(messages[:end], spec, memory=memory)
    loaded = WindowMemory.load(json.loads(json.dumps(memory.dump())))
    assert memory.last is not None
    assert trim(messages[:end], spec, memory=loaded) == sent


def test_a_summary_stands_for_what_was_dropped() -> None:
    """The function sees what the model saw up to the cut, the last summary included, and what it says is sent on."""
    seen: list[list[Any]] = []

    def sum_up(messages: list[Any]) -> str:
        seen.append(messages)
        return f"summary {len(seen)}"

    memory, messages = WindowMemory(), agent(150)
    spec = ContextWindow(tokens=6_000, strategy="summarise", summarise=sum_up)
    for end in requests(messages):
        sent = trim(messages[:end], spec, memory=memory)
        assert not seen or f"summary {len(seen)}" in sent[1]["content"]
    assert len(seen) > 1
    assert seen[0][:2] == messages[:2]
    assert "summary 1" in seen[1][1]["content"]
    assert "summary 1" not in sent[1]["content"]


def test_what_cannot_be_trimmed_is_said_at_once() -> None:
    """No length known, or a summary without a memory, with a model or with a coroutine function."""

    async def later(messages: list[Any]) -> str:
        return ""

    with pytest.raises(ConfigError, match="no tokens"):
        trim(agent(1))
    with pytest.raises(ConfigError, match="gpt-unheard-of"):
        trim(agent(1), model="gpt-unheard-of")
    for summarise, memory in ((len, None), ("same", WindowMemory()), (later, WindowMemory())):
        with pytest.raises(ConfigError, match="plain function"):
            trim(agent(1), ContextWindow(tokens=9, strategy="summarise", summarise=summarise), memory=memory)


def test_a_model_says_how_long_messages_may_be() -> None:
    """Haiku 5.5 is five times dearer above 100,000 tokens: what would be longer is cut just under it."""
    messages = agent(60, words=2_000)
    assert trim(messages, model="claude-sonnet-5-5") == messages
    assert len(text_of("chat", trim(messages, model="claude-haiku-5-5", memory=(memory := WindowMemory())))) > 0
    assert memory.last is not None
    assert memory.last.trigger == 98_000
