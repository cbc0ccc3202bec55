"""What is sent again: by the SDK, by the caller, to another model; and where it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget, BudgetExceeded, RetriesExhausted, RetryCap
from bursar.testing import Provider, Reply, scripted
from bursar.words.events import NOTHING
from tests.clients.books import rows_of, verdicts_of
from tests.clients.test_endings import Door

SOON = {"retry-after-ms": "1"}
BUSY = Reply(status=429, headers=SOON)
HOUR = Reply(status=429, headers={"retry-after": "3600"})
FAILURES = (anthropic.AnthropicError, openai.OpenAIError)


class RawDoor(Door):
    """The same through `with_raw_response`."""

    def create(self, client: Any) -> Any:
        if self.api == "chat":
            return client.chat.completions.with_raw_response.create
        kind = client.messages if self.api == "messages" else client.responses
        return kind.with_raw_response.create


DOORS = [
    pytest.param(kind(api, is_async=is_async, stream=False), id=f"{api}-{'async' if is_async else 'sync'}-{name}")
    for kind, name in ((Door, "plain"), (RawDoor, "raw"))
    for api in ("messages", "chat", "responses")
    for is_async in (False, True)
]
every_door = pytest.mark.parametrize("door", DOORS)


def refused(door: Door, provider: Provider, *guards: Any, retries: int = 5, **options: Any) -> tuple[bursar.Run, Any]:
    """One call in a run with these guards; the run and what was raised."""
    client = bursar.wrap(door.client(provider, max_retries=retries))
    with bursar.run("capped", *(guards or (Budget(usd="1"),)), **options) as run:
        with pytest.raises((*FAILURES, bursar.Stopped)) as raised:
            door.call(client)
    if not door.is_async:
        client.close()
    return run, raised.value


@every_door
def test_an_attempt_says_who_sent_it_and_how_long_it_waited(door: Door) -> None:
    """The SDK's retry: its source, and the wait between the attempts, without the provider's own time."""
    replies = scripted([Reply(status=429, headers={"retry-after-ms": "60"}, latency_s=0.2), Reply()])
    with Provider(latency_s=0.0, replies=replies) as provider:
        client = bursar.wrap(door.client(provider, max_retries=2))
        with bursar.run("waits", Budget(usd="1")) as run:
            door.call(client)
        if not door.is_async:
            client.close()
    first, second = rows_of(run)
    assert (first.attempt_source, first.backoff_us, first.retry_reason) == (None, None, "rate_limit")
    assert second.attempt_source == "sdk"
    assert (second.backoff_us or 0) >= 55_000
    between_us = second.ts_us - first.ts_us
    assert first.latency_us + (second.backoff_us or 0) + second.queue_us < between_us + 50_000


@every_door
def test_a_cap_ends_the_attempts_of_one_operation(door: Door) -> None:
    """Five retries allowed by the SDK, two attempts by the cap: the third is not sent, and nobody retries the stop."""
    with Provider(latency_s=0.0, replies=lambda _: BUSY) as provider:
        run, stopped = refused(door, provider, Budget(usd="1"), RetryCap(attempts=2))
        assert isinstance(stopped, RetriesExhausted)
        assert (stopped.why, stopped.attempts, stopped.spent, stopped.limit) == ("attempts", 2, 0, 2)
        assert (stopped.last_reason, stopped.sent, stopped.run) == ("rate_limit", True, run)
        assert stopped.__cause__ is None
        assert stopped.__context__ is None
        assert len(provider.requests) == len(rows_of(run)) == 2
    assert run.spend.held == NOTHING
    assert run.stop_reason == "retries"
    (verdict,) = verdicts_of(run)
    assert (verdict.guard, verdict.action, verdict.reason, verdict.limit) == ("retries", "deny", "attempts", 2)


def test_a_cap_ends_what_failed_attempts_may_cost() -> None:
    """What was charged for a server error and the bound of the next attempt are above the cap: it is not sent."""
    door = Door("chat", is_async=False, stream=False)
    failing = Reply(status=500, headers=SOON)
    with Provider(latency_s=0.0, replies=lambda _: failing) as provider:
        run, stopped = refused(door, provider, Budget(usd="1"), RetryCap(attempts=9, usd="0.000001"))
        assert isinstance(stopped, RetriesExhausted)
        (row,) = rows_of(run)
        assert (stopped.why, stopped.spent, stopped.limit) == ("usd", row.nusd, 1_000)
        assert 0 < (row.nusd or 0) == run.spend.settled.nusd
        assert len(provider.requests) == 1


def test_a_cap_in_dollars_lets_go_what_fits() -> None:
    """A generous cap stops nothing: the SDK's own error comes through."""
    door = Door("chat", is_async=False, stream=False)
    with Provider(latency_s=0.0, replies=lambda _: BUSY) as provider:
        _, error = refused(door, provider, Budget(usd="1"), RetryCap(attempts=9, usd="0.5"), retries=2)
        assert isinstance(error, openai.RateLimitError)
        assert len(provider.requests) == 3


@every_door
@pytest.mark.parametrize("asked", ["3600", "9999999", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_long_wait_ends_the_operation(door: Door, asked: str) -> None:
    """Instead of an hour's sleep: the stop at once, what the provider asked in it, the connection given back."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=429, headers={"retry-after": asked})) as provider:
        began = time.monotonic()
        run, stopped = refused(door, provider, Budget(usd="1"), RetryCap(max_retry_after=2))
        assert time.monotonic() - began < 30
        assert isinstance(stopped, RetriesExhausted)
        assert (stopped.why, stopped.attempts, stopped.limit) == ("retry_after", 1, 2_000_000)
        assert (stopped.retry_after or 0) >= 3_600
        assert stopped.__cause__ is None
        assert stopped.__context__ is None
        assert len(provider.requests) == 1
    (row,) = rows_of(run)
    assert "long_retry_after" in row.flags
    assert [(v.guard, v.reason, v.unit) for v in verdicts_of(run)] == [("retries", "retry_after", "seconds")]


@pytest.mark.parametrize("asked", ["-1", "nan", "Thu, 01 Jan 1970 00:00:00 GMT", "soon"])
@pytest.mark.parametrize("api", ["messages", "chat"])
def test_a_wait_that_is_none_is_the_sdks_business(api: str, asked: str) -> None:
    """Nothing is stopped; the SDK backs off as it likes."""
    replies = scripted([Reply(status=429, headers={"retry-after": asked}), Reply()])
    door = Door(api, is_async=False, stream=False)
    with Provider(latency_s=0.0, replies=replies) as provider, door.client(provider, max_retries=1) as bare:
        with bursar.run("short", RetryCap(max_retry_after=0.001), Budget(usd="1")) as run:
            door.call(bursar.wrap(bare))
    assert [row.attempt_source for row in rows_of(run)] == [None, "sdk"]


@pytest.mark.parametrize("api", ["messages", "chat"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_wait_beyond_the_deadline_is_not_waited(api: str, is_async: bool) -> None:
    """A run of ten seconds does not sleep an hour to be refused then."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=429, headers={"retry-after": "50"})) as provider:
        began = time.monotonic()
        _, stopped = refused(Door(api, is_async=is_async, stream=False), provider, Budget(seconds=10))
        assert time.monotonic() - began < 30
    assert isinstance(stopped, BudgetExceeded)
    assert stopped.why == "deadline"


def test_without_a_retry_left_the_deadline_leaves_the_error_alone() -> None:
    """Nobody would wait: the caller gets what the SDK raises."""
    with Provider(latency_s=0.0, replies=lambda _: HOUR) as provider:
        door = Door("messages", is_async=False, stream=False)
        _, error = refused(door, provider, Budget(seconds=10), retries=0)
    assert isinstance(error, anthropic.RateLimitError)


def test_a_long_wait_that_nothing_ends_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cap the SDK does as it always did; its user is warned, and the row has a flag."""
    from bursar.clients import guard

    monkeypatch.setattr(guard, "_said", set())
    monkeypatch.setattr("anthropic._base_client.SyncAPIClient._sleep_for_retry", lambda *_, **__: None)
    door = Door("messages", is_async=False, stream=False)
    with Provider(latency_s=0.0, replies=lambda _: HOUR) as provider:
        with pytest.warns(bursar.BursarWarning, match=r"3,600 s.*max_retry_after") as said:
            run, error = refused(door, provider, retries=2)
    assert len(said) == 1
    assert isinstance(error, anthropic.RateLimitError)
    assert all("long_retry_after" in row.flags for row in rows_of(run))


def test_observing_a_cap_stops_nothing() -> None:
    """Each refusal is a verdict that did not act."""
    with Provider(latency_s=0.0, replies=lambda _: BUSY) as provider:
        door = Door("chat", is_async=False, stream=False)
        run, error = refused(door, provider, Budget(usd="1"), RetryCap(attempts=1), retries=2, mode="observe")
        assert isinstance(error, openai.RateLimitError)
        assert len(provider.requests) == 3
    assert [(v.guard, v.acted) for v in verdicts_of(run)] == [("retries", False)] * 2


def test_caps_of_run_client_and_file_all_count(tmp_path: Path) -> None:
    """The strictest wins, wherever it stands; a cap is no budget, so the run still has its default one."""
    file = tmp_path / "bursar.toml"
    file.write_text('[workflow.capped]\nretries = { attempts = 2, usd = "0.20" }\n')
    bursar.configure(config=str(file), default_usd="2")
    door = Door("chat", is_async=False, stream=False)
    for of_run, of_client, sends in ((5, 4, 2), (1, 4, 1), (5, 1, 1)):
        with Provider(latency_s=0.0, replies=lambda _: BUSY) as provider, door.client(provider, max_retries=5) as bare:
            client = bursar.wrap(bare, RetryCap(of_client))
            with bursar.run("capped", RetryCap(of_run), Budget(usd="1")), pytest.raises(RetriesExhausted):
                door.call(client)
            assert len(provider.requests) == sends


@pytest.mark.parametrize(
    ("retries", "said"),
    [
        ("3", "is a table"),
        ("{ attempt = 3 }", "did you mean 'attempts'"),
        ("{ attempts = 0 }", "attempts=0"),
        ("{ usd = 0.2 }", "never a float"),
    ],
)
def test_retries_in_the_file_are_checked(tmp_path: Path, retries: str, said: str) -> None:
    """With the file and the line."""
    file = tmp_path / "bursar.toml"
    file.write_text(f"[workflow.w]\nretries = {retries}\n")
    with pytest.raises(bursar.ConfigError, match=rf"bursar\.toml:2: .*{said}"):
        bursar.configure(config=str(file))


@every_door
def test_what_the_caller_sends_again_is_named(door: Door) -> None:
    """The same request after it failed: a retry of the harness, with the time it took to try."""
    with Provider(latency_s=0.0, replies=scripted([BUSY, BUSY, Reply()])) as provider:
        with bursar.run("harness", Budget(usd="1")) as run:
            for _ in range(3):
                client = bursar.wrap(door.client(provider))
                try:
                    door.call(client)
                except FAILURES:
                    time.sleep(0.02)
                if not door.is_async:
                    client.close()
    rows = rows_of(run)
    assert [row.attempt_source for row in rows] == [None, "harness", "harness"]
    assert ["resubmitted" in row.flags for row in rows] == [False, True, True]
    assert all((row.backoff_us or 0) >= 20_000 for row in rows[1:])


def test_what_the_caller_sends_again_counts_to_the_cap() -> None:
    """Two attempts of the SDK and one resubmission are three; the next is refused, and the one after that too."""
    with Provider(latency_s=0.0, replies=lambda _: BUSY) as provider:
        door = Door("messages", is_async=False, stream=False)
        with door.client(provider, max_retries=1) as bare, bursar.run("h", RetryCap(3), Budget(usd="1")) as run:
            client = bursar.wrap(bare)
            with pytest.raises(anthropic.RateLimitError):
                door.call(client)
            for _ in range(3):
                with pytest.raises(RetriesExhausted) as stopped:
                    door.call(client)
                assert (stopped.value.attempts, stopped.value.last_reason) == (3, "rate_limit")
        assert len(provider.requests) == len(rows_of(run)) == 3


def test_a_user_who_asks_again_in_another_run_is_named() -> None:
    """By the user, across runs; another user who asks the same is not him."""
    with Provider(latency_s=0.0, replies=scripted([BUSY, Reply(), BUSY, Reply()])) as provider:
        door = Door("chat", is_async=False, stream=False)
        sources = []
        with door.client(provider) as bare:
            client = bursar.wrap(bare)
            for user in ("ana", "ana", "bo", "cy"):
                with bursar.run("chat", Budget(usd="1"), user=user) as run:
                    with contextlib.suppress(*FAILURES):
                        door.call(client)
                sources += [row.attempt_source for row in rows_of(run)]
    assert sources == [None, "harness", None, None]


def test_a_stream_that_was_left_and_is_asked_again_is_named() -> None:
    """The first answer was discarded half-way: the same prompt is paid twice."""
    door = Door("chat", is_async=False, stream=True)
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=300)) as provider, door.client(provider) as bare:
        with bursar.run("left", Budget(usd="1")) as run:
            client = bursar.wrap(bare)
            door.call(client, take=2)
            door.call(client)
    assert [row.attempt_source for row in rows_of(run)] == [None, "harness"]


def test_a_chain_of_models_says_from_which_it_fell_back() -> None:
    """Each falls back from the last that failed; an answered chain leaves nothing behind."""
    with Provider(latency_s=0.0, replies=scripted([BUSY, BUSY, Reply(), Reply()])) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            client: Any = bursar.wrap(bare)
            with bursar.run("chain", Budget(usd="1")) as run:
                for model in ("gpt-4o", "gpt-4.1", "gpt-4o-mini", "gpt-4o"):
                    try:
                        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
                    except openai.RateLimitError:
                        continue
    rows = rows_of(run)
    assert [row.fallback_from for row in rows] == [None, "gpt-4o", "gpt-4.1", None]
    assert [row.attempt_source for row in rows] == [None, "fallback", "fallback", None]


def test_a_fallback_to_the_other_vendor_is_named() -> None:
    """A system prompt stands in another place there; the conversation is the same."""
    with Provider(latency_s=0.0, replies=scripted([BUSY, Reply()])) as provider:
        claude = bursar.wrap(anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0))
        gpt = bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0))
        said: Any = [{"role": "user", "content": "Name three rivers."}]
        with claude, gpt, bursar.run("vendors", Budget(usd="1")) as run:
            with pytest.raises(anthropic.RateLimitError):
                claude.messages.create(model="claude-sonnet-5-5", system="Be brief.", max_tokens=50, messages=said)
            gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "system", "content": "Be brief."}, *said])
    assert [row.fallback_from for row in rows_of(run)] == [None, "claude-sonnet-5-5"]


def test_fifty_samples_of_one_prompt_are_no_retries() -> None:
    """Fifty identical calls at once, a fifth of which fail and are retried by the SDK: the caller repeated nothing."""
    fifth = [BUSY if n % 5 == 0 else Reply() for n in range(60)]

    async def sample(provider: Provider) -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x", max_retries=8) as bare:
            client = bursar.wrap(bare)
            message: Any = [{"role": "user", "content": "hi"}]
            calls = [client.chat.completions.create(model="gpt-4o", messages=message) for _ in range(50)]
            await asyncio.gather(*calls)

    with Provider(latency_s=0.01, replies=scripted(fifth)) as provider:
        with bursar.run("samples", Budget(usd="5")) as run:
            asyncio.run(sample(provider))
    sources = [row.attempt_source for row in rows_of(run)]
    assert set(sources) == {None, "sdk"}
    assert sources.count(None) == 50


def test_a_storm_of_refusals_keeps_caps_and_books() -> None:
    """Fifty threads, most attempts refused or failed: sums to the nano-dollar, nothing held, no cap passed."""
    failing = Reply(status=500, headers=SOON)
    script = [(BUSY, failing, BUSY, Reply(output_tokens=20))[n % 4] for n in range(400)]
    script[-1] = BUSY
    with Provider(latency_s=0.0, replies=scripted(script)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=6) as bare:
            client: Any = bursar.wrap(bare)

            def ask(number: int) -> str:
                message: Any = [{"role": "user", "content": f"question {number}"}]
                try:
                    client.chat.completions.create(model="gpt-4o", max_completion_tokens=50, messages=message)
                except RetriesExhausted:
                    return "stopped"
                return "answered"

            with bursar.run("storm", Budget(usd="1"), RetryCap(attempts=3, usd="0.20")) as run:
                with ThreadPoolExecutor(50) as pool:
                    ended = list(pool.map(run.bind(ask), range(50)))
    rows = rows_of(run)
    sends: dict[str, int] = {}
    for row in rows:
        sends[row.call_id[:26]] = sends.get(row.call_id[:26], 0) + 1
    assert len(sends) == 50
    assert max(sends.values()) == 3
    assert {"stopped", "answered"} == set(ended)
    assert len(verdicts_of(run)) == ended.count("stopped")
    assert run.spend.held == NOTHING
    assert run.spend.settled.nusd == sum(row.nusd or 0 for row in rows) >= provider.billed_nusd
    assert run.spend.settled.nusd <= 1_000_000_000


def _conversations() -> list[list[dict[str, str]]]:
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories"
    found = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line, _ in zip(lines, range(25), strict=False):
                messages = json.loads(line).get("messages") or []
                texts = [
                    {"role": str(m.get("role")), "content": json.dumps(m)} for m in messages if isinstance(m, dict)
                ]
                found.append(texts[:40])
    return [texts for texts in found if texts] or [
        [{"role": ("user", "assistant")[n % 2], "content": f"{c}: step {n % 3}"} for n in range(30)] for c in range(20)
    ]


def test_a_conversation_that_grows_is_never_a_retry() -> None:
    """Recorded runs, each step with all before it, every third of them failed: no step repeats another one."""
    from bursar.clients.requests import read
    from bursar.flow.call import Call, Frame
    from bursar.guards.lineage import asked_of
    from bursar.runs.earlier import Earlier
    from bursar.words.records import Who

    earlier, named, steps = Earlier(), 0, 0
    for number, messages in enumerate(_conversations()):
        frame = Frame(Who(session=str(number)))
        for end in range(1, len(messages) + 1, 2):
            request = read("chat", {"model": "m", "messages": messages[:end]}, None)
            call = Call(f"{number}.{end}", request, frame, asked=asked_of(request))
            call.lineage, steps = earlier.begin(call, steps), steps + 1
            named += call.lineage.source is not None
            call.attempts = 1
            if steps % 3:
                earlier.answered(call, steps)
            else:
                earlier.failed(call, steps, steps)
    assert steps > 100
    assert named == 0
