"""Amazon's binary event streams as we listen to them: cut anywhere, broken, and as botocore reads them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bursar.clients.wire import Frames
from bursar.testing.bedrock import message

EVENTS: list[Any] = [{"type": "message_start", "n": n, "said": "ö" * 40} for n in range(3)]
CHUNK = {":event-type": "chunk", ":message-type": "event"}
FAILED = {":exception-type": "throttlingException", ":message-type": "exception"}


def framed(event: Any) -> bytes:
    return message(CHUNK, {"bytes": base64.b64encode(json.dumps(event).encode()).decode()})


STREAM = b"".join(map(framed, EVENTS))


def heard(*pieces: bytes) -> list[Any]:
    found: list[Any] = []
    frames = Frames(found.append)
    for piece in pieces:
        frames.hear(piece)
    frames.end()
    return found


def test_what_we_read_is_what_amazon_s_own_parser_reads() -> None:
    """The frames that the provider speaks are frames: checksums hold, headers and payload are where they should be."""
    eventstream = pytest.importorskip("botocore.eventstream")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(STREAM + message(FAILED, {"message": "slow down"}))
    *chunks, failed = [each.to_response_dict() for each in buffer]
    assert (
        [json.loads(base64.b64decode(json.loads(each["body"])["bytes"])) for each in chunks] == heard(STREAM) == EVENTS
    )
    assert (failed["status_code"], failed["headers"][":exception-type"]) == (400, "throttlingException")


def test_a_cut_at_any_byte_changes_nothing() -> None:
    """Whatever pieces the network makes of it, each message is heard once, when it is whole."""
    assert all(heard(STREAM[:at], STREAM[at:]) == EVENTS for at in range(len(STREAM)))
    assert heard(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS
    assert heard(STREAM[:-1]) == EVENTS[:-1]


@pytest.mark.parametrize(
    "broken",
    [
        b"event: message_start\ndata: {}\n\n" * 9,
        b"\0" * 64,
        b"\xff" * 64,
        message(CHUNK, {"bytes": "no base 64"}),
        message(CHUNK, {"bytes": 7}),
        message(CHUNK, {"bytes": base64.b64encode(b"[1]").decode()}),
        message({":event-type": "initial-response", ":message-type": "event"}, {}),
    ],
    ids=["events", "zeros", "ones", "no-base-64", "a-number", "a-list", "another-event"],
)
def test_what_is_no_event_says_nothing(broken: bytes) -> None:
    """And never raises: what it was the SDK will say."""
    assert heard(STREAM, broken) == EVENTS


def test_an_exception_is_an_error_of_the_stream() -> None:
    """As an `error` event is with Anthropic itself."""
    assert heard(message(FAILED, {"message": "slow down"})) == [{"type": "error"}]
