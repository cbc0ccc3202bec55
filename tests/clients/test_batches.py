"""Batches: charged at their bound when they are made, and result by result at batch prices once those are read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, ConfigError, PriceUnknown
from bursar.clients import batches
from bursar.runs.process import process
from bursar.testing import Provider, ReceivedRequest, Reply
from bursar.tracing.queries import Reader
from bursar.words.events import NOTHING
from tests.clients.conftest import ask
from tests.clients.orders import HI, VENDORS, WAYS, Open, ledger_rows, report, said_already

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once has been said."""
    said_already(monkeypatch)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_the_ledger_is_the_bill_once_the_results_are_read(
    vendor: str, way: str, provider: Provider, opened: Open
) -> None:
    """Before: charged at more than the bill, all of it unmeasured. After: one row a result, what was billed, no more."""
    client = opened(provider, vendor, way)
    with bursar.run("night", Budget(usd="1", model_calls=4), feature="mails") as run:
        batch = client.order(NAMES)
        provider.wait_idle()
        assert run.spend.settled.nusd == run.spend.unmeasured.nusd > provider.billed_nusd
        (row,) = ledger_rows()
        assert (row.path, row.flags, row.usage_source, row.nusd) == (
            "batch",
            ("presumed",),
            "estimated",
            run.spend.settled.nusd,
        )
        assert client.results(batch) == NAMES
    assert run.spend.settled.nusd == provider.billed_nusd
    assert (run.spend.settled.model_calls, run.spend.unmeasured, run.spend.held) == (4, NOTHING, NOTHING)
    rows = ledger_rows()
    assert [row.nusd for row in rows] == [charge.nusd for charge in provider.charges]
    assert {(row.path, row.usage_source, row.cost_status, row.run_id) for row in rows} == {
        ("batch", "provider", "list_price", run.id)
    }
    assert report()["night"].requests == 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_results_fetched_again_are_charged_once(vendor: str, way: str, provider: Provider, opened: Open) -> None:
    """The same results twice, and a third time by another client outside of the run, change nothing."""
    client = opened(provider, vendor, way)
    with bursar.run("night", Budget(usd="1")) as run:
        batch = client.order(NAMES)
        client.results(batch)
        client.results(batch)
    other = opened(provider, vendor, workflow="morning")
    other.results(batch)
    assert run.spend.settled.nusd == provider.billed_nusd
    assert [row.nusd for row in ledger_rows()] == [charge.nusd for charge in provider.charges]
    assert "morning" not in report()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_what_is_read_in_part_is_settled_in_part(vendor: str, way: str, opened: Open) -> None:
    """Two results of four: two rows, half of the bound left; the rest follows whenever it is read."""
    with Provider(latency_s=0, replies=lambda _: Reply(output_tokens=250)) as provider:
        client = opened(provider, vendor, way)
        with bursar.run("night", Budget(usd="1")) as run:
            # Longer than what an HTTP client reads at once: what is not asked for has not come.
            batch = client.order(NAMES, messages=[{"role": "user", "content": "hi " * 100}])
            bound = run.spend.settled.nusd
            assert client.results(batch, take=2) == NAMES[:2]
            read = [row for row in ledger_rows() if row.usage_source == "provider"]
            assert 2 <= len(read) <= 4
            assert run.spend.unmeasured.nusd == pytest.approx(bound * (4 - len(read)) / 4, rel=0.01)
            assert sum(row.nusd or 0 for row in ledger_rows()) == run.spend.settled.nusd
            client.results(batch)
        assert run.spend.settled.nusd == provider.billed_nusd
        assert run.spend.unmeasured == NOTHING


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_connection_that_is_cut_settles_what_came(vendor: str, opened: Open) -> None:
    """The caller sees the SDK's own error; what came whole is settled, the rest stays at its bound."""
    with Provider(latency_s=0, cut_results_after=3_000, replies=lambda _: Reply(output_tokens=200)) as provider:
        client = opened(provider, vendor)
        with bursar.run("night", Budget(usd="1")) as run:
            batch = client.order(NAMES)
            with pytest.raises((httpx2.HTTPError, anthropic.APIError, openai.APIError)):
                client.results(batch, take=4)
            measured = [row for row in ledger_rows() if row.usage_source == "provider"]
            assert 0 < len(measured) < 4
            assert run.spend.settled.nusd > provider.billed_nusd
            assert sum(row.nusd or 0 for row in ledger_rows()) == run.spend.settled.nusd


def _mixed(request: ReceivedRequest) -> Reply:
    # The four requests of a batch, told apart by their caps.
    return {300: Reply(), 301: Reply(status=400), 302: Reply(fault="expire"), 303: Reply(fault="no_usage")}[
        request.max_output_tokens or 300
    ]


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_failed_costs_nothing_and_what_says_no_usage_its_bound(vendor: str, opened: Open) -> None:
    """Errored and expired requests give their bound back; a result without usage stays at its bound, estimated."""
    with Provider(latency_s=0, replies=_mixed) as provider:
        client = opened(provider, vendor)
        cap = "max_completion_tokens" if vendor == "openai" else "max_tokens"
        with bursar.run("night", Budget(usd="1")) as run:
            for n in range(4):
                options: Any = {cap: 300 + n}
                client.results(client.order([f"only-{n}"], **options))
        found = [(row.status, row.usage_source, (row.nusd or 0) > 0) for row in ledger_rows()]
        assert found == [
            ("ok", "provider", True),
            ("error", "none", False),
            ("cancelled", "none", False),
            ("ok", "estimated", True),
        ]
        assert run.spend.unmeasured.nusd == ledger_rows()[3].nusd
        assert run.spend.settled.nusd == provider.billed_nusd - provider.charges[1].nusd + run.spend.unmeasured.nusd
        assert run.spend.settled.model_calls == 2


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_cancelled_batch_gives_back_what_was_not_done(vendor: str, opened: Open) -> None:
    """Cancelled before it began: nothing was billed, and once its end is seen nothing is charged."""
    with Provider(latency_s=0, batch_delay_s=30) as provider:
        client = opened(provider, vendor)
        with bursar.run("night", Budget(usd="1")) as run:
            batch = client.order(NAMES)
            assert run.spend.settled.nusd > 0
            client.done(client.batches.cancel(batch))
            provider.wait_idle()
            client.results(batch)
        assert run.spend.settled == NOTHING
        assert provider.billed_nusd == 0
        assert {row.status for row in ledger_rows()} == {"cancelled"}


def test_a_batch_that_is_refused_for_its_file_costs_nothing(provider: Provider, opened: Open) -> None:
    """OpenAI fails a batch whose file it cannot read: it has no results, and retrieving it gives the bound back."""
    client = opened(provider, "openai")
    good = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o","messages":[]}}\n'
    with bursar.run("night", Budget(usd="1")) as run:
        file = client.sdk.files.create(file=("x.jsonl", good + b"no json\n"), purpose="batch")
        batch = client.order([], file=file.id)
        assert run.spend.settled.nusd > 0
        assert client.batches.retrieve(batch).status == "failed"
    assert run.spend.settled == NOTHING


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_batch_that_does_not_fit_is_refused_unsent(vendor: str, way: str, provider: Provider, opened: Open) -> None:
    """The sum of the requests is admitted at once, or nothing is sent; half of it fits."""
    client = opened(provider, vendor, way)
    file = client.upload(NAMES) if vendor == "openai" else None
    with bursar.run("night", Budget(usd="0.004", max_wait=0)) as run:
        before = len(provider.requests)
        with pytest.raises(BudgetExceeded):
            client.order(NAMES, file=file)
        assert len(provider.requests) == before
        assert run.spend.settled == run.spend.held == NOTHING
        client.order(NAMES[:2])


def test_a_model_without_a_price_is_refused_under_a_limit_in_dollars(provider: Provider, opened: Open) -> None:
    """One request of an unknown model among others: PriceUnknown names it, nothing is sent."""
    client = opened(provider, "anthropic")
    requests = [
        {"custom_id": model, "params": {"model": model, "max_tokens": 20, "messages": HI}}
        for model in ("claude-sonnet-5-5", "claude-of-tomorrow")
    ]
    with bursar.run("night", Budget(usd="1")), pytest.raises(PriceUnknown, match="claude-of-tomorrow"):
        client.batches.create(requests=requests)
    assert provider.requests == []


def test_a_file_that_nobody_saw_is_held_for_nothing_and_says_so(provider: Provider, opened: Open, gpt: Any) -> None:
    """Uploaded by a client that is not wrapped: the order costs NULL, `unreserved`; its results are charged all the same."""
    bare = opened(provider, "openai")
    bare.sdk = gpt
    file = bare.upload(NAMES)
    client = opened(provider, "openai")
    with bursar.run("night", Budget(usd="1")) as run:
        batch = client.order(NAMES, file=file)
        (row,) = ledger_rows()
        assert (row.nusd, "unreserved" in row.flags, run.spend.settled.nusd) == (None, True, 0)
        client.results(batch)
        client.results(batch)
    assert run.spend.settled.nusd == provider.billed_nusd
    assert [row.nusd for row in ledger_rows()] == [charge.nusd for charge in provider.charges]


def test_an_unread_order_of_which_nothing_was_answered_leaves_nothing(opened: Open) -> None:
    """Its requests unknown, all of them failed: the row that cost NULL goes when the end of the batch is seen."""
    with Provider(latency_s=0, replies=lambda _: Reply(status=400)) as provider:
        client = opened(provider, "openai")
        file = client.upload(NAMES)
        batches._files.clear()
        with bursar.run("night", Budget(usd="1")) as run:
            batch = client.order(NAMES, file=file)
            assert [row.nusd for row in ledger_rows()] == [None]
            assert client.results(batch) == NAMES
        assert {(row.status, row.nusd) for row in ledger_rows()} == {("error", 0)}
        assert run.spend.settled == NOTHING


ORDER = """
import os, signal, sys, bursar, anthropic
with bursar.run("night", bursar.Budget(usd="1")):
    client = bursar.wrap(anthropic.Anthropic(base_url=sys.argv[1], api_key="x"))
    params = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
    made = client.messages.batches.create(requests=[{"custom_id": name, "params": params} for name in "abcd"])
    print(made.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_order_outlives_the_process_that_made_it(shared: None, provider: Provider, opened: Open) -> None:
    """Killed right after the order: it is charged at its bound, and what is read of it elsewhere corrects that."""
    command = [sys.executable, "-W", "ignore", "-c", ORDER, provider.anthropic_url]
    made = subprocess.run(command, env={**os.environ}, stdout=subprocess.PIPE, check=False)
    assert made.returncode == -9
    (account,) = process().shared.every_account()
    assert account.settled.nusd == account.unmeasured.nusd > provider.billed_nusd
    opened(provider, "anthropic").results(made.stdout.decode().strip())
    (account,) = [each for each in process().shared.every_account() if each.settled.nusd]
    assert (account.settled.nusd, account.unmeasured) == (provider.billed_nusd, NOTHING)
    assert {key: row.nusd for key, row in report().items()} == {"night": provider.billed_nusd}


@pytest.mark.parametrize("vendor", VENDORS)
def test_results_that_nobody_here_ordered_are_his_who_reads_them(
    vendor: str, provider: Provider, opened: Open, gpt: Any, claude: Any
) -> None:
    """A batch of a bare client: its results are charged to the run that reads them, once, in any order of knowing."""
    bare = opened(provider, vendor)
    bare.sdk = gpt if vendor == "openai" else claude
    batch = bare.order(NAMES)
    client = opened(provider, vendor)
    with bursar.run("reader", Budget(usd="1")) as run:
        if vendor == "openai":
            # First as a file of which nobody knows whose it is.
            client._file(bare.files(batch)[0], None)
        client.results(batch)
        client.results(batch)
    assert run.spend.settled.nusd == provider.billed_nusd == sum(row.nusd or 0 for row in ledger_rows())
    assert report()["reader"].requests == 4


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_call_beside_a_batch_with_the_same_custom_id_is_another_charge(
    vendor: str, provider: Provider, opened: Open, gpt: Any, claude: Any
) -> None:
    """The same question at once and in a batch: two charges on the bill, one at half the price, and so in the ledger."""
    client = opened(provider, vendor)
    with bursar.run("mixed", Budget(usd="1")) as run:
        batch = client.order(["mail-1"])
        if vendor == "openai":
            client.sdk.chat.completions.create(
                model="gpt-4o", max_completion_tokens=300, messages=HI, metadata={"custom_id": "mail-1"}
            )
        else:
            ask(client.sdk, max_tokens=300, metadata={"user_id": "mail-1"})
        client.results(batch)
        client.results(batch)
    rows = {row.path: row.nusd or 0 for row in ledger_rows()}
    assert rows["sync"] == 2 * rows["batch"]
    assert run.spend.settled.nusd == provider.billed_nusd == sum(rows.values())


def test_two_batches_may_use_the_same_custom_ids(provider: Provider, opened: Open) -> None:
    """A custom id is unique in its batch, and only there."""
    client = opened(provider, "anthropic")
    with bursar.run("night", Budget(usd="1")) as run:
        one, other = client.order(NAMES), client.order(NAMES)
        client.results(one)
        client.results(other)
    assert run.spend.settled.nusd == provider.billed_nusd
    assert len(ledger_rows()) == 8


READ_RESULTS = """
import sys, bursar
from bursar.clients import unmetered
unmetered._said |= {"batches", "files"}
vendor, url, batch, take = sys.argv[1:]
with bursar.run("elsewhere", bursar.Budget(usd="1")):
    if vendor == "openai":
        import openai
        client = bursar.wrap(openai.OpenAI(base_url=url, api_key="x"))
        found = client.batches.retrieve(batch)
        client.files.content(found.output_file_id)
    else:
        import anthropic
        client = bursar.wrap(anthropic.Anthropic(base_url=url, api_key="x"))
        for n, _ in enumerate(client.messages.batches.results(batch), 1):
            if n == int(take):
                import os, signal
                os.kill(os.getpid(), signal.SIGKILL)
"""


def read_elsewhere(vendor: str, provider: Provider, batch: str, take: int = 0) -> subprocess.Popen[bytes]:
    url = provider.openai_url if vendor == "openai" else provider.anthropic_url
    command = [sys.executable, "-W", "ignore", "-c", READ_RESULTS, vendor, url, batch, str(take)]
    return subprocess.Popen(command, env={**os.environ})


@pytest.mark.parametrize("vendor", ["anthropic", "openai"])
def test_another_process_settles_for_the_run_that_ordered(vendor: str, provider: Provider, opened: Open) -> None:
    """Two processes read the results at once: one charge each, on the tags and the run of the order, its row mended."""
    client = opened(provider, vendor)
    with bursar.run("night", Budget(usd="1"), user="u-1") as run:
        batch = client.order(NAMES)
    readers = [read_elsewhere(vendor, provider, batch) for _ in range(2)]
    assert [reader.wait(60) for reader in readers] == [0, 0]
    rows = ledger_rows()
    assert [row.nusd for row in rows] == [charge.nusd for charge in provider.charges]
    assert {row.run_id for row in rows} == {run.id}
    with_costs = {key: row.nusd for key, row in report().items()}
    assert with_costs == {"night": provider.billed_nusd}
    assert list(report("user")) != ["(none)"]
    with Reader(Path(process().ledger.path)) as reader:
        kept = reader.run(run.id)
    assert (kept.nusd, kept.unmeasured_nusd) == (provider.billed_nusd, 0)


def test_a_reader_killed_in_the_middle_leaves_the_rest_to_the_next(provider: Provider, opened: Open) -> None:
    """What he had read is settled, nothing else is; whoever reads on settles the rest, and nothing twice."""
    client = opened(provider, "anthropic")
    with bursar.run("night", Budget(usd="1")):
        batch = client.order(NAMES)
    assert read_elsewhere("anthropic", provider, batch, take=2).wait(60) == -9
    measured = [row for row in ledger_rows() if row.usage_source == "provider"]
    assert len(measured) >= 2
    assert read_elsewhere("anthropic", provider, batch).wait(60) == 0
    assert [row.nusd for row in ledger_rows()] == [charge.nusd for charge in provider.charges]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that all processes share."""
    (tmp_path / "bursar.toml").write_text('[[limit]]\nper = "workflow"\nwindow = "day"\nusd = "1"\nmodel_calls = 100\n')
    monkeypatch.setenv("BURSAR_CONFIG", str(tmp_path / "bursar.toml"))


@pytest.mark.parametrize("vendor", ["anthropic", "openai"])
def test_shared_limits_are_corrected_with_the_rows(vendor: str, shared: None, provider: Provider, opened: Open) -> None:
    """A day's limit counts the bound, then the bill; every balance follows from its records, also after 48 hours."""
    client = opened(provider, vendor, workflow="night")
    batch = client.order(NAMES)
    (account,) = process().shared.every_account()
    assert account.settled.nusd == account.unmeasured.nusd > 0
    client.results(batch, take=2)
    process().shared.write(lambda run: run("UPDATE ended SET ended_us = 0"))
    process().shared.sweep()
    assert read_elsewhere(vendor, provider, batch).wait(60) == 0
    (account,) = [each for each in process().shared.every_account() if each.scope.name.endswith("night")]
    assert (account.settled.nusd, account.unmeasured, account.held) == (provider.billed_nusd, NOTHING, NOTHING)
    assert account.settled.model_calls == 4
    assert process().shared.audit() == []


def test_strict_refuses_to_order_and_not_to_read(provider: Provider, opened: Open) -> None:
    """`strict=True` raises before a batch is made; results of one that was made are read and settled."""
    batch = opened(provider, "anthropic").order(NAMES)
    strict = opened(provider, "anthropic", strict=True)
    with pytest.raises(ConfigError, match="batches"):
        strict.order(NAMES)
    assert strict.results(batch) == NAMES


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_the_caller_reads_is_what_the_provider_sent(vendor: str, provider: Provider, opened: Open) -> None:
    """Byte for byte, with and without us, by every way to read it."""
    client = opened(provider, vendor)
    batch = client.order(NAMES)
    provider.wait_idle()
    if vendor == "openai":
        (file,) = client.files(batch)
        bare = openai.OpenAI(base_url=provider.openai_url, api_key="x")
        wanted = bare.files.content(file).content
        with client.sdk.files.with_streaming_response.content(file) as response:
            got = [client.sdk.files.content(file).content, response.read()]
        got.append(client.sdk.files.with_raw_response.content(file).content)
        bare.close()
    else:
        plain = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x")
        with plain.messages.batches.with_streaming_response.results(batch) as response:
            wanted = response.read()
        with client.batches.with_streaming_response.results(batch) as response:
            got = [response.read()]
        plain.close()
    assert got
    assert set(got) == {wanted}
    assert sum(row.nusd for row in report().values()) == provider.billed_nusd


def test_results_are_the_callers_where_the_ledger_cannot_be_written(
    provider: Provider, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that fails while results are read: they are read all the same, a warning says it, the bound stays."""
    client = opened(provider, "anthropic")
    with bursar.run("night", Budget(usd="1")) as run:
        batch = client.order(NAMES)
        bound = run.spend.settled
        process().ledger.database().execute("ALTER TABLE deferred_item RENAME TO gone")
        with pytest.warns(bursar.BursarWarning, match="could not be taken in"):
            assert client.results(batch) == NAMES
        assert run.spend.settled == bound
        process().ledger.database().execute("ALTER TABLE gone RENAME TO deferred_item")
        client.results(batch)
    assert run.spend.settled.nusd == provider.billed_nusd
