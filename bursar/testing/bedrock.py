"""Bedrock's own words round a message of Anthropic's: binary event streams, Amazon's errors and headers."""

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from bursar.testing.dialect import EventStream, Frame, dump

STREAM_HEADERS = {"content-type": "application/vnd.amazon.eventstream"}

_ERRORS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_TEXT = 7


class BedrockStream:
    """An answer's events, each in a frame of its own."""

    def __init__(self, events: EventStream) -> None:
        self._events = events

    def opening(self) -> bytes:
        """What the answer begins with."""
        return _framed(self._events.opening())

    def frames(self) -> Iterator[Frame]:
        """The answer as it is generated."""
        for frame in self._events.frames():
            yield Frame(_framed(frame.payload), frame.output_tokens)

    def closing(self) -> bytes:
        """What it ends with."""
        return _framed(self._events.closing())

    def error_event(self) -> bytes:
        """An exception of the service's."""
        head = {":exception-type": "internalServerException", ":message-type": "exception"}
        return message(head, {"message": "The system encountered an unexpected error during processing."})


def message(headers: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    """One message of an event stream: lengths, their checksum, headers, JSON, a checksum of it all."""
    head = b"".join(
        struct.pack(f"!B{len(name)}sBH{len(value)}s", len(name), name.encode(), _TEXT, len(value), value.encode())
        for name, value in {**headers, ":content-type": "application/json"}.items()
    )
    payload = dump(body).encode()
    lengths = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    whole = lengths + struct.pack("!I", zlib.crc32(lengths)) + head + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def refused(status: int, text: str, request_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """The headers and the body of an error."""
    kind = _ERRORS.get(status, "InternalServerException" if status >= 500 else "ValidationException")
    return id_header(request_id) | {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/"}, {"message": text}


def id_header(request_id: str) -> dict[str, str]:
    """The response header in which Amazon names the request."""
    return {"x-amzn-requestid": request_id}


def _framed(events: bytes) -> bytes:
    told = [event.partition(b"data: ")[2] for event in events.split(b"\n\n") if event]
    head = {":event-type": "chunk", ":message-type": "event"}
    return b"".join(message(head, {"bytes": base64.b64encode(data).decode(), "p": "abcd"}) for data in told)
