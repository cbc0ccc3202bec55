"""The part of `bursar doctor` that looks at prices: whether they can be read, and how old they are."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from bursar.cli.doctor import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from bursar.pricing.data import Kept
    from bursar.pricing.rates import PriceList


def look_at_prices(path: Path, prices: PriceList) -> Iterator[Finding]:
    """Which list holds, how old it is, whether it can be read."""
    from bursar.pricing.data import kept, load
    from bursar.words.clock import CLOCK
    from bursar.words.errors import PriceDataError

    day = CLOCK.today()
    try:
        load(copy := kept(path.parent))
    except PriceDataError as error:
        yield Finding("wrong", f"{error}", "until then what came with bursar is used")
        copy = None
    with warnings.catch_warnings(action="ignore"):
        card = prices.card("openai", "gpt-4o", day=day)
    if card is None:
        yield Finding("wrong", "the price list knows no price of gpt-4o", "reinstall genai-prices")
    else:
        yield from _age(card.version, copy, day, outdated=prices.outdated)


def _age(version: str, copy: Kept | None, day: date, *, outdated: bool) -> Iterator[Finding]:
    from bursar.pricing.data import OLD_DAYS, PACKAGED_ON, age_days

    days = age_days(copy, day)
    what = f"prices of {version}, {'of a day that nobody knows' if days is None else f'{days} days old'}"
    mend = "fetch newer ones with bursar prices update, or upgrade bursar"
    if outdated:
        yield Finding("wrong", f"{what}: more than max_price_age allows, so calls under a limit in dollars are refused",
                      mend)  # fmt: skip
    elif days is None or days > OLD_DAYS:
        yield Finding("warn", f"{what}: models may be missing, and prices may have moved", mend)
    elif copy is not None and copy.fetched_on is not None and copy.fetched_on < PACKAGED_ON:
        yield Finding(
            "warn", f"{what}: those that came with bursar are of {PACKAGED_ON}", "bursar prices update --undo"
        )
    else:
        yield Finding("ok", what)


def look_at_ranks() -> Iterator[Finding]:
    """Whether tokens can be counted."""
    from bursar.pricing.tokens import COUNTER

    with warnings.catch_warnings(action="ignore"):
        counted = COUNTER.count("hello world")
    if COUNTER.ready and counted == 2:
        yield Finding("ok", "token ranks are whole")
    else:
        yield Finding("wrong", "the packaged token ranks are damaged: tokens are only estimated", "reinstall bursar")
