"""What the window remembers of one conversation: where it was cut, and when a cut is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.guards.cuts import NOTE_TOKENS, WHOLE, Cut, Gaps, find_cut, fixed_cut, low_water, spell_out
from bursar.words.money import nano_from_pico

if TYPE_CHECKING:
    from bursar.guards.history import History
    from bursar.guards.window import ContextWindow

REFILL_STEPS: Final = 3
REFILLS: Final = 3
"""So many cuts in a row, each used up within so many steps: what fills the window is not what can be left out."""
LEAST_CLEARED: Final = 0.1
"""The share of the trigger that has to be gained where results are all that may be cleared."""
_SCALES: Final = (0.5, 4.0)


class Trim(NamedTuple):
    """A cut that was made. Tokens are of the request, as the provider counts where it has counted before.

    before, after: the request without and with it. dropped: before - after. messages, results: how many were dropped,
    and cleared. tail: what stands behind the first change, and has to be written to the cache anew. forgotten: ids of
    the tool calls whose results the model no longer sees. trigger: what the request exceeded. cold: made because the
    cache had expired.
    """

    before: int
    after: int
    messages: int
    results: int
    tail: int
    trigger: int
    forgotten: frozenset[str]
    cold: bool = False

    @property
    def dropped(self) -> int:
        """Tokens that are no longer sent."""
        return self.before - self.after

    def rewrite_nusd(self, write_pico: int) -> int:
        """Nano-dollars of writing the tail to the cache, at pico-dollars a token; rounded up."""
        return nano_from_pico(self.tail * write_pico)

    def break_even(self, read_pico: int, write_pico: int) -> int | None:
        """After how many further steps the cut has paid for itself: `(w - r) / r * tail / dropped`.

        0 where the prefix was not cached anyway; None where reads are free, or nothing was dropped.
        """
        if self.cold or write_pico <= read_pico:
            return 0
        if read_pico <= 0 or self.dropped <= 0:
            return None
        return ceil((write_pico - read_pico) * self.tail / (read_pico * self.dropped))


@dataclass(slots=True)
class WindowState:
    """The memory of one conversation: plain data of a fixed size, whatever the length of the conversation.

    `drop_to`, `clear_to`, `asked`: the cut, each with the id of the message there. `messages`, `tokens`: what was
    dropped in all. `summary` stands for it. `scale`: tokens of the provider for one of the estimate, as last seen.
    `step` counts requests, `length` and `total` are of the last one, `cut_at` the step of the last cut, `refills` how
    many in a row were used up at once, `last_us` when the last request was made.
    """

    drop_to: int = 0
    drop_id: str = ""
    clear_to: int = 0
    clear_id: str = ""
    asked: int = -1
    asked_id: str = ""
    messages: int = 0
    tokens: int = 0
    summary: str = ""
    summary_tokens: int = 0
    scale: float = 1.0
    step: int = 0
    length: int = 0
    total: int = 0
    cut_at: int = 0
    refills: int = 0
    last_us: int | None = None
    _gaps: Gaps = field(default=WHOLE, repr=False, compare=False)

    def dump(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "_gaps"}

    @classmethod
    def load(cls, data: dict[str, Any]) -> WindowState:
        """The state that `dump` gave."""
        return cls(**data)

    @property
    def thrashing(self) -> bool:
        """Whether cuts were used up as soon as they were made; no more are made then."""
        return self.refills >= REFILLS

    def gaps(self, history: History) -> Gaps:
        """What is left out of this history by the cut that was made."""
        drop_to = self._found(history, self.drop_to, self.drop_id)
        if drop_to is None:
            self._forget()
            return WHOLE
        clear_to = self._found(history, self.clear_to, self.clear_id)
        asked = self._found(history, self.asked, self.asked_id)
        cut = Cut(drop_to, drop_to if clear_to is None else clear_to, -1 if asked is None else asked)
        if cut == Cut():
            return WHOLE
        if self._gaps.cut != cut:
            self._gaps = spell_out(history, cut)
        return self._gaps

    def advance(
        self, history: History, window: ContextWindow, trigger: int, fixed: int, now_us: int | None = None
    ) -> Trim | None:
        """Take in the history of the next request and cut it where it is due; says so when it did.

        `fixed` are tokens that are sent beside the messages. Without a time no pause is known.
        """
        gaps = self.gaps(history)
        paused = now_us is not None and self.last_us is not None
        cold = paused and now_us - self.last_us > window.life_us()  # type: ignore[operator]
        noted = fixed + self.note_tokens()
        total = noted + history.tokens() - gaps.tokens
        growth = max(0, total - self.total)
        if len(history) != self.length:
            self.step += 1
        first = self.length == 0
        self.length, self.total, self.last_us = len(history), total, now_us
        limit = int(trigger / self.scale)
        due = total > limit
        if self.thrashing or not (due or (cold and total + growth > limit)):
            return None
        refilled = window.strategy != "slide" and 0 < self.step - self.cut_at <= REFILL_STEPS and self.cut_at > 0
        if refilled and self.refills == REFILLS - 1:
            self.refills = REFILLS
            return None
        if first and gaps is WHOLE:
            # Nothing is known of a conversation that is long already: the cut that anybody would find.
            cut = fixed_cut(history, window, limit, noted)
        else:
            low = low_water(window, limit, noted + history.tokens(0, history.head()))
            cut = find_cut(history, len(history), window, low, noted, gaps.cut)
        # Clearing alone never makes much room again: a little at every step would be sliding.
        least = limit * LEAST_CLEARED if window.strategy == "clear_results" else 0
        trim = self._cut(history, cut, gaps, Trim(total, 0, 0, 0, 0, trigger, frozenset(), bool(cold)), least)
        if trim is not None:
            self.refills = self.refills + 1 if refilled else 0
            self.cut_at = self.step
        return trim

    def note_tokens(self) -> int:
        """Tokens of what stands for the messages that were dropped."""
        return (NOTE_TOKENS if self.messages else 0) + self.summary_tokens

    def observe(self, estimate: int, input_tokens: int) -> None:
        """Take in what the provider counted for a request of this estimate."""
        if estimate > 0 and input_tokens > 0:
            self.scale = min(_SCALES[1], max(_SCALES[0], input_tokens / estimate))

    def summarised(self, summary: str, tokens: int) -> None:
        """Take in the summary of what was dropped."""
        self.summary, self.summary_tokens = summary, tokens

    def _cut(self, history: History, cut: Cut, before: Gaps, trim: Trim, least: float) -> Trim | None:
        gaps = spell_out(history, cut)
        gained = gaps.tokens - before.tokens
        if gained <= 0 or gained < least:
            return None
        noted = self.note_tokens()
        self._gaps = gaps
        self.messages += gaps.messages - before.messages
        self.tokens += gaps.dropped_tokens - before.dropped_tokens
        self.drop_to, self.drop_id = cut.drop_to, _id(history, cut.drop_to)
        self.clear_to, self.clear_id = cut.clear_to, _id(history, cut.clear_to)
        self.asked, self.asked_id = cut.asked, _id(history, cut.asked)
        after = trim.before - gained + self.note_tokens() - noted
        self.total = after
        if gaps.messages != before.messages:
            tail = history.tokens(history.head()) - gaps.tokens + self.note_tokens()
        else:
            first = min(set(gaps.cleared) - set(before.cleared))
            tail = history.tokens(first) - sum(history.items[i].clearable for i in gaps.cleared if i >= first)
        return trim._replace(
            before=round(trim.before * self.scale),
            after=round(after * self.scale),
            messages=gaps.messages - before.messages,
            results=len(gaps.cleared) - len(before.cleared),
            tail=round(tail * self.scale),
            forgotten=gaps.results - before.results,
        )

    def _found(self, history: History, at: int, id_: str) -> int | None:
        return history.find(id_, at) if id_ else at

    def _forget(self) -> None:
        # Another conversation, or one that was rewritten: what was cut of it is not known.
        self.drop_to, self.drop_id, self.clear_to, self.clear_id, self.asked, self.asked_id = 0, "", 0, "", -1, ""
        self.messages = self.tokens = self.summary_tokens = self.length = self.cut_at = self.refills = 0
        self.summary, self._gaps = "", WHOLE


def _id(history: History, at: int) -> str:
    return history.items[at].id if 0 <= at < len(history) else ""
