"""How far the hold of a stream reaches, and what it lacks when the stream goes on: arithmetic, no effects.

What goes in is spent when the first word comes; only what is still to come can be stopped. So a stream may use up its
hold as a whole, an input that was larger than its bound included, and needs more only past that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar.pricing.price import price
from bursar.words.events import Amounts
from bursar.words.money import MAX_AMOUNT, PICO_PER_NANO, nano_from_pico

if TYPE_CHECKING:
    from bursar.flow.call import Attempt
    from bursar.words.events import Usage


def output_room(attempt: Attempt, usage: Usage | None) -> int:
    """Output tokens that the hold pays for; `usage` is what the provider has said of the input, None for nothing."""
    held = attempt.hold
    if usage is None or usage.input_tokens <= held.input_tokens:
        return held.output_tokens
    room = min(held.output_tokens, held.tokens - usage.input_tokens)
    card = attempt.card
    if card is None:
        return room
    spent = price(usage._replace(output_tokens=0), card).nusd or 0
    per_token = card.at(usage.input_tokens).output
    return min(room, (held.nusd - spent) * PICO_PER_NANO // per_token) if per_token else room


def beyond(attempt: Attempt, usage: Usage | None, output_tokens: int) -> Amounts:
    """What so much output takes beyond the hold, by unit; input tokens are spent and not asked for."""
    held, card = attempt.hold, attempt.card
    larger = usage if usage is not None and usage.input_tokens > held.input_tokens else None
    into = held.input_tokens if larger is None else larger.input_tokens
    total, nusd = into + output_tokens, held.nusd
    if card is not None and larger is not None:
        nusd = price(larger._replace(output_tokens=output_tokens), card).nusd or 0
    elif card is not None:
        nusd += nano_from_pico((output_tokens - held.output_tokens) * card.at(into).output)
    wanted = Amounts(min(nusd, MAX_AMOUNT), total, total, 0, output_tokens, 0, 0)
    return Amounts(*(max(0, want - had) for want, had in zip(wanted, held, strict=True)))
