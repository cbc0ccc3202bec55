"""The line about a session of a coding agent: context, growth, what the next turn costs, today."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.pricing.price import price
from bursar.reports.sessions import growth
from bursar.words.events import Usage
from bursar.words.money import show_count, usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.pricing.rates import RateCard

_FIVE_MINUTES_US: Final = 300_000_000
_HOUR_US: Final = 3_600_000_000


class Status(NamedTuple):
    """What is known of a session; None is not known. Amounts in nano-dollars, `context` and `window` in tokens."""

    model: str | None = None
    context: int | None = None
    window: int | None = None
    growth: int | None = None
    next_nusd: int | None = None
    cold: bool = False
    session_nusd: int | None = None
    today_nusd: int | None = None
    limit_nusd: int | None = None


def next_turn(turns: Sequence[Usage], card: RateCard | None, idle_us: int) -> tuple[int | None, bool]:
    """What the next turn costs if it is as the latest were, and whether the cache has forgotten the context.

    The context of the last turn is read from the cache, what a turn adds is written; after the lifetime of the last
    writes all of it is.
    """
    if card is None or not turns:
        return None, False
    last = turns[-1]
    hour = any(turn.cache_write_1h_tokens for turn in turns)
    cold = idle_us > (_HOUR_US if hour else _FIVE_MINUTES_US)
    context, more = last.input_tokens, growth([turn.input_tokens for turn in turns])
    read = 0 if cold else context
    written = context + more - read
    output = sum(turn.output_tokens for turn in turns) // len(turns)
    usage = Usage(
        context + more,
        output,
        read,
        cache_write_5m_tokens=0 if hour else written,
        cache_write_1h_tokens=written if hour else 0,
    )
    return price(usage, card).nusd, cold


def as_line(status: Status) -> str:
    """One line of what is known."""
    parts = [status.model] if status.model else []
    if status.context is not None:
        whole = f" of {show_count(status.window)} ({status.context / status.window:.0%})" if status.window else ""
        more = f", +{show_count(status.growth)} a turn" if status.growth else ""
        parts.append(f"context {show_count(status.context)}{whole}{more}")
    if status.next_nusd is not None:
        parts.append(f"next turn {_cents(status.next_nusd)}" + (", cache cold" if status.cold else ""))
    if status.session_nusd is not None:
        parts.append(f"session {_cents(status.session_nusd)}")
    if status.today_nusd is not None:
        limit = f" of {_cents(status.limit_nusd)}" if status.limit_nusd else ""
        parts.append(f"today {_cents(status.today_nusd)}{limit}")
    return " · ".join(parts)


def _cents(nusd: int) -> str:
    # In a line that is looked at in passing a dollar needs no fourth digit. Rounded up, as everywhere.
    amount = usd(nusd)
    return f"${amount.quantize(Decimal('0.01' if amount >= 1 else '0.001'), ROUND_CEILING):,f}"
