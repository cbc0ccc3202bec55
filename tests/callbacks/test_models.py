"""`bursar.wrap(model)`: LangChain's models with wrapped clients inside."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

import bursar
from bursar import Budget
from bursar.testing import Provider, Reply, scripted
from tests.callbacks.models import claude, embeddings, gpt
from tests.clients.books import rows_of

MODELS = pytest.mark.parametrize("make", [claude, gpt], ids=["claude", "gpt"])


async def _stream(model: Any) -> None:
    async for _ in model.astream("hi"):
        pass


CALLS = {
    "invoke": lambda model: model.invoke("hi"),
    "stream": lambda model: list(model.stream("hi")),
    "batch": lambda model: model.batch(["hi"]),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hi")),
    "astream": lambda model: asyncio.run(_stream(model)),
    "abatch": lambda model: asyncio.run(model.abatch(["hi"])),
}


@MODELS
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_each_way_of_calling_is_charged_once(provider: Provider, make: Any, call: Any) -> None:
    """The run is charged what the provider bills, once, whatever way the model is called; its type stays."""
    model = make(provider)
    wrapped = bursar.wrap(model)
    assert type(wrapped) is type(model)
    with bursar.run("x", Budget(usd="1")) as run:
        call(wrapped)
    assert len(provider.charges) == 1
    assert run.spend.settled.nusd == provider.billed_nusd
    assert [row.usage_source for row in rows_of(run)] == ["provider"]


@MODELS
def test_the_model_handed_in_is_not_changed(provider: Provider, make: Any) -> None:
    """Only the copy carries the guard: a call of the model itself reaches no wrapped client."""
    model = make(provider)
    bursar.wrap(model, Budget(tokens=1))
    model.invoke("hi")
    assert len(provider.charges) == 1


@MODELS
def test_a_copy_and_a_binding_of_it_are_guarded_too(provider: Provider, make: Any) -> None:
    """What LangChain makes of a wrapped model (bind, bind_tools, model_copy) is limited like it."""
    wrapped = bursar.wrap(make(provider))
    with bursar.run("x", Budget(model_calls=2)) as run:
        wrapped.bind(stop=["x"]).invoke("hi")
        wrapped.model_copy().invoke("hi")
        with pytest.raises(bursar.BudgetExceeded):
            wrapped.bind_tools([]).invoke("hi")
    assert run.spend.settled.model_calls == 2


@MODELS
def test_retries_inside_the_model_are_seen(make: Any) -> None:
    """A call that the SDK inside had to send three times is one operation of three attempts, with their reasons."""
    replies = scripted([Reply(status=529, headers={"retry-after-ms": "1"}), Reply(status=500), Reply()])
    with Provider(latency_s=0.0, replies=replies) as provider, bursar.run("x", Budget(usd="1")) as run:
        bursar.wrap(make(provider, max_retries=2)).invoke("hi")
    rows = rows_of(run)
    assert [row.retry_reason for row in rows] == ["overloaded", "server_error", None]
    assert {row.step for row in rows} == {1}
    assert run.spend.settled.model_calls == 1


def test_embeddings_are_charged(provider: Provider) -> None:
    """OpenAIEmbeddings, which call no callback, are limited and recorded."""
    wrapped = bursar.wrap(embeddings(provider))
    with bursar.run("x", Budget(model_calls=2)) as run:
        wrapped.embed_query("hi")
        asyncio.run(wrapped.aembed_query("hi"))
        with pytest.raises(bursar.BudgetExceeded):
            wrapped.embed_documents(["hi"])
    assert run.spend.settled.nusd == provider.billed_nusd > 0


def test_a_model_of_another_vendor_is_named() -> None:
    """What has no client that we know raises TypeError, which says what to do instead."""
    with pytest.raises(TypeError, match=r"FakeListChatModel.*BursarMiddleware"):
        bursar.wrap(FakeListChatModel(responses=["x"]))


def test_neither_room_nor_package_imports_langchain() -> None:
    """`import bursar.callbacks` loads nothing of LangChain."""
    code = "import bursar, bursar.callbacks, sys; print([n for n in sys.modules if n.startswith('lang')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
