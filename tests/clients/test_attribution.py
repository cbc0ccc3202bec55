"""Calls that nobody answers for: tags that are required, and threads that have lost their run."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

import bursar
from bursar import Budget, BursarWarning, ConfigError, Unattributed
from bursar.runs import budgets as _budgets
from bursar.runs import scoped as _scoped
from bursar.runs.process import process
from bursar.testing import Provider
from bursar.tracing.queries import Reader
from tests.clients.books import rows_of, verdicts_of
from tests.clients.callers import CALLERS, Ask, achat, sync_chat


@pytest.fixture(autouse=True)
def _said_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_budgets, "_said", {"default"})
    monkeypatch.setattr(_scoped, "_said", set())


def in_thread(work: Callable[[], Any]) -> list[Any]:
    """Run in a raw thread; what it returned or raised."""
    ended: list[Any] = []

    def worker() -> None:
        try:
            ended.append(work())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            ended.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    return ended


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_call_that_lacks_a_required_tag_is_not_sent(provider: Provider, ask: Ask) -> None:
    """In a run without an owner: refused by name, with the line that mends it, and on the record."""
    bursar.configure(require=["workflow", "owner"])
    with (
        bursar.run("mine", Budget(usd="1")) as run,
        pytest.raises(Unattributed, match=r"no owner.*owner='support'") as lacking,
    ):
        ask(provider)
    assert lacking.value.missing == ("owner",)
    assert provider.requests == []
    (verdict,) = verdicts_of(run)
    assert (verdict.guard, verdict.action, verdict.reason, verdict.acted) == (
        "attribution",
        "deny",
        "missing owner",
        True,
    )
    assert run.stop_reason == "unattributed"
    with bursar.run("mine", Budget(usd="1"), owner="support"):
        ask(provider)
    assert len(provider.charges) == 1


def test_outside_of_a_run_the_client_has_to_name_them(provider: Provider, gpt: openai.OpenAI) -> None:
    """A workflow of no name is none; tags of the client and of the run together count."""
    bursar.configure(require=["workflow", "owner", "team"])
    asked: Any = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(Unattributed) as lacking:
        bursar.wrap(gpt, team="a").chat.completions.create(**asked)
    assert lacking.value.missing == ("workflow", "owner")
    bursar.wrap(gpt, workflow="w", owner="o", team="a").chat.completions.create(**asked)
    with bursar.run("r", Budget(usd="1"), team="b"):
        bursar.wrap(gpt, owner="o").chat.completions.create(**asked)
    assert len(provider.charges) == 2


def test_user_and_session_may_be_required(provider: Provider) -> None:
    """The two tags with many values count like any other."""
    bursar.configure(require=["user", "session"])
    with bursar.run("r", Budget(usd="1"), user="u"), pytest.raises(Unattributed) as lacking:
        sync_chat(provider)
    assert lacking.value.missing == ("session",)
    with bursar.run("r", Budget(usd="1"), user="u", session="s"):
        sync_chat(provider)


def test_observing_only_notes_what_is_missing(provider: Provider) -> None:
    """In observe mode the call goes out, and the verdict says that it did not act."""
    bursar.configure(require=["owner"])
    with bursar.run("watched", Budget(usd="1"), mode="observe") as run:
        sync_chat(provider)
    assert [(verdict.reason, verdict.acted) for verdict in verdicts_of(run)] == [("missing owner", False)]
    assert len(provider.charges) == 1


def test_an_error_of_attribution_can_be_copied_and_pickled(provider: Provider) -> None:
    """Its tags go along, its run does not."""
    bursar.configure(require=["owner"])
    with bursar.run("r", Budget(usd="1")), pytest.raises(Unattributed) as lacking:
        sync_chat(provider)
    error = lacking.value
    assert error.run is not None
    for same in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        # Where langgraph is loaded it is a subclass of the same name.
        assert isinstance(same, Unattributed)
        assert (type(same), str(same), same.missing, same.run, same.sent) == (
            type(error),
            str(error),
            ("owner",),
            None,
            False,
        )


@pytest.mark.parametrize("value", [["a b"], [""], [3], 3, "workflow,,owner", {"owner"}])
def test_a_list_that_cannot_be_meant_is_refused(value: Any) -> None:
    """Tags are names; the message shows the value."""
    with pytest.raises(ConfigError, match="require="):
        bursar.configure(require=value)


def test_requirements_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """BURSAR_REQUIRE is a list with commas, BURSAR_LOST_CONTEXT one of two words."""
    monkeypatch.setenv("BURSAR_REQUIRE", "workflow, owner")
    monkeypatch.setenv("BURSAR_LOST_CONTEXT", "deny")
    settings = bursar.configure()
    assert (settings.require, settings.lost_context) == (("workflow", "owner"), "deny")
    with pytest.raises(
        ConfigError, match="lost_context='maybe' is not a choice of lost_context; the choices are allow and deny"
    ):
        bursar.configure(lost_context="maybe")


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_thread_that_lost_its_run_is_flagged(provider: Provider, ask: Ask) -> None:
    """By default its call goes to nobody with the flag, and one warning names the way to mend it."""
    with bursar.run("open", Budget(usd="1")) as run:
        ask(provider)
        with pytest.warns(BursarWarning, match=r"Thread\(target=run\.bind\(work\)\)") as said:
            in_thread(lambda: ask(provider))
            in_thread(lambda: ask(provider))
    assert len(said) == 1
    assert run.spend.settled.model_calls == 1
    with Reader(Path(process().ledger.path)) as reader:
        lost = [row for row in reader.spend_by("workflow") if row.key == "unattributed"]
    assert [row.requests for row in lost] == [2]
    assert flags_of_all() == [(), ("lost_context",), ("lost_context",)]


def flags_of_all() -> list[tuple[str, ...]]:
    """The flags of every call in the ledger that are about context, in order."""
    sql = "SELECT e.flags FROM model_call c JOIN ending e ON e.id = c.ending ORDER BY c.call_id"
    rows = process().ledger.database().execute(sql)
    return [tuple(flag for flag in row[0].split() if flag == "lost_context") for row in rows]


@pytest.mark.parametrize("ask", CALLERS.values(), ids=CALLERS)
def test_a_lost_thread_may_be_refused(provider: Provider, ask: Ask) -> None:
    """With lost_context='deny' nothing is sent; with bind the same work is charged to its run."""
    bursar.configure(lost_context="deny")
    with bursar.run("open", Budget(usd="1")) as run:
        (error,) = in_thread(lambda: ask(provider))
        assert isinstance(error, Unattributed)
        assert (error.missing, error.run) == (("run",), None)
        assert "Thread(target=run.bind(work))" in str(error)
        assert provider.requests == []
        in_thread(run.bind(lambda: ask(provider)))
    assert run.spend.settled.model_calls == len(provider.charges) == 1


def test_what_has_lost_nothing_is_not_flagged(provider: Provider) -> None:
    """A raw thread while no run is open, the main thread, tasks and to_thread inside a run: all as ever."""
    bursar.configure(lost_context="deny")
    in_thread(lambda: sync_chat(provider))
    sync_chat(provider)

    async def agent() -> None:
        async with bursar.run("agent", Budget(usd="1")) as run:
            await asyncio.create_task(achat(provider))
            await asyncio.to_thread(sync_chat, provider)
            assert run.spend.settled.model_calls == 2

    asyncio.run(agent())
    in_thread(lambda: sync_chat(provider))
    assert len(provider.charges) == 5
    assert flags_of_all() == [()] * 5


def test_a_run_in_another_thread_does_not_make_the_main_one_lost(provider: Provider) -> None:
    """The main thread starts others and loses nothing by it."""
    bursar.configure(lost_context="deny")
    opened, done = threading.Event(), threading.Event()

    def other() -> None:
        with bursar.run("other", Budget(usd="1")) as run:
            opened.set()
            done.wait(30)
            sync_chat(provider)
            assert run.spend.settled.model_calls == 1

    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(30)
    sync_chat(provider)
    done.set()
    thread.join()
    assert len(provider.charges) == 2


def test_observing_a_lost_thread_stops_nothing(provider: Provider) -> None:
    """Denied in observe mode: sent, flagged, and noted."""
    bursar.configure(lost_context="deny", mode="observe")
    with bursar.run("open", Budget(usd="1")) as run:
        sync_chat(provider)
        in_thread(lambda: sync_chat(provider))
    assert len(provider.charges) == 2
    assert [len(rows_of(run)), flags_of_all()[1]] == [1, ("lost_context",)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_no_open_runs() -> None:
    """What its parent has open is not lost by a child that never had it."""
    with bursar.run("parent", Budget(usd="1")) as run:
        run.next_step()
        assert _scoped.open_runs == {run.id}
        child = os.fork()
        if child == 0:
            os._exit(1 if _scoped.open_runs else 0)
        assert os.waitpid(child, 0)[1] == 0
    assert _scoped.open_runs == set()
