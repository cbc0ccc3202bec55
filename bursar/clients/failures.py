"""Translate how an attempt failed: an error status, an exception in place of an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.retry_after import is_retried, wait_us
from bursar.clients.usage import get
from bursar.words.events import Answer, RetryReason, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def of_status(status: int, error_type: str | None, request_id: str | None, headers: Mapping[str, str]) -> Answer:
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
        retryable=is_retried(status, headers),
        retry_after_us=wait_us(headers),
    )


def of_error(error: BaseException, *, sent: bool = True) -> Answer:
    """An exception in place of an answer. What may have left is charged, what never left is released."""
    names = {type(link).__name__ for link in _chain(error)}
    if not sent or names & _NEVER_LEFT:
        reason = RetryReason.CONNECTION if names & _NEVER_LEFT else None
        return Answer(
            Status.ERROR,
            sent=False,
            error_type=type(error).__name__,
            retry_reason=reason,
            charge="release",
            retryable=reason is not None,
        )
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit | SystemExit):
        return Answer(Status.CANCELLED, error_type=type(error).__name__, charge="bound")
    late = any("Timeout" in name for name in names)
    reason = RetryReason.TIMEOUT if late else RetryReason.CONNECTION
    return Answer(Status.ERROR, error_type=type(error).__name__, retry_reason=reason, charge="bound", retryable=True)


def error_type_of(response: Any) -> str | None:
    """The provider's word for an error: in its body where that has been read, with Amazon in a header."""
    try:
        body = response.json()
    except Exception:  # noqa: BLE001 - a body that is unread, cut or no JSON has no word in it
        body = None
    error = get(body, "error") if isinstance(body, dict) else None
    word = (get(error, "type") or get(error, "code")) if isinstance(error, dict) else None
    if word is None:
        word = response.headers.get("x-amzn-errortype", "").partition(":")[0] or None
    return word if isinstance(word, str) else None


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links
