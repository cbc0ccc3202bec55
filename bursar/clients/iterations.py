"""Anthropic's `usage.iterations`: what one request did on the server, entry by entry, and what of it is billed where.

    message           a turn of the model: part of the totals beside it
    fallback_message  the turn of another model that answered after the first one declined: part of them, as its own
    compaction        the summary of a context that grew too long: not in the totals
    advisor_message   a question to another model: not in the totals, billed as that model

After the docstrings of `anthropic.types.beta.BetaUsage` and of its entries, and the guides on compaction, the
advisor tool and fallbacks. Where totals and entries say different things, the larger is taken and flagged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.words.events import CREDIT, DECLINED, UNCLEAR, SideUsage, Usage, sum_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TURNS: Final = frozenset({"message", "fallback_message"})
_OUTSIDE: Final = frozenset({"compaction", "advisor_message"})


class Split(NamedTuple):
    """What is billed as the call's own usage (and as which model, None as asked), and what on top of it."""

    usage: Usage
    side: tuple[SideUsage, ...] = ()
    model: str | None = None
    flags: tuple[str, ...] = ()


def split(entries: Any, totals: Usage, field: Callable[[Any, str], Any], count: Callable[[Any], Usage | None]) -> Split:
    """Divide a usage. `field` reads a field of an entry, `count` its tokens."""
    if not isinstance(entries, list | tuple) or not entries:
        return Split(totals)
    flags: set[str] = set()
    side: list[SideUsage] = []
    turns: list[SideUsage] = []
    for entry in entries:
        kind, model, usage = field(entry, "type"), field(entry, "model"), count(entry)
        if usage is None:
            flags.add(UNCLEAR)
            continue
        found = SideUsage(str(kind), model if isinstance(model, str) else None, usage)
        if kind in _TURNS:
            turns.append(found)
            continue
        side.append(found)
        if kind not in _OUTSIDE:
            flags.add(UNCLEAR)
    served = next((turn.model for turn in reversed(turns) if turn.kind == "fallback_message"), None)
    own = [turn for turn in turns if served is None or turn.kind == "fallback_message" or turn.model == served]
    declined = [turn for turn in turns if turn not in own]
    if declined:
        flags.add(DECLINED)
    usage, agree = _own(totals, own, declined)
    if not agree:
        flags.add(UNCLEAR)
    if served is not None and usage.cache_write_tokens:
        flags.add(CREDIT)
    return Split(usage, (*declined, *side), served, tuple(sorted(flags)))


def _own(totals: Usage, own: Sequence[SideUsage], declined: Sequence[SideUsage]) -> tuple[Usage, bool]:
    """The usage of the model that answered, and whether totals and entries agree on it."""
    if not own:
        return totals, not declined
    mine = sum_usage(turn.usage for turn in own)
    every = sum_usage(turn.usage for turn in (*own, *declined))
    # Entries say how long each write lives; the totals of a stream do not. Fees are in the totals alone.
    counted = totals._replace(**{name: getattr(mine, name) for name in _TOKENS})
    if _size(totals) in (_size(mine), _size(every)):
        return counted, True
    over = {name: max(0, getattr(totals, name) - getattr(every, name)) for name in _TOKENS}
    return counted._replace(**{name: getattr(mine, name) + more for name, more in over.items()}), False


_TOKENS: Final = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
)  # fmt: skip


def _size(usage: Usage) -> tuple[int, ...]:
    return usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens
