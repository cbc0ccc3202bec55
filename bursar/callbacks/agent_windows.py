"""The context window in an agent: what is left out of the messages that its model is sent.

Only the request is trimmed: the agent's own state keeps all of its messages, and with them where they were cut.
"""

from __future__ import annotations

import warnings
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import HumanMessage

from bursar.callbacks.agent_requests import request_of_agent, without_tools
from bursar.clients.summaries import INSTRUCTION, Apart, at_once, summary_cap, worded
from bursar.clients.trim import Cutting, take_summary, trigger_of
from bursar.clients.window_notes import failed_note, thrash_note, trim_note
from bursar.runs.judged import Trimmed
from bursar.tracing.redact import redact
from bursar.words.errors import BursarWarning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bursar.callbacks.agent_memory import AgentMemory
    from bursar.guards.window import ContextWindow
    from bursar.runs.scoped import ScopedFrame
    from bursar.words.events import ModelRequest
    from bursar.words.records import Verdict

_SILENT: Final = "nostream"
"""LangGraph's tag for a model whose words are not part of what the agent says."""


class AgentCut:
    """What the window makes of one request of an agent."""

    def __init__(self, request: Any, memory: AgentMemory, frame: ScopedFrame) -> None:
        assert frame.context is not None
        self._request, self._memory, self._frame = request, memory, frame
        self._window: ContextWindow = frame.context.window
        self._cutting: Cutting[Any] | None = None
        self.notes: tuple[Verdict, ...] = ()

    def take(self) -> None:
        """Take in the request and cut it where that is due. Never raises: a defect of ours is said."""
        try:
            self._take()
        except Exception as error:  # noqa: BLE001 - the window is a help; the call itself is what the caller wants
            what = redact(f"{type(error).__name__}: {error}")
            warnings.warn(f"messages could not be trimmed ({what}). Please report this.", BursarWarning, stacklevel=4)

    @property
    def summarises(self) -> bool:
        """Whether a summary has to be made before the call can be sent."""
        made = None if self._cutting is None else self._cutting.made
        return made is not None and self._window.strategy == "summarise" and not self._frame.observe

    def summarise(self, ask: Callable[[Any], Any]) -> None:
        """Have the summary made; `ask` sends a request as a call of its own. What fails leaves the note alone."""
        with Apart(self._frame.run, self._failed):
            summary = at_once(self._asked_of_function(), "ainvoke and astream")
            if summary is None:
                summary = _text(ask(self._question()))
            take_summary(self._memory.window.state, summary)

    async def asummarise(self, ask: Callable[[Any], Awaitable[Any]]) -> None:
        """As `summarise`, awaiting."""
        with Apart(self._frame.run, self._failed):
            summary = self._asked_of_function()
            if summary is None:
                summary = _text(await ask(self._question()))
            elif isawaitable(summary):
                summary = await summary
            take_summary(self._memory.window.state, summary)

    def sent(self) -> tuple[list[Any], Trimmed | None]:
        """The messages that are sent, and what was left out of them."""
        cutting, state = self._cutting, self._memory.window.state
        if cutting is None:
            return list(self._request.messages), None
        if self._frame.observe:
            return list(self._request.messages), Trimmed(state, state.total, 0, frozenset())
        forgotten = frozenset[str]() if cutting.made is None else cutting.made.forgotten
        return cutting.sent(), Trimmed(state, state.total, round(cutting.gaps.tokens * state.scale), forgotten)

    def _failed(self, error: Exception) -> None:
        self.notes += (failed_note(self._frame, error),)

    def _take(self) -> None:
        request, memory, frame, window = self._request, self._memory, self._frame, self._window
        bare = request_of_agent(request.override(messages=[]))
        world = frame.owner.world
        card = world.prices.card(bare.provider, bare.model, day=world.clock.today())
        trigger = trigger_of(window, card)
        if trigger is None:
            return
        state = memory.window.state
        thrashing = state.thrashing
        cutting = Cutting(request.messages, window, memory.window, "langchain")
        cutting.advance(trigger, _fixed(bare), world.clock.wall_us())
        if cutting.made is not None:
            self.notes += (trim_note(frame, cutting.made, window.strategy, card, bare.cache_write),)
        elif state.thrashing and not thrashing:
            self.notes += (thrash_note(frame),)
        self._cutting = cutting

    def _asked_of_function(self) -> Any:
        summarise = self._window.summarise
        assert self._cutting is not None
        return summarise(list(self._cutting.dropped())) if callable(summarise) else None

    def _question(self) -> Any:
        # On the cached prefix: the same messages, tools and all, with a question at their end.
        assert self._cutting is not None
        request, summarise = self._request, self._window.summarise
        model = request.model
        changed: dict[str, Any] = {"tags": [*(model.tags or []), _SILENT]}
        if isinstance(summarise, str) and summarise != "same":
            changed[_name_field(model)] = summarise
        asked = request.override(
            messages=[*self._cutting.before(), HumanMessage(INSTRUCTION)],
            model=model.model_copy(update=changed),
            response_format=None,
        )
        read = request_of_agent(asked)
        asked = asked.override(model_settings={**request.model_settings, "max_tokens": summary_cap(read)})
        # With Anthropic another tool_choice is another prefix: there the words have to do.
        return asked if read.provider == "anthropic" else without_tools(asked, read.provider)


def _fixed(bare: ModelRequest) -> int:
    # Of a request without messages: the system prompt and the schemas of the tools.
    return bare.transcript.fixed_tokens + sum(bare.transcript.tokens)


def _name_field(model: Any) -> str:
    fields = type(model).model_fields
    name = next((name for name in ("model_name", "model") if name in fields), None)
    if name is None:
        raise ValueError(f"{type(model).__name__} has no field that names its model")
    return name


def _text(response: Any) -> str:
    message = response.result[0] if hasattr(response, "result") else response
    return worded(str(message.text))
