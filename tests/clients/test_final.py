"""`reserve_final`: a part of the limit that only the last call can draw on, and that call can always be made."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, ConfigError
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from tests.clients.books import rows_of, verdicts_of
from tests.clients.callers import CALLERS, HI, Ask, achat, sync_chat, sync_claude, sync_responses

LIMITS: list[dict[str, Any]] = [
    {"usd": "0.02"},
    {"tokens": 2_000},
    {"model_calls": 4},
    {"usd": "0.02", "model_calls": 3},
]


def until_stopped(ask: Ask, provider: Provider) -> BudgetExceeded:
    for _ in range(100):
        try:
            ask(provider)
        except BudgetExceeded as stopped:
            return stopped
    raise AssertionError("a hundred calls under a small limit, and none was refused")


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_after_the_stop_one_last_call_is_made(provider: Provider, ask: Ask, limits: dict[str, Any]) -> None:
    """Whatever limit stops the run, the reserve pays one more call, a second is refused, and no limit is passed."""
    with bursar.run("last", Budget(**limits, reserve_final="auto")) as run:
        stopped = until_stopped(ask, provider)
        assert stopped.why == "reserved"
        assert stopped.scope == f"run {run.id} less its reserve"
        before = len(provider.charges)
        with run.final():
            assert ask(provider) is not None
            with pytest.raises(BudgetExceeded, match="one last call") as second:
                ask(provider)
        assert second.value.why == "final_used"
        with pytest.raises(BudgetExceeded):
            ask(provider)
    assert len(provider.charges) == before + 1
    assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING
    assert all(left >= 0 for left in run.remaining.values())
    assert [verdict.reason for verdict in verdicts_of(run)][:2] == ["reserved", "final_used"]


def test_a_budget_inside_a_run_has_a_last_call_of_its_own(provider: Provider) -> None:
    """As in the first example anybody writes: research, caught, finished from what was set aside in dollars."""
    with bursar.budget(usd="0.02", reserve_final="0.005") as b:
        until_stopped(sync_claude, provider)
        assert b.spend.settled.nusd <= 15_000_000
        with b.final():
            sync_claude(provider)
    assert b.spend.settled.nusd == provider.billed_nusd <= 20_000_000


def test_the_last_answer_is_clamped_to_what_fits() -> None:
    """Asked for four thousand tokens with room for fewer, the last call is sent with a cap that the limit pays."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=4_000)) as provider:
        with bursar.run("clamped", Budget(tokens=3_000, reserve_final="auto")) as run:
            until_stopped(lambda p: sync_chat(p, max_completion_tokens=500), provider)
            with run.final():
                sync_chat(provider, max_completion_tokens=4_000)
        assert 256 <= (provider.requests[-1].max_output_tokens or 0) < 4_000
        assert run.spend.settled.tokens <= 3_000
        last = rows_of(run)[-1]
        assert (last.max_tokens, last.output_tokens) == (4_000, last.sent_max_tokens)


CLAUDE_TOOL: Any = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
RESPONSES_TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}


@pytest.mark.parametrize(
    ("ask", "tool", "none"),
    [
        (CALLERS["claude"], CLAUDE_TOOL, {"type": "none"}),
        (CALLERS["chat"], CHAT_TOOL, "none"),
        (CALLERS["responses"], RESPONSES_TOOL, "none"),
        (CALLERS["async claude"], CLAUDE_TOOL, {"type": "none"}),
        (CALLERS["async chat"], CHAT_TOOL, "none"),
        (CALLERS["async responses"], RESPONSES_TOOL, "none"),
    ],
)
def test_the_last_call_keeps_its_tools_and_cannot_use_them(provider: Provider, ask: Ask, tool: Any, none: Any) -> None:
    """`tools` stays as it was, so the cached prefix stays; only the choice is taken away, in the words of each API."""
    with bursar.run("tools", Budget(model_calls=9, reserve_final="auto")) as run:
        ask(provider, tools=[tool])
        with run.final():
            ask(provider, tools=[tool], tool_choice={"type": "any"} if isinstance(none, dict) else "required")
    before, last = [request.body for request in provider.requests]
    assert "tool_choice" not in before
    assert last["tool_choice"] == none
    assert last["tools"] == before["tools"]


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_without_tools_nothing_is_said_about_them(provider: Provider, ask: Ask) -> None:
    """A request without tools is refused by providers when it names a choice: it is left alone."""
    with bursar.run("plain", Budget(model_calls=9, reserve_final="auto")) as run, run.final():
        ask(provider)
    assert "tool_choice" not in provider.requests[0].body


def test_a_last_call_may_be_streamed(provider: Provider, claude: anthropic.Anthropic) -> None:
    """A stream draws on the reserve like any call."""
    client = bursar.wrap(claude)
    with bursar.run("stream", Budget(tokens=1_000, reserve_final="auto")) as run:
        until_stopped(sync_claude, provider)
        with (
            run.final(),
            client.messages.stream(
                model="claude-sonnet-5-5", max_tokens=300, messages=HI, tools=[CLAUDE_TOOL]
            ) as stream,
        ):
            assert stream.get_final_message().usage.output_tokens > 0
    assert provider.requests[-1].body["tool_choice"] == {"type": "none"}
    assert run.spend.settled.tokens <= 1_000


def test_a_last_call_that_was_not_made_does_not_count() -> None:
    """Refused for its size, or turned away by the provider: the reserve is still there for a call that goes."""
    script = iter([Reply(), Reply(status=429), Reply()])
    with Provider(latency_s=0.0, replies=lambda _: next(script)) as provider:
        with bursar.run("again", Budget(tokens=2_000, reserve_final="auto")) as run:
            sync_chat(provider)
            with run.final():
                with pytest.raises(BudgetExceeded) as refused:
                    sync_chat(provider, messages=[{"role": "user", "content": "word " * 5_000}])
                assert refused.value.why == "no_room"
                with pytest.raises(openai.RateLimitError):
                    sync_chat(provider)
                assert sync_chat(provider) is not None
                with pytest.raises(BudgetExceeded) as second:
                    sync_chat(provider)
    assert second.value.why == "final_used"


def test_the_sdks_own_retry_is_part_of_the_last_call() -> None:
    """One operation: its retries are no second call."""
    script = iter([Reply(status=500), Reply()])
    with Provider(latency_s=0.0, replies=lambda _: next(script)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=2) as bare:
            client = bursar.wrap(bare)
            with bursar.run("retried", Budget(tokens=5_000, reserve_final="auto")) as run, run.final():
                client.chat.completions.create(model="gpt-4o", max_completion_tokens=300, messages=HI)
                with pytest.raises(BudgetExceeded):
                    client.chat.completions.create(model="gpt-4o", max_completion_tokens=300, messages=HI)
    assert len(provider.requests) == 2


def test_of_many_last_calls_at_once_one_is_made(provider: Provider) -> None:
    """Twenty tasks inside one final(), and twenty in another block: a single call goes out."""

    async def twenty() -> list[Any]:
        return list(await asyncio.gather(*(achat(provider) for _ in range(20)), return_exceptions=True))

    with bursar.run("many", Budget(tokens=50_000, reserve_final="auto")) as run:
        with run.final():
            first = asyncio.run(twenty())
        with run.final():
            second = asyncio.run(twenty())
    assert len(provider.charges) == 1
    refused = [error for error in [*first, *second] if isinstance(error, Exception)]
    assert len(refused) == 39
    assert all(isinstance(error, BudgetExceeded) for error in refused)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_overspent_and_the_last_call_still_fits(seed: int) -> None:
    """Twelve threads with growing prompts and answers of any size, then the last call: billed <= limit, and it went."""
    dice = random.Random(seed)
    lengths = [dice.randint(1, 600) for _ in range(400)]

    def replies(request: Any) -> Reply:
        return Reply(output_tokens=lengths[len(provider.requests) % 400])

    with Provider(latency_s=0.001, replies=replies) as provider:
        with bursar.run("threads", Budget(usd="0.10", reserve_final="auto")) as run:

            def work(number: int) -> None:
                messages: list[Any] = [{"role": "user", "content": f"task {number} " + "word " * 50}]
                try:
                    for _ in range(30):
                        said = sync_chat(provider, messages=messages, max_completion_tokens=500)
                        messages.append({"role": "assistant", "content": said.choices[0].message.content})
                        messages.append({"role": "user", "content": "and then? " * 10})
                except BudgetExceeded as stopped:
                    assert stopped.why in ("reserved", "no_room", "waited")  # noqa: PT017 - in one of many threads
                    return

            with ThreadPoolExecutor(12) as pool:
                list(pool.map(run.bind(work), range(12)))
            assert run.stop_reason == "budget"
            with run.final():
                sync_chat(provider, messages=[{"role": "user", "content": "sum up " + "word " * 50}])
        assert run.spend.settled.nusd == provider.billed_nusd <= 100_000_000


def test_a_sequential_agent_can_always_finish_on_its_own_context() -> None:
    """Forty steps that grow by what was answered: when the budget stops it, the whole context fits the last call."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=300)) as provider:
        with bursar.run("agent", Budget(usd="0.05", reserve_final="auto")) as run:
            messages: list[Any] = [{"role": "user", "content": "research " + "word " * 200}]
            with pytest.raises(BudgetExceeded):
                for _ in range(200):
                    said = sync_claude(provider, messages=messages, max_tokens=400)
                    messages.append({"role": "assistant", "content": said.content[0].text})
                    messages.append({"role": "user", "content": "go on"})
            with run.final():
                sync_claude(
                    provider, messages=[*messages[:-1], {"role": "user", "content": "finish now"}], max_tokens=400
                )
        assert run.steps > 4
        assert run.spend.settled.nusd == provider.billed_nusd <= 50_000_000


def test_an_outer_reserve_is_not_the_inner_ones(provider: Provider) -> None:
    """Inside b.final() the reserve of the run around it stays set aside; inside run.final() that of b does."""
    with bursar.run("outer", Budget(model_calls=3, reserve_final="auto")) as run:
        with bursar.budget(model_calls=2, reserve_final="auto") as b:
            sync_chat(provider)
            with b.final():
                sync_chat(provider)
            with pytest.raises(BudgetExceeded) as stopped, run.final():
                sync_chat(provider)
            assert stopped.value.scope.startswith("budget ")
        with run.final():
            sync_chat(provider)
    assert len(provider.charges) == 3


def test_several_budgets_of_a_run_give_their_reserves_together(provider: Provider) -> None:
    """A run with two budgets has one final() for both."""
    both = (Budget(model_calls=2, reserve_final="auto"), Budget(tokens=5_000, model_calls=2, reserve_final="auto"))
    with bursar.run("two", *both) as run:
        until_stopped(sync_responses, provider)
        with run.final():
            sync_responses(provider)
    assert run.spend.settled.model_calls == 2


def test_final_where_there_is_nothing_is_a_named_error(provider: Provider) -> None:
    """Nothing set aside, outside of the run, or inside another final(): said where it is written."""
    with bursar.run("none", Budget(model_calls=9)) as run:
        sync_chat(provider)
        with pytest.raises(ConfigError, match="nothing is set aside"):
            run.final()
    with bursar.run("some", Budget(model_calls=9, reserve_final="auto")) as run:
        sync_chat(provider)
        with run.final(), pytest.raises(ConfigError, match="here it is not open"), run.final():
            pass
    with pytest.raises(ConfigError, match="here it is not open"), run.final():
        pass


def test_observing_leaves_the_last_call_as_it_is(provider: Provider) -> None:
    """In observe mode no choice is taken away, and a second call only leaves a verdict."""
    with bursar.run("watched", Budget(model_calls=2, reserve_final="auto"), mode="observe") as run, run.final():
        for _ in range(2):
            sync_chat(provider, tools=[CHAT_TOOL])
    assert ["tool_choice" in request.body for request in provider.requests] == [False, False]
    assert [(verdict.reason, verdict.acted) for verdict in verdicts_of(run)] == [("final_used", False)]


def test_an_async_last_call(provider: Provider) -> None:
    """`async with run.final()` is the same."""

    async def agent() -> bursar.Run:
        async with bursar.run("agent", Budget(model_calls=2, reserve_final="auto")) as run:
            await achat(provider)
            with pytest.raises(BudgetExceeded):
                await achat(provider)
            async with run.final():
                await achat(provider)
        return run

    assert asyncio.run(agent()).spend.settled.model_calls == 2
