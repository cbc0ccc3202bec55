"""What the window says of its cuts, as verdicts for the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar.words.clock import CLOCK
from bursar.words.money import show_usd
from bursar.words.records import Verdict

if TYPE_CHECKING:
    from bursar.flow.call import Frame
    from bursar.guards.window_state import Trim
    from bursar.pricing.rates import RateCard


def window_note(frame: Frame, action: str, reason: str, op_id: str = "") -> Verdict:
    """A verdict of the window on a call; `op_id` is filled in later where the call is not begun yet."""
    verdict = Verdict(CLOCK.wall_us(), frame.run.id if frame.run else None, op_id, "window", action, reason)
    verdict.acted = not frame.observe
    return verdict


def trim_note(
    frame: Frame, made: Trim, strategy: str, card: RateCard | None, cache_write: str | None, op_id: str = ""
) -> Verdict:
    """A cut, with its numbers: tokens before and after, what the rewrite costs and after how many steps it pays.

    `cache_write` is how long what the request writes to the cache lives, as in `ModelRequest`.
    """
    parts = [f"{made.messages:,} messages dropped"] if made.messages else []
    parts += [f"{made.results:,} results cleared"] if made.results else []
    text = f"{strategy}: {', '.join(parts)}, {made.dropped:,} tokens"
    steps = nusd = None
    if card is not None:
        rates = card.at(made.after)
        write = getattr(rates, f"cache_write_{cache_write}") if cache_write else rates.input
        steps, nusd = made.break_even(rates.cache_read, write), made.rewrite_nusd(write)
        pays = "never pays" if steps is None else f"pays after {steps:,} steps" if steps else "pays at once"
        text += f"; {made.tail:,} tokens written anew for {show_usd(nusd)}, {pays}"
    verdict = window_note(frame, "trim", text, op_id)
    verdict.unit, verdict.limit, verdict.needed, verdict.settled = "input_tokens", made.trigger, made.before, made.after
    verdict.held, verdict.tokens, verdict.nusd, verdict.pays_after = 0, made.dropped, nusd, steps
    return verdict


def thrash_note(frame: Frame, op_id: str = "") -> Verdict:
    """No more cuts are made: what fills the window is not what can be left out."""
    what = "each of the last cuts was used up within three steps: no more are made in this conversation"
    return window_note(frame, "thrash", what, op_id)


def failed_note(frame: Frame, error: Exception, op_id: str = "") -> Verdict:
    """A summary could not be made. The last one, if there was one, still says more than nothing."""
    what = f"no summary could be made ({type(error).__name__}): what was dropped is only counted"
    return window_note(frame, "summary_failed", what, op_id)
