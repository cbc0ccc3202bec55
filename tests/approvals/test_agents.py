"""Gates in an agent's middleware, awaited and not, and on a model that takes the place of one that failed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from langchain.agents import create_agent

import bursar
from bursar import ApprovalDenied, Budget, CostGate
from bursar.approvals import Question, Reply
from bursar.callbacks import BursarMiddleware
from bursar.runs.process import process
from bursar.testing import Provider, ToolUse, scripted
from bursar.testing import Reply as Answer
from tests.approvals.test_gates import Person, states
from tests.callbacks.models import claude
from tests.clients.books import verdicts_of

ASK: Any = {"messages": [("user", "pay bob")]}
PAY = Answer(output_tokens=5, tool_calls=(ToolUse("pay", {"to": "bob", "amount": 3}),))
BUSY = Answer(status=429)
HOW = pytest.mark.parametrize("how", ["sync", "async"])


class Payer:
    """An agent that may pay, through the middleware."""

    def __init__(self, provider: Provider, *gates: CostGate, on_stop: str = "raise") -> None:
        self.paid: list[tuple[str, int]] = []

        def pay(to: str, amount: int) -> str:
            """Pay somebody."""
            self.paid.append((to, amount))
            return f"paid {amount}"

        middleware = [BursarMiddleware(*gates, on_stop=on_stop)]
        self._agent: Any = create_agent(claude(provider), [pay], middleware=middleware)

    def run(self, how: str, times: int = 1) -> list[str]:
        """What the tool's messages say in the end, of so many conversations one after the other."""

        async def work() -> list[Any]:
            return [await self._agent.ainvoke(ASK) for _ in range(times)]

        states = asyncio.run(work()) if how == "async" else [self._agent.invoke(ASK) for _ in range(times)]
        return [message.text for state in states for message in state["messages"] if message.type == "tool"]

    async def arun(self) -> None:
        """One conversation, awaited."""
        await self._agent.ainvoke(ASK)


@HOW
def test_an_agents_tool_is_asked_about_refused_and_edited(how: str) -> None:
    """A no is what the model reads, an edit what runs, a yes runs what was asked for; each decided once."""
    person = Person(
        Reply(False, reason="too much", by="ana"), Reply(True, arguments={"to": "bob", "amount": 1}), Reply(True)
    )
    with Provider(latency_s=0.0, replies=scripted([PAY, Answer(text="Well.")] * 3)) as provider:
        payer = Payer(provider, CostGate(tool="pay", ask="always", approver=person))
        with bursar.run("w", Budget(usd="1")) as run:
            said = payer.run(how, times=3)
            assert run.spend.held.nusd == 0
            assert run.spend.settled.nusd == provider.billed_nusd
    assert payer.paid == [("bob", 1), ("bob", 3)]
    assert "refused by ana: too much" in said[0]
    assert said[1:] == ["paid 1", "paid 3"]
    assert [json.loads(question.arguments) for question in person.asked] == [{"to": "bob", "amount": 3}] * 3
    assert states() == ["denied", "used", "used"]


@HOW
def test_an_agents_model_call_is_asked_about(how: str) -> None:
    """A yes sends it; a no stops the agent, and nothing is sent."""
    person = Person(Reply(True), Reply(False, reason="enough"))
    with Provider(latency_s=0.0, replies=scripted([PAY, Answer(text="Done.")])) as provider:
        payer = Payer(provider, CostGate(model="*", ask="always", approver=person))
        with bursar.run("w", Budget(usd="1")) as run, pytest.raises(ApprovalDenied, match="enough"):
            payer.run(how)
        assert len(provider.charges) == 1
    assert run.spend.settled.nusd == provider.billed_nusd
    assert payer.paid == [("bob", 3)]
    assert states() == ["used", "denied"]


@HOW
def test_an_agents_budget_is_raised(how: str) -> None:
    """At its end somebody is asked for more, and the agent goes on: it does not finish early."""
    person = Person(Reply(True, raise_usd="0.10", by="ana"))
    with Provider(latency_s=0.0, replies=scripted([PAY, Answer(text="Done.")])) as provider:
        payer = Payer(provider, CostGate(ask="full", approver=person), on_stop="finish")
        with bursar.run("w", Budget(usd="0.00001")) as run:
            assert payer.run(how) == ["paid 3"]
    assert len(person.asked) == 1
    assert run.limits["usd"] == 100_010_000
    assert [v.action for v in verdicts_of(run) if v.guard == "gate"] == ["ask", "approved", "raise"]


def test_an_agents_loop_goes_on_while_somebody_thinks() -> None:
    """Two agents on one loop: one waits for its answer, the other is done meanwhile."""

    async def main() -> None:
        done = asyncio.Event()

        async def person(question: Question) -> bool:
            await done.wait()
            return True

        with Provider(
            latency_s=0.0, replies=lambda r: PAY if "tool_result" not in str(r.body) else Answer()
        ) as provider:
            slow = Payer(provider, CostGate(tool="pay", ask="always", approver=person))
            quick = Payer(provider)
            with bursar.run("w", Budget(usd="1")):
                waiting = asyncio.create_task(slow.arun())
                await quick.arun()
                assert (quick.paid, slow.paid) == ([("bob", 3)], [])
                done.set()
                await waiting
            assert slow.paid == [("bob", 3)]

    asyncio.run(main())


def test_a_fallback_to_a_dearer_model_is_asked_about() -> None:
    """After a failure of gpt-4o-mini the same to gpt-4o asks, and to a cheaper one does not; the why names both."""
    person = Person(Reply(False, reason="wait for the small one"), Reply(True))
    said: Any = [{"role": "user", "content": "Name three rivers."}]
    with Provider(latency_s=0.0, replies=scripted([BUSY, BUSY, BUSY, Answer(), Answer()])) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            create: Any = bursar.wrap(bare).chat.completions.create

            def ask(model: str) -> Any:
                return create(model=model, messages=said, max_completion_tokens=50)

            with bursar.run("w", Budget(usd="1"), CostGate(ask="dearer", approver=person)):
                with pytest.raises(openai.RateLimitError):
                    ask("gpt-4o-mini")
                with pytest.raises(ApprovalDenied, match="wait for the small one"):
                    ask("gpt-4o")
                assert len(provider.requests) == 1
                with pytest.raises(openai.RateLimitError):
                    ask("gpt-4o")
            assert len(person.asked) == 2
            with bursar.run("w", Budget(usd="1"), CostGate(ask="dearer", approver=person)):
                with pytest.raises(openai.RateLimitError):
                    ask("gpt-4o")
                ask("gpt-4o-mini")
                # No fallback and nothing declared: a dear model by itself asks nothing.
                create(model="gpt-4o", messages=[{"role": "user", "content": "And lakes?"}], max_completion_tokens=50)
    assert len(person.asked) == 2
    assert "it takes the place of 'gpt-4o-mini', which would cost" in person.asked[0].why
    assert process().approvals.book.open_ones() == []
