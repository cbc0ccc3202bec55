"""Attach to `openai`, which has no middleware: a subclass of the client's own class.

`request` is one operation, `_send_request` one HTTP attempt of it, inside the SDK's retry loop. The subclass is made
once for each client class, so `isinstance`, the type's name and `with_options` stay as they were.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import TYPE_CHECKING, Any, Final

import openai

from bursar.clients.answers import error_type_of, of_error, of_message, of_refused, of_status
from bursar.clients.fetches import ahear, hear, of_openai
from bursar.clients.requests import api_of, read, with_cap, without_tool_use
from bursar.clients.sellers import host_of, seller_of
from bursar.clients.streams import attach, tapped
from bursar.clients.unmetered import LATER, METERED, kind_of, notice, sockets
from bursar.clients.usage import believable, get
from bursar.clients.wire import Ear, listen
from bursar.words.errors import Stopped

if TYPE_CHECKING:
    from bursar.clients.fetches import Fetch
    from bursar.clients.guard import Guard
    from bursar.clients.watch import Watch
    from bursar.flow.call import Attempt, Call
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
_ANSWERS: Final = {
    "chat": openai.types.chat.ChatCompletion,
    "responses": openai.types.responses.Response,
}
_COUNT_TIMEOUT_S: Final = 5.0
_RAW_HEADER: Final = "X-Stainless-Raw-Response"
_GUARD: Final = "_bursar_guard"


class _HaltedError(openai.OpenAIError):
    """Ends the SDK's retry loop, which takes any exception but its own for a failed connection."""


class _Operation:
    """One call of `request`: its attempts, the one that is open, and what the caller did not ask for."""

    __slots__ = (
        "attempt", "call", "guard", "hides_usage", "http", "raw", "request_id", "sent", "stop", "stream", "watch",
    )  # fmt: skip

    def __init__(self, guard: Guard, call: Call, attempt: Attempt, raw: str | None, *, stream: bool) -> None:
        self.guard, self.call, self.raw, self.stream = guard, call, raw, stream
        self.attempt: Attempt | None = attempt
        self.hides_usage = self.sent = False
        self.stop: Stopped | None = None
        self.watch: Watch | None = None
        self.request_id: str | None = None
        self.http: Any = None

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
                listen(response, Ear(self.watch, events=self.stream))
        return None


_operation: contextvars.ContextVar[_Operation | None] = contextvars.ContextVar("bursar_openai", default=None)
_fetch: contextvars.ContextVar[Fetch | None] = contextvars.ContextVar("bursar_openai_fetch", default=None)


def guarded(client: Any, guard: Guard) -> Any:
    """A copy of the client whose class carries the guard."""
    copy = client.copy()
    base = _bare_class(type(client))
    is_async = isinstance(client, openai.AsyncOpenAI)
    copy.__class__ = _async_class(base) if is_async else _sync_class(base)
    setattr(copy, _GUARD, guard.over(getattr(client, _GUARD, None)))
    return copy


def give(client: Any, guard: Guard) -> None:
    """Make a client itself carry the guard, in place of any that it carried."""
    setattr(client, _GUARD, guard)
    client.__class__ = _sync_class(_bare_class(type(client)))


def guard_of(client: Any) -> Guard | None:
    """The guard that a client carries, if any."""
    guard: Guard | None = getattr(client, _GUARD, None)
    return guard


def _bare_class(cls: Any) -> Any:
    return cls.__mro__[1] if _GUARD in cls.__dict__ else cls


@functools.lru_cache(maxsize=64)
def _sync_class(base: Any) -> type[Any]:  # noqa: C901 - a class with three methods
    class Guarded(base):  # type: ignore[misc]  # the base is the class of the client at hand
        def request(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
            guard: Guard | None = getattr(self, _GUARD)
            if guard is None:
                # A client that somebody made of the class of a wrapped one is as bare as he made it.
                return super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
            api = api_of(options.method, options.url)
            options = options if api is None else _merged(options)
            if api not in METERED:
                _pass(guard, options, api)
            if api is None:
                fetched = _fetch.set(_fetch_of(self, guard, options))
                # Asked from inside of a metered call, by a hook of the HTTP client, it is no attempt of that one.
                apart = _operation.set(None)
                try:
                    return super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
                finally:
                    _operation.reset(apart)
                    _fetch.reset(fetched)
            call = _begin(self, guard, api, options)
            attempt = guard.open(
                call,
                lambda: _count(self, options, call),
                lambda body: self.request(_ANSWERS[api], _apart(options, body)),
            )
            operation = _Operation(guard, call, attempt, _raw_mode(options), stream=stream)
            token = _operation.set(operation)
            try:
                sent = _rewritten(options, operation)
                result = super().request(cast_to, sent, stream=stream, stream_cls=_tapped(stream_cls))
                answer = _answer(operation, result)
            except _HaltedError:
                result = answer = None
            except BaseException as error:
                operation.failed(error)
                raise
            finally:
                _operation.reset(token)
            if operation.stop is not None:
                raise operation.stop
            if answer is not None:
                operation.close(answer)
            return result

        def _send_request(self, request: Any, **kwargs: Any) -> Any:
            operation = _operation.get()
            if operation is None:
                response = super()._send_request(request, **kwargs)
                hear(response, _fetch.get())
                return response
            if operation.attempt is None:
                try:
                    operation.attempt = operation.guard.open(operation.call)
                except Stopped as stop:
                    operation.stop = stop
                    raise _HaltedError from None
            operation.sent = True
            try:
                response = super()._send_request(request, **kwargs)
            except BaseException as error:
                operation.close(of_error(error))
                raise
            refusal = operation.answered(response)
            if refusal is not None:
                try:
                    operation.guard.heed(operation.call, refusal)
                except Stopped as stop:
                    response.close()
                    operation.stop = stop
                    raise _HaltedError from None
            return response

        def copy(self, **kwargs: Any) -> Any:
            return _carry(self, super().copy(**kwargs))

        with_options = copy

    return _dressed(Guarded, base)


@functools.lru_cache(maxsize=64)
def _async_class(base: Any) -> type[Any]:  # noqa: C901 - as above
    class Guarded(base):  # type: ignore[misc]  # the base is the class of the client at hand
        async def request(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
            guard: Guard | None = getattr(self, _GUARD)
            if guard is None:
                # A client that somebody made of the class of a wrapped one is as bare as he made it.
                return await super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
            api = api_of(options.method, options.url)
            options = options if api is None else _merged(options)
            if api not in METERED:
                _pass(guard, options, api)
            if api is None:
                fetched = _fetch.set(await _afetch_of(self, guard, options))
                apart = _operation.set(None)
                try:
                    return await super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
                finally:
                    _operation.reset(apart)
                    _fetch.reset(fetched)
            call = _begin(self, guard, api, options)
            attempt = await guard.aopen(
                call,
                lambda: _acount(self, options, call),
                lambda body: self.request(_ANSWERS[api], _apart(options, body)),
            )
            operation = _Operation(guard, call, attempt, _raw_mode(options), stream=stream)
            token = _operation.set(operation)
            try:
                sent = _rewritten(options, operation)
                result = await super().request(cast_to, sent, stream=stream, stream_cls=_tapped(stream_cls))
                answer = _answer(operation, result)
            except _HaltedError:
                result = answer = None
            except BaseException as error:
                # Without an await: a cancelled task must not lose the charge on the way.
                operation.failed(error)
                raise
            finally:
                _operation.reset(token)
            if operation.stop is not None:
                raise operation.stop
            attempt_left, operation.attempt = operation.attempt, None
            if attempt_left is not None and answer is not None:
                await guard.aclose(call, attempt_left, answer)
            return result

        async def _send_request(self, request: Any, **kwargs: Any) -> Any:
            operation = _operation.get()
            if operation is None:
                response = await super()._send_request(request, **kwargs)
                await ahear(response, _fetch.get())
                return response
            if operation.attempt is None:
                try:
                    operation.attempt = await operation.guard.aopen(operation.call)
                except Stopped as stop:
                    operation.stop = stop
                    raise _HaltedError from None
            operation.sent = True
            try:
                response = await super()._send_request(request, **kwargs)
            except BaseException as error:
                operation.close(of_error(error))
                raise
            refusal = operation.answered(response)
            if refusal is not None:
                try:
                    await operation.guard.aheed(operation.call, refusal)
                except Stopped as stop:
                    await response.aclose()
                    operation.stop = stop
                    raise _HaltedError from None
            return response

        def copy(self, **kwargs: Any) -> Any:
            return _carry(self, super().copy(**kwargs))

        with_options = copy

    return _dressed(Guarded, base)


def _dressed(made: type[Any], base: type[Any]) -> type[Any]:
    made.__name__, made.__qualname__, made.__module__ = base.__name__, base.__qualname__, base.__module__
    setattr(made, _GUARD, None)
    for name, watched in sockets(base, guard_of).items():
        setattr(made, name, watched)
    return made


def _carry(client: Any, copy: Any) -> Any:
    setattr(copy, _GUARD, getattr(client, _GUARD))
    return copy


def _pass(guard: Guard, options: Any, api: str | None) -> None:
    kind = kind_of(options.method, options.url, options.json_data)
    if kind is not None and (api is None or kind in LATER):
        notice(kind, strict=guard.strict)


def _fetch_of(client: Any, guard: Guard, options: Any) -> Fetch | None:
    return of_openai(guard, options, seller_of(client) or "openai", host_of(client))


async def _afetch_of(client: Any, guard: Guard, options: Any) -> Fetch | None:
    if options.files is None:
        return _fetch_of(client, guard, options)
    # An uploaded batch is measured: that may take a while.
    return await asyncio.to_thread(_fetch_of, client, guard, options)


def _merged(options: Any) -> Any:
    # What the caller adds by extra_body wins over what he named: the SDK merges it as it builds the request.
    body, extra = options.json_data, options.extra_json
    if not isinstance(extra, dict) or not (body is None or isinstance(body, dict)):
        return options
    copy = options.model_copy()
    copy.json_data, copy.extra_json = {**(body or {}), **extra}, None
    return copy


def _begin(client: Any, guard: Guard, api: str, options: Any) -> Call:
    body = options.json_data
    host, seller = host_of(client), seller_of(client)

    def asked(body: Any) -> ModelRequest:
        return read(api, body, host, seller)

    retries = options.get_max_retries(client.max_retries)
    again = None if api in {"batches", "compact"} else asked
    return guard.begin(asked(body), body=body, read=again, countable=api == "responses", retries=retries)


def _rewritten(options: Any, operation: _Operation) -> Any:
    request, attempt = operation.call.request, operation.attempt
    body = options.json_data if operation.call.body is None else operation.call.body
    if not isinstance(body, dict) or attempt is None:
        return options
    if attempt.cap is not None:
        body = with_cap(request.api, body, attempt.cap)
    if attempt.last:
        body = without_tool_use(request.api, body)
    if request.api in {"chat", "completions"} and request.stream and not _asks_usage(body):
        # Without this a chat stream never says what it used; the extra chunk is kept from the caller.
        asked = body.get("stream_options")
        body = {**body, "stream_options": {**(asked if isinstance(asked, dict) else {}), "include_usage": True}}
        operation.hides_usage = True
    if body is options.json_data:
        return options
    copy = options.model_copy()
    copy.json_data = body
    return copy


def _asks_usage(body: dict[str, Any]) -> bool:
    asked = body.get("stream_options")
    return isinstance(asked, dict) and "include_usage" in asked


def _tapped(stream_cls: Any) -> Any:
    return None if stream_cls is None else tapped(stream_cls)


def _answer(operation: _Operation, result: Any) -> Answer | None:
    if operation.watch is not None:
        return None
    body = result.parse() if operation.raw is not None else result
    return of_message(operation.call.request.api, body, operation.request_id, operation.http)


def _raw_mode(options: Any) -> str | None:
    headers = options.headers
    mode = headers.get(_RAW_HEADER) if isinstance(headers, dict) else None
    return mode if isinstance(mode, str) else None


def _apart(options: Any, body: dict[str, Any]) -> Any:
    # A call of its own that goes the way of the one at hand, and is neither streamed nor read raw.
    copy = options.model_copy()
    copy.json_data, copy.post_parser = body, openai.NOT_GIVEN
    if isinstance(options.headers, dict):
        copy.headers = {name: value for name, value in options.headers.items() if name != _RAW_HEADER}
    return copy


def _count(client: Any, options: Any, call: Call) -> int | None:
    try:
        counted = _counter(client).responses.input_tokens.count(**_counted(options, call))
    except Exception:  # noqa: BLE001 - the count is a help; the call itself says what is wrong
        return None
    return believable(get(counted, "input_tokens"))


async def _acount(client: Any, options: Any, call: Call) -> int | None:
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
