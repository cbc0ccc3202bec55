"""Every way in which a call ends, and a world in which any client meets it: one row, charged once, nothing held."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anthropic

import bursar
from bursar import Budget
from bursar.testing import Provider, ReceivedRequest, Reply
from bursar.words.events import NOTHING
from tests.clients.books import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.entries import Entry

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
    """A provider whose answer each test sets, and bare clients that talk to it, by name and way."""

    def __init__(self, provider: Provider, runner: asyncio.Runner, clients: dict[tuple[str, str], Any]) -> None:
        self.provider, self.runner, self.clients = provider, runner, clients
        self.reply = Reply()

    def close(self) -> None:
        """Close every client."""
        for (_, way), client in self.clients.items():
            if isinstance(client, ModuleType):
                client._load_client().close()
            elif way == "sync":
                client.close()
            else:
                self.runner.run(client.close())

    def run(self, entry: Entry, way: str, ending: Ending) -> tuple[bursar.Run, Any]:
        """One call under a generous budget; the run, and what the caller got or was raised."""
        self.reply = ending.reply
        bare = self.clients[entry.sdk, way]
        made = [client := bursar.wrap(bare)]
        if ending.timeout_s is not None:
            # Of reading alone: a connection that takes long was not yet a request, and costs nothing.
            timeout = anthropic.Timeout(10, read=ending.timeout_s)
            if isinstance(client, ModuleType):
                entry = replace(entry, arguments=entry.arguments | {"timeout": timeout})
            else:
                made.append(client := client.with_options(timeout=timeout))
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
        for copy in made:
            # Older SDKs give a copy of a cloud's client connections of its own.
            if not isinstance(copy, ModuleType) and copy._client is not bare._client:
                copy.close() if way == "sync" else self.runner.run(copy.close())
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


@contextlib.contextmanager
def world_of(made: Callable[[Provider], dict[tuple[str, str], Any]]) -> Iterator[World]:
    """One world for a whole table: a client costs more to make than all of its calls."""
    worlds: list[World] = []

    def reply(_: ReceivedRequest) -> Reply:
        return worlds[0].reply

    with asyncio.Runner() as runner, Provider(latency_s=0.0, replies=reply) as provider:
        worlds.append(World(provider, runner, made(provider)))
        yield worlds[0]
        worlds[0].close()


def check_all(world: World, entry: Entry, way: str, subtests: Any) -> None:
    """Every ending that the entry point can have."""
    for ending in ENDINGS:
        if way in ending.ways and entry.streams in ending.streams:
            with subtests.test(str(ending)):
                check(world, entry, way, ending)


def check(world: World, entry: Entry, way: str, ending: Ending) -> None:
    for _ in range(5):
        world.provider.reset()
        run, outcome = world.run(entry, way, ending)
        if isinstance(outcome, BaseException) or (ending.timeout_s is None and ending.name != "cancelled"):
            break
        # A machine that is too busy to look in time finds the answer there.
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
