"""Translate how an attempt ended: a typed message, an error status, an exception."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import orjson

from bursar._events import Answer, RetryReason, Status, UsageSource
from bursar.clients.usage import Reading, anthropic_usage, chat_usage, get, responses_usage

_NEVER_LEFT: Final = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "UnsupportedProtocol",
        "LocalProtocolError",
        "InvalidURL",
        "ProxyError",
    }
)
_RELEASED_5XX: Final = frozenset({503, 529})
_REASONS: Final = {
    408: RetryReason.TIMEOUT,
    429: RetryReason.RATE_LIMIT,
    503: RetryReason.OVERLOADED,
    529: RetryReason.OVERLOADED,
}


def of_message(api: str, body: Any, request_id: str | None = None, http: Any = None) -> Answer:
    """An answer that arrived whole: the SDK's object, its JSON, and the HTTP response that it came in, if at hand.

    An SDK reads "12" and true as numbers; what the provider really wrote is in the bytes of the response.
    """
    usage = _written(http).get("usage") or get(body, "usage")
    try:
        return _SHAPES[api](body, usage, request_id)._replace(said=body)
    except Exception:  # noqa: BLE001 - a shape that nobody knows is paid for all the same: it must reach the caller
        reading = USAGES[api](usage)
        charge = "usage" if reading.usage is not None else "bound"
        flags = (*reading.flags, "unreadable")
        return Answer(Status.OK, reading.usage, UsageSource.PROVIDER, http_status=200, flags=flags, charge=charge)


def of_refused(api: str, error: BaseException, request_id: str | None, http: Any) -> Answer:
    """An answer that arrived whole and that the SDK or the caller's parser then refused: paid for, as it says."""
    body = _written(http)
    if not isinstance(error, Exception) or not body:
        return of_error(error)
    return of_message(api, body, request_id, http)._replace(error_type=type(error).__name__)


def of_status(status: int, error_type: str | None, request_id: str | None) -> Answer:
    """An HTTP error: an overload costs nothing, a server error may have cost the input."""
    reason = _REASONS.get(status)
    if reason is None:
        reason = RetryReason.SERVER_ERROR if status >= 500 else RetryReason.OTHER
    return Answer(
        Status.ERROR,
        http_status=status,
        error_type=error_type or str(status),
        request_id=request_id,
        retry_reason=reason,
        charge="input" if status >= 500 and status not in _RELEASED_5XX else "release",
    )


def of_error(error: BaseException, *, sent: bool = True) -> Answer:
    """An exception in place of an answer. What may have left is charged, what never left is released."""
    names = {type(link).__name__ for link in _chain(error)}
    if not sent or names & _NEVER_LEFT:
        reason = RetryReason.CONNECTION if names & _NEVER_LEFT else None
        return Answer(Status.ERROR, sent=False, error_type=type(error).__name__, retry_reason=reason, charge="release")
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit | SystemExit):
        return Answer(Status.CANCELLED, error_type=type(error).__name__, charge="bound")
    late = any("Timeout" in name for name in names)
    reason = RetryReason.TIMEOUT if late else RetryReason.CONNECTION
    return Answer(Status.ERROR, error_type=type(error).__name__, retry_reason=reason, charge="bound")


def error_type_of(response: Any) -> str | None:
    """The provider's word for an error, where its body has been read."""
    try:
        body = response.json()
    except Exception:  # noqa: BLE001 - a body that is unread, cut or no JSON has no word in it
        return None
    error = get(body, "error") if isinstance(body, dict) else None
    word = (get(error, "type") or get(error, "code")) if isinstance(error, dict) else None
    return word if isinstance(word, str) else None


def _written(http: Any) -> dict[str, Any]:
    if http is None:
        return {}
    try:
        content = http.content
    except Exception:  # noqa: BLE001 - not read, or closed: the SDKs have an exception of their own HTTP library each
        return {}
    try:
        body = orjson.loads(content)
    except ValueError:
        try:
            # NaN and Infinity are no JSON, but Python writes and reads them.
            body = json.loads(content)
        except (ValueError, RecursionError):
            return {}
    return body if isinstance(body, dict) else {}


def _anthropic(body: Any, usage: Any, request_id: str | None) -> Answer:
    reading = anthropic_usage(usage)
    stop = _word(get(body, "stop_reason"))
    blocks = get(body, "content") or []
    return Answer(
        Status.OK,
        usage=reading.usage,
        usage_source=UsageSource.PROVIDER,
        flags=reading.flags,
        charge="usage" if reading.usage is not None else "bound",
        response_model=_word(get(body, "model")),
        response_id=_word(get(body, "id")),
        request_id=request_id,
        http_status=200,
        finish_reason=stop,
        truncated=stop == "max_tokens",
        tool_calls=sum(1 for block in blocks if get(block, "type") in ("tool_use", "server_tool_use")),
        tier_served=_word(get(usage, "service_tier")),
        speed=_speed(get(usage, "speed")),
    )


def _chat(body: Any, usage: Any, request_id: str | None) -> Answer:
    reading = chat_usage(usage)
    choices = get(body, "choices") or []
    stop = _word(get(choices[0], "finish_reason")) if choices else None
    calls = sum(len(get(get(choice, "message"), "tool_calls") or []) for choice in choices)
    return Answer(
        Status.OK,
        usage=reading.usage,
        usage_source=UsageSource.PROVIDER,
        flags=reading.flags,
        charge="usage" if reading.usage is not None else "bound",
        response_model=_word(get(body, "model")),
        response_id=_word(get(body, "id")),
        request_id=request_id,
        http_status=200,
        finish_reason=stop,
        truncated=stop == "length",
        tool_calls=calls,
        tier_served=_word(get(body, "service_tier")),
    )


def _responses(body: Any, usage: Any, request_id: str | None) -> Answer:
    reading = responses_usage(usage)
    status = _word(get(body, "status"))
    why = _word(get(get(body, "incomplete_details"), "reason"))
    items = get(body, "output") or []
    return Answer(
        Status.ERROR if status == "failed" else Status.OK,
        usage=reading.usage,
        usage_source=UsageSource.PROVIDER,
        flags=reading.flags,
        charge="usage" if reading.usage is not None else "bound",
        response_model=_word(get(body, "model")),
        response_id=_word(get(body, "id")),
        request_id=request_id,
        http_status=200,
        finish_reason=why or status,
        truncated=why == "max_output_tokens",
        tool_calls=sum(1 for item in items if str(get(item, "type")).endswith("_call")),
        tier_served=_word(get(body, "service_tier")),
    )


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _speed(value: Any) -> str | None:
    return value if isinstance(value, str) and value != "standard" else None


def _embeddings(body: Any, usage: Any, request_id: str | None) -> Answer:
    reading = _embedding_usage(usage)
    return Answer(
        Status.OK,
        usage=reading.usage,
        usage_source=UsageSource.PROVIDER,
        flags=reading.flags,
        charge="usage" if reading.usage is not None else "bound",
        response_model=_word(get(body, "model")),
        request_id=request_id,
        http_status=200,
    )


def _embedding_usage(raw: Any) -> Reading:
    return chat_usage(None if raw is None else {"prompt_tokens": get(raw, "prompt_tokens"), "completion_tokens": 0})


# A legacy completion says its usage, its finish and its id where a chat completion does.
_SHAPES: Final = {
    "messages": _anthropic,
    "chat": _chat,
    "responses": _responses,
    "embeddings": _embeddings,
    "completions": _chat,
}
USAGES: Final = {
    "messages": anthropic_usage,
    "chat": chat_usage,
    "responses": responses_usage,
    "embeddings": _embedding_usage,
    "completions": chat_usage,
}
"""How each API says what was used."""
