"""Attach a watch to an SDK's stream.

`tapped` makes a subclass of an SDK's own stream class, so that types and `isinstance` stay. The watch travels in
the extensions of the HTTP response, so that one class serves all calls. A stream that is dropped without being
read to its end is found by the garbage collector, which may run inside any lock: it only hands the watch over.
"""

from __future__ import annotations

import functools
import types
import weakref
from typing import TYPE_CHECKING, Any, Final

from bursar.words.clock import monotonic_ns
from bursar.words.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from bursar.clients.watch import Watch

KEY: Final = "bursar.watch"
"""Where the watch of a call lies in the extensions of its HTTP response."""


def attach(response: Any, watch: Watch) -> None:
    """Let a watch go along with an HTTP response, and see it closed or dropped where nobody makes a stream of it."""
    response.extensions[KEY] = watch
    weakref.finalize(response, watch.dropped)
    close, aclose = response.close, response.aclose

    def closed() -> None:
        try:
            close()
        finally:
            watch.closed()

    async def aclosed() -> None:
        try:
            await aclose()
        finally:
            watch.closed()

    response.close, response.aclose = closed, aclosed


@functools.lru_cache(maxsize=256)
def tapped(stream_cls: Any) -> Any:
    """A subclass of an SDK's stream class (plain or `Stream[Event]`) that shows its events to the call's watch."""
    origin = getattr(stream_cls, "__origin__", stream_cls)
    methods = _async_methods(origin) if hasattr(origin, "__aiter__") else _sync_methods(origin)
    methods |= {"__module__": origin.__module__, "__qualname__": origin.__qualname__}
    return types.new_class(origin.__name__, (stream_cls,), {}, lambda namespace: namespace.update(methods))


def _sync_methods(origin: Any) -> dict[str, Any]:
    def __init__(self: Any, **kwargs: Any) -> None:  # noqa: N807 - becomes a method
        origin.__init__(self, **kwargs)
        _keep(self)

    def __stream__(self: Any) -> Iterator[Any]:  # noqa: N807
        watch: Watch | None = self.response.extensions.get(KEY)
        if watch is None:
            yield from origin.__stream__(self)
            return
        watch.begun = True
        see = watch.see
        try:
            for event in origin.__stream__(self):
                shown = see(event)
                if watch.short:
                    _grow(self, watch)
                if shown:
                    # From here until he asks for more the caller has the event, and time to spend on it.
                    handed_ns = watch.handed_ns = monotonic_ns()
                    yield event
                    watch.callers_ns += monotonic_ns() - handed_ns
                    watch.handed_ns = None
        except BaseException as error:
            watch.end(error)
            raise
        watch.end(None)

    def close(self: Any) -> None:
        try:
            origin.close(self)
        finally:
            _cut(self)

    return {"__init__": __init__, "__stream__": __stream__, "close": close}


def _async_methods(origin: Any) -> dict[str, Any]:
    def __init__(self: Any, **kwargs: Any) -> None:  # noqa: N807
        origin.__init__(self, **kwargs)
        _keep(self)

    async def __stream__(self: Any) -> AsyncIterator[Any]:  # noqa: N807
        watch: Watch | None = self.response.extensions.get(KEY)
        if watch is None:
            async for event in origin.__stream__(self):
                yield event
            return
        watch.begun = True
        see = watch.see
        try:
            async for event in origin.__stream__(self):
                shown = see(event)
                if watch.short:
                    await _agrow(self, watch)
                if shown:
                    # From here until he asks for more the caller has the event, and time to spend on it.
                    handed_ns = watch.handed_ns = monotonic_ns()
                    yield event
                    watch.callers_ns += monotonic_ns() - handed_ns
                    watch.handed_ns = None
        except BaseException as error:
            watch.end(error)
            raise
        watch.end(None)

    async def close(self: Any) -> None:
        try:
            await origin.close(self)
        finally:
            _cut(self)

    return {"__init__": __init__, "__stream__": __stream__, "close": close}


def _grow(stream: Any, watch: Watch) -> None:
    try:
        watch.grow()
    except Stopped as error:
        watch.end(error)
        stream.response.close()
        raise


async def _agrow(stream: Any, watch: Watch) -> None:
    try:
        await watch.agrow()
    except Stopped as error:
        watch.end(error)
        await stream.response.aclose()
        raise


def _keep(stream: Any) -> None:
    watch: Watch | None = stream.response.extensions.get(KEY)
    if watch is not None:
        weakref.finalize(stream, watch.dropped)


def _cut(stream: Any) -> None:
    watch: Watch | None = stream.response.extensions.get(KEY)
    if watch is not None:
        watch.end(GeneratorExit())
