"""Server-sent events of both protocols, split at every byte and cut at many, and bytes that no provider should send.

`scripts/every_byte.sh` cuts them at every byte, which takes a minute and a half.

The SDKs' own parsers read them; only the network is replaced, by a transport that hands out bytes as told.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.testing import Provider, Reply, ToolUse
from bursar.words.events import NOTHING
from bursar.words.rows import CallRow
from tests.clients.books import rows_of
from tests.clients.http import HTTP

HI: Any = [{"role": "user", "content": "hi"}]
USAGE: Any = {"stream": True, "stream_options": {"include_usage": True}}
ASKED: dict[str, Any] = {
    "messages": {"model": "claude-sonnet-5-5", "max_tokens": 90, "messages": HI, "stream": True},
    "chat": {"model": "gpt-4o", "max_completion_tokens": 90, "messages": HI} | USAGE,
    "responses": {"model": "gpt-4o", "max_output_tokens": 90, "input": "hi", "stream": True},
}
PATHS = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}
TYPES = {"content-type": "text/event-stream"}
SAID_AGAIN = re.compile(rb"event: [a-z._]+(in_progress|text.done|arguments.done|part.done)\n.*\n\n")
ECHOED = re.compile(
    rb'"(instructions|metadata|previous_response_id|reasoning|store|temperature|text|tool_choice|tools|top_p|truncation'
    rb'|parallel_tool_calls|background|max_output_tokens|logprobs|annotations|error|incomplete_details|created_at)":'
    rb'(\{[^{}]*(\{[^{}]*\})?\}|\[\]|"auto"|"disabled"|[a-z0-9.]+),?'
)
"""Of Responses: events that say again what was said, and what the others repeat of the request. What is left is split at
every byte."""


class Pieces(HTTP.SyncByteStream, HTTP.AsyncByteStream):  # type: ignore[misc]  # of the library at hand
    """A body in the pieces given, and then its end or the network's."""

    def __init__(self, pieces: Sequence[bytes], *, breaks: bool) -> None:
        self._pieces, self._breaks = pieces, breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._breaks:
            raise HTTP.RemoteProtocolError("peer closed connection without sending complete message body")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


class Wire(HTTP.BaseTransport, HTTP.AsyncBaseTransport):  # type: ignore[misc]  # of the library at hand
    """A network that answers every request with the next body."""

    def __init__(self) -> None:
        self.body = Pieces([], breaks=False)

    def handle_request(self, request: Any) -> Any:
        return HTTP.Response(200, headers=TYPES, stream=self.body, request=request)

    async def handle_async_request(self, request: Any) -> Any:
        return self.handle_request(request)


@pytest.fixture(scope="module")
def recorded() -> dict[str, bytes]:
    """What a provider sends for a short answer with a tool call, by API."""
    answer = Reply(text="Elbe, Oder.", tool_calls=[ToolUse("look", {"at": "Rhine"}, id="call_1")], chunk_tokens=20)
    with Provider(latency_s=0.0, replies=lambda _: answer) as provider, HTTP.Client() as http:
        origin, key = provider.anthropic_url, {"x-api-key": "x", "authorization": "Bearer x"}
        sent = {api: http.post(origin + path, json=ASKED[api], headers=key).read() for api, path in PATHS.items()}
    return sent | {"responses": ECHOED.sub(b"", SAID_AGAIN.sub(b"", sent["responses"])).replace(b",}", b"}")}


class Reader:
    """A wrapped client on the wire, and one run in which all its calls are made."""

    def __init__(self, api: str, way: str) -> None:
        self.api, self.way, self.wire = api, way, Wire()
        where: Any = {"api_key": "x", "max_retries": 0}
        if way == "sync":
            where["http_client"] = HTTP.Client(transport=self.wire)
            made: Any = anthropic.Anthropic if api == "messages" else openai.OpenAI
        else:
            where["http_client"] = HTTP.AsyncClient(transport=self.wire)
            made = anthropic.AsyncAnthropic if api == "messages" else openai.AsyncOpenAI
        client = bursar.wrap(made(**where))
        self.create: Any = {
            "messages": lambda: client.messages.create,
            "chat": lambda: client.chat.completions.create,
            "responses": lambda: client.responses.create,
        }[api]()

    def read(self, pieces: Sequence[bytes], *, breaks: bool = False) -> BaseException | None:
        """Read one stream to its end; what the caller was raised."""
        self.wire.body = Pieces(pieces, breaks=breaks)
        try:
            if self.way == "sync":
                list(self.create(**ASKED[self.api]))
            else:
                asyncio.run(self._aread())
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            return error
        return None

    async def _aread(self) -> None:
        async for _ in await self.create(**ASKED[self.api]):
            pass


def read_all(
    api: str, way: str, bodies: Sequence[tuple[Sequence[bytes], bool]]
) -> tuple[list[CallRow], list[BaseException | None]]:
    """Read one stream after another; the rows that they left, and what was raised."""
    reader = Reader(api, way)
    with bursar.run("wire", Budget(usd="1000", tokens=10**9)) as run:
        raised = [reader.read(pieces, breaks=breaks) for pieces, breaks in bodies]
    assert run.spend.held == NOTHING
    rows = rows_of(run)
    assert len(rows) == len(bodies)
    return rows, raised


def usage_of(row: CallRow) -> tuple[Any, ...]:
    return row.status, row.usage_source, row.input_tokens, row.output_tokens, row.tool_calls, row.nusd


# What so many repetitions go through is covered without them: counting it each time takes longer than they do.
@pytest.mark.no_cover
@pytest.mark.parametrize("api", PATHS)
def test_a_split_at_any_byte_changes_nothing(recorded: dict[str, bytes], api: str) -> None:
    """However the network cuts the bytes into pieces, the usage is the same, and so is what the caller gets."""
    body, step = recorded[api], 61
    # Each byte begins a piece in one of these, and all of them do in the last.
    starts = [range(first, len(body), step) for first in range(step)] + [range(len(body))]
    splits = [[body[: at[0]], *(body[one : one + at.step] for one in at)] for at in starts]
    rows, raised = read_all(api, "sync", [([body], False), *((split, False) for split in splits)])
    assert set(raised) == {None}
    assert {usage_of(row) for row in rows} == {usage_of(rows[0])}
    assert rows[0].usage_source == "provider"


def cuts(body: bytes) -> list[int]:
    """Every byte about the end of a line, where events begin and end, and some between: there a line's rest is lost."""
    if "EVERY_BYTE" in os.environ:
        return list(range(len(body)))
    ends = [at for at, byte in enumerate(body) if byte == ord("\n")]
    near = {at + beside for at in ends for beside in range(-2, 4)}
    return sorted((near | set(range(0, len(body), 13))) & set(range(len(body))))


# What so many repetitions go through is covered without them: counting it each time takes longer than they do.
@pytest.mark.no_cover
@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("breaks", [True, False], ids=["broken", "ended"])
def test_a_cut_anywhere_is_charged_and_flagged(recorded: dict[str, bytes], api: str, breaks: bool) -> None:
    """Cut anywhere: the usage where the provider had said it, else a bound that is flagged; nothing of ours raised."""
    body = recorded[api]
    rows, raised = read_all(api, "sync", [([body], False), *(([body[:at]], breaks) for at in cuts(body))])
    whole = rows[0]
    for row, error in zip(rows[1:], raised[1:], strict=True):
        assert error is None or not isinstance(error, bursar.BursarError), error
        assert row.nusd is not None
        assert row.nusd > 0
        if row.usage_source == "provider":
            assert (row.input_tokens, row.output_tokens) == (whole.input_tokens, whole.output_tokens)
        else:
            assert row.usage_source in ("stream_partial", "estimated")
            assert row.cost_status == "estimated"


@pytest.mark.parametrize("api", PATHS)
def test_an_async_stream_is_read_the_same(recorded: dict[str, bytes], api: str) -> None:
    """A sample of the splits and cuts, awaited."""
    body, step = recorded[api], 41
    cases = [([body[:at], body[at:]], False) for at in range(0, len(body), step)]
    rows, raised = read_all(api, "async", cases)
    assert set(raised) == {None}
    assert len({usage_of(row) for row in rows}) == 1
    rows, raised = read_all(api, "async", [([body[:at]], True) for at in range(0, len(body) - 10, step)])
    assert not any(isinstance(error, bursar.BursarError) for error in raised)
    assert all(row.nusd for row in rows)


def odd(body: bytes) -> dict[str, bytes]:
    """Bodies that a stream may have by its standard, and some that it may not."""
    first = body.index(b"\n\n") + 2
    return {
        "crlf": body.replace(b"\n", b"\r\n"),
        "bom": b"\xef\xbb\xbf" + body,
        "comments": body[:first] + b": a comment\n\n:\n\n" + body[first:],
        "a line of ten megabytes": body[:first] + b": " + b"x" * 10_000_000 + b"\n\n" + body[first:],
        "no UTF-8": body[:first] + b": \xff\xfe\n\n" + body[first:],
        "no UTF-8 in an event": body[:first] + b"data: \xff\xfe\n\n" + body[first:],
        "no JSON": body[:first] + b"data: {nonsense\n\n" + body[first:],
        "an event of no known shape": body[:first] + b'data: {"type": "novelty", "usage": [1], "choices": 7}\n\n'
        + body[first:],
        "data after the end": body + b'data: [DONE]\n\ndata: {"usage": {"output_tokens": 9}}\n\n',
        "nothing": b"",
    }  # fmt: skip


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("kind", odd(b"\n\n"))
def test_odd_bytes_reach_the_caller_as_without_us(recorded: dict[str, bytes], api: str, kind: str) -> None:
    """Whatever is sent, a wrapped client gives and raises what a bare one does, and the call is charged."""
    body = odd(recorded[api])[kind]
    (row,), (raised,) = read_all(api, "sync", [([body], False)])
    assert type(raised) is type(bare(api, body)[1])
    assert row.nusd


def test_what_is_read_is_what_a_bare_client_reads(recorded: dict[str, bytes]) -> None:
    """Event by event, for the whole recorded stream of each API."""
    for api, body in recorded.items():
        reader = Reader(api, "sync")
        reader.wire.body = Pieces([body], breaks=False)
        with bursar.run("wire", Budget(usd="1")):
            ours = [event.model_dump(warnings=False) for event in reader.create(**ASKED[api])]
        assert ours == bare(api, body)[0]


def bare(api: str, body: bytes) -> tuple[list[Any], BaseException | None]:
    """What the SDK itself makes of a body."""
    wire = Wire()
    wire.body = Pieces([body], breaks=False)
    where: Any = {"api_key": "x", "max_retries": 0, "http_client": HTTP.Client(transport=wire)}
    client: Any = anthropic.Anthropic(**where) if api == "messages" else openai.OpenAI(**where)
    create = {"messages": "messages", "chat": "chat.completions", "responses": "responses"}[api].split(".")
    for name in create:
        client = getattr(client, name)
    events: list[Any] = []
    try:
        for event in client.create(**ASKED[api]):
            events.append(event.model_dump(warnings=False))  # noqa: PERF401 - those before an exception count
    except Exception as error:  # noqa: BLE001 - compared
        return events, error
    return events, None
