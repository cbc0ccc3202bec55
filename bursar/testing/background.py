"""Responses written in the background: queued, looked up, followed, cancelled. They go on when a client leaves."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from bursar.testing import responses_object as objects
from bursar.testing.books import Books, Charge
from bursar.testing.connection import Connection, HttpRequest
from bursar.testing.dialect import Answer
from bursar.testing.refusal import RefusalError

if TYPE_CHECKING:
    from bursar.testing.written import Written


@dataclass(slots=True)
class _Job:
    """One response. `events` are what a follower is sent, numbered from 0."""

    written: "Written"
    status: str = "queued"
    generated: int = 0
    events: list[bytes] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def over(self) -> bool:
        return self.status in ("completed", "incomplete", "cancelled")

    def say(self, payload: bytes) -> None:
        self.events += [part + b"\n\n" for part in payload.split(b"\n\n") if part]
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def body(self) -> dict[str, Any]:
        answer = self.written.answer
        if self.status in ("completed", "incomplete"):
            return objects.finished(answer)
        return {**objects.started(answer), "status": self.status}


class Background:
    """The responses that were ordered with `background`. One that is cancelled costs what was written until then."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: dict[str, Answer] = {}

    def keep(self, answer: Answer) -> None:
        """Keeps a response that was answered at once, to be looked up."""
        self._kept[f"resp_{answer.ident}"] = answer

    async def begin(self, written: "Written", connection: Connection, latency_s: float) -> None:
        """Queues a response and says so, or lets the client follow it."""
        job = _Job(written)
        self._jobs[f"resp_{written.answer.ident}"] = job
        asked = written.answer.reply.latency_s
        first = job.body()
        task = asyncio.create_task(self._work(job, latency_s if asked is None else asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if written.answer.request.stream:
            await self._follow(job, connection, after=-1)
        else:
            await connection.send_json(200, first, {})

    async def serve(self, http: HttpRequest, ident: str, verb: str | None, connection: Connection) -> None:
        """Retrieve, follow from an event on, or cancel."""
        if ident in self._kept and verb is None:
            await connection.send_json(200, objects.finished(self._kept[ident]), {})
            return
        job = self._jobs.get(ident)
        if job is None:
            raise RefusalError(404, f"Response with id '{ident}' not found.", code="not_found")
        query = parse_qs(http.query)
        if verb == "cancel":
            if not job.over():
                job.status = "cancelled"
                if job.generated:
                    self._charge(job)
                job.say(b"")
            await connection.send_json(200, job.body(), {})
        elif query.get("stream") == ["true"]:
            await self._follow(job, connection, after=int(query.get("starting_after", ["-1"])[0]))
        else:
            await connection.send_json(200, job.body(), {})

    def clear(self) -> None:
        """Forgets every response."""
        self._jobs.clear()
        self._kept.clear()

    async def _work(self, job: _Job, latency_s: float) -> None:
        answer = job.written.answer
        stream = job.written.dialect.stream(answer)
        with self._books.generating():
            await asyncio.sleep(latency_s)
            if job.over():
                return
            job.status = "in_progress"
            job.say(stream.opening())
            for frame in stream.frames():
                await asyncio.sleep(answer.reply.chunk_delay_s)
                if job.over():
                    return
                job.generated += frame.output_tokens
                job.say(frame.payload)
            job.status = "incomplete" if answer.generation.truncated else "completed"
            self._charge(job)
            job.say(stream.closing())

    async def _follow(self, job: _Job, connection: Connection, *, after: int) -> None:
        connection.begin_events({})
        sent = after + 1
        while not connection.gone:
            changed = job.changed
            payload = b"".join(job.events[sent:])
            sent = max(sent, len(job.events))
            try:
                await connection.send_events(payload)
            except ConnectionError:
                return
            if job.over() and sent >= len(job.events):
                await connection.end_events()
                return
            try:
                await asyncio.wait_for(changed.wait(), 0.05)
            except TimeoutError:
                continue

    def _charge(self, job: _Job) -> None:
        answer, _, price, _ = job.written
        request, prompt = answer.request, answer.prompt
        self._books.charge(
            Charge(
                number=request.number, model=request.model, api=request.api, input_tokens=prompt.uncached,
                cache_read=prompt.cache_read, cache_write_5m=prompt.cache_write_5m,
                cache_write_1h=prompt.cache_write_1h, output_tokens=job.generated,
                nusd=price.nusd(answer.tier, prompt, job.generated), ended="complete", stream=request.stream,
                answer=answer.ident,
            )
        )  # fmt: skip
