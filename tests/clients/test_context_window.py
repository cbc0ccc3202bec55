"""`bursar.run(..., ContextWindow(...))`: wrapped clients send less, on the record, and the cache stays warm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget, ConfigError, ContextWindow, LoopGuard
from bursar.testing import Provider
from bursar.tracing.queries import Reader
from tests.clients.callers import CALLERS, Ask
from tests.clients.conversations import FORMS, agent, check, extends, requests, text_of

API = {"claude": "messages", "chat": "chat", "responses": "responses"}
FIELD = {"messages": "messages", "chat": "messages", "responses": "input"}
LONG = agent(20, words=200)
"""Few messages with long results: what the SDKs do with each message of a request is most of what these tests cost."""


def api_of(caller: str) -> str:
    return API[caller.removeprefix("async ")]


def talk(ask: Ask, api: str, provider: Provider, messages: list[dict[str, Any]], **options: Any) -> list[list[Any]]:
    """An agent's requests one after the other; what the provider was sent."""
    whole = FORMS[api](messages)
    field, before = FIELD[api], len(provider.requests)
    for at in requests(messages):
        ask(provider, **{field: whole[: len(FORMS[api](messages[:at]))]}, **options)
    return [request.body[field] for request in provider.requests[before:] if field in request.body]


def verdicts(ledger: Path) -> list[Any]:
    with Reader(ledger) as reader:
        return [verdict for verdict in reader.verdicts(reader.runs()) if verdict.guard == "window"]


@pytest.mark.parametrize("caller", CALLERS)
def test_what_is_sent_fits_and_only_grows_between_cuts(caller: str, provider: Provider, ledger: Path) -> None:
    """Twenty steps under 3,000 tokens, by every door: a conversation each time, and as many new beginnings as verdicts."""
    api, messages = api_of(caller), LONG
    with bursar.run("w", Budget.unlimited(), ContextWindow(tokens=3_000)):
        sent = talk(CALLERS[caller], api, provider, messages)
    whole, cuts = FORMS[api](messages), 0
    for at, (end, now) in enumerate(zip(requests(messages), sent, strict=True)):
        check(api, whole[: len(FORMS[api](messages[:end]))], now)
        cuts += at > 0 and not extends(text_of(api, sent[at - 1]), text_of(api, now))
    made = [verdict for verdict in verdicts(ledger) if verdict.action == "trim"]
    assert len(made) == cuts > 1
    assert all(verdict.settled < verdict.limit < verdict.needed for verdict in made)
    assert all("written anew for $" in verdict.reason and "pays a" in verdict.reason for verdict in made)
    assert all(verdict.tokens == verdict.needed - verdict.settled for verdict in made)
    assert all((verdict.nusd or 0) > 0 for verdict in made)


@pytest.mark.parametrize("caller", ["claude", "chat", "responses", "async claude", "async chat"])
def test_a_summary_is_asked_for_on_the_cached_prefix_and_paid_by_the_run(
    caller: str, provider: Provider, ledger: Path
) -> None:
    """The question stands behind what was last sent; the answer stands for what was dropped; the run pays for both."""
    api, messages = api_of(caller), LONG
    window = ContextWindow(tokens=4_000, strategy="summarise", summarise="same", keep="80%")
    with bursar.run("w", Budget.unlimited(), window) as run:
        sent = talk(CALLERS[caller], api, provider, messages)
    asked = [at for at, now in enumerate(sent) if "about to be left out" in text_of(api, now)[-1]]
    assert asked
    assert run.steps == len(sent) == len(requests(messages)) + len(asked)
    assert run.spend.settled.model_calls == len(sent)
    assert provider.billed_nusd == run.spend.settled.nusd
    for at in asked:
        assert extends(text_of(api, sent[at - 1]), text_of(api, sent[at]))
        assert "What happened in them" in json.dumps(sent[at + 1])
    assert not [verdict for verdict in verdicts(ledger) if verdict.action == "summary_failed"]


def test_a_summary_that_fails_fails_nothing(provider: Provider, ledger: Path) -> None:
    """The function raises, or the model has no price and the question is refused: the note stands alone, and the run goes on."""

    def never(messages: list[object]) -> str:
        raise ValueError("no")

    for summarise in (never, "unheard-of-model"):
        window = ContextWindow(tokens=4_000, strategy="summarise", summarise=summarise)
        with bursar.run("w", Budget(usd="50"), window) as run:
            talk(CALLERS["claude"], "messages", provider, agent(40), max_tokens=20)
        assert run.stop_reason == "finished"
    reasons = {verdict.reason for verdict in verdicts(ledger) if verdict.action == "summary_failed"}
    assert ["ValueError" in reason for reason in sorted(reasons)] == [False, True]


def test_what_is_judged_in_observe_mode_is_not_done(provider: Provider, ledger: Path) -> None:
    """The verdict is there and says that it was observed only; what is sent is what was given."""
    with bursar.run("w", Budget.unlimited(), ContextWindow(tokens=1_500), mode="observe"):
        sent = talk(CALLERS["chat"], "chat", provider, agent(20))
    assert sent[-1] == agent(20)[: requests(agent(20))[-1]]
    made = verdicts(ledger)
    assert made
    assert not any(verdict.acted for verdict in made)


def test_a_stored_conversation_is_left_alone_and_said_so_once(provider: Provider, ledger: Path) -> None:
    """With previous_response_id the calls of the results given are the provider's: nothing is cut, one verdict says it."""
    with (
        openai.OpenAI(base_url=provider.openai_url, api_key="x") as client,
        bursar.run("w", Budget.unlimited(), ContextWindow(tokens=500)),
    ):
        wrapped, items = bursar.wrap(client), FORMS["responses"](agent(20))
        first = wrapped.responses.create(model="gpt-4o", input="hi")
        for _ in range(2):
            wrapped.responses.create(model="gpt-4o", input=items, previous_response_id=first.id)
    assert provider.requests[-1].body["input"] == items
    assert [verdict.action for verdict in verdicts(ledger)] == ["skip"]
    assert "stored by the provider" in verdicts(ledger)[0].reason


def test_the_innermost_window_holds(provider: Provider) -> None:
    """A run inside has its own or inherits the outer one's; a client's own counts outside of any, and two are refused."""
    messages = agent(20)[:-1]
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x") as client:
        wrapped = bursar.wrap(client, ContextWindow(tokens=2_000))

        def length() -> int:
            given = FORMS["messages"](messages)
            wrapped.messages.create(model="claude-sonnet-5-5", max_tokens=50, messages=given)
            return len(json.dumps(provider.requests[-1].body["messages"]))

        own = length()
        with bursar.run("outer", Budget(usd="50"), ContextWindow(tokens=1_000_000)):
            whole = length()
            with bursar.run("inner"):
                assert length() == whole
            with bursar.run("inner", ContextWindow(tokens=800)):
                assert length() < own
        assert own < whole
    with pytest.raises(ConfigError, match="two ContextWindows"):
        bursar.run("w", ContextWindow(tokens=1), ContextWindow(tokens=2))


def test_rows_and_report_say_what_was_left_out(provider: Provider, ledger: Path) -> None:
    """Each attempt's row has its trimmed tokens, the report their sum."""
    with bursar.run("w", Budget.unlimited(), ContextWindow(tokens=2_000)):
        talk(CALLERS["chat"], "chat", provider, agent(30))
    with Reader(ledger) as reader:
        (row,) = reader.spend_by("workflow", 0, None)
    assert row.trimmed_tokens > 2_000


def test_reading_again_what_was_dropped_is_no_loop(provider: Provider, ledger: Path) -> None:
    """The loop guard forgets results that the window dropped: page 0 read once more is fresh; without a window stale."""
    again = [{**message} for message in agent(30)[2:4]]
    again[0] = {**again[0], "tool_calls": [{**agent(1)[2]["tool_calls"][1], "id": "again"}]}
    messages = agent(30)[:-2]
    first = next(message for message in messages if message.get("tool_call_id") == "c0b")
    messages += [again[0], {**first, "tool_call_id": "again"}, {"role": "assistant", "content": "so"}]
    streaks = []
    for guards in ((LoopGuard(nudge=1),), (LoopGuard(nudge=1), ContextWindow(tokens=1_500, strategy="drop"))):
        with bursar.run("w", Budget.unlimited(), *guards) as run:
            talk(CALLERS["chat"], "chat", provider, messages)
        with Reader(ledger) as reader:
            found = reader.verdicts([reader.run(run.id)])
        streaks.append([verdict.reason for verdict in found if verdict.guard == "loops"])
    assert streaks[0]
    assert not streaks[1]
