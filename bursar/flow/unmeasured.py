"""What an attempt is taken to have used whose answer does not say it: the most that it may have been, where known.

The hold is the bound that its row states. Where nobody could put a cap into the request the hold is what such calls are
seen to use, and keeps no provider from writing more: there the cap that the caller has set himself is the bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.words.events import Usage, UsageSource

if TYPE_CHECKING:
    from bursar.flow.call import Attempt, Call
    from bursar.words.events import Answer

CHUNK_TOKENS: Final = 64
"""Tokens that a provider may have generated beyond the last chunk that arrived: one chunk, generously."""


def presumed(call: Call, attempt: Attempt, answer: Answer) -> tuple[Usage, UsageSource]:
    """The usage of an attempt whose answer does not say it."""
    hold = attempt.hold
    if answer.charge == "input" and not call.frame.hard:
        return Usage(input_tokens=attempt.estimate.demand.input_practical), UsageSource.ESTIMATED
    if answer.charge == "seen":
        seen = answer.output_seen + CHUNK_TOKENS
        if call.frame.hard:
            # Nobody can say how far the provider was ahead of its reader: only the cap is sure to cover that.
            seen = max(seen if attempt.outgrown else 0, hold.output_tokens)
        elif not attempt.outgrown and answer.output_read <= (most := _most(call, attempt, seen)):
            # Beyond it a server has not kept its cap, and was left before that was noticed.
            seen = min(most, seen)
        known = answer.usage or Usage(input_tokens=hold.input_tokens)
        output_tokens = max(seen, known.output_tokens)
        # How often was searched is said at the very end.
        searches = max(call.request.searches, known.web_searches)
        return known._replace(output_tokens=output_tokens, web_searches=searches), UsageSource.STREAM_PARTIAL
    seen = answer.output_seen and answer.output_seen + CHUNK_TOKENS
    most = max(hold.output_tokens, _most(call, attempt, seen))
    return Usage(input_tokens=hold.input_tokens, output_tokens=most), UsageSource.ESTIMATED


def dearest(call: Call, attempt: Attempt, answer: Answer, usage: Usage) -> int:
    """Nano-dollars for tokens of which nobody has said what they were: the dearest that the request allows.

    An unknown end is charged its hold at least.
    """
    rates, least = attempt.estimate.demand.price, attempt.hold.nusd
    if answer.charge == "seen" and not call.frame.hard:
        least = 0
    if rates is None or call.bulk is not None:
        return least
    return max(least, rates[attempt.bound == "hard"].bound(usage.input_tokens, usage.output_tokens))


def _most(call: Call, attempt: Attempt, uncapped: int) -> int:
    """Output tokens of a provider that keeps the cap of the request; `uncapped` where that has none."""
    request = call.request
    if not request.open_ended:
        return attempt.hold.output_tokens
    return uncapped if request.cap is None else request.cap * request.choices
