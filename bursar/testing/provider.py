"""A provider on loopback: the real HTTP protocols of Anthropic and OpenAI, an honest bill, no model."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from bursar.testing.billing import ModelPrice
from bursar.testing.books import Charge, ReceivedRequest
from bursar.testing.cache import PromptCache
from bursar.testing.desk import Desk
from bursar.testing.prices import PriceList
from bursar.testing.reply import Reply, ReplyFunction
from bursar.testing.server import Server


class Provider:
    """Serves the official SDKs on 127.0.0.1 while its `with` block is open.

    `latency_s` is the time to the first byte of each answer. `replies` decides the answers; it runs on the
    server's thread and must not block. `models` adds to the price list or replaces parts of it. `inflation`
    multiplies every count of input tokens, for a tokenizer that counts more than the caller thinks.
    `port` 0 takes a free one. A batch ends `batch_delay_s` after it was made; `cut_results_after` breaks every file of
    results off behind so many bytes.
    """

    def __init__(
        self,
        latency_s: float = 0.05,
        replies: ReplyFunction | None = None,
        models: Mapping[str, ModelPrice] | None = None,
        inflation: float = 1.0,
        port: int = 0,
        batch_delay_s: float = 0.0,
        cut_results_after: int | None = None,
    ) -> None:
        self._cache = PromptCache(inflation)
        self._desk = Desk(
            latency_s,
            replies or _default_reply,
            PriceList(models),
            self._cache,
            batch_delay_s=batch_delay_s,
            cut_results_after=cut_results_after,
        )
        self._server = Server(self._desk.serve, port)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    @property
    def anthropic_url(self) -> str:
        """The `base_url` for Anthropic's clients."""
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def openai_url(self) -> str:
        """The `base_url` for OpenAI's clients."""
        return f"http://127.0.0.1:{self._server.port}/v1"

    @property
    def charges(self) -> list[Charge]:
        """The bill so far: one charge per request that reached generation, in order of billing; a copy."""
        return self._desk.books.charges

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every HTTP request so far, refused ones included, in order of arrival; a copy."""
        return self._desk.books.requests

    @property
    def billed_nusd(self) -> int:
        """The sum of the charges, in nano-dollars."""
        return sum(charge.nusd for charge in self.charges)

    @property
    def peak_in_flight(self) -> int:
        """The most generations that were in flight at once."""
        return self._desk.books.peak

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Returns when nothing is generating, answers that nobody waits for included.

        Raises TimeoutError after `timeout_s` seconds. It blocks: a coroutine calls it by `asyncio.to_thread`.
        """
        self._server.wait_quiet(lambda: self._desk.books.in_flight > 0, timeout_s)

    def reset(self) -> None:
        """Forgets charges, requests, cached prompts, stored responses, batches and files.

        Call `wait_idle` first if calls may be open: their charges come in afterwards.
        """
        self._desk.books.reset()
        self._desk.conversations.clear()
        self._desk.later.clear()
        self._cache.clear()


def _default_reply(_: ReceivedRequest) -> Reply:
    return Reply()
