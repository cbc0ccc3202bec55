"""Content: nothing of it anywhere by default, whatever the door and the ending; what is kept, is kept as it was told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.clients.words import Heard, asked, said
from bursar.runs.process import process
from bursar.testing import Provider, Reply, ToolUse
from bursar.tracing.content import Content, Part, read_contents
from tests.clients.books import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CANARY = "Quetzalcoatlus"
ANSWER = "Hatzegopteryx is the answer"
KEY = "sk-proj-" + "a1B2" * 8
DOORS = [(api, is_async, stream) for api in ("messages", "chat", "responses") for is_async in (False, True) for stream in (False, True)]  # fmt: skip
every_door = pytest.mark.parametrize(
    ("api", "is_async", "stream"), DOORS, ids=[f"{a}-{'async' if b else 'sync'}-{'stream' if c else 'plain'}" for a, b, c in DOORS]
)  # fmt: skip

sync_doors = pytest.mark.parametrize(
    ("api", "stream"), [(api, stream) for api, is_async, stream in DOORS if not is_async]
)


def arguments(api: str, *, stream: bool, text: str) -> dict[str, Any]:
    extra: dict[str, Any] = {"stream": True} if stream else {}
    if api == "messages":
        system = f"You know {CANARY}."
        return {"model": "claude-sonnet-5-5", "max_tokens": 500, "system": system, "messages": [{"role": "user", "content": text}], **extra}  # fmt: skip
    if api == "chat":
        return {"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}], **extra}
    return {"model": "gpt-4o", "input": text, "instructions": f"You know {CANARY}.", **extra}


def create(api: str, client: Any) -> Any:
    return (
        client.chat.completions.create
        if api == "chat"
        else (client.messages if api == "messages" else client.responses).create
    )


ENDINGS = (anthropic.AnthropicError, openai.OpenAIError, OSError)


def call(
    api: str,
    provider: Provider,
    *,
    is_async: bool = False,
    stream: bool,
    takes: Sequence[int | None] = (None,),
    text: str = CANARY,
) -> bursar.Run:
    """Calls in a run, however they end; of a stream so many events are read, None for all."""
    options: dict[str, Any] = {"api_key": "x", "max_retries": 0}
    options["base_url"] = provider.anthropic_url if api == "messages" else provider.openai_url
    asks = arguments(api, stream=stream, text=text)
    with bursar.run("words", Budget(usd="1"), user="ada") as run:
        if is_async:
            made: Any = anthropic.AsyncAnthropic if api == "messages" else openai.AsyncOpenAI
            asyncio.run(aask(api, bursar.wrap(made(**options)), asks, takes))
        else:
            made = anthropic.Anthropic if api == "messages" else openai.OpenAI
            ask(api, bursar.wrap(made(**options)), asks, takes)
    return run


def ask(api: str, client: Any, asks: dict[str, Any], takes: Sequence[int | None]) -> None:
    with client:
        for take in takes:
            with contextlib.suppress(*ENDINGS):
                answer = create(api, client)(**asks)
                if "stream" in asks:
                    with answer:
                        list(itertools.islice(answer, take))


async def aask(api: str, client: Any, asks: dict[str, Any], takes: Sequence[int | None]) -> None:
    async with client:
        for take in takes:
            with contextlib.suppress(*ENDINGS):
                answer = await create(api, client)(**asks)
                if "stream" in asks:
                    async with answer:
                        n = 0
                        async for _ in answer:
                            n += 1
                            if n == take:
                                break


def kept_of(run: bursar.Run) -> list[Content | None]:
    rows = rows_of(run)
    found = read_contents(process().ledger.path, [row.call_id for row in rows])
    return [found.get(row.call_id) for row in rows]


@every_door
def test_by_default_nothing_is_kept_anywhere(api: str, is_async: bool, stream: bool, tmp_path: Path) -> None:
    """Answered, refused, broken, cut: neither prompt nor answer is in a byte of ledger, trace log or spool."""
    bursar.configure(trace=tmp_path / "runs.jsonl")
    replies = iter([
        Reply(text=ANSWER), Reply(status=400, error_type="scripted"), Reply(status=500),
        Reply(text=ANSWER, fault="reset_after_billing"), Reply(text=f"{ANSWER} {ANSWER} {ANSWER}"),
    ])  # fmt: skip
    with Provider(latency_s=0.0, replies=lambda _: next(replies)) as provider:
        run = call(api, provider, is_async=is_async, stream=stream, takes=(None, None, None, None, 2))
        provider.wait_idle()
    assert len(rows_of(run)) == 5
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"ledger.db", "runs.jsonl"}
    for path in files:
        for word in (CANARY, "Hatzegopteryx"):
            assert word.encode() not in path.read_bytes(), path
    assert process().ledger.database().execute("SELECT count(*) FROM content") == [(0,)]


@every_door
def test_in_full_both_sides_are_kept(api: str, is_async: bool, stream: bool) -> None:
    """Through every door: the question and the whole answer, without the key that stood in the question."""
    bursar.configure(content="full")
    with Provider(latency_s=0.0, replies=lambda _: Reply(text=ANSWER)) as provider:
        run = call(api, provider, is_async=is_async, stream=stream, text=f"{CANARY}: {KEY} ada@example.org")
    (content,) = kept_of(run)
    assert content is not None
    assert content.asked[-1] == Part("user", f"{CANARY}: [redacted] ada@example.org")
    assert (len(content.asked) == 2) == (api != "chat")
    assert [part.text for part in content.said] == [ANSWER]
    assert content.mode == "full"


@sync_doors
def test_masked_people_are_taken_out(api: str, stream: bool) -> None:
    """Of both sides, also where a stream brings them in pieces."""
    bursar.configure(content="masked")
    told = "write to ada@example.org or pay 4111 1111 1111 1111"
    with Provider(latency_s=0.0, replies=lambda _: Reply(text=told)) as provider:
        run = call(api, provider, stream=stream, text=told)
    (content,) = kept_of(run)
    assert content is not None
    masked = "write to [e-mail] or pay [card]"
    assert (content.asked[-1].text, content.said[0].text) == (masked, masked)


@sync_doors
def test_an_attempt_that_failed_keeps_what_was_asked(api: str, stream: bool) -> None:
    """An error has no answer; what was asked is there."""
    bursar.configure(content="full")
    with Provider(latency_s=0.0, replies=lambda _: Reply(status=500)) as provider:
        run = call(api, provider, stream=stream)
    (content,) = kept_of(run)
    assert content is not None
    assert (content.asked[-1].text, content.said) == (CANARY, ())


def test_a_retry_does_not_keep_the_question_twice() -> None:
    """With the first attempt the question, with the last one the answer."""
    bursar.configure(content="full")
    replies = iter([Reply(status=500), Reply(text=ANSWER)])
    with Provider(latency_s=0.0, replies=lambda _: next(replies)) as provider:
        client = bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=1))
        with bursar.run("words", Budget(usd="1")) as run:
            client.chat.completions.create(**arguments("chat", stream=False, text=CANARY))
        client.close()
    first, second = kept_of(run)
    assert first is not None
    assert second is not None
    assert ([part.text for part in first.asked], first.said) == ([CANARY], ())
    assert (second.asked, [part.text for part in second.said]) == ((), [ANSWER])


@sync_doors
def test_a_tool_call_is_a_part_of_what_is_said(api: str, stream: bool) -> None:
    """Its name and arguments, joined where they came in pieces."""
    bursar.configure(content="full")
    reply = Reply(text="Looking.", tool_calls=[ToolUse("weather", {"city": "Porto"})])
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        run = call(api, provider, stream=stream)
    (content,) = kept_of(run)
    assert content is not None
    words = " ".join(part.text for part in content.said)
    assert "Looking." in words
    assert '"Porto"' in words.replace("\\", "")


@pytest.mark.parametrize("stream", [False, True])
def test_legacy_completions_and_embeddings(stream: bool) -> None:
    """The prompt and the text of a completion, the text that was embedded."""
    bursar.configure(content="full")
    with (
        Provider(latency_s=0.0, replies=lambda _: Reply(text=ANSWER)) as provider,
        bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x")) as client,
        bursar.run("words", Budget(usd="1")) as run,
    ):
        told: Any = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=CANARY, stream=stream)
        if stream:
            list(told)
        client.embeddings.create(model="text-embedding-3-small", input=[CANARY])
    assert kept_of(run) == [
        Content("full", (Part("user", CANARY),), (Part("assistant", ANSWER),)),
        Content("full", (Part("user", CANARY),), ()),
    ]


def test_a_key_in_pieces_of_two_interleaved_answers_is_seen_whole() -> None:
    """Each choice is joined by itself before secrets are sought."""
    heard = Heard("chat")
    for piece in (KEY[:9], KEY[9:20], KEY[20:]):
        for index in (0, 1):
            delta = {"content": piece if index == 0 else "bla "}
            heard.see({"choices": [{"index": index, "delta": delta}]})
    assert heard.parts() == [Part("assistant", KEY), Part("assistant", "bla bla bla ")]


class Evil:
    def __repr__(self) -> str:
        raise AssertionError

    def model_dump(self) -> Any:
        raise AssertionError


@pytest.mark.parametrize(
    "body",
    [None, [], "text", {"messages": 7}, {"messages": [Evil(), {"role": Evil(), "content": Evil()}]}, {"input": [Evil()]},
     {"messages": [{"role": "user", "content": [{"type": "image", "source": {"data": "QUJD" * 99}}, {"type": Evil()}]}]}],
)  # fmt: skip
@pytest.mark.parametrize("api", ["messages", "chat", "responses", "embeddings", "completions"])
def test_any_body_can_be_read(api: str, body: Any) -> None:
    """What has no known shape is left out or named by its type; no image is kept; nothing of the caller's is run."""
    words = [part.text for part in (*asked(api, body), *said(api, body))]
    assert not any("QUJD" in word for word in words)
