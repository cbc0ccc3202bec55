"""One call of a client of `openai`: its attempts, and what of the SDK's options is read and rewritten for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import openai

from bursar.clients.answers import of_message, of_refused
from bursar.clients.failures import error_type_of, of_error, of_status
from bursar.clients.requests import read, with_cap, without_tool_use
from bursar.clients.sellers import origin_of
from bursar.clients.streams import attach
from bursar.clients.usage import believable, get
from bursar.clients.wire import Ear, listen

if TYPE_CHECKING:
    from bursar.clients.guard import Guard
    from bursar.clients.watch import Watch
    from bursar.flow.call import Attempt, Call
    from bursar.words.errors import Stopped
    from bursar.words.events import Answer, ModelRequest

_COUNTED: Final = (
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "reasoning",
    "text",
    "previous_response_id",
)
ANSWERS: Final = {
    "chat": openai.types.chat.ChatCompletion,
    "responses": openai.types.responses.Response,
}
"""What the answers of an API are cast to."""
_COUNT_TIMEOUT_S: Final = 5.0
_RAW_HEADER: Final = "X-Stainless-Raw-Response"
_CHATS: Final = frozenset({"chat", "completions"})
_APART: Final = frozenset({"batches", "compact"})
"""Whose bodies no guard makes anew."""


class Operation:
    """One call of `request`: its attempts, the one that is open, and what the caller did not ask for."""

    # What most calls never set stands with the class.
    hides_usage = sent = False
    stop: Stopped | None = None
    watch: Watch | None = None
    request_id: str | None = None
    http: Any = None

    def __init__(self, guard: Guard, call: Call, attempt: Attempt, raw: str | None, *, stream: bool) -> None:
        self.guard, self.call, self.raw, self.stream = guard, call, raw, stream
        self.attempt: Attempt | None = attempt

    def close(self, answer: Answer) -> None:
        """Close the open attempt, if one is."""
        attempt, self.attempt = self.attempt, None
        if attempt is not None and self.watch is None:
            self.guard.close(self.call, attempt, answer)

    def failed(self, error: BaseException) -> None:
        """Close what is open after an exception: before sending, while waiting, or in reading what came."""
        if self.watch is not None:
            self.watch.end(error)
        elif self.http is not None and self.attempt is not None:
            self.close(of_refused(self.call.request.api, error, self.request_id, self.http))
        else:
            self.close(of_error(error, sent=self.sent))

    def answered(self, response: Any) -> Answer | None:
        """Take in the response of an attempt: close it when it failed, and say how; watch it when it streams."""
        self.request_id, self.http = response.headers.get("x-request-id"), response
        if response.status_code >= 300:
            refusal = of_status(response.status_code, error_type_of(response), self.request_id, response.headers)
            self.close(refusal)
            return refusal
        if self.attempt is not None and (self.stream or self.raw == "stream"):
            self.watch = self.guard.watch(self.call, self.attempt, self.request_id, hide_usage=self.hides_usage)
            attach(response, self.watch)
            if self.raw is not None:
                listen(response, Ear(self.watch, response, events=self.stream))
        return None


def begin(client: Any, guard: Guard, api: str, options: Any) -> Call:
    """Start the operation that the options are for."""
    body = options.json_data
    host, seller = origin_of(client)

    def asked(body: Any) -> ModelRequest:
        return read(api, body, host, seller)

    retries = options.get_max_retries(client.max_retries)
    again = None if api in _APART else asked
    return guard.begin(asked(body), body=body, read=again, countable=api == "responses", retries=retries)


def rewritten(options: Any, operation: Operation) -> Any:
    """The options as they are sent: with the body that the guards made, capped, asking for usage."""
    call, attempt, given = operation.call, operation.attempt, options.json_data
    request, body = call.request, given if call.body is None else call.body
    if attempt is None or not isinstance(body, dict):
        return options
    if attempt.cap is not None:
        body = with_cap(request.api, body, attempt.cap)
    if attempt.last:
        body = without_tool_use(request.api, body)
    if request.stream and request.api in _CHATS and not _asks_usage(body):
        # Without this a chat stream never says what it used; the extra chunk is kept from the caller.
        asked = body.get("stream_options")
        body = {**body, "stream_options": {**(asked if isinstance(asked, dict) else {}), "include_usage": True}}
        operation.hides_usage = True
    if body is given:
        return options
    copy = options.model_copy()
    copy.json_data = body
    return copy


def _asks_usage(body: dict[str, Any]) -> bool:
    asked = body.get("stream_options")
    return isinstance(asked, dict) and "include_usage" in asked


def answer_of(operation: Operation, result: Any) -> Answer | None:
    """The answer in what the SDK returned; None where a watch has it."""
    if operation.watch is not None:
        return None
    body = result.parse() if operation.raw is not None else result
    return of_message(operation.call.request.api, body, operation.request_id, operation.http)


def raw_mode(options: Any) -> str | None:
    """How the caller wants his response raw: "true", "stream", or None where he does not."""
    headers = options.headers
    mode = headers.get(_RAW_HEADER) if isinstance(headers, dict) else None
    return mode if isinstance(mode, str) else None


def apart(options: Any, body: dict[str, Any]) -> Any:
    """The options of a call of its own that goes the way of the one at hand, neither streamed nor read raw."""
    copy = options.model_copy()
    copy.json_data, copy.post_parser = body, openai.NOT_GIVEN
    if isinstance(options.headers, dict):
        copy.headers = {name: value for name, value in options.headers.items() if name != _RAW_HEADER}
    return copy


def count(client: Any, options: Any, call: Call) -> int | None:
    """Have the provider count the input; None where that fails."""
    try:
        counted = _counter(client).responses.input_tokens.count(**_counted(options, call))
    except Exception:  # noqa: BLE001 - the count is a help; the call itself says what is wrong
        return None
    return believable(get(counted, "input_tokens"))


async def acount(client: Any, options: Any, call: Call) -> int | None:
    """As `count`, awaiting."""
    try:
        counted = await _counter(client).responses.input_tokens.count(**_counted(options, call))
    except Exception:  # noqa: BLE001 - the count is a help; the call itself says what is wrong
        return None
    return believable(get(counted, "input_tokens"))


def _counter(client: Any) -> Any:
    return client.with_options(timeout=_COUNT_TIMEOUT_S, max_retries=0)


def _counted(options: Any, call: Call) -> dict[str, Any]:
    body = options.json_data if call.body is None else call.body
    return {name: body[name] for name in _COUNTED if name in body}
