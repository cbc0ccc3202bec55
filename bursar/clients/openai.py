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

from bursar.clients.failures import of_error
from bursar.clients.fetches import ahear, hear, of_openai
from bursar.clients.openai_operation import (
    ANSWERS,
    Operation,
    acount,
    answer_of,
    apart,
    begin,
    count,
    raw_mode,
    rewritten,
)
from bursar.clients.requests import api_of, merged
from bursar.clients.sellers import origin_of
from bursar.clients.streams import tapped
from bursar.clients.unmetered import LATER, METERED, kind_of, notice, sockets
from bursar.words.errors import Stopped

if TYPE_CHECKING:
    from bursar.clients.fetches import Fetch
    from bursar.clients.guard import Guard

_GUARD: Final = "_bursar_guard"


class _HaltedError(openai.OpenAIError):
    """Ends the SDK's retry loop, which takes any exception but its own for a failed connection."""


_operation: contextvars.ContextVar[Operation | None] = contextvars.ContextVar("bursar_openai", default=None)
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
            if api is not None and options.extra_json:
                options = merged(options)
            if api not in METERED:
                _pass(guard, options, api)
            if api is None:
                fetched = _fetch.set(_fetch_of(self, guard, options))
                # Asked from inside of a metered call, by a hook of the HTTP client, it is no attempt of that one.
                outer = _operation.set(None)
                try:
                    return super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
                finally:
                    _operation.reset(outer)
                    _fetch.reset(fetched)
            call = begin(self, guard, api, options)
            attempt = guard.open(
                call,
                lambda: count(self, options, call),
                lambda body: self.request(ANSWERS[api], apart(options, body)),
            )
            operation = Operation(guard, call, attempt, raw_mode(options), stream=stream)
            token = _operation.set(operation)
            try:
                sent = rewritten(options, operation)
                result = super().request(
                    cast_to, sent, stream=stream, stream_cls=stream_cls if stream_cls is None else tapped(stream_cls)
                )
                answer = answer_of(operation, result)
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
            if api is not None and options.extra_json:
                options = merged(options)
            if api not in METERED:
                _pass(guard, options, api)
            if api is None:
                fetched = _fetch.set(await _afetch_of(self, guard, options))
                outer = _operation.set(None)
                try:
                    return await super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
                finally:
                    _operation.reset(outer)
                    _fetch.reset(fetched)
            call = begin(self, guard, api, options)
            attempt = await guard.aopen(
                call,
                lambda: acount(self, options, call),
                lambda body: self.request(ANSWERS[api], apart(options, body)),
            )
            operation = Operation(guard, call, attempt, raw_mode(options), stream=stream)
            token = _operation.set(operation)
            try:
                sent = rewritten(options, operation)
                result = await super().request(
                    cast_to, sent, stream=stream, stream_cls=stream_cls if stream_cls is None else tapped(stream_cls)
                )
                answer = answer_of(operation, result)
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
    host, seller = origin_of(client)
    return of_openai(guard, options, seller or "openai", host)


async def _afetch_of(client: Any, guard: Guard, options: Any) -> Fetch | None:
    if options.files is None:
        return _fetch_of(client, guard, options)
    # An uploaded batch is measured: that may take a while.
    return await asyncio.to_thread(_fetch_of, client, guard, options)
