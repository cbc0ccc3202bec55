"""One attempt of a client of `anthropic` made anew: what we change of it, and what we ask beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anthropic
from anthropic import APIRequest

from bursar.clients import requests
from bursar.clients.requests import with_cap, without_tool_use
from bursar.clients.streams import tapped

if TYPE_CHECKING:
    from bursar.flow.call import Attempt, Call

_COUNTED: Final = ("model", "messages", "system", "tools", "tool_choice", "thinking")
_COUNT_TIMEOUT_S: Final = 5.0
RAW_HEADER: Final = "X-Stainless-Raw-Response"


def merged(request: APIRequest) -> APIRequest:
    """The attempt with what the caller added to the body in its place."""
    # Older SDKs add it behind us, over what we have made of the body.
    options = requests.merged(request.options)
    if options is request.options:
        return request
    return APIRequest(
        options=options,
        cast_to=request.cast_to,
        stream=request.stream,
        stream_cls=request.stream_cls,
        retries_taken=request.retries_taken,
    )


def rewritten(request: APIRequest, call: Call, attempt: Attempt) -> APIRequest:
    """The attempt as it is sent: with the body that the guards made, capped, and a stream that we watch."""
    if attempt.cap is None and not request.stream and not attempt.last and call.body is None:
        return request
    options = request.options.model_copy()
    if call.body is not None:
        options.json_data = call.body
    if attempt.cap is not None:
        options.json_data = with_cap("messages", call.body or _body(request), attempt.cap)
    if attempt.last and isinstance(options.json_data, dict):
        options.json_data = without_tool_use("messages", options.json_data)
    stream_cls: Any = request.stream_cls
    return APIRequest(
        options=options,
        cast_to=request.cast_to,
        stream=request.stream,
        stream_cls=None if stream_cls is None else tapped(stream_cls),
        retries_taken=request.retries_taken,
    )


def apart(request: APIRequest, body: dict[str, Any]) -> APIRequest:
    """A call of its own that goes the way of the one at hand, and is not streamed."""
    options = request.options.model_copy()
    options.json_data = body
    options.headers = {name: value for name, value in request.headers.items() if name != RAW_HEADER}
    return APIRequest(options=options, cast_to=anthropic.types.Message)


def counting(request: APIRequest, call: Call) -> APIRequest:
    """What asks how many tokens the prompt of a call has."""
    # By the way that the call itself will go: a copy of the client may have another host and another key.
    body, options = call.body or _body(request), request.options.model_copy()
    options.url = options.url.replace("/v1/messages", "/v1/messages/count_tokens", 1)
    options.json_data = {name: body[name] for name in _COUNTED if name in body}
    options.headers = {name: value for name, value in request.headers.items() if name != RAW_HEADER}
    options.timeout = _COUNT_TIMEOUT_S
    return APIRequest(options=options, cast_to=object)


def _body(request: APIRequest) -> dict[str, Any]:
    body: Any = request.json
    return body if isinstance(body, dict) else {}
