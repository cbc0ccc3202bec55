"""What is ordered now and answered later: which requests those are, and who serves them."""

import re
from collections.abc import Callable

from bursar.testing.background import Background
from bursar.testing.batches import Batches, Files
from bursar.testing.books import Api, Books, ReceivedRequest
from bursar.testing.connection import Connection, HttpRequest
from bursar.testing.refusal import unauthorised
from bursar.testing.written import Written

_MESSAGE_BATCHES = re.compile(r"/v1/messages/batches(?:/(?P<id>[^/]+)(?:/(?P<verb>results|cancel))?)?")
_BATCHES = re.compile(r"/v1/batches(?:/(?P<id>[^/]+)(?:/(?P<verb>cancel))?)?")
_FILES = re.compile(r"/v1/files(?:/(?P<id>[^/]+)(?:/(?P<verb>content))?)?")
_RESPONSES = re.compile(r"/v1/responses/(?P<id>resp_[^/]+)(?:/(?P<verb>cancel))?")


def later_api(path: str) -> Api | None:
    """What the path is of; None for what is answered at once."""
    if _MESSAGE_BATCHES.fullmatch(path) or _BATCHES.fullmatch(path):
        return "batches"
    if _FILES.fullmatch(path):
        return "files"
    return "responses" if _RESPONSES.fullmatch(path) else None


class Later:
    """Batches of both vendors, files, and responses that are written in the background."""

    def __init__(
        self, books: Books, write: Callable[[ReceivedRequest], Written], delay_s: float, cut_after: int | None
    ) -> None:
        self._files = Files()
        self._batches = Batches(books, write, self._files, delay_s)
        self._cut_after = cut_after
        self.background = Background(books)

    def takes(self, http: HttpRequest) -> bool:
        """Whether a request is for this desk."""
        return later_api(http.path.rstrip("/")) is not None

    async def serve(self, http: HttpRequest, request: ReceivedRequest, connection: Connection) -> None:
        """Answers one request; raises its refusal."""
        path = http.path.rstrip("/")
        vendor = "anthropic" if _MESSAGE_BATCHES.fullmatch(path) else "openai"
        if not any(http.headers.get(name) for name in ("x-api-key", "authorization", "api-key")):
            raise unauthorised("anthropic" if vendor == "anthropic" else "openai")
        if found := _RESPONSES.fullmatch(path):
            await self.background.serve(http, found["id"], found["verb"], connection)
        elif found := _FILES.fullmatch(path):
            if found["verb"] == "content":
                await connection.send_bytes(self._files.content(found["id"]), {}, self._cut_after)
            elif http.method == "POST":
                await connection.send_json(200, self._files.add(http), {})
            else:
                await connection.send_json(200, self._files.about(found["id"]), {})
        elif found := _MESSAGE_BATCHES.fullmatch(path):
            if found["verb"] == "results":
                await connection.send_bytes(self._batches.results(found["id"]), {}, self._cut_after)
            else:
                base = f"http://{http.headers.get('host', '')}"
                answer = self._batches.message_batch(request, found["id"], found["verb"], base)
                await connection.send_json(200, await answer, {})
        elif found := _BATCHES.fullmatch(path):
            await connection.send_json(200, await self._batches.batch(request, found["id"], found["verb"]), {})

    def clear(self) -> None:
        """Forgets everything."""
        self._files.clear()
        self._batches.clear()
        self.background.clear()
