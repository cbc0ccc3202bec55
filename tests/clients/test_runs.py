"""Runs around real clients: what belongs to whom, what is refused at once, and what is written down."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded
from bursar.runs.process import process
from bursar.testing import Provider, ReceivedRequest, Reply
from bursar.tracing.queries import Reader
from bursar.words.events import NOTHING
from tests.clients.books import rows_of, verdicts_of

if TYPE_CHECKING:
    import anthropic

ASKED: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
CLAUDE: Any = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}


def call(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(**ASKED)


def test_a_call_of_a_nested_run_counts_in_all_runs_around_it(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, provider: Provider
) -> None:
    """Three runs deep, two vendors: every run's spend is the bill of what happened inside it."""
    client, wrapped = bursar.wrap(gpt), bursar.wrap(claude)
    with bursar.run("one", Budget(usd="1")) as one:
        call(client)
        first = provider.billed_nusd
        with bursar.run("two") as two:
            wrapped.messages.create(**CLAUDE)
            second = provider.billed_nusd
            with bursar.run("three", Budget(model_calls=1)) as three:
                call(client)
    assert three.spend.settled.nusd == provider.billed_nusd - second
    assert two.spend.settled.nusd == provider.billed_nusd - first
    assert one.spend.settled.nusd == provider.billed_nusd
    assert [len(rows_of(run)) for run in (one, two, three)] == [3, 2, 1]
    assert (one.steps, two.steps, three.steps) == (1, 1, 1)


def test_a_nested_run_is_stopped_by_the_limit_around_it(gpt: openai.OpenAI, provider: Provider) -> None:
    """A generous limit inside loosens nothing outside; the scope that refused is named."""
    client = bursar.wrap(gpt)
    with bursar.run("outer", Budget(model_calls=1)) as outer:
        call(client)
        with bursar.run("inner", Budget(model_calls=100, usd="100")), pytest.raises(BudgetExceeded) as stopped:
            call(client)
    assert stopped.value.scope == f"run {outer.id}"
    assert len(provider.charges) == 1


def test_a_refusal_is_on_the_record(gpt: openai.OpenAI) -> None:
    """A refused call is a verdict with its numbers, and no row of a call that never was."""
    with bursar.run("refused", Budget(tokens=5)) as run, pytest.raises(BudgetExceeded) as stopped:
        call(bursar.wrap(gpt))
    (verdict,) = verdicts_of(run)
    assert (verdict.action, verdict.acted, verdict.unit, verdict.limit) == ("deny", True, "tokens", 5)
    assert verdict.needed == stopped.value.needed > 5
    assert rows_of(run) == []
    assert run.stop_reason == "budget"


def test_a_decorated_function_may_call_itself(gpt: openai.OpenAI) -> None:
    """Recursion opens a run for each level, and each ends in its own place."""
    client = bursar.wrap(gpt)
    seen: list[bursar.Run] = []

    @bursar.run("recursive", Budget(model_calls=3))
    def work(levels: int) -> None:
        run = bursar.current_run()
        assert run is not None
        seen.append(run)
        call(client)
        if levels:
            work(levels - 1)
        assert bursar.current_run() is run

    work(2)
    assert [run.spend.settled.model_calls for run in seen] == [3, 2, 1]
    assert bursar.current_run() is None


def test_tasks_and_threads_of_asyncio_belong_to_their_run(provider: Provider) -> None:
    """Two runs at once in one loop, each with tasks and with `to_thread`: nothing is charged to the other."""

    async def agent(number: int) -> tuple[bursar.Run, int]:
        url = provider.openai_url
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="x") as bare,
            bursar.run(f"agent-{number}", Budget(usd="1")) as run,
        ):
            client = bursar.wrap(bare)
            await asyncio.gather(*(client.chat.completions.create(**ASKED) for _ in range(number)))
            with openai.OpenAI(base_url=url, api_key="x") as sync:
                await asyncio.to_thread(call, bursar.wrap(sync))
        return run, number + 1

    async def both() -> list[tuple[bursar.Run, int]]:
        return list(await asyncio.gather(agent(2), agent(5)))

    for run, calls in asyncio.run(both()):
        assert run.spend.settled.model_calls == len(rows_of(run)) == calls


def test_a_thread_without_bind_is_outside(gpt: openai.OpenAI) -> None:
    """Without bind a raw thread's call is nobody's, and it is recorded all the same."""
    client = bursar.wrap(gpt, workflow="lost")
    with warnings.catch_warnings(action="ignore"), bursar.run("bound", Budget(usd="1")) as run:
        for target in (call, run.bind(call)):
            thread = threading.Thread(target=target, args=(client,))
            thread.start()
            thread.join()
    assert run.spend.settled.model_calls == 1
    with Reader(Path(process().ledger.path)) as reader:
        assert {row.key: row.requests for row in reader.spend_by("workflow")} == {"bound": 1, "lost": 1}


def test_observing_records_and_stops_nothing(gpt: openai.OpenAI, provider: Provider) -> None:
    """Over every limit at once, in a stream and plain: all is served as asked, and each verdict says it did not act."""
    client = bursar.wrap(gpt)
    with bursar.run("watched", Budget(usd="0.000001", tokens=1, model_calls=1), mode="observe") as run:
        call(client)
        list(client.chat.completions.create(**ASKED, stream=True))
    assert run.spend.settled.nusd == provider.billed_nusd
    assert [request.max_output_tokens for request in provider.requests] == [300, 300]
    assert {(verdict.action, verdict.acted) for verdict in verdicts_of(run)} == {("deny", False)}
    assert run.stop_reason == "finished"


def test_an_inner_run_cannot_switch_enforcing_on_or_off_for_others(gpt: openai.OpenAI) -> None:
    """What is observed outside is observed inside; what observes inside does not loosen its outer run afterwards."""
    client = bursar.wrap(gpt)
    with bursar.run("outer", Budget(model_calls=1)):
        call(client)
        with bursar.run("inner", mode="observe"):
            call(client)
        with pytest.raises(BudgetExceeded):
            call(client)


def test_no_patience_is_an_answer_at_once(provider: Provider) -> None:
    """max_wait=0: who would have to wait is refused while the other is still under way, which is served."""
    go_on = threading.Event()

    def late(_: ReceivedRequest) -> Reply:
        assert go_on.wait(30)
        return Reply()

    with Provider(latency_s=0.0, replies=late) as slow, openai.OpenAI(base_url=slow.openai_url, api_key="x") as bare:
        client = bursar.wrap(bare)
        with bursar.run("impatient", Budget(tokens=400, max_wait=0)) as run:
            thread = threading.Thread(target=run.bind(call), args=(client,))
            thread.start()
            while run.spend.held == NOTHING:
                time.sleep(0.001)
            with pytest.raises(BudgetExceeded) as refused:
                call(client)
            go_on.set()
            thread.join()
    assert refused.value.why in {"waited", "would_deadlock"}
    assert run.spend.settled.model_calls == 1


def test_a_refusal_can_be_copied_and_sent(gpt: openai.OpenAI) -> None:
    """copy, deepcopy and pickle keep the numbers and leave the run, which holds locks, behind."""
    with bursar.run("copies", Budget(usd="0.000001")), pytest.raises(BudgetExceeded) as refused:
        call(bursar.wrap(gpt))
    error = refused.value
    assert error.run is not None
    for same in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert isinstance(same, BudgetExceeded)
        assert (same.scope, same.unit, same.limit, same.needed, same.why) == (
            error.scope,
            error.unit,
            error.limit,
            error.needed,
            error.why,
        )
        assert same.remaining == error.remaining
        assert str(same) == str(error)
        assert same.run is None


def test_a_forked_child_spends_nothing_of_its_parent(gpt: openai.OpenAI) -> None:
    """The child of an open run is outside of it, its client goes on, and its calls are in the same ledger."""
    client = bursar.wrap(gpt, Budget(model_calls=3), workflow="forked")
    with bursar.run("parent", Budget(model_calls=2)):
        call(client)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with openai.OpenAI(base_url=str(gpt.base_url), api_key="x") as own:
                    again = bursar.wrap(own, workflow="child")
                    call(again)
                    call(again)
                status = 0 if bursar.current_run() is None and process().settings is not None else 2
                process().close()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        call(client)
        with pytest.raises(BudgetExceeded):
            call(client)
    with Reader(Path(process().ledger.path)) as reader:
        assert {row.key: row.requests for row in reader.spend_by("workflow")} == {"parent": 2, "child": 2}


def test_outside_of_a_run_an_unknown_price_is_unknown() -> None:
    """A call that nobody limits is recorded, and a cost that nobody knows is not zero."""
    from bursar.testing import ModelPrice, rates

    own = {"house-model": ModelPrice("openai", rates("1", "2"))}
    with Provider(latency_s=0.0, models=own) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x") as bare:
            answer = bursar.wrap(bare).chat.completions.create(**(ASKED | {"model": "house-model"}))
    with Reader(Path(process().ledger.path)) as reader:
        (row,) = reader.spend_by("model")
    assert (row.key, row.requests, row.unpriced, row.nusd) == ("house-model", 1, 1, 0)
    assert bursar.cost(answer).usd is None
    assert str(bursar.cost(answer)).startswith("price unknown")


def test_the_cost_of_a_streams_last_message_is_known(claude: anthropic.Anthropic, provider: Provider) -> None:
    """cost() of what a stream adds up to is what the provider billed for it."""
    with bursar.run("cost", Budget(usd="1")), bursar.wrap(claude).messages.stream(**CLAUDE) as stream:
        message = stream.get_final_message()
    assert bursar.cost(message).nusd == provider.billed_nusd
    assert bursar.cost(message).latency_s is not None


@pytest.mark.parametrize("thing", [None, 7, "x", [], {}, {"id": [1]}, {"id": {"a": 1}}, object()])
def test_the_cost_of_what_is_no_answer_is_an_error_that_says_so(thing: Any) -> None:
    """cost() of anything else is a BursarError, whatever it is."""
    with pytest.raises(bursar.BursarError, match="takes an answer"):
        bursar.cost(thing)


def test_a_run_that_ends_by_an_error_of_the_sdk_says_which() -> None:
    """The SDK's exception passes through the run unchanged and is its stop reason."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=401)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x") as bare:
            with pytest.raises(openai.AuthenticationError), bursar.run("denied", Budget(usd="1")) as run:
                call(bursar.wrap(bare))
    assert run.stop_reason == "AuthenticationError"
    assert "stopped (AuthenticationError)" in run.summary()
    assert rows_of(run)[0].http_status == 401
