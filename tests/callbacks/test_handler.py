"""The callback handler: opens and closes each model call once, wherever and however often it is attached."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

import bursar
from bursar import Budget, RetryCap
from bursar.callbacks import BursarCallbackHandler
from bursar.callbacks.answers import of_result
from bursar.callbacks.calls import calls
from bursar.callbacks.roots import roots
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.events import NOTHING
from tests.callbacks.models import CAP, claude, embeddings, gpt
from tests.clients.books import rows_of, verdicts_of

MODELS = pytest.mark.parametrize("make", [claude, gpt], ids=["claude", "gpt"])


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    """No call and no part of an invocation is kept after a test."""
    yield
    assert calls == {}
    assert roots == {}


class Seen(BaseCallbackHandler):
    """Counts what another handler is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.events.append("start")

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.events.append("end")


async def everything(model: Any) -> None:
    await model.ainvoke("hi")
    async for _ in model.astream("hi"):
        pass
    await model.abatch(["hi", "ho"])


@MODELS
@pytest.mark.filterwarnings("ignore:Unexpected type for token usage")  # langchain_openai adds up a None
def test_nothing_is_passed_inside_a_run(provider: Provider, make: Any) -> None:
    """Inside of a run every way of calling a bare model is charged what the provider bills, once."""
    model = make(provider, **({"stream_usage": True} if make is gpt else {}))
    with bursar.run("x", Budget(usd="1")) as run:
        model.invoke("hi")
        list(model.stream("hi"))
        model.batch(["hi", "ho"])
        model.generate([[AIMessage("a")], [AIMessage("b")]])
        asyncio.run(everything(model))
    assert len(provider.charges) == run.spend.settled.model_calls == 10
    assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING


@MODELS
def test_a_refusal_comes_before_anything_is_sent(provider: Provider, make: Any) -> None:
    """A bare model's call that does not fit raises BudgetExceeded, sync and async, and nothing reaches the provider."""
    model = make(provider)
    with bursar.run("x", Budget(tokens=10)) as run:
        with pytest.raises(bursar.BudgetExceeded):
            model.invoke("hi")
        with pytest.raises(bursar.BudgetExceeded):
            asyncio.run(model.ainvoke("hi"))
        with pytest.raises(bursar.BudgetExceeded):
            list(model.stream("hi"))
    assert provider.requests == []
    assert run.spend.held == NOTHING


@pytest.mark.parametrize("where", ["first", "last", "twice", "config and model and scope"])
def test_however_often_attached_a_call_is_charged_once(provider: Provider, where: str) -> None:
    """First, last, twice, in three places at once: one charge, and the other handler sees its start and its end."""
    handler, other = BursarCallbackHandler("x", Budget(usd="1")), Seen()
    lists: dict[str, list[Any]] = {
        "first": [handler, other],
        "last": [other, handler],
        "twice": [handler, other, handler],
        "config and model and scope": [BursarCallbackHandler("z", Budget(usd="2")), other],
    }
    model = claude(provider, callbacks=[handler]) if where.startswith("config") else claude(provider)
    with bursar.run("outer", Budget(usd="1")) as run:
        model.invoke("hi", config={"callbacks": lists[where]})
    assert run.spend.settled.nusd == provider.billed_nusd
    assert len(rows_of(run)) == len(provider.charges) == 1
    assert other.events == ["start", "end"]


@pytest.mark.parametrize("first", [True, False], ids=["tracer first", "tracer last"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_the_traces_of_others_are_whole(provider: Provider, first: bool, wrapped: bool) -> None:
    """A tracer of LangSmith's kind beside the handler has the whole tree, each part with its end and the model's usage."""
    tracer, handler = RunCollectorCallbackHandler(), BursarCallbackHandler("x", Budget(usd="1"))
    agent = create_agent(bursar.wrap(claude(provider)) if wrapped else claude(provider))
    asked: Any = {"messages": [("user", "hi")]}
    agent.invoke(asked, {"callbacks": [tracer, handler] if first else [handler, tracer]})
    [root] = tracer.traced_runs
    parts = [root]
    for part in parts:
        parts += part.child_runs
        assert part.end_time is not None
        assert part.error is None
    assert "chat_model" in {part.run_type for part in parts} or "llm" in {part.run_type for part in parts}
    assert handler.last_run is not None
    assert handler.last_run.spend.settled.nusd == provider.billed_nusd


def test_the_limits_of_every_handler_apply(provider: Provider) -> None:
    """A handler on the model adds its limits to those of the handler in the config and of the run."""
    strict = BursarCallbackHandler("m", Budget(tokens=1))
    model = claude(provider, callbacks=[strict])
    with bursar.run("outer", Budget(usd="1")) as run:
        with pytest.raises(bursar.BudgetExceeded):
            model.invoke("hi", config={"callbacks": [BursarCallbackHandler("c", Budget(usd="1"))]})
    assert provider.requests == []
    assert run.spend.held == NOTHING


def test_every_kind_of_guard_joins_a_run() -> None:
    """A handler's RetryCap holds inside of a run that it joins: the SDK inside is not let send again."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=500, headers={"retry-after-ms": "1"})) as failing:
        model = bursar.wrap(claude(failing, max_retries=2))
        strict = BursarCallbackHandler("x", RetryCap(attempts=1))
        with bursar.run("x", Budget(usd="1")), pytest.raises(Exception, match=r"500|attempt"):
            model.invoke("hi", {"callbacks": [strict]})
        assert len(failing.requests) == 1


def test_an_invocation_from_outside_is_a_run(provider: Provider) -> None:
    """Outside of any run each invocation has one of its own, named and given back; per="instance" shares one."""
    handler = BursarCallbackHandler("triage", Budget(model_calls=1), user="u-1")
    model = claude(provider)
    chain: Any = RunnableLambda(model.invoke)
    config: Any = {"callbacks": [handler]}
    chain.invoke("hi", config=config)
    first = handler.last_run
    chain.invoke("hi", config=config)
    assert first is not None
    assert handler.last_run is not None
    assert first.id != handler.last_run.id
    assert (first.workflow, first.stop_reason, first.steps) == ("triage", "finished", 1)
    shared = BursarCallbackHandler("triage", Budget(model_calls=1), per="instance")
    chain.invoke("hi", config={"callbacks": [shared]})
    with pytest.raises(bursar.BudgetExceeded) as caught:
        chain.invoke("hi", config={"callbacks": [shared]})
    assert caught.value.run is shared.last_run
    shared.close()
    assert len(provider.charges) == 3


def test_a_handler_on_the_model_alone_limits_all_its_calls(provider: Provider) -> None:
    """Inside of a chain that it does not see, a handler given to a model shares one run over its calls."""
    handler = BursarCallbackHandler("m", Budget(model_calls=1))
    model = claude(provider, callbacks=[handler])
    chain: Any = RunnableLambda(model.invoke)
    chain.invoke("hi")
    with pytest.raises(bursar.BudgetExceeded):
        chain.invoke("hi")
    handler.close()
    assert len(provider.charges) == 1


def test_a_wrapped_client_inside_takes_over(provider: Provider) -> None:
    """Under a handler without a run a wrapped model is charged once, by its client, in the handler's run."""
    handler = BursarCallbackHandler("x", Budget(usd="1"))
    bursar.wrap(claude(provider)).invoke("hi", config={"callbacks": [handler]})
    assert handler.last_run is not None
    assert handler.last_run.spend.settled.nusd == provider.billed_nusd
    assert [row.request_id is not None for row in rows_of(handler.last_run)] == [True]


def test_a_client_wrapped_by_hand_inside_takes_over_too(provider: Provider) -> None:
    """Where nothing marks the model the handler admits first, and gives way to the client: one row, nothing held."""
    model = claude(provider)
    model.__dict__["_client"] = bursar.wrap(model._client)
    with bursar.run("x", Budget(usd="1")) as run:
        model.invoke("hi")
        model.invoke("hi")
    assert len(rows_of(run)) == 2
    assert run.spend.settled.nusd == provider.billed_nusd
    assert run.spend.held == NOTHING


def test_a_mark_without_a_wrapped_client_is_charged_all_the_same(provider: Provider) -> None:
    """A model that only looks wrapped is charged when its call is over, and its row says that nobody admitted it."""
    model = claude(provider, metadata={"bursar": "wrapped"})
    with bursar.run("x", Budget(usd="1")) as run:
        model.invoke("hi")
    assert run.spend.settled.nusd == provider.billed_nusd
    assert ["ungated" in row.flags for row in rows_of(run)] == [True]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_a_hit_of_the_response_cache_costs_nothing(provider: Provider, wrapped: bool) -> None:
    """LangChain reports the usage of a cached answer again: it is not spend, and nothing stays held."""
    model = bursar.wrap(claude(provider)) if wrapped else claude(provider)
    set_llm_cache(InMemoryCache())
    try:
        with bursar.run("x", Budget(usd="1", model_calls=1)) as run:
            model.invoke("hi")
            with bursar.budget(tokens=10_000):
                pass
            paid = run.spend
        with bursar.run("y", Budget(usd="1")) as again:
            model.invoke("hi")
    finally:
        set_llm_cache(None)
    assert paid.settled.nusd == provider.billed_nusd
    assert again.spend.settled == NOTHING
    assert again.spend.held == NOTHING


def test_a_failed_batch_charges_what_was_answered(provider: Provider) -> None:
    """Of a sync generate whose second call fails LangChain never says how the first ended: it is charged at its bound."""
    with (
        Provider(latency_s=0.0, replies=lambda r: Reply(status=400) if "BAD" in str(r.body) else Reply()) as flaky,
        bursar.run("x", Budget(usd="1")) as run,
    ):
        with pytest.raises(Exception, match="400"):
            claude(flaky).generate([[AIMessage("a")], [AIMessage("BAD")]])
        gc.collect()
    assert run.spend.settled.nusd >= flaky.billed_nusd > 0
    assert run.spend.settled.model_calls == 1
    assert run.spend.held == NOTHING


def test_a_cancelled_call_is_charged_at_its_bound() -> None:
    """A cancelled ainvoke tells nobody: its chain's error closes it, or the end of the run; nothing stays held."""

    async def cancelled(target: Any, **options: Any) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(target.ainvoke("hi", **options), 0.2)

    with Provider(latency_s=2.0) as slow:
        model = claude(slow)

        async def inner(text: str) -> Any:
            return await model.ainvoke(text)

        handler = BursarCallbackHandler("chain", Budget(usd="1"))
        with bursar.run("bare", Budget(usd="1")) as run:
            asyncio.run(cancelled(model))
        asyncio.run(cancelled(RunnableLambda(inner), config={"callbacks": [handler]}))
    chain = handler.last_run
    assert chain is not None
    assert chain.stop_reason == "cancelled"
    for each in (run, chain):
        assert each.spend.held == NOTHING
        assert each.spend.unmeasured.nusd == each.spend.settled.nusd > 0
        assert each.spend.settled.output_tokens == CAP


def test_an_abandoned_stream_is_recorded_as_such() -> None:
    """An agent whose stream is dropped is charged for what it showed, and its run ends as abandoned."""
    handler = BursarCallbackHandler("x", Budget(usd="1"))
    reply = Reply(output_tokens=300, chunk_delay_s=0.01)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        asked: Any = {"messages": [("user", "hi")]}
        stream: Any = create_agent(claude(provider)).stream(asked, {"callbacks": [handler]}, stream_mode="messages")
        next(stream)
        stream.close()
        gc.collect()
        provider.wait_idle()
    assert handler.last_run is not None
    assert handler.last_run.stop_reason == "abandoned"
    assert handler.last_run.spend.held == NOTHING
    assert handler.last_run.spend.settled.nusd >= provider.billed_nusd > 0


def test_a_stream_that_ignores_its_cap_is_cut() -> None:
    """A bare model's stream that writes far more than was held for it ends with BudgetExceeded, and is charged."""
    reply = Reply(output_tokens=4_000, ignores_cap=True)
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with bursar.run("x", Budget(tokens=900)) as run, pytest.raises(bursar.BudgetExceeded) as caught:
            list(claude(provider, max_tokens=300).stream("hi"))
    assert caught.value.why == "grew"
    assert caught.value.partial
    assert run.spend.held == NOTHING
    assert [row.status for row in rows_of(run)] == ["blocked"]


def test_a_model_without_a_cap_holds_what_such_calls_use(provider: Provider) -> None:
    """No cap and nobody who could set one: the hold is what was seen, and the row says that nothing bounds it."""
    model = gpt(provider, max_completion_tokens=None)
    with bursar.run("x", Budget(usd="1")) as run:
        for _ in range(3):
            model.invoke("hi")
    rows = rows_of(run)
    assert all("uncapped" in row.flags for row in rows)
    assert rows[0].held_nusd is not None
    assert rows[2].held_nusd is not None
    assert rows[2].held_nusd < rows[0].held_nusd


def test_several_generations_count_their_usage_once(provider: Provider) -> None:
    """With n=3 LangChain copies the usage onto each generation; it is charged once."""
    model = gpt(provider, n=3)
    with bursar.run("x", Budget(usd="1")) as run:
        model.invoke("hi")
    assert run.spend.settled.nusd == provider.billed_nusd


@pytest.mark.parametrize("tier", ["priority", "flex"])
def test_keys_that_are_renamed_by_tier_are_read(tier: str) -> None:
    """LangChain puts the tier into the names of the details: cache and reasoning are found, and so is the tier."""
    message = AIMessage(
        "x",
        usage_metadata={
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "input_token_details": {f"{tier}_cache_read": 30, f"{tier}_cache_creation": 10, tier: 60},
            "output_token_details": {f"{tier}_reasoning": 20, tier: 30},
        },
    )
    answer = of_result(LLMResult(generations=[[ChatGeneration(message=message)]]))
    assert answer.usage is not None
    assert (answer.usage.cache_read_tokens, answer.usage.cache_write_tokens) == (30, 10)
    assert answer.usage.reasoning_tokens == 20
    assert answer.tier_served == tier


def test_a_stream_without_usage_is_not_free(provider: Provider) -> None:
    """Behind a custom base URL LangChain's OpenAI stream has no usage: charged at its bound, flagged estimated."""
    with bursar.run("x", Budget(usd="1")) as run:
        list(gpt(provider).stream("hi"))
    rows = rows_of(run)
    assert [row.usage_source for row in rows] == ["estimated"]
    assert run.spend.settled.nusd >= provider.billed_nusd


def test_tool_calls_are_counted_from_the_answer() -> None:
    """The tool calls that a bare model asks for are counted, streamed or not."""
    reply = Reply(output_tokens=5, tool_calls=(ToolUse("f", {"a": 1}), ToolUse("g")))
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with bursar.run("x", Budget(tool_calls=50)) as run:
            claude(provider).invoke("hi")
            tool: Any = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
            list(claude(provider).bind_tools([tool]).stream("hi"))
    assert run.spend.settled.tool_calls == 4


def test_text_models_and_fakes_are_metered() -> None:
    """A model without usage, chat or text, is counted as a call and charged at a bound; its price is unknown."""
    with bursar.run("x", Budget(model_calls=2)) as run:
        FakeListChatModel(responses=["x"]).invoke("hi")
        FakeListLLM(responses=["x"]).invoke("hi")
        with pytest.raises(bursar.BudgetExceeded):
            FakeListChatModel(responses=["x"]).invoke("hi")
    assert run.spend.settled.model_calls == 2
    assert run.unpriced == 2
    assert [verdict.action for verdict in verdicts_of(run)] == ["deny"]


def test_an_answer_is_never_lost_to_a_defect(provider: Provider) -> None:
    """What the budget has to say after a call is paid for does not take the answer away, as an error either."""
    with bursar.run("x", Budget(usd="0.01", warn_at="1%")):
        assert claude(provider).invoke("hi").content


class Failing(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "failing"

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        raise RuntimeError("no")


def test_a_call_that_failed_after_it_may_have_left_is_charged() -> None:
    """An error of which nobody knows whether anything was sent is charged at the bound."""
    with bursar.run("x", Budget(tokens=10_000)) as run, pytest.raises(RuntimeError):
        Failing().invoke("hi")
    assert run.spend.unmeasured.tokens > 0


def test_embeddings_of_a_wrapped_model_reach_the_run_of_a_handler(provider: Provider) -> None:
    """Inside of an invocation that a handler has opened a run for, wrapped embeddings are charged to it."""
    wrapped = bursar.wrap(embeddings(provider))
    handler = BursarCallbackHandler("x", Budget(usd="1"))
    chain: Any = RunnableLambda(wrapped.embed_query)
    chain.invoke("hi", config={"callbacks": [handler]})
    assert handler.last_run is not None
    assert handler.last_run.spend.settled.nusd == provider.billed_nusd > 0
    assert bursar.current_run() is None


def test_a_decision_model_is_metered() -> None:
    """A model that runs as a chain and says its usage in its answer is charged for it."""
    decisions = pytest.importorskip("langchain_core.decisions")

    class Decider(decisions.BaseDecisionModel):  # type: ignore[misc,name-defined]
        model: str = "gpt-4o"

        @property
        def _provider(self) -> str:
            return "openai"

        def _classify(self, state: Any, questions: Any) -> Any:
            usage = {"input_tokens": 100, "output_tokens": 10}
            return decisions.ClassifierResponse.model_validate({"model": "gpt-4o", "answers": {}, "usage": usage})

    with bursar.run("x", Budget(model_calls=1)) as run:
        Decider().invoke({"state": "hi", "questions": {}})
        with pytest.raises(bursar.BudgetExceeded):
            Decider().invoke({"state": "hi", "questions": {}})
    assert (run.spend.settled.input_tokens, run.spend.settled.output_tokens) == (100, 10)


@pytest.mark.parametrize("wrong", [{"per": "week"}, {"mode": "maybe"}, {"user": ""}])
def test_what_cannot_be_meant_is_refused(wrong: Any) -> None:
    """Bad options raise ConfigError with their value."""
    with pytest.raises(bursar.ConfigError):
        BursarCallbackHandler("x", **wrong)
