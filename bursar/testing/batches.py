"""Batches: many requests in one order, answered later at half the price. Anthropic's, and OpenAI's with its files."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bursar.testing.books import Api, Books, Charge, ReceivedRequest
from bursar.testing.connection import HttpRequest
from bursar.testing.dialect import dump
from bursar.testing.refusal import RefusalError

if TYPE_CHECKING:
    from bursar.testing.written import Written

_ENDPOINTS: Mapping[str, Api] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
}
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_NAME = re.compile(rb'name="([^"]*)"')
_CAPS: Mapping[Api, tuple[str, ...]] = {
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
}


class Files:
    """OpenAI's files."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, bytes]] = {}

    def add(self, http: HttpRequest) -> dict[str, Any]:
        """Takes an upload in: a form with `purpose` and `file`."""
        found = _BOUNDARY.search(http.headers.get("content-type", ""))
        if found is None:
            raise RefusalError(400, "'file' is a required property", param="file")
        fields: dict[str, bytes] = {}
        for part in http.body.split(b"--" + found[1].encode())[1:-1]:
            head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            name = _NAME.search(head)
            fields[name[1].decode() if name else ""] = value.removesuffix(b"\r\n")
        if "file" not in fields or "purpose" not in fields:
            raise RefusalError(400, "'file' and 'purpose' are required properties", param="file")
        return self.about(self.keep(fields["purpose"].decode(), fields["file"]))

    def keep(self, purpose: str, content: bytes) -> str:
        """Keeps a file; its id."""
        name = f"file-{uuid.uuid4().hex[:24]}"
        self._files[name] = (purpose, content)
        return name

    def about(self, name: str) -> dict[str, Any]:
        """The `file` object."""
        purpose, content = self._find(name)
        return {
            "id": name, "object": "file", "bytes": len(content), "created_at": int(time.time()),
            "filename": f"{name}.jsonl", "purpose": purpose, "status": "processed",
        }  # fmt: skip

    def content(self, name: str) -> bytes:
        """What is in it."""
        return self._find(name)[1]

    def clear(self) -> None:
        """Forgets every file."""
        self._files.clear()

    def _find(self, name: str) -> tuple[str, bytes]:
        if name not in self._files:
            raise RefusalError(404, f"No such File object: {name}", param="id", code="not_found")
        return self._files[name]


@dataclass(slots=True)
class _Order:
    """One batch. `results` are lines, in the order in which they came about; `outcomes` counts them."""

    ident: str
    asked: list[ReceivedRequest]
    names: list[str]
    made: datetime
    endpoint: str = ""
    input_file: str = ""
    cancelled: bool = False
    ended: bool = False
    invalid: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, kind: str) -> int:
        return sum(result["kind"] == kind for result in self.results)


class Batches:
    """The batches of both vendors. Each request is billed when it has been answered."""

    def __init__(
        self, books: Books, write: Callable[[ReceivedRequest], "Written"], files: Files, delay_s: float
    ) -> None:
        self._books, self._write, self._files, self._delay_s = books, write, files, delay_s
        self._orders: dict[str, _Order] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def message_batch(
        self, request: ReceivedRequest, ident: str | None, verb: str | None, base: str
    ) -> dict[str, Any]:
        """Anthropic's: create, list, retrieve, cancel."""
        if ident is None and request.method == "POST":
            return self._message_batch(await self._begin(self._of_messages(request)), base, fresh=True)
        if ident is None:
            listed = [self._message_batch(order, base) for order in self._orders.values() if not order.endpoint]
            return {"data": listed, "has_more": False, "first_id": None, "last_id": None}
        order = self._find(ident, "anthropic")
        if verb == "cancel":
            order.cancelled = True
        return self._message_batch(order, base)

    async def batch(self, request: ReceivedRequest, ident: str | None, verb: str | None) -> dict[str, Any]:
        """OpenAI's: create, list, retrieve, cancel."""
        if ident is None and request.method == "POST":
            return self._batch(await self._begin(self._of_file(request)), fresh=True)
        if ident is None:
            listed = [self._batch(order) for order in self._orders.values() if order.endpoint]
            return {"object": "list", "data": listed, "has_more": False, "first_id": None, "last_id": None}
        order = self._find(ident, "openai")
        if verb == "cancel":
            order.cancelled = True
            await asyncio.wait_for(order.done.wait(), None if order.ended else self._delay_s + 5)
        return self._batch(order)

    def results(self, ident: str) -> bytes:
        """Anthropic's results, one a line."""
        order = self._find(ident, "anthropic")
        if not order.ended:
            raise RefusalError(404, "results are not available yet")
        return _lines([{"custom_id": result["name"], "result": result["said"]} for result in order.results])

    def clear(self) -> None:
        """Forgets every batch."""
        self._orders.clear()

    def _find(self, ident: str, vendor: str) -> _Order:
        order = self._orders.get(ident)
        if order is None or bool(order.endpoint) != (vendor == "openai"):
            raise RefusalError(404, f"No batch found with id '{ident}'.")
        return order

    def _of_messages(self, request: ReceivedRequest) -> _Order:
        listed = request.body.get("requests")
        if not isinstance(listed, list) or not listed:
            raise RefusalError(400, "requests: at least one request is required")
        names = [str(each.get("custom_id")) for each in listed]
        if len(set(names)) < len(names):
            raise RefusalError(400, "requests: custom_id must be unique")
        asked = [_asked(request, "messages", each.get("params")) for each in listed]
        return _Order(f"msgbatch_{uuid.uuid4().hex[:24]}", asked, names, datetime.now(UTC))

    def _of_file(self, request: ReceivedRequest) -> _Order:
        endpoint, name = request.body.get("endpoint"), request.body.get("input_file_id")
        api = _ENDPOINTS.get(str(endpoint))
        if api is None:
            raise RefusalError(400, f"Invalid endpoint: {endpoint}", param="endpoint")
        order = _Order(f"batch_{uuid.uuid4().hex[:24]}", [], [], datetime.now(UTC), str(endpoint), str(name))
        for line in self._files.content(str(name)).splitlines():
            try:
                each = json.loads(line)
                order.names.append(str(each["custom_id"]))
                order.asked.append(_asked(request, api, each["body"]))
            except (ValueError, KeyError, TypeError):
                order.invalid = "invalid_json_line"
        return order

    async def _begin(self, order: _Order) -> _Order:
        self._orders[order.ident] = order
        task = asyncio.create_task(self._work(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self._delay_s:
            await order.done.wait()
        return order

    async def _work(self, order: _Order) -> None:
        with self._books.generating():
            left_s = 0.0 if order.invalid else self._delay_s
            while left_s > 0 and not order.cancelled:
                await asyncio.sleep(min(left_s, 0.01))
                left_s -= 0.01
            for name, request in zip(order.names, order.asked, strict=not order.invalid):
                if not order.invalid:
                    order.results.append(await self._answer(order, name, request))
        if order.endpoint and not order.invalid:
            self._write_files(order)
        order.ended = True
        order.done.set()

    async def _answer(self, order: _Order, name: str, request: ReceivedRequest) -> dict[str, Any]:
        made = {"name": name, "id": f"batch_req_{uuid.uuid4().hex[:24]}"}
        if order.cancelled:
            return {**made, "kind": "canceled", "said": {"type": "canceled"}}
        try:
            written = self._write(request)
        except RefusalError as refusal:
            body = refusal.body("openai" if order.endpoint else "anthropic", f"req_{uuid.uuid4().hex[:24]}")
            said = {"type": "errored", "error": body}
            return {**made, "kind": "errored", "said": said, "status": refusal.status, "body": body}
        answer, _, price, dialect = written
        if answer.reply.fault == "expire":
            return {**made, "kind": "expired", "said": {"type": "expired"}}
        await asyncio.sleep(answer.reply.latency_s or 0)
        # Anthropic's answers name the tier; OpenAI's say "default" in a batch too.
        answer = replace(answer, tier="default" if order.endpoint else "batch")
        prompt = answer.prompt
        self._books.charge(
            Charge(
                number=request.number, model=request.model, api=request.api, input_tokens=prompt.uncached,
                cache_read=prompt.cache_read, cache_write_5m=prompt.cache_write_5m,
                cache_write_1h=prompt.cache_write_1h, output_tokens=answer.output_tokens,
                nusd=price.nusd("batch", prompt, answer.output_tokens), ended="complete", stream=False,
                answer=answer.ident,
            )
        )  # fmt: skip
        body = dialect.plain(answer)
        return {
            **made,
            "kind": "succeeded",
            "said": {"type": "succeeded", "message": body},
            "status": 200,
            "body": body,
        }

    def _write_files(self, order: _Order) -> None:
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for result in order.results:
            line: dict[str, Any] = {"id": result["id"], "custom_id": result["name"], "response": None, "error": None}
            if "status" in result:
                line["response"] = {
                    "status_code": result["status"], "request_id": f"req_{result['id']}", "body": result["body"]
                }  # fmt: skip
            else:
                code = {"expired": "batch_expired", "canceled": "batch_cancelled"}[result["kind"]]
                line["error"] = {"code": code, "message": "This request was not executed."}
            (good if result["kind"] == "succeeded" else bad).append(line)
        if good:
            order.files["output_file_id"] = self._files.keep("batch_output", _lines(good))
        if bad:
            order.files["error_file_id"] = self._files.keep("batch_output", _lines(bad))

    def _message_batch(self, order: _Order, base: str, *, fresh: bool = False) -> dict[str, Any]:
        ended = order.ended and not fresh
        kinds = ("succeeded", "errored", "canceled", "expired")
        counts = {kind: order.count(kind) if ended else 0 for kind in kinds}
        return {
            "id": order.ident,
            "type": "message_batch",
            "processing_status": "ended" if ended else "canceling" if order.cancelled else "in_progress",
            "request_counts": {**counts, "processing": 0 if ended else len(order.asked)},
            "created_at": order.made.isoformat(),
            "expires_at": (order.made + timedelta(hours=24)).isoformat(),
            "ended_at": order.made.isoformat() if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{base}/v1/messages/batches/{order.ident}/results" if ended else None,
        }

    def _batch(self, order: _Order, *, fresh: bool = False) -> dict[str, Any]:
        ended = order.ended and not fresh
        final = "failed" if order.invalid else "cancelled" if order.cancelled else "completed"
        errors = {"object": "list", "data": [{"code": order.invalid, "message": "", "line": 1, "param": None}]}
        return {
            "id": order.ident,
            "object": "batch",
            "endpoint": order.endpoint,
            "input_file_id": order.input_file,
            "completion_window": "24h",
            "created_at": int(order.made.timestamp()),
            "status": final if ended else "validating",
            "errors": errors if ended and order.invalid else None,
            "output_file_id": order.files.get("output_file_id") if ended else None,
            "error_file_id": order.files.get("error_file_id") if ended else None,
            "request_counts": {
                "total": len(order.asked),
                "completed": order.count("succeeded") if ended else 0,
                "failed": len(order.results) - order.count("succeeded") if ended else 0,
            },
        }


def _asked(order: ReceivedRequest, api: Api, body: Any) -> ReceivedRequest:
    body = body if isinstance(body, dict) else {}
    model = body.get("model")
    caps = (body.get(name) for name in _CAPS[api])
    return replace(
        order,
        api=api,
        body=body,
        model=model if isinstance(model, str) else "",
        stream=False,
        max_output_tokens=next((cap for cap in caps if isinstance(cap, int)), None),
    )


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{dump(row)}\n" for row in rows).encode()
