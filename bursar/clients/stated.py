"""What a seller says himself that a call costs, in the usage beside its tokens.

OpenRouter's `cost` is in dollars; with a key of one's own it is his fee, and `cost_details.upstream_inference_cost` is
billed by the one whose key it is. Perplexity's `cost` has a `total_cost`, in dollars. xAI's `cost_in_usd_ticks` counts
ten thousand million to the dollar. After their guides on usage accounting and on tracking costs.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final

from bursar.words.events import IN_PART
from bursar.words.money import MAX_AMOUNT, NANO_PER_USD

if TYPE_CHECKING:
    from collections.abc import Mapping

_TICKS_PER_NANO: Final = 10
_NOTHING_SAID: Final[tuple[None, tuple[str, ...]]] = (None, ())


def stated(usage: Mapping[str, Any]) -> tuple[int | None, tuple[str, ...]]:
    """Nano-dollars, rounded up, None where nothing is said that can be true; and flags."""
    cost, ticks = usage.get("cost"), usage.get("cost_in_usd_ticks")
    if cost is None and ticks is None:
        return _NOTHING_SAID
    if ticks.__class__ is int:
        nano = -(-ticks // _TICKS_PER_NANO)
        return (nano if 0 <= nano <= MAX_AMOUNT else None), ()
    if isinstance(cost, dict):
        return _nano(cost.get("total_cost")), ()
    own, details = usage.get("is_byok"), usage.get("cost_details")
    elsewhere = details.get("upstream_inference_cost") if isinstance(details, dict) else None
    if own is False or (own is None and elsewhere is None):
        return _nano(cost), ()
    fee, rest = _nano(cost), _nano(elsewhere)
    return (None, (IN_PART,)) if fee is None or rest is None else (fee + rest, ())


def _nano(dollars: object) -> int | None:
    if dollars.__class__ not in (int, float):
        return None
    # As it was written: a float's own digits are those of the JSON.
    amount = Decimal(repr(dollars))
    if not amount.is_finite() or not 0 <= amount * NANO_PER_USD <= MAX_AMOUNT:
        return None
    return int((amount * NANO_PER_USD).to_integral_value(ROUND_CEILING))
