"""Listen to an answer that the caller reads as bytes, lines or text: raw and streaming responses.

Whatever way of reading he takes, the decoded bytes pass by: the events of a stream, server-sent or in Amazon's frames,
are shown to the call's watch one by one, a body of JSON when it is whole. Only `iter_raw` goes past us, and is charged
at the bound.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from bursar.clients.watch import Watch

MOST_BYTES: Final = 64 * 1024 * 1024
"""More than this of one body, or of one line of it, is not kept: the answer is then charged at its bound."""
_BINARY: Final = "application/vnd.amazon.eventstream"
_FRAME: Final = 16
"""Bytes of a binary message beside its headers and its payload."""


class Listener(Protocol):
    """Who is told what the caller reads."""

    busy: bool
    """Set while the body is asked for more: a response that closes then has come to its end by itself."""

    @property
    def watch(self) -> Watch:
        """What watches the call whose answer this is."""

    def hear(self, piece: bytes) -> None:
        """Take in the next bytes, cut anywhere."""

    def end(self, error: BaseException | None) -> None:
        """Take note that the body was read to its end (`error` None), or failed."""


class Lines:
    """Cuts bytes into lines (LF, CRLF or CR) and hands each one on; never raises for what they hold."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take, self._rest = take, b""

    def hear(self, piece: bytes) -> None:
        """Hand on the lines that are whole now."""
        rest = self._rest + piece
        if b"\n" not in piece and b"\r" not in piece:
            self._rest = rest if len(rest) <= MOST_BYTES else b""
            return
        lines = rest.splitlines(keepends=True)
        # A CR at the very end may be half of a CRLF; splitting it early would only make an empty line.
        self._rest = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            self._take(line)

    def end(self) -> None:
        """Hand on the last line, which may lack its end."""
        rest, self._rest = self._rest, b""
        if rest:
            self._take(rest)


class Frames:
    """Cuts one of Amazon's event streams into messages and hands on what each says; never raises for what they hold.

    A message is two lengths of four bytes, its own and its headers', their checksum, headers, payload and a checksum of
    all ("Event stream encoding", Amazon Transcribe guide). Whether it came unbroken is for the SDK to judge.
    """

    def __init__(self, take: Callable[[dict[str, Any]], object]) -> None:
        self._take, self._rest = take, bytearray()

    def hear(self, piece: bytes) -> None:
        """Hand on what the messages say that are whole now."""
        rest = self._rest
        rest += piece
        while len(rest) >= _FRAME:
            size, head = int.from_bytes(rest[:4]), int.from_bytes(rest[4:8])
            if not _FRAME + head <= size <= MOST_BYTES:
                # No such stream, and none from here on.
                rest.clear()
                return
            if len(rest) < size:
                return
            headers, payload = bytes(rest[12 : 12 + head]), bytes(rest[12 + head : size - 4])
            del rest[:size]
            event = {"type": "error"} if b":exception-type" in headers else _in_chunk(parsed(payload))
            if isinstance(event, dict):
                self._take(event)

    def end(self) -> None:
        """A message that is not whole says nothing."""


class Ear:
    """Listens to a body of JSON, or to events, for the watch of a call."""

    def __init__(self, watch: Watch, http: Any, *, events: bool) -> None:
        self.busy = False
        self.watch, self._body = watch, bytearray()
        binary = http.headers.get("content-type", "").startswith(_BINARY)
        self._events = (Frames(watch.see) if binary else Lines(self._see)) if events else None
        watch.ear = self

    def hear(self, piece: bytes) -> None:
        """Show the watch the events that are whole; keep a body until it is."""
        if self.watch.begun:
            return
        if self._events is not None:
            self._events.hear(piece)
        elif len(self._body) <= MOST_BYTES:
            self._body += piece

    def end(self, error: BaseException | None) -> None:
        """Conclude."""
        if self.watch.begun:
            return
        if self._events is not None:
            self._events.end()
        elif error is None and isinstance(body := parsed(bytes(self._body)), dict):
            self.watch.take_whole(body)
        self.watch.end(error)

    def _see(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            event = parsed(line[5:])
            if isinstance(event, dict):
                self.watch.see(event)


def listen(response: Any, listener: Listener) -> None:
    """Let a listener hear the decoded bytes of an HTTP response that nobody has read yet."""
    read, aread = response.iter_bytes, response.aiter_bytes

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        listener.busy = True
        try:
            for piece in read(chunk_size):
                listener.hear(piece)
                if listener.watch.short:
                    listener.watch.grow()
                listener.busy = False
                yield piece
                listener.busy = True
        except BaseException as error:
            listener.end(error)
            raise
        finally:
            listener.busy = False
        listener.end(None)

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        listener.busy = True
        try:
            async for piece in aread(chunk_size):
                listener.hear(piece)
                if listener.watch.short:
                    await listener.watch.agrow()
                listener.busy = False
                yield piece
                listener.busy = True
        except BaseException as error:
            listener.end(error)
            raise
        finally:
            listener.busy = False
        listener.end(None)

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes


def parsed(text: bytes) -> Any:
    """JSON, or None for what is none."""
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _in_chunk(said: Any) -> Any:
    chunk = said.get("bytes") if isinstance(said, dict) else None
    try:
        return parsed(base64.b64decode(chunk)) if isinstance(chunk, str) else None
    except ValueError:
        return None
