"""What a stream says as it goes by: its words, its usage, its calls; and the answer that it amounts to, once."""

from __future__ import annotations

import sys
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.answers import USAGES, not_nothing, of_message
from bursar.clients.asked import Streamed
from bursar.clients.failures import of_error
from bursar.clients.usage import fields, get, word
from bursar.flow.unmeasured import CHUNK_TOKENS
from bursar.pricing.estimate import COLD_FACTOR
from bursar.pricing.tokens import COUNTER
from bursar.words.clock import monotonic_ns
from bursar.words.errors import Stopped
from bursar.words.events import Answer, RetryReason, Status, UsageSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.clients.echoes import Echo
    from bursar.clients.growth import Growth
    from bursar.clients.wire import Listener
    from bursar.words.events import ModelRequest

UNREAD_TOKENS_S: Final = 400
"""Tokens a second that a provider may write ahead of a slow reader: above what the vendors' own models do today."""

_NEVER: Final = sys.maxsize


class Watch:
    """What one stream has said so far. `done` is called once, with the answer that it amounts to."""

    def __init__(
        self,
        request: ModelRequest,
        done: Callable[[Answer], None],
        now_us: Callable[[], int],
        *,
        started_us: int,
        request_id: str | None = None,
        hide_usage: bool = False,
        orphan: Callable[[Callable[[], None]], None],
        hear: Callable[[Any], None] | None = None,
        growth: Growth | None = None,
        echo: Echo | None = None,
    ) -> None:
        self._request, self._done, self._now_us = request, done, now_us
        self._request_id, self._hide_usage, self._orphan = request_id, hide_usage, orphan
        self._growth, self._echo = growth, echo
        self._started_us = started_us
        self._ttft_us: int | None = None
        self.handed_ns: int | None = None
        self.callers_ns = 0
        self._body: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._pieces: list[str] = []
        self._length = self._mark = 0
        self._calls = 0
        self._asked = Streamed()
        self._finished = self._complete = self._failed = False
        self._seen = self._concluded = False
        self._whole_at: int | None = None
        self._hear, self._read = hear, self._reader(request.api)
        self.see = self._quick(request.api) if hear is None else self._see
        """Takes in one event; False where the caller did not ask for it and must not see it."""
        self.begun = False
        """Whether its typed events pass by, so that its end is seen and nobody need listen to its bytes."""
        self.short = False
        """Whether it cannot just go on: then `grow` (`agrow`) is to be called before the caller gets what came."""
        self.ear: Listener | None = None

    def grow(self) -> None:
        """Hold more. Raises `BudgetExceeded`, or `LoopDetected` for what repeats itself: it is to be closed then."""
        if self._echo is not None and self._echo.loud:
            self._echo.cut()
        if self._growth is not None and self._growth.short:
            self._growth.grow()
        self._look()

    async def agrow(self) -> None:
        """As `grow`, on an event loop."""
        if self._echo is not None and self._echo.loud:
            await self._echo.acut()
        if self._growth is not None and self._growth.short:
            await self._growth.agrow()
        self._look()

    def take_whole(self, body: dict[str, Any]) -> None:
        """Take in an answer that is no stream, whose bytes the caller has read himself."""
        usage = body.get("usage")
        self._body, self._usage = body, usage if isinstance(usage, dict) else {}
        self._seen = self._complete = True

    def end(self, error: BaseException | None) -> None:
        """Conclude: the stream was read to its end (`error` None), cut, or failed."""
        if self._concluded:
            return
        self._concluded = True
        if self.handed_ns is not None:
            self.callers_ns += monotonic_ns() - self.handed_ns
            self.handed_ns = None
        self._done(self._answer(error))

    def closed(self) -> None:
        """Conclude a response that was closed by the caller: before a word was read through us, or between two."""
        asked = self.handed_ns is None if self.begun else self.ear is not None and self.ear.busy
        if not asked:
            self.end(GeneratorExit())

    def dropped(self) -> None:
        """Hand the watch over for concluding: nobody holds the stream any more."""
        if not self._concluded:
            self._orphan(lambda: self.end(GeneratorExit()))

    def _answer(self, error: BaseException | None) -> Answer:
        # A count that was followed by more of the answer is not of the whole.
        if self._complete and self._whole_at in (None, self._length):
            whole = of_message(self._request.api, {**self._body, "usage": self._usage or None}, self._request_id)
            if self._length and self._request.api != "completions":
                whole = not_nothing(whole)
            calls, asked = max(whole.tool_calls, self._calls), whole.asked or self._asked.asks()
            return whole._replace(ttft_us=self._ttft_us, tool_calls=calls, asked=asked)
        if error is None:
            # It ended and did not say so: what it said of its usage on the way is not the whole.
            whole = of_message(self._request.api, {**self._body, "usage": None}, self._request_id)
            status = Status.ERROR if self._failed else whole.status
            return whole._replace(status=status, ttft_us=self._ttft_us, tool_calls=self._calls)
        ended = of_error(error)
        if isinstance(error, GeneratorExit | Stopped):
            by_us = isinstance(error, Stopped)
            ended = ended._replace(status=Status.BLOCKED if by_us else Status.ABANDONED, retry_reason=None)
        else:
            ended = ended._replace(retry_reason=ended.retry_reason or RetryReason.CONNECTION)
        partial = USAGES[self._request.api](self._usage)
        read = COUNTER.measure("".join(self._pieces)).tokens
        hidden = self._request.reasoning or self._request.summed or self._request.helpers
        return ended._replace(
            usage=partial.usage,
            side=partial.side,
            region=word(get(self._usage, "inference_geo")),
            tier_served=word(get(self._usage, "service_tier")) or word(get(self._body, "service_tier")),
            speed=word(get(self._usage, "speed")),
            usage_source=UsageSource.STREAM_PARTIAL,
            output_read=read,
            output_seen=self._output_seen(read),
            # Hidden thinking, a summary of the context and other models are billed and never seen, an unread answer may
            # be written in full: only the bound is sure to cover them.
            charge="bound" if hidden or not self._seen else "seen",
            response_id=get(self._body, "id"),
            response_model=get(self._body, "model"),
            request_id=self._request_id,
            tool_calls=self._calls,
            ttft_us=self._ttft_us,
            flags=() if self._seen or self.begun else ("unread",),
            retryable=False,
        )

    def _output_seen(self, read: int) -> int:
        # Behind the last chunk comes one that may be as large as the largest so far.
        largest = COUNTER.measure(max(self._pieces, key=len, default="")).tokens
        factor = COLD_FACTOR.get(self._request.provider, 2.0)
        # And while the caller was busy with what he had, the provider went on writing.
        unread = self.callers_ns * UNREAD_TOKENS_S // 1_000_000_000
        return ceil(read * factor) + max(0, ceil(largest * factor) - CHUNK_TOKENS) + unread

    def _say(self, text: Any, *, words: bool = True) -> None:
        if isinstance(text, str) and text:
            self._pieces.append(text)
            self._length += len(text)
            if self._length > self._mark:
                self._note(text, words=words)

    def _note(self, text: str, *, words: bool = True) -> None:
        """What is to be done at the first text, for each where it is listened to, and when the hold may be used up."""
        if self._ttft_us is None:
            self._ttft_us = self._now_us() - self._started_us
        growth = self._growth
        if growth is not None:
            growth.said(self._pieces, self._length)
        if self._echo is not None:
            if words:
                self._echo.said(text)
        else:
            self._mark = _NEVER if growth is None else growth.look_at
        self._look()

    def _look(self) -> None:
        self.short = (self._growth is not None and self._growth.short) or (self._echo is not None and self._echo.loud)

    def _quick(self, api: str) -> Callable[[Any], bool]:
        """What nearly all events are, a piece of text in the SDK's own types, goes past all questions."""
        quick = {"messages": self._quick_messages, "chat": self._quick_chat, "responses": self._quick_responses}
        return quick.get(api, self._see)

    def _quick_messages(self, event: Any) -> bool:
        # From the dictionaries: an attribute of the SDKs' models takes several times as long.
        text = None
        try:
            told = event.__dict__
            if told["type"] == "content_block_delta":
                said = told["delta"].__dict__
                text = said["text"] if said["type"] == "text_delta" else None
        except (AttributeError, KeyError):
            text = None
        return self._take(event, text)

    def _quick_chat(self, chunk: Any) -> bool:
        text = None
        try:
            told = chunk.__dict__
            (choice,) = told["choices"]
            part = choice.__dict__
            said = part["delta"].__dict__
            ends = told["usage"] is not None or part["finish_reason"] is not None
            text = said["content"] if not ends and said["tool_calls"] is None and self._body else None
        except (AttributeError, KeyError, TypeError, ValueError):
            text = None
        return self._take(chunk, text)

    def _quick_responses(self, event: Any) -> bool:
        try:
            told = event.__dict__
            text = told["delta"] if told["type"] == "response.output_text.delta" else None
        except (AttributeError, KeyError):
            text = None
        return self._take(event, text)

    def _take(self, event: Any, text: Any) -> bool:
        if text.__class__ is not str or not self._seen:
            return self._see(event)
        self._pieces.append(text)
        self._length += len(text)
        if self._length > self._mark:
            self._note(text)
        return True

    def _see(self, event: Any) -> bool:
        self._seen = True
        if self._hear is not None:
            self._hear(event)
        try:
            return self._read(event)
        except Exception:  # noqa: BLE001 - an event of a shape that nobody knows is the caller's to judge
            return True

    def _reader(self, api: str) -> Callable[[Any], bool]:
        if api == "messages":
            return self._see_messages
        return self._see_chat if api in {"chat", "completions"} else self._see_responses

    def _see_messages(self, event: Any) -> bool:
        told = fields(event)
        kind = told.get("type")
        if kind == "content_block_delta":
            delta = fields(told.get("delta"))
            piece = delta.get("partial_json")
            if piece:
                self._say(piece, words=False)
                self._asked.add(told.get("index"), piece)
            else:
                self._say(delta.get("text") or delta.get("thinking"))
        elif kind == "message_start":
            message = fields(told.get("message"))
            self._body = {"id": message.get("id"), "model": message.get("model")}
            self._merge(message.get("usage"))
            usage = USAGES["messages"](self._usage).usage
            if usage is not None and self._growth is not None:
                self._growth.read(usage)
                self.short, self._mark = self._growth.short, 0
        elif kind == "content_block_start":
            self._begin_block(told.get("index"), told.get("content_block"))
        elif kind == "message_delta":
            self._body["stop_reason"] = get(told.get("delta"), "stop_reason")
            self._merge(told.get("usage"))
            self._finished = told.get("usage") is not None
            self._complete = self._finished and self._body["stop_reason"] is not None
        elif kind == "message_stop":
            self._complete = self._finished
        elif kind == "error":
            self._failed = True
        return True

    def _begin_block(self, index: Any, block: Any) -> None:
        kind = get(block, "type")
        self._calls += kind in ("tool_use", "server_tool_use")
        if kind == "server_tool_use":
            self._body.setdefault("content", []).append(block)
        if kind == "tool_use":
            self._asked.begin(index, get(block, "name"), get(block, "id"))

    def _see_chat(self, chunk: Any) -> bool:
        told = fields(chunk)
        if "id" not in self._body:
            self._body |= {"id": told.get("id"), "model": told.get("model")}
        tier, choices, usage = told.get("service_tier"), told.get("choices"), told.get("usage")
        if tier is not None:
            self._body["service_tier"] = tier
        if choices:
            for choice in choices:
                self._see_choice(choice)
        elif told.get("error") is not None:
            self._failed = True
        if usage is None:
            return True
        self._merge(usage)
        # Some servers write a running count into every chunk: it is the whole only at the end.
        self._complete, self._whole_at = self._finished or not choices, self._length
        return bool(choices) or not self._hide_usage

    def _see_choice(self, choice: Any) -> None:
        told = fields(choice)
        delta, reason = fields(told.get("delta")), told.get("finish_reason")
        # What some servers call the thinking that they bill is in no field of the SDK's own.
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        self._say(delta.get("content") or delta.get("refusal") or told.get("text") or thought)
        for call in delta.get("tool_calls") or ():
            self._see_call((told.get("index"), get(call, "index")), call)
        if reason is not None:
            self._body["choices"] = [{"finish_reason": reason}]
            self._finished = True

    def _see_call(self, key: tuple[Any, Any], call: Any) -> None:
        function = get(call, "function")
        if get(call, "id") is not None:
            self._calls += 1
            self._asked.begin(key, get(function, "name"), get(call, "id"))
        self._asked.add(key, get(function, "arguments"))
        self._say(get(function, "arguments"), words=False)

    def _see_responses(self, event: Any) -> bool:
        told = fields(event)
        kind = told.get("type")
        if kind == "response.created":
            response = told.get("response")
            self._body = {"id": get(response, "id"), "model": get(response, "model")}
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            response = told.get("response")
            names = ("id", "model", "status", "incomplete_details", "output", "service_tier")
            self._body = {name: get(response, name) for name in names}
            self._merge(get(response, "usage"))
            self._complete = True
        elif kind == "error":
            self._body["status"] = "failed"
        elif isinstance(kind, str) and kind.endswith(".delta"):
            self._say(told.get("delta"), words="arguments" not in kind)
        return True

    def _merge(self, usage: Any) -> None:
        # Cumulative, not additive: a later figure replaces an earlier one, a missing one does not.
        self._usage.update({name: value for name, value in fields(usage).items() if value is not None})
