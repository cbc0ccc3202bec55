"""`warn_at`: said once, to the right ear, after the answer is safe, and never at the answer's cost."""

from __future__ import annotations

import asyncio
import threading
import warnings
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, BudgetNotice, BursarWarning
from bursar.testing import Provider
from tests.clients.books import rows_of, verdicts_of
from tests.clients.callers import CALLERS, Ask, achat, sync_chat


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_notice_is_given_once_when_the_spend_reaches_the_mark(provider: Provider, ask: Ask) -> None:
    """At half of four calls, by the second call, once, with its numbers, and as a verdict on the record."""
    heard: list[BudgetNotice] = []
    with bursar.run("half", Budget(model_calls=4, warn_at="50%", on_warn=heard.append)) as run:
        counts = []
        for _ in range(4):
            ask(provider)
            counts.append(len(heard))
    assert counts == [0, 1, 1, 1]
    assert heard == [BudgetNotice(f"run {run.id}", "model_calls", limit=4, settled=2, warn_at=2)]
    assert str(heard[0]) == f"run {run.id}: 2 model_calls of 4 model_calls is spent"
    (verdict,) = verdicts_of(run)
    assert (verdict.action, verdict.unit, verdict.settled, verdict.limit) == ("warn", "model_calls", 2, 4)


def test_each_unit_and_each_scope_has_its_own_notice(provider: Provider) -> None:
    """Two limits on a run and one on a budget inside it: three notices, each once."""
    heard: list[BudgetNotice] = []
    with bursar.run("many", Budget(model_calls=10, tokens=10_000, warn_at="1%", on_warn=heard.append)) as run:
        with bursar.budget(usd="1", warn_at="0.000001", on_warn=heard.append):
            sync_chat(provider)
            sync_chat(provider)
    assert sorted((notice.scope.split()[0], notice.unit) for notice in heard) == [
        ("budget", "usd"),
        ("run", "model_calls"),
        ("run", "tokens"),
    ]
    assert len(verdicts_of(run)) == 3


def test_without_a_function_a_warning_says_it(provider: Provider) -> None:
    """One BursarWarning with both amounts."""
    with bursar.run("said", Budget(usd="0.01", warn_at="0.001")):
        with pytest.warns(BursarWarning, match=r"run \w+: \$0\.002\d+ of \$0\.01000 is spent") as said:
            sync_chat(provider)
            sync_chat(provider)
    assert len(said) == 1


def test_the_notice_comes_after_the_answer_is_safe(provider: Provider) -> None:
    """When the function is called, the call is settled and its row is in the ledger."""
    seen: list[Any] = []

    def look(notice: BudgetNotice) -> None:
        run = bursar.current_run()
        assert run is not None
        seen.append((len(rows_of(run)), run.spend.settled.nusd == notice.settled, run.spend.held.nusd))

    with bursar.run("safe", Budget(usd="0.01", warn_at="1%", on_warn=look)):
        sync_chat(provider)
    assert seen == [(1, True, 0)]


def test_the_notice_comes_in_the_thread_or_task_of_the_call(provider: Provider) -> None:
    """The call that reaches the mark is the one that says so."""
    where: list[Any] = []
    with bursar.run(
        "thread", Budget(model_calls=9, warn_at="1%", on_warn=lambda _: where.append(threading.get_ident()))
    ) as run:
        thread = threading.Thread(target=run.bind(sync_chat), args=(provider,))
        thread.start()
        thread.join()
    assert where == [thread.ident]

    async def task() -> asyncio.Task[Any] | None:
        await achat(provider)
        return asyncio.current_task()

    where.clear()
    with bursar.run(
        "task", Budget(model_calls=9, warn_at="1%", on_warn=lambda _: where.append(asyncio.current_task()))
    ):
        assert asyncio.run(task()) is where[0]


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_what_the_function_raises_never_reaches_the_call(provider: Provider, ask: Ask) -> None:
    """The answer arrives; one BursarWarning names the error, however many marks are reached."""

    def fail(notice: BudgetNotice) -> None:
        raise RuntimeError(f"no {notice.unit}")

    with bursar.run("failing", Budget(model_calls=9, tokens=10_000, warn_at="1%", on_warn=fail)) as run:
        with pytest.warns(BursarWarning, match="on_warn of run .* failed: RuntimeError: no ") as said:
            assert ask(provider) is not None
        assert ask(provider) is not None
    assert len(said) == 1
    assert run.spend.settled.nusd == provider.billed_nusd


def test_fifty_tasks_hear_one_notice(provider: Provider) -> None:
    """Of fifty calls at once one gives the notice."""
    heard: list[BudgetNotice] = []

    async def fifty() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as bare:
            client = bursar.wrap(bare)
            asked: Any = {
                "model": "gpt-4o",
                "max_completion_tokens": 300,
                "messages": [{"role": "user", "content": "hi"}],
            }
            await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(50)))

    with bursar.run("fifty", Budget(model_calls=100, warn_at="20%", on_warn=heard.append)):
        asyncio.run(fifty())
    assert [notice.settled >= 20 for notice in heard] == [True]


def test_a_stream_gives_its_notice_at_its_end(provider: Provider, gpt: openai.OpenAI) -> None:
    """The mark is reached when the stream is read to its end, and no event of it is lost."""
    heard: list[BudgetNotice] = []
    with bursar.run("stream", Budget(usd="0.01", warn_at="1%", on_warn=heard.append)):
        stream = bursar.wrap(gpt).chat.completions.create(
            model="gpt-4o", max_completion_tokens=300, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        next(stream)
        assert heard == []
        events = list(stream)
    assert len(events) > 1
    assert [notice.settled for notice in heard] == [provider.billed_nusd]


def test_a_client_with_a_budget_of_its_own_gives_notice(provider: Provider, gpt: openai.OpenAI) -> None:
    """Outside of any run the limits of the client speak too."""
    heard: list[BudgetNotice] = []
    client = bursar.wrap(gpt, Budget(model_calls=2, warn_at="50%", on_warn=heard.append))
    for _ in range(2):
        client.chat.completions.create(
            model="gpt-4o", max_completion_tokens=300, messages=[{"role": "user", "content": "hi"}]
        )
    assert [(notice.scope.split()[0], notice.settled) for notice in heard] == [("client", 1)]


def test_a_warning_that_is_made_an_error_is_itself(provider: Provider) -> None:
    """Where the caller has made warnings errors he gets this one, not one about a defect of ours; all is charged."""
    with bursar.run("strict", Budget(model_calls=2, warn_at="50%")) as run, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BursarWarning, match="is spent"):
            sync_chat(provider)
    assert run.spend.settled.nusd == provider.billed_nusd
    assert len(rows_of(run)) == 1
