"""The context window in an agent of LangChain: what its model is sent fits, the cache stays warm, its state is whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from typer.testing import CliRunner

import bursar
from bursar import Budget, ContextWindow, LoopGuard
from bursar.callbacks import BursarCallbackHandler, BursarMiddleware
from bursar.cli.app import app
from bursar.pricing.tokens import COUNTER
from bursar.testing import Provider, ReceivedRequest, Reply, ToolUse
from bursar.tracing.queries import Reader
from bursar.words.rows import VerdictRow
from tests.callbacks.models import claude, gpt
from tests.clients.books import rows_of, verdicts_of
from tests.clients.conversations import check, extends, text_of

ASK: Any = {"messages": [("user", "read all")]}
CONFIG: Any = {"configurable": {"thread_id": "1"}, "recursion_limit": 400}
SYSTEM = "Be brief. " * 50
MODELS: dict[str, Callable[..., Any]] = {
    "claude": claude,
    "gpt": gpt,
    "responses": lambda provider: gpt(provider, use_responses_api=True),
    "wrapped claude": lambda provider: bursar.wrap(claude(provider)),
    "wrapped gpt": lambda provider: bursar.wrap(gpt(provider)),
}
EACH = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
ASKED = "about to be left out"


def look(page: int) -> str:
    """Look at a page."""
    return f"page {page} " + "word " * 150


class Model:
    """Reads one page after the other; what it is asked for as a summary it gives."""

    def __init__(self, pages: int) -> None:
        self.pages, self.page = pages, 0

    def __call__(self, request: ReceivedRequest) -> Reply:
        if ASKED in json.dumps(history(request)[-1]):
            return Reply(text=f"read up to {self.page}", output_tokens=20)
        self.page += 1
        if self.page > self.pages:
            return Reply(text="done")
        return Reply(text="", output_tokens=20, tool_calls=[ToolUse("look", {"page": self.page})])


def history(request: ReceivedRequest) -> list[Any]:
    found: list[Any] = request.body.get("messages") or request.body["input"]
    return found


def form_of(request: ReceivedRequest) -> str:
    return "responses" if "input" in request.body else "messages" if "system" in request.body else "chat"


def plain(message: Any) -> Any:
    """A message without the marks of caching, which move along."""
    if isinstance(message, list):
        return [plain(each) for each in message]
    return {k: plain(v) for k, v in message.items() if k != "cache_control"} if isinstance(message, dict) else message


def verdicts(run: bursar.Run) -> list[VerdictRow]:
    return [row for row in verdicts_of(run) if row.guard == "window"]


@EACH
def test_a_long_agent_is_trimmed_and_its_own_messages_are_not(make: Any) -> None:
    """Forty steps under 4,000 tokens: as many new beginnings as cuts, each on record with its numbers, nothing trimmed
    twice by a client inside, all messages still in the agent's state, and what was billed is what is recorded."""
    with Provider(latency_s=0.0, replies=Model(40)) as provider:
        agent = create_agent(
            make(provider), [look], system_prompt=SYSTEM, middleware=[BursarMiddleware()], checkpointer=InMemorySaver()
        )
        with bursar.run("read", Budget(usd="5"), ContextWindow(tokens=4_000)) as run:
            answer: Any = agent.invoke(ASK, CONFIG)
        sent, form = [history(request) for request in provider.requests], form_of(provider.requests[0])
        assert run.spend.settled.nusd == provider.billed_nusd
    assert len(answer["messages"]) == 2 + 2 * 40
    assert len(agent.get_state(CONFIG).values["messages"]) == 82
    texts = [text_of(form, plain(messages)) for messages in sent]
    fresh = sum(not extends(before, after) for before, after in pairwise(texts))
    made = [row for row in verdicts(run) if row.action == "trim"]
    assert len(made) == fresh >= 2
    for row in made:
        assert row.settled is not None
        assert row.limit is not None
        assert row.settled < row.limit < (row.needed or 0)
        assert row.pays_after is not None
        assert row.tokens == (row.needed or 0) - row.settled
        assert (row.nusd or 0) > 0
    rows = rows_of(run)
    assert max(row.input_tokens for row in rows) < 4_400
    for messages in sent:
        check(form, messages, messages)


@pytest.mark.parametrize("name", ["claude", "gpt"])
def test_the_cache_stays_warm_between_cuts(name: str) -> None:
    """As the provider bills it: of all that is sent between two cuts, 95 % and more is read from its cache."""
    with Provider(latency_s=0.0, replies=Model(120)) as provider:
        middleware: list[Any] = [BursarMiddleware(ContextWindow(tokens=12_000))]
        if name == "claude":
            middleware.insert(0, AnthropicPromptCachingMiddleware())
        agent: Any = create_agent(MODELS[name](provider), [look], system_prompt=SYSTEM * 6, middleware=middleware)
        with bursar.run("read", Budget(usd="50")) as run:
            agent.invoke(ASK, CONFIG)
        assert run.spend.settled.nusd == provider.billed_nusd
    cuts = {row.op_id for row in verdicts(run)}
    assert len(cuts) >= 2
    between = [row for row in rows_of(run)[1:] if row.call_id.partition("/")[0] not in cuts]
    warm = [row for row in between if row.input_tokens > 6_000]
    assert sum(row.cache_read_tokens for row in warm) >= 0.95 * sum(row.input_tokens for row in warm)


@pytest.mark.parametrize("name", ["claude", "gpt", "wrapped claude", "wrapped gpt"])
@pytest.mark.parametrize("summarise", ["same", "other", "function", "async"])
def test_a_summary_is_paid_by_the_run(name: str, summarise: str) -> None:
    """Asked of the model on its cached prefix, of another model, or made by a function: it stands for what was dropped,
    the run pays for it, and the agent does not say it."""

    async def later(messages: list[object]) -> str:
        return f"read up to {len(messages)}"

    make, other = MODELS[name], "claude-haiku-5-5" if "claude" in name else "gpt-4o-mini"
    by: Any = {"same": "same", "other": other, "function": lambda dropped: f"read up to {len(dropped)}", "async": later}
    window = ContextWindow(tokens=4_000, strategy="summarise", summarise=by[summarise])
    said: list[str] = []
    with Provider(latency_s=0.0, replies=Model(30)) as provider:
        # Behind another base URL ChatOpenAI streams no usage unless it is told to.
        model: Any = gpt(provider, stream_usage=True) if name == "gpt" else make(provider)
        agent: Any = create_agent(model, [look], system_prompt=SYSTEM, middleware=[BursarMiddleware(window)])
        with bursar.run("read", Budget(usd="5")) as run:
            if summarise == "async":
                asyncio.run(agent.ainvoke(ASK, CONFIG))
            else:
                said += [chunk.text for chunk, _ in agent.stream(ASK, CONFIG, stream_mode="messages")]
        assert run.spend.settled.nusd == provider.billed_nusd
        requests = list(provider.requests)
    asked = [request for request in requests if ASKED in json.dumps(history(request)[-1])]
    assert bool(asked) == (summarise in ("same", "other"))
    assert not verdicts(run) or all(row.action == "trim" for row in verdicts(run))
    assert "What happened in them" in json.dumps(history(requests[-1]))
    assert "read up to" in json.dumps(history(requests[-1]))
    assert not any(text.startswith("read up to") for text in said)
    assert run.spend.settled.model_calls == len(requests) == 31 + len(asked)
    for request in asked:
        at = requests.index(request)
        form = form_of(request)
        if summarise == "same":
            assert extends(text_of(form, plain(history(requests[at - 1]))), text_of(form, plain(history(request))))
        else:
            assert request.body["model"] == other


def test_a_summary_that_fails_fails_nothing() -> None:
    """A function that raises leaves the note alone, says so once a cut, and leaves no mark on the run."""

    def never(messages: list[object]) -> str:
        raise ValueError("no")

    for summarise in (never, "unheard-of-model"):
        window = ContextWindow(tokens=2_500, strategy="summarise", summarise=summarise)
        with Provider(latency_s=0.0, replies=Model(20)) as provider:
            agent: Any = create_agent(claude(provider), [look], middleware=[BursarMiddleware(window)])
            with bursar.run("read", Budget(usd="5")) as run:
                answer = agent.invoke(ASK, CONFIG)
        assert answer["messages"][-1].text == "done"
        assert run.stop_reason == "finished"
        assert {row.action for row in verdicts(run)} == {"trim", "summary_failed"}


def test_a_cut_is_kept_by_the_checkpointer() -> None:
    """Interrupted at every step and resumed by a middleware that knows nothing: cut where and when it is in one go."""
    COUNTER.count("the ranks are loaded by the first text that is counted")
    cuts: list[list[tuple[int, int]]] = []
    for restarts in (False, True):
        saver = InMemorySaver()
        with Provider(latency_s=0.0, replies=Model(25)) as provider:

            def agent(saver: Any = saver, provider: Provider = provider) -> Any:
                return create_agent(
                    claude(provider), [look], middleware=[BursarMiddleware(ContextWindow(tokens=3_000))],
                    checkpointer=saver, interrupt_after=["tools"],
                )  # fmt: skip

            made, found = agent(), list[tuple[int, int]]()
            with bursar.run("read", Budget(usd="5")) as run:
                made.invoke(ASK, CONFIG)
                while made.get_state(CONFIG).next:
                    kept = made.get_state(CONFIG).values["bursar_memory"]["BursarMiddleware"]["window"]
                    found.append((kept["drop_to"], kept["clear_to"]))
                    made = agent() if restarts else made
                    made.invoke(None, CONFIG)
            texts = [text_of("messages", history(request)) for request in provider.requests]
        assert sum(not extends(one, other) for one, other in pairwise(texts)) == len(verdicts(run)) > 0
        cuts.append(found)
    assert cuts[0] == cuts[1]


def test_reading_again_what_was_dropped_is_no_loop() -> None:
    """The loop guard forgets what the window has dropped: reading the first page again is fresh, and without a window
    it is not."""

    def reply(request: ReceivedRequest) -> Reply:
        if model.page == 20:
            model.page += 1
            return Reply(text="", tool_calls=[ToolUse("look", {"page": 1})])
        return model(request)

    streaks = []
    for guards in ((), (ContextWindow(tokens=2_500, strategy="drop"),)):
        model = Model(24)
        with Provider(latency_s=0.0, replies=reply) as provider:
            agent: Any = create_agent(claude(provider), [look], middleware=[BursarMiddleware()])
            with bursar.run("read", Budget(usd="5"), LoopGuard(nudge=1), *guards) as run:
                agent.invoke(ASK, CONFIG)
        streaks.append([row.streak for row in verdicts_of(run) if row.guard == "loops"])
    assert streaks == [[1], []]


def test_the_agents_own_window_holds_before_the_runs() -> None:
    """A middleware that was given a window trims by it; the run's is for agents that have none."""
    sizes = []
    for own in ((ContextWindow(tokens=2_500),), ()):
        with Provider(latency_s=0.0, replies=Model(20)) as provider:
            agent: Any = create_agent(claude(provider), [look], middleware=[BursarMiddleware(*own)])
            with bursar.run("read", Budget(usd="5"), ContextWindow(tokens=100_000)) as run:
                agent.invoke(ASK, CONFIG)
        sizes.append(max(row.input_tokens for row in rows_of(run)))
    assert sizes[0] < 3_000 < sizes[1]


def test_a_handler_alone_trims_nothing_and_says_so_once() -> None:
    """A callback cannot change a request: one verdict says what to do; a run without a window says nothing."""
    handler = BursarCallbackHandler("read", Budget(usd="5"), ContextWindow(tokens=1_000))
    with Provider(latency_s=0.0, replies=Model(10)) as provider:
        agent: Any = create_agent(gpt(provider), [look])
        agent.invoke(ASK, {**CONFIG, "callbacks": [handler]})
        assert len(history(provider.requests[-1])) == 21
    assert handler.last_run is not None
    assert [row.action for row in verdicts(handler.last_run)] == ["skip"]


def test_report_and_rows_say_what_was_left_out(ledger: Path) -> None:
    """Each attempt's row has its trimmed tokens; the report has their sum, and what the cuts cost and when they pay."""
    with Provider(latency_s=0.0, replies=Model(20)) as provider:
        agent: Any = create_agent(claude(provider), [look], middleware=[BursarMiddleware(ContextWindow(tokens=2_500))])
        with bursar.run("read", Budget(usd="5")) as run:
            agent.invoke(ASK, CONFIG)
    with Reader(ledger) as reader:
        (row,) = reader.spend_by("workflow", 0, None)
    assert row.trimmed_tokens > 2_500
    made = [each for each in verdicts(run) if each.action == "trim"]
    shown = CliRunner().invoke(app, ["report", "--json", "--ledger", str(ledger)])
    window = json.loads(shown.stdout)["window"]
    assert window["cuts"] == len(made) > 0
    assert window["tokens"] == sum(each.tokens or 0 for each in made)
    steps = [each.pays_after or 0 for each in made]
    assert min(steps) <= window["pays_after"] <= max(steps)
    text = CliRunner().invoke(app, ["report", "--ledger", str(ledger)], env={"COLUMNS": "200"}).stdout
    assert "context window: " in text
    assert "earn back within" in text
