"""HTTP/1.1 as a server speaks it: requests in, answers out, and the ways a connection can break."""

import asyncio
import http
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bursar.testing.dialect import dump

HEAD_LIMIT_BYTES = 1 << 20
_RESET = struct.pack("ii", 1, 0)


class MalformedRequestError(Exception):
    """What arrived is no HTTP/1.1 request that this server can read."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names in lower case, the path without its query, which stands by itself."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""

    @property
    def keeps_alive(self) -> bool:
        """Whether the client will send another request on this connection."""
        return self.headers.get("connection", "").lower() != "close"


async def read_head(reader: asyncio.StreamReader) -> bytes | None:
    """Everything up to the body; None when the client has no further request."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise MalformedRequestError("the headers are too long") from error


async def read_request(head: bytes, reader: asyncio.StreamReader) -> HttpRequest:
    """The request that begins with `head`."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise MalformedRequestError("the request line is malformed")
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal():
        raise MalformedRequestError("a body needs a content-length")
    try:
        body = await reader.readexactly(int(length))
    except asyncio.IncompleteReadError as error:
        raise ConnectionAbortedError("the client left in the middle of its request") from error
    path, _, query = words[1].partition("?")
    return HttpRequest(words[0], path, headers, body, query)


class Connection:
    """The way back to one client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def gone(self) -> bool:
        """Whether the client has closed or lost the connection."""
        closed = self._writer.transport.is_closing()
        return closed or self._reader.at_eof() or self._reader.exception() is not None

    async def send_json(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        """A whole answer."""
        payload = dump(body).encode()
        self._writer.write(_json_head(status, len(payload), headers) + payload)
        await self._writer.drain()

    async def send_bytes(self, payload: bytes, headers: Mapping[str, str], cut_after: int | None = None) -> None:
        """A file; with `cut_after` the connection ends behind so many bytes of it."""
        own = {"content-type": "application/octet-stream", "content-length": str(len(payload))}
        self._writer.write(_head(200, {**own, **headers}) + payload[:cut_after])
        await self._writer.drain()
        if cut_after is not None and cut_after < len(payload):
            self._writer.close()

    def send_half(self, body: Any, headers: Mapping[str, str]) -> None:
        """The first half of an answer, then the end of the connection."""
        payload = dump(body).encode()
        self._writer.write(_json_head(200, len(payload), headers) + payload[: len(payload) // 2])
        self._writer.close()

    def begin_events(self, headers: Mapping[str, str]) -> None:
        """The head of an event stream."""
        own = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        self._writer.write(_head(200, {**own, "cache-control": "no-cache", **headers}))

    async def send_events(self, payload: bytes) -> None:
        """Some events; raises ConnectionError when the client is found gone."""
        if payload:
            self._writer.write(b"%x\r\n%b\r\n" % (len(payload), payload))
            await self._writer.drain()

    async def end_events(self) -> None:
        """The regular end of an event stream."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def cut(self) -> None:
        """Ends the connection after what has been sent, wherever that leaves the client."""
        self._writer.close()

    def reset(self) -> None:
        """Ends the connection so that the client sees a reset."""
        peer = self._writer.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def until_gone(self, timeout_s: float | None) -> None:
        """Says nothing until the client leaves or the time is over, then ends the connection."""
        try:
            await asyncio.wait_for(self._reader.read(1), timeout_s)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._writer.close()


def _json_head(status: int, length: int, headers: Mapping[str, str]) -> bytes:
    return _head(status, {"content-type": "application/json", "content-length": str(length), **headers})


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    known = {each.value: each.phrase for each in http.HTTPStatus}
    lines = [f"HTTP/1.1 {status} {known.get(status, 'Overloaded')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
