"""The server: a thread with an event loop that listens on loopback."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable

from bursar.testing.connection import (
    HEAD_LIMIT_BYTES,
    Connection,
    HttpRequest,
    MalformedRequestError,
    read_head,
    read_request,
)

_HOST = "127.0.0.1"
_BACKLOG = 512
_QUIET_CHECKS = 3
_CHECK_S = 0.001

_log = logging.getLogger("bursar.testing")

Handler = Callable[[HttpRequest, Connection], Awaitable[None]]


class Server:
    """Hands each request to `handler`; requests of one connection in turn, of several at once."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self._handler = handler
        self._port = port
        self._reading = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._listening = threading.Event()
        self._failure: OSError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="bursar-testing-provider", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    def start(self) -> None:
        """Returns when it listens; raises OSError when the port cannot be had."""
        self._thread.start()
        self._listening.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Drops every connection and returns when the thread has ended."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def wait_quiet(self, busy: Callable[[], bool], timeout_s: float) -> None:
        """Returns when no request is arriving and `busy()` is false; TimeoutError after `timeout_s`."""
        if self._loop is None:
            raise RuntimeError("the provider is not running")
        watch = asyncio.wait_for(self._quiet(busy), timeout_s)
        asyncio.run_coroutine_threadsafe(watch, self._loop).result()

    async def _quiet(self, busy: Callable[[], bool]) -> None:
        quiet = 0
        # Several looks: a request that has reached the socket shows only after the loop has turned.
        while quiet < _QUIET_CHECKS:
            await asyncio.sleep(_CHECK_S)
            quiet = 0 if self._reading or busy() else quiet + 1

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except OSError as error:
            self._failure = error
        finally:
            self._listening.set()

    async def _listen(self) -> None:
        listener = await asyncio.start_server(
            self._connected, _HOST, self._port, limit=HEAD_LIMIT_BYTES, backlog=_BACKLOG
        )
        self._port = listener.sockets[0].getsockname()[1]
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._listening.set()
        await self._stop.wait()
        listener.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            # Cancelled only by `_listen`, on the way out; passed on, asyncio would report it as an error.
            writer.transport.abort()
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        while not connection.gone:
            try:
                request = await self._next_request(reader)
            except MalformedRequestError as error:
                await connection.send_json(400, {"error": {"message": str(error)}}, {"connection": "close"})
                return
            if request is None:
                return
            await self._handle(request, connection)
            if not request.keeps_alive:
                return

    async def _next_request(self, reader: asyncio.StreamReader) -> HttpRequest | None:
        head = await read_head(reader)
        if head is None:
            return None
        self._reading += 1
        try:
            return await read_request(head, reader)
        finally:
            self._reading -= 1

    async def _handle(self, request: HttpRequest, connection: Connection) -> None:
        try:
            await self._handler(request, connection)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001
            # A request that the provider cannot cope with must not take the other clients down with it.
            _log.exception("%s %s failed in the provider", request.method, request.path)
            connection.reset()
