"""Hashes of the blocks of a prompt: the same for the same words, in every process; another where one word changed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from bursar.clients import blocks
from bursar.clients.requests import read

TOOL = {"name": "search", "description": "look it up", "input_schema": {"type": "object"}}
SAID = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "messages": {
        "model": "claude-sonnet-5-5",
        "max_tokens": 9,
        "system": "be brief",
        "messages": SAID,
        "tools": [TOOL],
    },
    "chat": {"model": "gpt-4o", "messages": [{"role": "system", "content": "be brief"}, *SAID], "tools": [TOOL]},
    "responses": {"model": "gpt-4o", "instructions": "be brief", "input": SAID, "tools": [TOOL]},
}


def hashes(api: str, **changes: Any) -> tuple[str | None, str | None]:
    found = read(api, BODIES[api] | changes, None).transcript
    return found.system_hash, found.tools_hash


@pytest.mark.parametrize("api", BODIES)
def test_each_block_has_a_hash_of_its_own(api: str) -> None:
    """What the user says changes none; other tools change that of tools alone; nothing has no hash."""
    system, tools = hashes(api)
    assert system
    assert tools
    conversation = "input" if api == "responses" else "messages"
    begun = BODIES[api][conversation]
    assert hashes(api, **{conversation: [*begun, {"role": "assistant", "content": "hi"}]}) == (system, tools)
    other = hashes(api, tools=[TOOL | {"description": "look it up twice"}])
    assert other[0] == system
    assert other[1] not in (None, tools)
    assert hashes(api, tools=[]) == (system, None)


def test_the_same_words_have_the_same_hash_whoever_says_them() -> None:
    """At all three entry points, also when what was seen before is forgotten."""
    assert len({hashes(api) for api in BODIES}) == 1
    before = hashes("chat")
    blocks._known.clear()
    assert hashes("chat") == before


def test_another_process_makes_the_same_hash() -> None:
    """Python's own hashes differ from process to process; these do not, so that ledgers can be compared."""
    code = "from bursar.clients.blocks import block_hash; print(block_hash([hash('be brief')], lambda: ['be brief']))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == hashes("messages")[0]


def test_a_changed_system_prompt_is_another_block() -> None:
    """One word more is another hash; a developer's message counts as one of the system's."""
    system, tools = hashes("messages")
    changed = hashes("messages", system="be very brief")
    assert (changed[0] != system, changed[1]) == (True, tools)
    assert hashes("chat", messages=[{"role": "developer", "content": "be brief"}, *SAID])[0] == system
