"""What the price data lacks and vendors publish as a factor: one table, each with its source and its first day.

A factor multiplies every rate per token; fees per search stay as they are.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

WRITE_OF_INPUT: Final = {"5m": Decimal("1.25"), "30m": Decimal("1.25"), "1h": Decimal(2), "12h": Decimal("2.5")}
"""A cache write as a multiple of input where the data has none: Anthropic's 5-minute and 1-hour factors ("Prompt
caching", Claude API documentation), OpenAI's 30-minute and 12-hour factors ("Pricing", API documentation: $1.25 and
$2.50 for gpt-6.1-terra, whose input is $1)."""

BATCH: Final = Decimal("0.5")
BATCH_OF_EVERYTHING: Final = {"anthropic": date(2024, 10, 8)}
"""Who bills a batch at half of every rate, cache included, for every model, and since when ("Batch processing",
Claude API documentation). The data has it model by model, from the day on which it was looked up."""
BATCH_OF_TEXT: Final = {"openai": date(2024, 4, 15)}
"""Who bills input and output of a batch at half, and says nothing general of cached input ("Batch API")."""

_ABOVE_GLOBAL: Final = Decimal("1.1")


class Region(NamedTuple):
    """A surcharge for processing in one place. `provider` as in the price data; `places` None is all but "global".

    `models` matches the ids that carry it. `unseen`: whether a call whose place we do not know may carry it.
    """

    provider: str
    places: frozenset[str] | None
    models: re.Pattern[str]
    factor: Decimal
    since: date
    unseen: bool = False


def _claude_from(version: str) -> re.Pattern[str]:
    return re.compile(rf"claude-[a-z]+-{version}(?!\d).*")


REGIONS: Final = (
    # "Data residency pricing", Claude API documentation: US-only inference is 1.1 times everything per token.
    Region("anthropic", frozenset({"us"}), _claude_from(r"(?:4[-.][6-9]|[5-9])"), _ABOVE_GLOBAL, date(2026, 2, 5)),
    # "Data residency", OpenAI API documentation: 10 % for models released on or after 5 March 2026.
    Region("openai", None, re.compile(r"gpt-(?:5\.[4-9]|[6-9]).*"), _ABOVE_GLOBAL, date(2026, 3, 5)),
    # Vertex AI, pricing of Claude models: regional and multi-region endpoints cost 10 % more than the global one.
    Region("google", None, _claude_from(r"(?:4[-.][5-9]|[5-9])"), _ABOVE_GLOBAL, date(2025, 9, 29), unseen=True),
    # Azure: the data has prices of global deployments; data zones and regions cost more, and no call says which it is.
    Region("azure", None, re.compile(".*"), _ABOVE_GLOBAL, date(2025, 1, 1), unseen=True),
)


class Uplift(NamedTuple):
    """The factor of a call; `sure` False where more may be billed than it says."""

    factor: Decimal
    sure: bool = True


NONE: Final = Uplift(Decimal(1))


def uplift(provider: str, model: str, place: str | None, day: date) -> Uplift:
    """Say what a place adds to the price of a model on a day; `place` None is not known, or the global endpoint."""
    for region in REGIONS:
        if region.provider != provider or day < region.since:
            continue
        if not region.models.fullmatch(model):
            return NONE
        if place is None:
            return Uplift(Decimal(1), not region.unseen)
        if place == "global":
            return NONE
        if region.places is None or place in region.places:
            return Uplift(region.factor)
        # A place that the vendor names no factor for.
        return Uplift(Decimal(1), sure=False)
    return NONE
