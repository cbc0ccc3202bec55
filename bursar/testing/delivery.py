"""Delivery: generates an answer in its time, bills it, and sends it, or fails as the script says."""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from bursar.testing import bedrock, clouds
from bursar.testing.bill import answer_nusd, beside_nusd
from bursar.testing.billing import InputTokens, ModelPrice
from bursar.testing.books import Books, Charge, Ended, ReceivedRequest
from bursar.testing.cache import PromptCache, Reading
from bursar.testing.connection import Connection
from bursar.testing.dialect import Answer, EventStream, Frame
from bursar.testing.prices import PriceList
from bursar.testing.refusal import RefusalError, id_header
from bursar.testing.reply import Reply


@dataclass(frozen=True, slots=True)
class Delivery:
    """The way of one answer to its client.

    Each charge is on the books before the last byte of its answer leaves, so whoever has read an answer to
    its end finds it billed.
    """

    request: ReceivedRequest
    reply: Reply
    price: ModelPrice
    prices: PriceList
    books: Books
    cache: PromptCache
    connection: Connection
    latency_s: float

    async def refuse(self) -> None:
        """Raises the error that the script asks for; nothing is generated."""
        await asyncio.sleep(self.reply.latency_s or 0)
        raise self._refusal()

    async def count(self, body: dict[str, Any]) -> None:
        """A count of tokens, which costs nothing."""
        await self._latency()
        await self.connection.send_json(self.reply.status, body, self._headers())

    async def embedding(self, prompt: InputTokens, body: dict[str, Any]) -> None:
        """Vectors, billed by their input."""
        with self.books.generating():
            await self._latency()
            self._charge("default", prompt, 0, self._ended())
        usage = {"prompt_tokens": prompt.total, "total_tokens": prompt.total}
        await self._finish(self.reply.with_usage(body, usage))

    async def plain(self, answer: Answer, body: dict[str, Any], reading: Reading) -> None:
        """A whole answer; a client that has left pays for all of it."""
        frames = -(-answer.generation.size // max(1, self.reply.chunk_tokens))
        with self.books.generating():
            await self._latency()
            self.cache.keep(reading)
            await asyncio.sleep(frames * self.reply.chunk_delay_s)
            self._charge(answer.tier, answer.prompt, answer.output_tokens, self._ended(), answer.ident)
        await self._finish(body)

    async def stream(self, answer: Answer, events: EventStream, reading: Reading) -> None:
        """An answer as events; a client that has left pays for what was generated and the chunk under way."""
        with self.books.generating():
            await self._latency()
            self.cache.keep(reading)
            ended, generated = await self._play(events)
            self._charge(answer.tier, answer.prompt, generated, ended, answer.ident)
        if ended == "complete":
            await self._send(events.closing())
            await self.connection.end_events()
        elif self.reply.fault == "error_mid_stream" and not self.connection.gone:
            await self._send(events.error_event())
            await self.connection.end_events()
        else:
            self.connection.cut()

    async def _play(self, events: EventStream) -> tuple[Ended, int]:
        """Sends the frames, each in its time; how that ended, and the output tokens by then."""
        own = bedrock.STREAM_HEADERS if clouds.is_bedrock(self.request.path) else {}
        self.connection.begin_events({**own, **self._headers()})
        await self._send(events.opening())
        frames, generated = list(events.frames()), 0
        breaks_at = self._breaks_at(frames)
        for position, frame in enumerate(frames):
            if position == breaks_at and self.reply.fault == "error_mid_stream":
                return "fault", generated
            await asyncio.sleep(self.reply.chunk_delay_s)
            generated += frame.output_tokens
            if position == breaks_at:
                return "fault", generated
            if self.connection.gone or not await self._send(frame.payload):
                return "aborted", generated
        return ("complete" if breaks_at is None else "fault"), generated

    def _breaks_at(self, frames: list[Frame]) -> int | None:
        if self.reply.fault not in ("drop_mid_stream", "error_mid_stream"):
            return None
        return (len(frames) + 1) // 2

    async def _send(self, payload: bytes) -> bool:
        """Whether the client was still there."""
        try:
            await self.connection.send_events(payload)
        except ConnectionError:
            return False
        return True

    async def _finish(self, body: dict[str, Any]) -> None:
        if self.reply.fault == "reset_after_billing":
            if self.reply.status >= 400:
                raise self._refusal()
            self.connection.reset()
        elif self.reply.fault == "drop_mid_stream":
            self.connection.send_half(body, self._headers())
        elif not self.connection.gone:
            await self.connection.send_json(self.reply.status, body, self._headers())

    def _ended(self) -> Ended:
        if self.reply.fault in ("reset_after_billing", "drop_mid_stream"):
            return "fault"
        return "aborted" if self.connection.gone else "complete"

    def _charge(self, tier: str, prompt: InputTokens, output_tokens: int, ended: Ended, answer: str = "") -> None:
        extras = self.reply.extras
        own = answer_nusd(self.price, tier, prompt, output_tokens, self.request.body, extras)
        beside = beside_nusd(self.prices, self.price, self.request.body, extras)
        charge = Charge(
            number=self.request.number,
            model=self.request.model,
            api=self.request.api,
            input_tokens=prompt.uncached,
            cache_read=prompt.cache_read,
            cache_write_5m=prompt.cache_write_5m,
            cache_write_1h=prompt.cache_write_1h,
            output_tokens=output_tokens,
            nusd=own + beside,
            ended=ended,
            stream=self.request.stream,
            cache_write_30m=prompt.cache_write_30m,
            cache_write_12h=prompt.cache_write_12h,
            audio_input=prompt.audio,
            audio_output=min(extras.audio_output_tokens, output_tokens),
            web_searches=extras.web_searches,
            beside_nusd=beside,
            answer=answer,
        )
        self.books.charge(charge)

    def _refusal(self) -> RefusalError:
        return RefusalError(self.reply.status, kind=self.reply.error_type, headers=self.reply.headers)

    def _headers(self) -> dict[str, str]:
        request_id = f"req_{uuid.uuid4().hex[:24]}"
        amazons = clouds.is_bedrock(self.request.path)
        named = bedrock.id_header(request_id) if amazons else id_header(self.price.vendor, request_id)
        return {**named, **self.reply.headers}

    async def _latency(self) -> None:
        await asyncio.sleep(self.latency_s if self.reply.latency_s is None else self.reply.latency_s)
