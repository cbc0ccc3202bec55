"""An agent with a dear tool that somebody is asked about: `python examples/approval.py`, with or without a key.

At a terminal one key answers (e changes the arguments, d says why not); without one a rule of the program does.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import anthropic

import bursar
from bursar import Budget, CostGate
from bursar.approvals import Question, Reply
from bursar.testing import Provider, ToolUse, scripted
from bursar.testing import Reply as Answer

TOOLS = [{"name": "survey", "input_schema": {"type": "object", "properties": {"people": {"type": "integer"}}}}]
SCRIPT = [Answer(tool_calls=(ToolUse("survey", {"people": 5_000}),)), Answer(text="Most like it.")]


@bursar.tool(usd="1.50", effect="write")
def survey(people: int) -> str:
    """Ask people what they think."""
    return f"{people} people were asked: 61 % like it"


def thrifty(question: Question) -> Reply:
    """Answers where nobody sits at a terminal: yes, but to fewer people."""
    return Reply(yes=question.name == "survey", arguments={"people": 100})


def main() -> None:
    """Ask the model, run what it asks for when that is approved, and let it answer."""
    gate = CostGate(ask_above_usd="1", approver=["terminal 60s", thrifty])
    with ExitStack() as stack:
        client = anthropic.Anthropic()
        if "ANTHROPIC_API_KEY" not in os.environ:
            provider = stack.enter_context(Provider(latency_s=0.0, replies=scripted(SCRIPT)))
            client = stack.enter_context(anthropic.Anthropic(base_url=provider.anthropic_url, api_key="none"))
        client = bursar.wrap(client)
        run = stack.enter_context(bursar.run("research", Budget(usd="5"), gate))
        said = [{"role": "user", "content": "Do people like it? Ask them."}]
        while True:
            options = {"model": "claude-haiku-5-5", "max_tokens": 500, "tools": TOOLS}
            answer = client.messages.create(messages=said, **options)
            said.append({"role": "assistant", "content": answer.content})
            asked = [block for block in answer.content if block.type == "tool_use"]
            if not asked:
                break
            results = [{"type": "tool_result", "tool_use_id": one.id, "content": survey(**one.input)} for one in asked]
            said.append({"role": "user", "content": results})
            print(results[0]["content"])
    print(run)


if __name__ == "__main__":
    main()
