"""The module `openai`, wrapped as a client is: each call is charged once, whatever becomes of its client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import _module_client

import bursar
from bursar import Budget
from bursar.testing import Provider
from tests.clients.books import rows_of
from tests.clients.entries import CHAT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def module(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `openai` as a program would configure it."""
    monkeypatch.setattr(openai, "api_key", "x")
    monkeypatch.setattr(openai, "base_url", f"{provider.openai_url}/")
    # Its client shares its connections with the module. What is put in the place of these is undone with the rest.
    monkeypatch.setattr(openai, "http_client", None)
    monkeypatch.setattr(openai, "_load_client", openai._load_client)
    monkeypatch.setattr(_module_client, "_load_client", openai._load_client)
    yield openai
    openai._load_client().close()
    openai._reset_client()


def test_the_module_is_guarded(module: Any, provider: Provider) -> None:
    """`bursar.wrap(openai)` gives the module back, and its calls are charged once, also when it is wrapped twice."""
    assert bursar.wrap(module) is module
    bursar.wrap(module)
    with bursar.run("module", Budget(usd="1")) as run:
        openai.chat.completions.create(**CHAT)
        openai.embeddings.create(model="text-embedding-3-small", input="x")
    assert len(rows_of(run)) == 2
    assert run.spend.settled.nusd == provider.billed_nusd
    with bursar.run("module", Budget(tokens=10)), pytest.raises(bursar.BudgetExceeded):
        openai.responses.create(model="gpt-4o", input="Name three rivers. " * 100)


def test_a_module_that_makes_its_client_anew_stays_guarded(
    module: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever makes the module forget its client, and of whatever class the next one is: no call is free."""
    bursar.wrap(module, bursar.Budget(tokens=100_000), workflow="module")
    completions = openai.chat
    with bursar.run("module", Budget(usd="1")) as run:
        for forget in (openai._reset_client, lambda: setattr(openai, "_client", None)):
            openai.chat.completions.create(**CHAT)
            forget()
            completions.completions.create(**CHAT)
        monkeypatch.setattr(openai, "api_type", "azure")
        monkeypatch.setattr(openai, "api_version", "2026-01-01")
        monkeypatch.setattr(openai, "azure_endpoint", provider.anthropic_url)
        monkeypatch.setattr(openai, "base_url", None)
        openai._reset_client()
        openai.chat.completions.create(**CHAT)
    rows = rows_of(run)
    assert len(rows) == len(provider.charges) == 5
    assert [row.cost_status for row in rows] == ["list_price"] * 4 + ["lower_bound"]
    assert run.spend.settled.nusd == provider.billed_nusd


def test_a_module_that_is_wrapped_again_keeps_both_limits(module: Any, provider: Provider) -> None:
    """Also over a client that was made anew in between: wrapping loosens nothing."""
    bursar.wrap(module, Budget(model_calls=1))
    openai._reset_client()
    bursar.wrap(module, Budget(usd="1"))
    openai.chat.completions.create(**CHAT)
    openai._reset_client()
    with pytest.raises(bursar.BudgetExceeded):
        openai.chat.completions.create(**CHAT)
    assert len(provider.requests) == 1


def test_a_module_without_a_client_is_wrapped_before_it_has_a_key(module: Any, provider: Provider) -> None:
    """Wrapping makes no client: what the program sets afterwards counts."""
    openai._reset_client()
    bursar.wrap(module)
    assert openai._client is None
    with bursar.run("module", Budget(usd="1")) as run:
        openai.chat.completions.create(**CHAT)
    assert run.spend.settled.nusd == provider.billed_nusd > 0
