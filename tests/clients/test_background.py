"""Background responses: charged at their bound when they are made, and once at their usage when their end is seen."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, ConfigError
from bursar.testing import Provider, Reply
from bursar.words.events import NOTHING
from tests.clients.orders import WAYS, Client, Open, ledger_rows, report, said_already

if TYPE_CHECKING:
    from bursar import Run

ASKED: Any = {"model": "gpt-4o", "input": "hi", "max_output_tokens": 300, "background": True}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once has been said."""
    said_already(monkeypatch)


def settled(run: Run, provider: Provider) -> None:
    """What the run, the ledger and the bill agree on, with nothing held and nothing in doubt."""
    assert run.spend.settled.nusd == provider.billed_nusd == sum(row.nusd or 0 for row in ledger_rows())
    assert run.spend.held == run.spend.unmeasured == NOTHING


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["plain", "raw", "streaming"])
def test_the_end_of_a_response_is_charged_once(way: str, form: str, opened: Open) -> None:
    """Queued: the bound, presumed. Retrieved before the end: the same. At the end, however often: the bill, in one row."""
    with Provider(latency_s=0.2) as provider:
        client = opened(provider, "openai", way)
        with bursar.run("later", Budget(usd="1")) as run:
            name = client.done(_create(client, form))
            bound = run.spend.settled
            assert run.spend.unmeasured == bound
            assert (ledger_rows()[0].path, ledger_rows()[0].flags) == ("background", ("presumed",))
            client.done(_retrieve(client, form, name))
            assert run.spend.settled == bound
            provider.wait_idle()
            for _ in range(3):
                client.done(_retrieve(client, form, name))
                settled(run, provider)
        (row,) = ledger_rows()
    assert (row.response_id, row.usage_source, row.cost_status, row.step) == (name, "provider", "list_price", 1)
    assert "presumed" not in row.flags


async def _now(asked: Any) -> Any:
    return await asked if inspect.isawaitable(asked) else asked


async def _create_it(client: Client, form: str) -> str:
    api = client.sdk.responses
    if form == "plain":
        return str((await _now(api.create(**ASKED))).id)
    if form == "raw":
        raw = await _now(api.with_raw_response.create(**ASKED))
        return str((await _now(raw.parse())).id)
    async with api.with_streaming_response.create(**ASKED) as response:
        return str((await response.json())["id"])


async def _retrieve_it(client: Client, form: str, name: str) -> None:
    api = client.sdk.responses
    if form == "plain":
        await _now(api.retrieve(name))
    elif form == "raw":
        await _now(api.with_raw_response.retrieve(name))
    else:
        async with api.with_streaming_response.retrieve(name) as response:
            await response.read()


def _create(client: Client, form: str) -> Any:
    if client._runner is not None:
        return _create_it(client, form)
    if form != "streaming":
        return _at_once(_create_it(client, form))
    with client.sdk.responses.with_streaming_response.create(**ASKED) as response:
        return response.json()["id"]


def _retrieve(client: Client, form: str, name: str) -> Any:
    if client._runner is not None:
        return _retrieve_it(client, form, name)
    if form != "streaming":
        return _at_once(_retrieve_it(client, form, name))
    with client.sdk.responses.with_streaming_response.retrieve(name) as response:
        response.read()
    return None


def _at_once(coroutine: Any) -> Any:
    # A coroutine that awaits nothing ends at its first step.
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a sync client has awaited something")


@pytest.mark.parametrize("take", [None, 3])
def test_a_stream_that_is_left_goes_on_and_is_charged_when_its_end_is_seen(take: int | None, opened: Open) -> None:
    """Read to its end: the usage at once. Left early: the bound, until it is followed from where it was left."""
    with Provider(latency_s=0, replies=lambda _: Reply(chunk_delay_s=0.002)) as provider:
        client = opened(provider, "openai")
        with bursar.run("later", Budget(usd="1")) as run:
            name, number = "", -1
            with client.sdk.responses.create(**ASKED, stream=True) as stream:
                for event in stream:
                    name = event.response.id if event.type == "response.created" else name
                    number = event.sequence_number
                    if number == take:
                        break
            provider.wait_idle()
            if take is not None:
                assert run.spend.settled.nusd == run.spend.unmeasured.nusd > provider.billed_nusd
                for event in client.sdk.responses.retrieve(name, stream=True, starting_after=number):
                    assert event.sequence_number > number
            settled(run, provider)
            client.sdk.responses.retrieve(name)
            settled(run, provider)
    assert len(ledger_rows()) == 1


def test_a_stream_may_be_followed_by_an_async_client(opened: Open) -> None:
    """The events of an async `retrieve(stream=True)` settle it as well."""
    with Provider(latency_s=0.05) as provider:
        client = opened(provider, "openai", "async")
        with bursar.run("later", Budget(usd="1")) as run:

            async def follow() -> None:
                made = await client.sdk.responses.create(**ASKED)
                async for _ in await client.sdk.responses.retrieve(made.id, stream=True):
                    pass

            client._run(follow())
            settled(run, provider)


RETRIEVE = """
import sys, bursar, openai
with bursar.run("elsewhere", bursar.Budget(usd="1")):
    client = bursar.wrap(openai.OpenAI(base_url=sys.argv[1], api_key="x"))
    assert client.responses.retrieve(sys.argv[2]).status == "completed"
"""


def test_two_processes_that_retrieve_it_charge_it_once(provider: Provider, opened: Open) -> None:
    """The row is that of the run which ordered it, whoever has seen its end, and the run's own row is mended."""
    client = opened(provider, "openai")
    with bursar.run("later", Budget(usd="1"), user="u-1"):
        name = client.sdk.responses.create(**ASKED).id
    provider.wait_idle()
    command = [sys.executable, "-c", RETRIEVE, provider.openai_url, name]
    others = [subprocess.Popen(command, env={**os.environ}) for _ in range(2)]
    assert [other.wait(60) for other in others] == [0, 0]
    assert {key: row.nusd for key, row in report().items()} == {"later": provider.billed_nusd}
    assert [row.nusd for row in ledger_rows()] == [provider.billed_nusd]


def test_one_that_nobody_fetches_stays_presumed_at_its_bound(provider: Provider, opened: Open) -> None:
    """The run ends with it charged in full and in doubt: not held, not free."""
    client = opened(provider, "openai")
    with bursar.run("later", Budget(usd="1")) as run:
        client.sdk.responses.create(**ASKED)
    provider.wait_idle()
    (row,) = ledger_rows()
    assert (row.nusd, row.cost_status, row.flags) == (run.spend.unmeasured.nusd, "estimated", ("presumed",))
    assert run.spend.settled.nusd > provider.billed_nusd > 0
    assert run.spend.held == NOTHING


def test_one_that_is_cancelled_stays_at_its_bound_unless_its_usage_is_said(opened: Open) -> None:
    """OpenAI names no usage of a response that was cancelled: what it cost is not known, and not nothing."""
    with Provider(replies=lambda _: Reply(latency_s=0, chunk_delay_s=0.05)) as provider:
        client = opened(provider, "openai")
        with bursar.run("later", Budget(usd="1")) as run:
            name = client.sdk.responses.create(**ASKED).id
            assert client.sdk.responses.cancel(name).status == "cancelled"
            client.sdk.responses.retrieve(name)
        assert run.spend.settled.nusd == run.spend.unmeasured.nusd > provider.billed_nusd
        (row,) = ledger_rows()
    assert (row.finish_reason, row.usage_source) == ("cancelled", "estimated")


def test_a_response_that_was_not_in_the_background_is_charged_when_it_is_made(provider: Provider, opened: Open) -> None:
    """Retrieving it again costs nothing more."""
    client = opened(provider, "openai")
    with bursar.run("now", Budget(usd="1")) as run:
        made = client.sdk.responses.create(model="gpt-4o", input="hi", max_output_tokens=300)
        client.sdk.responses.retrieve(made.id)
        assert made.status == "completed"
    assert run.spend.settled.nusd == provider.billed_nusd
    assert len(ledger_rows()) == 1


def test_the_budget_has_its_room_back(opened: Open) -> None:
    """Bounds fill a budget for one; after the first has ended a second one fits."""
    with Provider(latency_s=0.05) as provider:
        client = opened(provider, "openai")
        with bursar.run("later", Budget(usd="0.0055", max_wait=0)) as run:
            name = client.sdk.responses.create(**ASKED).id
            with pytest.raises(BudgetExceeded):
                client.sdk.responses.create(**ASKED, instructions="be brief")
            provider.wait_idle()
            client.sdk.responses.retrieve(name)
            client.sdk.responses.create(**ASKED)
            assert run.spend.settled.nusd > provider.billed_nusd


def test_strict_refuses_to_order_and_not_to_retrieve(provider: Provider, opened: Open) -> None:
    """`strict=True` raises before anything is sent; what was ordered may be looked up."""
    name = opened(provider, "openai").sdk.responses.create(**ASKED).id
    provider.wait_idle()
    strict = opened(provider, "openai", strict=True)
    with pytest.raises(ConfigError, match="background responses"):
        strict.sdk.responses.create(**ASKED)
    strict.sdk.responses.retrieve(name)
    assert sum(row.nusd for row in report().values()) == provider.billed_nusd


def test_a_bare_response_is_his_who_retrieves_it(provider: Provider, opened: Open, gpt: openai.OpenAI) -> None:
    """Ordered by a client that is not wrapped: charged to the run that first sees its end, once."""
    name = gpt.responses.create(**ASKED).id
    provider.wait_idle()
    client = opened(provider, "openai")
    with bursar.run("reader", Budget(usd="1")) as run:
        client.sdk.responses.retrieve(name)
        client.sdk.responses.retrieve(name)
    settled(run, provider)
