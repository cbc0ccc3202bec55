"""Every entry point x every ending, sync and async: one row, charged once, nothing held, nothing free.

The table of what is covered is the table of what is parametrised: `ENTRIES` x `ENDINGS`.
"""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget
from bursar.testing import Provider, ReceivedRequest, Reply
from bursar.words.events import NOTHING
from tests.clients.books import rows_of
from tests.clients.entries import ENTRIES, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

RIVERS = '{"rivers": "' + "Elbe and Oder " * 12 + '"}'
TIMEOUT_S, LATE_S = 0.05, 0.15


@dataclass(frozen=True)
class Ending:
    """One way to end. `statuses` and `sources` are what the row may say; `exact`: we charge what the bill says."""

    name: str
    reply: Reply
    statuses: tuple[str, ...]
    sources: tuple[str, ...]
    exact: bool = False
    take: int | None = None
    streams: tuple[bool, ...] = (True, False)
    ways: tuple[str, ...] = ("sync", "async")
    timeout_s: float | None = None

    def __str__(self) -> str:
        return self.name


SLOW = Reply(text=RIVERS, latency_s=LATE_S)
ENDINGS = [
    Ending("complete", Reply(text=RIVERS), ("ok",), ("provider",), exact=True),
    # Helpers of anthropic raise of their own where the usage is missing.
    Ending(
        "no-usage",
        Reply(text=RIVERS, fault="no_usage"),
        ("ok", "abandoned"),
        ("estimated", "stream_partial"),
    ),
    Ending("refused-400", Reply(status=400), ("error",), ("none",), exact=True),
    Ending("refused-429", Reply(status=429), ("error",), ("none",), exact=True),
    Ending("overloaded-529", Reply(status=529), ("error",), ("none",), exact=True),
    Ending("server-error-500", Reply(status=500), ("error",), ("estimated",)),
    Ending("reset", Reply(fault="reset"), ("error",), ("estimated",)),
    Ending("lost-answer", Reply(text=RIVERS, fault="reset_after_billing"), ("error",), ("estimated", "stream_partial")),
    Ending("time-out", SLOW, ("error",), ("estimated", "stream_partial"), timeout_s=TIMEOUT_S),
    Ending("cancelled", SLOW, ("cancelled",), ("estimated", "stream_partial"), ways=("async",)),
    Ending(
        "left-early", Reply(text=RIVERS, chunk_tokens=4), ("abandoned",), ("stream_partial",), take=6, streams=(True,)
    ),
    Ending("dropped", Reply(text=RIVERS, fault="drop_mid_stream"), ("error",), ("stream_partial",), streams=(True,)),
    Ending(
        "error-event",
        Reply(text=RIVERS, fault="error_mid_stream"),
        ("error",),
        ("stream_partial", "estimated"),
        streams=(True,),
    ),
]


class World:
    """A provider whose answer each test sets, and bare clients of both SDKs that talk to it."""

    def __init__(self, provider: Provider, runner: asyncio.Runner) -> None:
        self.provider, self.runner = provider, runner
        self.reply = Reply()
        where: dict[str, Any] = {"api_key": "x", "max_retries": 0}
        gpt = where | {"base_url": provider.openai_url}
        claude = where | {"base_url": provider.anthropic_url}
        self.clients: dict[tuple[str, str], Any] = {
            ("openai", "sync"): openai.OpenAI(**gpt),
            ("openai", "async"): openai.AsyncOpenAI(**gpt),
            ("anthropic", "sync"): anthropic.Anthropic(**claude),
            ("anthropic", "async"): anthropic.AsyncAnthropic(**claude),
        }

    def close(self) -> None:
        for (_, way), client in self.clients.items():
            if way == "sync":
                client.close()
            else:
                self.runner.run(client.close())

    def run(self, entry: Entry, way: str, ending: Ending) -> tuple[bursar.Run, Any]:
        """One call under a generous budget; the run, and what the caller got or was raised."""
        self.reply = ending.reply
        client = bursar.wrap(self.clients[entry.sdk, way])
        if ending.timeout_s is not None:
            # Of reading alone: a connection that takes long was not yet a request, and costs nothing.
            sdk: Any = openai if entry.sdk == "openai" else anthropic
            client = client.with_options(timeout=sdk.Timeout(10, read=ending.timeout_s))
        with bursar.run("endings", Budget(usd="1", tokens=100_000)) as run:
            try:
                if way == "sync":
                    outcome: Any = entry.call(client, ending.take)
                elif ending.name == "cancelled":
                    task = self._cancelled(entry, client)
                    outcome = self.runner.run(task, context=contextvars.copy_context())
                else:
                    outcome = self.runner.run(entry.acall(client, ending.take), context=contextvars.copy_context())
            except Exception as error:  # noqa: BLE001 - what the SDK raises is what the caller gets
                outcome = error
            self.provider.wait_idle()
        return run, outcome

    async def _cancelled(self, entry: Entry, client: Any) -> Any:
        task = asyncio.create_task(entry.acall(client))
        while not self.provider.requests and not task.done():  # noqa: ASYNC110 - it serves on threads of its own
            await asyncio.sleep(0.001)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError as error:
            return error


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for the whole table: a client costs more to make than all of its calls."""
    made: list[World] = []

    def reply(_: ReceivedRequest) -> Reply:
        return made[0].reply

    with asyncio.Runner() as runner, Provider(latency_s=0.0, replies=reply) as provider:
        made.append(World(provider, runner))
        yield made[0]
        made[0].close()


def cases() -> list[Any]:
    return [pytest.param(entry, way, id=f"{entry}-{way}") for entry in ENTRIES for way in ("sync", "async")]


@pytest.mark.filterwarnings("ignore:.*output_format:DeprecationWarning")  # what older anthropic calls its beta's own
@pytest.mark.parametrize(("entry", "way"), cases())
def test_every_entry_point_is_charged_once_however_it_ends(
    world: World, entry: Entry, way: str, subtests: pytest.Subtests
) -> None:
    """One row, the status of the ending, nothing held, never less than the bill, the exact bill where it is known."""
    if not entry.exists():
        pytest.skip("this SDK has no such entry point")
    for ending in ENDINGS:
        if way in ending.ways and entry.streams in ending.streams:
            with subtests.test(str(ending)):
                check(world, entry, way, ending)


def check(world: World, entry: Entry, way: str, ending: Ending) -> None:
    world.provider.reset()
    run, outcome = world.run(entry, way, ending)
    rows = rows_of(run)
    assert len(rows) == 1, (outcome, rows)
    (row,) = rows
    assert run.spend.held == NOTHING
    assert row.nusd == run.spend.settled.nusd
    billed = world.provider.billed_nusd
    assert run.spend.settled.nusd == billed if ending.exact else run.spend.settled.nusd >= max(billed, 1)
    assert row.status in ending.statuses, (row, outcome)
    assert row.usage_source in ending.sources, (row, outcome)
    assert run.spend.settled.model_calls == (0 if ending.exact and billed == 0 else 1)
