"""What is fetched of batches and background responses: listened to as the caller reads it, byte for byte as it came.

A body that the SDK reads whole is taken in before the caller has it; one that he reads himself is taken in line by
line, event by event, as he reads. What he leaves unread stays as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.batches import MOST_UPLOAD, keep_file, uploaded
from bursar.clients.deferred import Settling
from bursar.clients.usage import get
from bursar.clients.wire import MOST_BYTES, Lines, parsed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from bursar.clients.guard import Guard

_RESULTS: Final = re.compile(r"/v1/messages/batches/([^/?]+)/results(?:\?|$)")
_FILE: Final = re.compile(r"/files/([^/?]+)/content(?:\?|$)")
_BATCH: Final = re.compile(r"/batches(?:/[^/?]+)?(?:/cancel)?/?(?:\?|$)")
_RESPONSE: Final = re.compile(r"/responses/([^/?]+)(?:/cancel)?(?:\?|$)")
_ENDED: Final = ("completed", "failed", "cancelled", "expired")
_FILES: Final = ("output_file_id", "error_file_id")


class Fetch:
    """One answer that is fetched. `take` is given what it consists of, as it comes; `lines` says that it has lines."""

    def __init__(
        self, take: Callable[[Sequence[Any]], None], *, lines: bool = False, end: Callable[[], None] | None = None
    ) -> None:
        self._take, self._end = take, end
        self._found: list[Any] = []
        self._lines = Lines(self._line) if lines else None
        self._body = bytearray()

    def begin(self, http: Any) -> None:
        """See what kind of answer it is."""
        if "text/event-stream" in http.headers.get("content-type", ""):
            self._lines, self._end = Lines(self._event), None

    def hear(self, piece: bytes) -> bool:
        """Take in the next bytes, cut anywhere; whether there is something to `settle` now."""
        if self._lines is not None:
            self._lines.hear(piece)
        elif len(self._body) <= MOST_BYTES:
            self._body += piece
        return bool(self._found)

    def settle(self) -> None:
        """Hand on what is whole."""
        found, self._found = self._found, []
        if found:
            self._take(found)

    def end(self) -> None:
        """Hand on the rest: it was read to its end."""
        if self._lines is not None:
            self._lines.end()
        else:
            body = parsed(bytes(self._body))
            self._found = [body] if isinstance(body, dict) else []
        self.settle()
        if self._end is not None:
            self._end()

    def whole(self, content: bytes) -> None:
        """Take in all of it."""
        self.hear(content)
        self.end()

    def _line(self, line: bytes) -> None:
        if line.startswith(b"{") and isinstance(found := parsed(line), dict):
            self._found.append(found)

    def _event(self, line: bytes) -> None:
        if line.startswith(b"data:") and isinstance(found := parsed(line[5:]), dict):
            self._found.append(found.get("response"))


def of_anthropic(guard: Guard, method: str, url: str, provider: str, host: str | None) -> Fetch | None:
    """What a request to Anthropic fetches, or None: nothing of ours."""
    found = _RESULTS.search(url) if method.lower() == "get" else None
    if found is None:
        return None
    settling = Settling(guard.here(), provider, host, found[1])
    return Fetch(settling.lines, lines=True, end=settling.read_out)


def of_openai(guard: Guard, options: Any, provider: str, host: str | None) -> Fetch | None:
    """What a request to OpenAI fetches or uploads, or None: nothing of ours."""
    method, url = options.method.lower(), options.url
    if method == "post" and url.split("?", 1)[0].endswith("/files"):
        return _upload(options, provider, host)
    if method != "get" and not url.split("?", 1)[0].endswith("/cancel"):
        return None
    if found := _FILE.search(url):
        return _of_file(guard, provider, host, found[1])
    if _BATCH.search(url):
        return Fetch(lambda bodies: _see_batches(guard, provider, host, bodies))
    if found := _RESPONSE.search(url):
        settling = Settling(guard.here(), provider, host, found[1])
        return Fetch(settling.responses)
    return None


def hear(http: Any, fetch: Fetch | None) -> None:
    """Listen to an answer: to what is there already now, to the rest as it is read."""
    if fetch is None or not 200 <= http.status_code < 300:
        return
    fetch.begin(http)
    if http.is_stream_consumed:
        fetch.whole(http.content)
    else:
        _listen(http, fetch)


async def ahear(http: Any, fetch: Fetch | None) -> None:
    """As `hear`, on an event loop."""
    if fetch is None or not 200 <= http.status_code < 300:
        return
    fetch.begin(http)
    if http.is_stream_consumed:
        await asyncio.to_thread(fetch.whole, http.content)
    else:
        _listen(http, fetch)


def _listen(http: Any, fetch: Fetch) -> None:
    read, aread = http.iter_bytes, http.aiter_bytes

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        for piece in read(chunk_size):
            if fetch.hear(piece):
                fetch.settle()
            yield piece
        fetch.end()

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        async for piece in aread(chunk_size):
            if fetch.hear(piece):
                await asyncio.to_thread(fetch.settle)
            yield piece
        await asyncio.to_thread(fetch.end)

    http.iter_bytes, http.aiter_bytes = iter_bytes, aiter_bytes


def _of_file(guard: Guard, provider: str, host: str | None, file: str) -> Fetch:
    frame = guard.here()
    ref: str | None = None
    with contextlib.suppress(Exception):
        # Where that cannot be read the results are taken in as those of a file that nobody knows.
        ref = frame.owner.orders.of_file(f"{provider}:{file}")
    settling = Settling(frame, provider, host, file if ref is None else ref.removeprefix(f"{provider}:"))
    return Fetch(settling.lines, lines=True, end=settling.read_out)


def _see_batches(guard: Guard, provider: str, host: str | None, bodies: Sequence[Any]) -> None:
    for body in bodies:
        listed = body.get("data") if body.get("object") == "list" else [body]
        for batch in listed if isinstance(listed, list) else []:
            if get(batch, "object") == "batch" and isinstance(get(batch, "id"), str):
                _see_batch(Settling(guard.here(), provider, host, batch["id"]), batch)


def _see_batch(settling: Settling, batch: dict[str, Any]) -> None:
    files = [file for name in _FILES if isinstance(file := batch.get(name), str)]
    if files:
        settling.name_files(files)
    if batch.get("status") in _ENDED and not isinstance(batch.get("output_file_id"), str):
        # Nothing was answered. What went wrong with each request is in the file of errors, if there is one.
        settling.unanswered(named=bool(files))


def _upload(options: Any, provider: str, host: str | None) -> Fetch | None:
    if get(options.json_data, "purpose") != "batch":
        return None
    content = _content(options.files)
    if content is None:
        return None
    asked = uploaded(content, provider, host)

    def take(bodies: Sequence[Any]) -> None:
        for body in bodies:
            if isinstance(body.get("id"), str):
                keep_file(body["id"], asked)

    return Fetch(take)


def _content(files: Any) -> bytes | None:
    try:
        pairs = list(files.items()) if isinstance(files, dict) else list(files)
        file = next(value for name, value in pairs if name == "file")
        data = file[1] if isinstance(file, tuple) else file
        if isinstance(data, bytes | bytearray):
            return bytes(data) if len(data) <= MOST_UPLOAD else None
        at = data.tell()
        content = data.read(MOST_UPLOAD + 1)
        data.seek(at)
        return content if isinstance(content, bytes) and len(content) <= MOST_UPLOAD else None
    except Exception:  # noqa: BLE001 - a file of the caller's that cannot be read twice is read once, by the SDK
        return None
