"""`bursar.trim`: the context window as a function of messages, for loops that send them by other ways."""

from __future__ import annotations

from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from bursar.clients.histories import Reading
from bursar.clients.trimming import apply, note_text
from bursar.guards.cuts import NOTE_TOKENS, SUMMARY_TOKENS, fixed_cut, spell_out
from bursar.guards.window import ContextWindow
from bursar.guards.window_state import Trim, WindowState
from bursar.pricing.rates import PriceList, find_provider
from bursar.pricing.tokens import COUNTER
from bursar.words.clock import CLOCK
from bursar.words.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from bursar.pricing.rates import RateCard

M = TypeVar("M")
_prices: Final = PriceList()


class WindowMemory:
    """What `bursar.trim` remembers of one conversation: its cut, and what was read of it.

    `dump` gives the cut as plain data for JSON, `WindowMemory.load` takes it back. `last` is the last cut that was
    made, with its numbers.
    """

    def __init__(self, state: WindowState | None = None) -> None:
        self.state = state or WindowState()
        self.last: Trim | None = None
        self.reading: Reading | None = None

    def dump(self) -> dict[str, Any]:
        """Plain data, of a fixed size whatever the length of the conversation."""
        return self.state.dump()

    @classmethod
    def load(cls, data: dict[str, Any]) -> WindowMemory:
        """The memory that `dump` gave."""
        return cls(WindowState.load(data))

    def observe(self, input_tokens: int) -> None:
        """Take in how many tokens the provider counted for the last request: estimates follow it from then on."""
        self.state.observe(self.state.total, input_tokens)


def trim(
    messages: Sequence[M],
    window: ContextWindow | None = None,
    *,
    model: str | None = None,
    fixed_tokens: int = 0,
    memory: WindowMemory | None = None,
) -> list[M]:
    """Leave out of `messages` what the window does not hold; those given are not changed.

    The forms of chat completions, Anthropic's Messages, Responses and LangChain are told by their shape. `model` names
    the model whose window and price tiers count; `fixed_tokens` is what is sent beside the messages (Anthropic's
    `system`, schemas of tools). With a `memory` each message is read once and a cut stays until the next one is due;
    without, the whole history is read and cut at fixed steps of its length, so that calls with the same history
    growing find the same cut. Give the whole history each time.

    Raises `ConfigError` where nothing says how long the messages may be, or where a summary cannot be made: that
    needs a `memory` and a plain function.
    """
    window = window or ContextWindow()
    card = None if model is None else _card(model, CLOCK.today())
    trigger = _trigger(window, card, model)
    if window.strategy == "summarise" and (
        memory is None or not callable(window.summarise) or iscoroutinefunction(window.summarise)
    ):
        raise ConfigError(
            f"trim() with summarise={window.summarise!r}: here it needs memory=WindowMemory() and a plain function of "
            "the messages; a model is asked by a client of bursar.wrap(...) inside a run with this window"
        )
    if memory is None:
        return _by_the_grid(messages, window, trigger, fixed_tokens)
    cut = Cutting(messages, window, memory)
    cut.advance(trigger, fixed_tokens, CLOCK.wall_us())
    if cut.made is not None and callable(window.summarise):
        take_summary(memory.state, window.summarise(list(cut.dropped())))
    return cut.sent()


class Cutting(Generic[M]):
    """One request on its way through a window that remembers: cut where that is due, summed up, and made anew.

    `made` is the cut that was made for it, None where the last one holds.
    """

    def __init__(
        self, messages: Sequence[M], window: ContextWindow, memory: WindowMemory, form: str | None = None
    ) -> None:
        self._messages, self._window, self._memory, self._form = messages, window, memory, form
        memory.reading = memory.reading or Reading(window.pin)
        self._history = memory.reading.take(messages)
        self.gaps = self._before = memory.state.gaps(self._history)
        self._old_note = _note(memory.state)
        self.made: Trim | None = None

    def advance(self, trigger: int, fixed: int, now_us: int) -> None:
        """Take in the request and cut it where that is due; `fixed` tokens are sent beside the messages."""
        memory = self._memory
        self.made = memory.state.advance(self._history, self._window, trigger, fixed, now_us)
        if self.made is not None:
            memory.last = self.made
        self.gaps = memory.state.gaps(self._history)

    def before(self) -> list[M]:
        """What would have been sent without the cut: the provider's cache has all of it but the end."""
        return apply(self._messages, self._history, self._before, self._old_note, self._form)

    def dropped(self) -> list[M]:
        """What was sent of the messages that are left out from now on."""
        return apply(self._messages[: self._memory.state.drop_to], self._history, self._before, self._old_note)

    def sent(self) -> list[M]:
        """The messages that are sent."""
        return apply(self._messages, self._history, self.gaps, _note(self._memory.state), self._form)


def _note(state: WindowState) -> str | None:
    return note_text(state) if state.messages else None


def take_summary(state: WindowState, text: object) -> None:
    """Let a summary stand for what was dropped, cut to a length that cannot fill the window anew."""
    summary = (text if isinstance(text, str) else str(text)).strip()[: SUMMARY_TOKENS * 8]
    state.summarised(summary, COUNTER.measure(summary).tokens if summary else 0)


def _by_the_grid(messages: Sequence[M], window: ContextWindow, trigger: int, fixed: int) -> list[M]:
    if not COUNTER.ready:
        # What is estimated now and counted later would move the cut in between.
        COUNTER.count("the ranks are loaded by the first text that is counted")
    history = Reading(window.pin).take(messages)
    cut = fixed_cut(history, window, trigger, fixed + NOTE_TOKENS)
    if not cut.drop_to and not cut.clear_to:
        return list(messages)
    gaps = spell_out(history, cut)
    noted = WindowState(messages=gaps.messages, tokens=gaps.dropped_tokens)
    return apply(messages, history, gaps, note_text(noted) if gaps.messages else None)


@lru_cache(maxsize=64)
def _card(model: str, day: date) -> RateCard | None:
    provider = find_provider(model)
    return None if provider is None else _prices.card(provider, model, day=day)


def _trigger(window: ContextWindow, card: RateCard | None, model: str | None) -> int:
    trigger = trigger_of(window, card)
    if trigger is None:
        raise ConfigError(
            f"trim() with model={model!r} and no tokens: nothing says how long the messages may be. Write "
            "ContextWindow(tokens=120_000), or name a model that `bursar prices` knows"
        )
    return trigger


def trigger_of(window: ContextWindow, card: RateCard | None) -> int | None:
    """The input tokens above which a window cuts what this model is sent; None where nobody knows."""
    return window.trigger(None) if card is None else window.trigger(card.max_input_tokens, _dearer_tiers(card))


def _dearer_tiers(card: RateCard) -> list[int]:
    # The input tokens above which a model costs more than below.
    return [above for above, rates in card.tiers if rates.input > card.base.input]
