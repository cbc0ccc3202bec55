"""The context window on a wrapped client: the body of a call is trimmed before its size is estimated.

A plan is made when an operation begins and is carried out when its first attempt is opened, since a summary has to be
asked for in between. Retries send the same bytes again.
"""

from __future__ import annotations

import contextvars
import warnings
from contextlib import contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.histories import Reading, read_item
from bursar.clients.requests import with_cap, without_tool_use
from bursar.clients.summaries import INSTRUCTION, Apart, at_once, summary_cap, worded
from bursar.clients.trim import WindowMemory, take_summary, trigger_of
from bursar.clients.trimming import apply, note_text
from bursar.clients.window_notes import failed_note, thrash_note, trim_note, window_note
from bursar.clients.words import said
from bursar.guards.cuts import WHOLE
from bursar.tracing.redact import redact
from bursar.words.errors import BursarWarning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from bursar.flow.call import Call
    from bursar.guards.cuts import Gaps
    from bursar.guards.window import ContextWindow
    from bursar.guards.window_state import Trim
    from bursar.runs.context import ContextMemory
    from bursar.runs.process import Process
    from bursar.words.events import ModelRequest

    Read = Callable[[Any], ModelRequest]

MESSAGES_IN: Final = {"messages": "messages", "chat": "messages", "responses": "input"}
_NOT_FOR_A_SUMMARY: Final = frozenset(
    {"stream", "stream_options", "n", "logprobs", "top_logprobs", "response_format", "output_format", "text", "stop"}
    | {"stop_sequences", "max_tokens", "max_completion_tokens", "max_output_tokens", "parallel_tool_calls", "store"}
)
_summarising: contextvars.ContextVar[bool] = contextvars.ContextVar("bursar_summarising", default=False)


class Plan:
    """What the window makes of one call: its body, its size, what is said of it, and what the next sizes follow."""

    def __init__(
        self, call: Call, body: dict[str, Any], read: Read, memory: WindowMemory, window: ContextWindow
    ) -> None:
        self.call, self.body, self.memory, self.window = call, body, memory, window
        self._read = read
        self.made: Trim | None = None
        self._seen: dict[str, Any] | None = None

    def take(self, trigger: int, now_us: int) -> Gaps:
        """Take in the messages and cut them where that is due."""
        call, memory, window = self.call, self.memory, self.window
        name, state = MESSAGES_IN[call.request.api], memory.state
        messages, script = self.body[name], call.request.transcript
        reading = memory.reading = memory.reading or Reading(window.pin)
        history = reading.take(messages, script.marks)
        before = state.gaps(history)
        old_note = note_text(state) if state.messages else None
        self.made = state.advance(history, window, trigger, script.fixed_tokens, now_us)
        if self.made is not None and window.strategy == "summarise" and not call.frame.observe:
            whole = apply(messages, history, before, old_note, call.request.api)
            dropped = whole[: len(whole) - (len(messages) - state.drop_to)]
            self._seen = {**self.body, name: whole if isinstance(window.summarise, str) else dropped}
        return state.gaps(history)

    def finish(self) -> None:
        """Put the messages that are sent into the body and measure them anew."""
        call, state = self.call, self.memory.state
        name, reading = MESSAGES_IN[call.request.api], self.memory.reading
        assert reading is not None
        gaps = state.gaps(reading.history)
        call.window, call.window_estimate = state, state.total
        if gaps is WHOLE or call.frame.observe:
            return
        note = note_text(state) if state.messages else None
        sent = apply(self.body[name], reading.history, gaps, note, call.request.api)
        call.body = {**self.body, name: sent}
        call.trimmed_tokens = round(gaps.tokens * state.scale)
        call.request = self._read(call.body)

    @property
    def summarises(self) -> bool:
        """Whether a summary has to be made before the call can be sent."""
        return self._seen is not None

    def summarise(self, ask: Callable[[dict[str, Any]], Any] | None) -> None:
        """Have the summary made; `ask` sends a body and returns the answer. What fails leaves the note alone."""
        seen, self._seen = self._seen, None
        assert seen is not None
        with Apart(self.call.frame.run, self._failed), _untrimmed():
            summary = at_once(self._asked_of_function(seen), "async clients")
            if summary is None and ask is not None:
                summary = self._text(ask(self._question(seen)))
            take_summary(self.memory.state, summary)
        self.finish()

    async def asummarise(self, ask: Callable[[dict[str, Any]], Awaitable[Any]] | None) -> None:
        """As `summarise`, awaiting."""
        seen, self._seen = self._seen, None
        assert seen is not None
        with Apart(self.call.frame.run, self._failed), _untrimmed():
            summary = self._asked_of_function(seen)
            if summary is None and ask is not None:
                summary = self._text(await ask(self._question(seen)))
            elif isawaitable(summary):
                summary = await summary
            take_summary(self.memory.state, summary)
        self.finish()

    def _asked_of_function(self, seen: dict[str, Any]) -> Any:
        summarise = self.window.summarise
        return summarise(list(seen[MESSAGES_IN[self.call.request.api]])) if callable(summarise) else None

    def _question(self, seen: dict[str, Any]) -> dict[str, Any]:
        # On the cached prefix: the same body, tools and all, with a question at its end.
        request, name = self.call.request, MESSAGES_IN[self.call.request.api]
        body = {key: value for key, value in seen.items() if key not in _NOT_FOR_A_SUMMARY}
        body[name] = [*seen[name], {"role": "user", "content": INSTRUCTION}]
        if self.window.summarise != "same":
            body["model"] = self.window.summarise
        body = with_cap(request.api, body, summary_cap(request))
        # With Anthropic another tool_choice is another prefix: there the words have to do.
        return body if request.api == "messages" else without_tool_use(request.api, body)

    def _text(self, answer: Any) -> str:
        said_by_it = (part.text for part in said(self.call.request.api, answer) if part.role == "assistant")
        return worded("\n".join(said_by_it))

    def _failed(self, error: Exception) -> None:
        # The last summary, if there was one, still says more than nothing.
        self.call.notes += (failed_note(self.call.frame, error, self.call.op_id),)


@contextmanager
def _untrimmed() -> Iterator[None]:
    """What is asked here is trimmed by no window."""
    token = _summarising.set(True)
    try:
        yield
    finally:
        _summarising.reset(token)


def plan(call: Call, body: Any, read: Read, owner: Process) -> None:
    """Plan what the window of the call's frame makes of it; carried out at once where no summary is needed.

    Never raises: a defect of ours must not stop a run, and is said.
    """
    if call.frame.context is None or _summarising.get():
        return
    try:
        _plan(call, body, read, owner, call.frame.context)
    except Exception as error:  # noqa: BLE001 - the window is a help; the call itself is what the caller wants
        what = redact(f"{type(error).__name__}: {error}")
        warnings.warn(f"messages could not be trimmed ({what}). Please report this.", BursarWarning, stacklevel=4)


def take_plan(call: Call) -> Plan:
    """The plan of a call that waits for a summary, once."""
    planned, call.plan = call.plan, None
    assert isinstance(planned, Plan)
    return planned


def _plan(call: Call, body: Any, read: Read, owner: Process, context: ContextMemory) -> None:
    name = MESSAGES_IN.get(call.request.api, "")
    if not isinstance(body, dict) or not isinstance(body.get(name), list):
        return
    now_us = owner.world.clock.wall_us()
    if call.request.api == "responses" and (body.get("previous_response_id") or body.get("conversation")):
        with context.lock:
            if context.first("server_history"):
                what = (
                    "the conversation is stored by the provider: what it adds cannot be trimmed here. To trim it, send "
                    "the whole input without previous_response_id, or set truncation='auto'"
                )
                call.notes += (window_note(call.frame, "skip", what, call.op_id),)
        return
    request = call.request
    card = owner.world.prices.card(request.provider, request.model, day=owner.world.clock.today())
    window = context.window
    trigger = trigger_of(window, card)
    if trigger is None or len(request.transcript.marks) != len(body[name]):
        return
    with context.lock:
        memory: WindowMemory = context.of(_first_user(body[name]), WindowMemory)
        planned = Plan(call, body, read, memory, window)
        thrashing = memory.state.thrashing
        planned.take(trigger, now_us)
        if planned.made is not None:
            memory.last = planned.made
            call.forgotten = planned.made.forgotten
            life = call.request.cache_write
            call.notes += (trim_note(call.frame, planned.made, window.strategy, card, life, call.op_id),)
        elif memory.state.thrashing and not thrashing:
            call.notes += (thrash_note(call.frame, call.op_id),)
        if planned.summarises:
            call.plan = planned
        else:
            planned.finish()


def _first_user(messages: list[Any]) -> str:
    for message in messages:
        item = read_item(message)
        if item.role == "user":
            return item.id
    return ""
