"""Attach to `anthropic`: its public client middleware, which runs once for each HTTP attempt.

The SDK's retry loop is round the middleware, so each attempt has its own hold and its own record. The attempts of
one operation are known by the request body that they share. The SDK retries none of our exceptions.
"""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anthropic

from bursar.clients.answers import of_message, of_refused
from bursar.clients.anthropic_requests import RAW_HEADER, apart, counting, merged, rewritten
from bursar.clients.failures import error_type_of, of_error, of_status
from bursar.clients.fetches import ahear, hear, of_anthropic
from bursar.clients.requests import api_of, read
from bursar.clients.sellers import host_of, region_of, seller_of
from bursar.clients.streams import attach
from bursar.clients.unmetered import LATER, METERED, kind_of, notice
from bursar.clients.usage import believable, get
from bursar.clients.wire import Ear, listen

if TYPE_CHECKING:
    from anthropic import APIRequest

    from bursar.clients.fetches import Fetch
    from bursar.clients.guard import Guard
    from bursar.flow.call import Attempt, Call
    from bursar.words.events import Answer, ModelRequest

_CARRIES: Final = "_bursar_carries"


class _Operation(NamedTuple):
    call: Call
    body: Any
    asked: ModelRequest


_operation: contextvars.ContextVar[_Operation | None] = contextvars.ContextVar("bursar_anthropic", default=None)


class GuardMiddleware(anthropic.Middleware):
    """Opens an attempt before it is sent, and closes it when its answer is there."""

    def __init__(self, guard: Guard, client: Any) -> None:
        self.guard = guard
        self._client, self._seller, self._region = client, seller_of(client), region_of(client)

    def handle(self, request: APIRequest, call_next: Any) -> Any:
        """One attempt of a sync client."""
        request = merged(request)
        api = self._pass(request)
        if api is None:
            passed = call_next(request)
            hear(passed.http_response, self._fetch(request))
            return passed
        call = self._call(request, api)
        attempt = self.guard.open(
            call, lambda: _count(request, call, call_next), lambda body: self._ask(request, body, call_next)
        )
        response: Any = None
        try:
            response = call_next(rewritten(request, call, attempt))
            if self._watches(call, attempt, request, response):
                return response
            answer = _refusal(response)
            if answer is None:
                answer = of_message(api, response.parse(), _request_id(response), response.http_response)
        except BaseException as error:
            self.guard.close(call, attempt, _failed(api, error, response))
            raise
        self.guard.close(call, attempt, answer)
        try:
            self.guard.heed(call, answer, obeyed=True)
        except BaseException:
            response.http_response.close()
            raise
        return response

    async def handle_async(self, request: APIRequest, call_next: Any) -> Any:
        """One attempt of an async client."""
        request = merged(request)
        api = self._pass(request)
        if api is None:
            passed = await call_next(request)
            await ahear(passed.http_response, self._fetch(request))
            return passed
        call = self._call(request, api)
        attempt = await self.guard.aopen(
            call, lambda: _acount(request, call, call_next), lambda body: self._aask(request, body, call_next)
        )
        response: Any = None
        try:
            response = await call_next(rewritten(request, call, attempt))
            if self._watches(call, attempt, request, response):
                return response
            answer = _refusal(response)
            if answer is None:
                parsed = await response.parse()
                answer = of_message(api, parsed, _request_id(response), response.http_response)
        except BaseException as error:
            # Without an await: a cancelled task must not lose the charge on the way.
            self.guard.close(call, attempt, _failed(api, error, response))
            raise
        await self.guard.aclose(call, attempt, answer)
        try:
            await self.guard.aheed(call, answer, obeyed=True)
        except BaseException:
            await response.http_response.aclose()
            raise
        return response

    def _pass(self, request: APIRequest) -> str | None:
        api = api_of(request.method, request.url)
        if api in METERED:
            return api
        kind = kind_of(request.method, request.url, request.json)
        if kind is not None and (api is None or kind in LATER):
            notice(kind, strict=self.guard.strict)
        return api

    def _fetch(self, request: APIRequest) -> Fetch | None:
        host = host_of(self._client)
        return of_anthropic(self.guard, request.method, request.url, self._seller or "anthropic", host)

    def _call(self, request: APIRequest, api: str) -> Call:
        known = _operation.get()
        if request.retries_taken and known is not None and known.body is request.json:
            return known.call
        asked = self._asked(api, request.json)
        if request.retries_taken and known is not None and known.asked == asked:
            # A middleware of the caller made the body anew.
            return known.call
        retries = request.options.get_max_retries(self._client.max_retries)
        again = (lambda body: self._asked(api, body)) if api == "messages" else None
        call = self.guard.begin(asked, body=request.json, read=again, countable=api == "messages", retries=retries)
        _operation.set(_Operation(call, request.json, asked))
        return call

    def _ask(self, request: APIRequest, body: dict[str, Any], call_next: Any) -> Any:
        operation = _operation.get()
        try:
            return _succeeded(self.handle(apart(request, body), call_next)).parse()
        finally:
            _operation.set(operation)

    async def _aask(self, request: APIRequest, body: dict[str, Any], call_next: Any) -> Any:
        operation = _operation.get()
        try:
            return await _succeeded(await self.handle_async(apart(request, body), call_next)).parse()
        finally:
            _operation.set(operation)

    def _asked(self, api: str, body: Any) -> ModelRequest:
        return read(api, body, host_of(self._client), self._seller, self._region)

    def _watches(self, call: Call, attempt: Attempt, request: APIRequest, response: Any) -> bool:
        mode, http = request.headers.get(RAW_HEADER), response.http_response
        if not http.is_success or not (request.stream or mode == "stream"):
            return False
        watch = self.guard.watch(call, attempt, _request_id(response))
        attach(http, watch)
        if mode is not None:
            listen(http, Ear(watch, http, events=request.stream))
        return True


def guarded(client: Any, guard: Guard) -> Any:
    """A copy of the client that carries the guard, innermost so that it sees what is really sent."""
    others = [m for m in client.middleware if not isinstance(m, GuardMiddleware)]
    # By the way of the SDK's own class: that of a client which carries a guard puts it back.
    base = _bare_class(type(client))
    bare = base.with_options(client, middleware=others)
    bare.__class__ = base
    for carried in client.middleware:
        guard = guard.over(carried.guard) if isinstance(carried, GuardMiddleware) else guard
    made = bare.with_options(middleware=[*bare.middleware, GuardMiddleware(guard, bare)])
    made.__class__ = _carrying(base)
    return made


def _bare_class(cls: Any) -> Any:
    return cls.__mro__[1] if _CARRIES in cls.__dict__ else cls


@functools.lru_cache(maxsize=64)
def _carrying(base: Any) -> type[Any]:
    """The class of a client whose copies keep the guard, also where they name their middlewares anew."""

    class Carrying(base):  # type: ignore[misc]  # the base is the class of the client at hand
        def copy(self, **options: Any) -> Any:
            made = super().copy(**options)
            if any(isinstance(each, GuardMiddleware) for each in made.middleware):
                return made
            # A client that somebody made of the class of a wrapped one carries none, and neither do its copies.
            guard = next((each.guard for each in self.middleware if isinstance(each, GuardMiddleware)), None)
            return made if guard is None else guarded(made, guard)

        with_options = copy

    Carrying.__name__, Carrying.__qualname__, Carrying.__module__ = base.__name__, base.__qualname__, base.__module__
    setattr(Carrying, _CARRIES, True)
    return Carrying


def _succeeded(response: Any) -> Any:
    response.http_response.raise_for_status()
    return response


def _count(request: APIRequest, call: Call, call_next: Any) -> int | None:
    try:
        return _counted(call_next(counting(request, call)))
    except Exception:  # noqa: BLE001 - the count is a help; the call itself says what is wrong
        return None


async def _acount(request: APIRequest, call: Call, call_next: Any) -> int | None:
    try:
        return _counted(await call_next(counting(request, call)))
    except Exception:  # noqa: BLE001 - as above
        return None


def _counted(response: Any) -> int | None:
    http = response.http_response
    return believable(get(http.json(), "input_tokens")) if http.is_success else None


def _refusal(response: Any) -> Answer | None:
    http = response.http_response
    if not http.is_success:
        return of_status(http.status_code, error_type_of(http), _request_id(response), http.headers)
    return None


def _failed(api: str, error: BaseException, response: Any) -> Answer:
    if response is None:
        return of_error(error, sent=_may_have_left(error))
    return of_refused(api, error, _request_id(response), response.http_response)


def _request_id(response: Any) -> str | None:
    headers = response.http_response.headers
    value = headers.get("request-id") or headers.get("x-amzn-requestid")
    return value if isinstance(value, str) else None


def _may_have_left(error: BaseException) -> bool:
    # What goes wrong in sending the SDK calls an APIError. Whatever else it is, it came before: the request could not
    # be built, or signed, or there are no credentials.
    return not isinstance(error, Exception) or isinstance(error, anthropic.APIError)
