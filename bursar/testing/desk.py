"""The desk: takes one HTTP request, refuses it or has it answered."""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bursar.testing import bedrock, clouds, embeddings_api, messages_api, openrouter, responses_api
from bursar.testing.bill import answer_nusd, speed, with_extras
from bursar.testing.billing import InputTokens, ModelPrice, Vendor
from bursar.testing.books import COUNTING, Api, Books, ReceivedRequest
from bursar.testing.cache import PromptCache, Segment
from bursar.testing.chat_api import ChatApi
from bursar.testing.completions_api import CompletionsApi
from bursar.testing.connection import Connection, HttpRequest
from bursar.testing.conversations import Conversations
from bursar.testing.delivery import Delivery
from bursar.testing.dialect import Answer, Dialect
from bursar.testing.generation import generate
from bursar.testing.later import Later, later_api
from bursar.testing.messages_api import MessagesApi
from bursar.testing.prices import PriceList
from bursar.testing.refusal import (
    RefusalError,
    id_header,
    missing_model,
    unauthorised,
    unknown_model,
    unknown_url,
    unreadable_body,
)
from bursar.testing.reply import Reply, ReplyFunction
from bursar.testing.responses_api import ResponsesApi
from bursar.testing.written import Written

_ROUTES: Mapping[str, Api] = {
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/responses/input_tokens": "input_tokens",
    "/v1/embeddings": "embeddings",
    "/v1/completions": "completions",
}
_DIALECTS: Mapping[Api, Dialect] = {
    "messages": MessagesApi(),
    "chat": ChatApi(),
    "responses": ResponsesApi(),
    "completions": CompletionsApi(),
    # Counting reads the prompt as the API that it counts for does.
    "count_tokens": MessagesApi(),
    "input_tokens": ResponsesApi(),
}


@dataclass(slots=True)
class Desk:
    """Everything a provider has besides the network."""

    latency_s: float
    replies: ReplyFunction
    prices: PriceList
    cache: PromptCache
    books: Books = field(default_factory=Books)
    conversations: Conversations = field(default_factory=Conversations)
    batch_delay_s: float = 0.0
    cut_results_after: int | None = None
    later: Later = field(init=False)

    def __post_init__(self) -> None:
        self.later = Later(self.books, self._written, self.batch_delay_s, self.cut_results_after)

    async def serve(self, http: HttpRequest, connection: Connection) -> None:
        """Answers one request."""
        request, readable = _received(http, self.books.next_number())
        self.books.receive(request)
        vendor = _vendor(request)
        try:
            if self.later.takes(http):
                await self.later.serve(http, request, connection)
                return
            if not readable and request.api != "unknown":
                raise unreadable_body(vendor)
            price = self._admit(request, vendor)
            reply = self._reply(request)
            price = self._serving(reply, price)
            await self._answer(
                Delivery(request, reply, price, self.prices, self.books, self.cache, connection, self.latency_s)
            )
        except RefusalError as refusal:
            request_id = f"req_{uuid.uuid4().hex[:24]}"
            headers, body = id_header(vendor, request_id), refusal.body(vendor, request_id)
            if clouds.is_bedrock(request.path):
                headers, body = bedrock.refused(refusal.status, body["error"]["message"], request_id)
            await connection.send_json(refusal.status, body, {**headers, **refusal.headers})

    def _admit(self, request: ReceivedRequest, vendor: Vendor) -> ModelPrice:
        if request.api == "unknown" or request.method != "POST":
            raise unknown_url(vendor, request.method, request.path)
        if not any(request.headers.get(name) for name in ("x-api-key", "authorization", "api-key")):
            raise unauthorised(vendor)
        if not request.model:
            raise missing_model(vendor)
        if openrouter.is_openrouter(request.path):
            price = openrouter.price_of(self.prices, request.model)
        else:
            price = self.prices.find(request.model)
            price = price if price is not None and price.vendor == vendor else None
        if price is None:
            raise unknown_model(vendor, request.model)
        if request.api == "count_tokens":
            messages_api.check_prompt(request.body)
        elif request.api == "input_tokens":
            responses_api.check_input(request.body)
        elif request.api == "embeddings":
            embeddings_api.texts(request.body)
        else:
            _DIALECTS[request.api].check(request, price)
        return price

    def _serving(self, reply: Reply, price: ModelPrice) -> ModelPrice:
        """The price of the model that answers: `price`, that of the one that was asked, but where it has declined."""
        served_by = reply.extras.served_by
        return price if served_by is None else self.prices.find(served_by) or price

    def _reply(self, request: ReceivedRequest) -> Reply:
        try:
            return self.replies(request)
        except Exception as error:
            # The test's own mistake must show in the client's exception, at once and not after its retries.
            message = f"the replies function raised {error!r}"
            raise RefusalError(500, message, headers={"x-should-retry": "false"}) from error

    async def _answer(self, delivery: Delivery) -> None:
        request, reply = delivery.request, delivery.reply
        if reply.fault == "reset":
            delivery.connection.reset()
        elif reply.fault == "hang":
            await delivery.connection.until_gone(reply.timeout_s)
        elif reply.status >= 400 and reply.fault != "reset_after_billing":
            await delivery.refuse()
        elif request.api in COUNTING:
            await delivery.count(self._count(request))
        elif request.api == "embeddings":
            await self._embed(delivery)
        elif reply.fault == "error_mid_stream" and not request.stream:
            raise RefusalError(500, headers=reply.headers)
        elif request.api == "responses" and request.body.get("background") is True:
            written = self._write(request, reply, delivery.price)
            self.cache.keep(written.reading)
            await self.later.background.begin(written, delivery.connection, self.latency_s)
        else:
            await self._generate(delivery)

    def _written(self, request: ReceivedRequest) -> Written:
        """One request of a batch, answered; raises its refusal."""
        price = self._admit(request, _DIALECTS[request.api].vendor)
        reply = self._reply(request)
        if reply.status >= 400:
            raise RefusalError(reply.status, kind=reply.error_type)
        written = self._write(request, reply, self._serving(reply, price))
        if reply.fault != "expire":
            self.cache.keep(written.reading)
        return written

    async def _generate(self, delivery: Delivery) -> None:
        request, reply = delivery.request, delivery.reply
        dialect = _DIALECTS[request.api]
        answer, reading, _, _ = self._write(request, reply, delivery.price)
        if request.stream and reply.fault != "reset_after_billing":
            events = dialect.stream(answer)
            framed = bedrock.BedrockStream(events) if clouds.is_bedrock(request.path) else events
            await delivery.stream(answer, framed, reading)
        else:
            await delivery.plain(answer, dialect.plain(answer), reading)

    def _write(self, request: ReceivedRequest, reply: Reply, price: ModelPrice) -> Written:
        dialect = _DIALECTS[request.api]
        segments = self._prompt(request)
        reading = dialect.read(self.cache, reply.extras.served_by or request.model, segments)
        asked = None if reply.ignores_cap else request.max_output_tokens
        ident = uuid.uuid4().hex[:24]
        answer = Answer(
            request=request,
            reply=reply,
            generation=generate(reply, price.max_output if asked is None else asked, request.number, ident),
            prompt=with_extras(reading.tokens, reply.extras),
            choices=dialect.choices(request.body),
            tier=dialect.tier(request, reply, price),
            speed=speed(price, request.body, reply.extras),
            ident=ident,
            created_s=int(time.time()),
        )
        if openrouter.is_openrouter(request.path):
            told = answer_nusd(price, answer.tier, answer.prompt, answer.output_tokens, request.body, reply.extras)
            answer = replace(answer, told_nusd=told)
        if request.api == "responses":
            self.conversations.keep(segments, answer)
            if request.body.get("background") is not True:
                self.later.background.keep(answer)
        return Written(answer, reading, price, dialect)

    def _prompt(self, request: ReceivedRequest) -> list[Segment]:
        segments = _DIALECTS[request.api].segments(request.body)
        if request.api in ("responses", "input_tokens"):
            return [*self.conversations.before(request.body), *segments]
        return segments

    def _count(self, request: ReceivedRequest) -> dict[str, Any]:
        tokens = self.cache.measure(self._prompt(request))
        if request.api == "count_tokens":
            return {"input_tokens": tokens}
        return {"object": "response.input_tokens", "input_tokens": tokens}

    async def _embed(self, delivery: Delivery) -> None:
        body = delivery.request.body
        inputs = embeddings_api.texts(body)
        prompt = InputTokens(uncached=self.cache.scaled(embeddings_api.tokens(inputs)))
        await delivery.embedding(prompt, embeddings_api.embeddings(body, inputs))


def _received(http: HttpRequest, number: int) -> tuple[ReceivedRequest, bool]:
    parsed = _parsed(http.body)
    path, said = clouds.place(http.path.rstrip("/"))
    api = _ROUTES.get(path, "unknown")
    body = {**(parsed or {}), **said}
    model = body.get("model")
    retries = http.headers.get("x-stainless-retry-count", "0")
    dialect = _DIALECTS.get(api)
    return ReceivedRequest(
        number=number,
        api=later_api(path) or api,
        method=http.method,
        path=http.path,
        headers=http.headers,
        body=body,
        model=model if isinstance(model, str) else "",
        stream=body.get("stream") is True,
        max_output_tokens=dialect.cap(body) if dialect else None,
        retry_count=int(retries) if retries.isdecimal() else 0,
    ), parsed is not None


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _vendor(request: ReceivedRequest) -> Vendor:
    if request.api in ("messages", "count_tokens") or "anthropic-version" in request.headers:
        return "anthropic"
    return "openai"
