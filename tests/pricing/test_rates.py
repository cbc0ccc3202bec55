"""Prices by hand, from list prices of a fixed day, to the nano-dollar; what is not sure is flagged."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from bursar.flow.charge import context_of
from bursar.pricing import rates as rates_module
from bursar.pricing.price import UNKNOWN, price
from bursar.pricing.rates import (
    STANDARD,
    PriceContext,
    PriceList,
    RateCard,
    Rates,
    cache_directory,
    find_provider,
    known_models,
)
from bursar.words.clock import CLOCK
from bursar.words.events import CostStatus, Usage

DAY = date(2026, 11, 20)
PRICES = PriceList()
BATCH, FLEX, PRIORITY, FAST = (
    PriceContext(processing="batch"),
    PriceContext("flex"),
    PriceContext("priority"),
    PriceContext(speed="fast"),
)


def card(model: str, provider: str = "anthropic", context: PriceContext = STANDARD, day: date = DAY) -> RateCard:
    found = PRICES.card(provider, model, context=context, day=day)
    assert found is not None
    return found


def test_a_search_without_a_known_fee_is_a_lower_bound() -> None:
    """What has no fee in the data is not free: the price says that it is a lower bound."""
    assert price(Usage(10, 10, web_searches=1), card("gpt-4", "openai")).status is CostStatus.LOWER_BOUND


def test_an_estimate_is_called_one() -> None:
    """Tokens that nobody counted make an estimated price."""
    assert price(Usage(10, 10), card("gpt-4o", "openai"), measured=False).status is CostStatus.ESTIMATED
    assert price(Usage(10, 10), None) == UNKNOWN


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-xyz",
        "gpt-4o-minimal",
        "claude-opus-4-5-evil",
        "claude",
        "gpt",
        "",
        "nobody",
        "gpt-4o\n",
        "a\0b",
        "\x1b[31m",
        "x" * 10_000,
        "\ud800",
        "gpt-4o ",
    ],
)
def test_names_are_matched_whole(model: str) -> None:
    """No price by prefix, and none for a name that no model can have."""
    found = PRICES.card("openai" if "gpt" in model else "anthropic", model, day=DAY)
    assert found is None or model == "gpt-4o "


def test_dated_names_and_aliases_are_known() -> None:
    """What the data declares as the same model has its price."""
    assert card("claude-opus-4-5-20251101") == card("claude-opus-4-5")
    assert card("gpt-4o-2024-08-06", "openai").model == "gpt-4o"
    assert card("gpt-4o", "openai").model != card("gpt-4o-mini", "openai").model
    assert PRICES.card("azure.ai.openai", "gpt-4o", day=DAY) is not None


def test_the_provider_of_a_bare_name_is_found() -> None:
    """Recorded runs often have nothing but a model's name."""
    assert find_provider("claude-opus-4-6") == "anthropic"
    assert find_provider("gpt-4.1-2025-04-14") == "openai"
    assert find_provider("nobody-knows") is None
    assert find_provider("a\nb") is None
    assert ("openai", "gpt-4o") in known_models("openai")
    assert len(known_models()) > len(known_models("openai"))


def test_tiers_in_the_words_of_the_vendors() -> None:
    """Standard tiers are no tier; batch is a way of processing."""
    assert context_of("default", "standard") == context_of(None, None) == STANDARD
    assert context_of("batch", None) == BATCH
    assert context_of("flex", None) == FLEX
    assert context_of(None, "fast") == FAST


def test_prices_by_the_hour_are_the_dearest_hours() -> None:
    """Where a price changes within the day, the card is that of the dearest hour, and an upper bound."""
    found = card("deepseek-chat", "deepseek")
    prices = [
        calc_price(TheirUsage(input_tokens=10**6), "deepseek-chat", provider_id="deepseek", genai_request_timestamp=datetime(2026, 11, 20, hour, 30, tzinfo=UTC))
        for hour in range(24)
    ]  # fmt: skip
    assert found.base.input == max(p.total_price for p in prices) * 10**6
    assert (found.status is CostStatus.UPPER_BOUND) == (len({p.total_price for p in prices}) > 1)


def test_prices_agree_with_their_source() -> None:
    """Over many models and usages: equal to genai-prices' own arithmetic, rounded up, or flagged."""
    dice = random.Random(7)
    names = [(p, m) for p in ("anthropic", "openai") for _, m in known_models(p)]
    compared = 0
    for provider, model in dice.sample(names, 60):
        found = PRICES.card(provider, model, day=DAY)
        if found is None:
            continue
        for _ in range(6):
            into = dice.choice([10, 5_000, 150_000, 280_000])
            read = dice.randrange(into)
            usage = Usage(into, dice.randrange(4_000), read)
            theirs = calc_price(
                TheirUsage(input_tokens=into, output_tokens=usage.output_tokens, cache_read_tokens=read),
                model, provider_id=provider, genai_request_timestamp=datetime(2026, 11, 20, 12, tzinfo=UTC),
            )  # fmt: skip
            ours = price(usage, found)
            assert ours.nusd is not None
            if ours.status is CostStatus.LIST_PRICE:
                assert 0 <= ours.nusd - theirs.total_price * 10**9 < 1
            compared += 1
    assert compared > 150


CARD = RateCard(
    "p",
    "m",
    Rates(3, 5, 1, 4, 4, 6, 7, 9, 2, 20),
    ((1_000, Rates(30, 50, 10, 40, 40, 60, 70, 90, 20, 200)),),
    11,
    5,
    None,
    CostStatus.LIST_PRICE,
    (),
    (),
    "v",
)
counts = st.integers(0, 10**9)


fees = st.integers(0, 50)


@given(st.builds(Usage, *[counts] * 8, *[fees] * 5, counts, counts))
def test_parts_add_up_and_nothing_is_negative(usage: Usage) -> None:
    """Whatever is counted: the parts are the price, none is below zero."""
    cost = price(usage, CARD)
    assert cost.nusd == sum(cost[2:])
    assert min(cost[2:]) >= 0


def test_compiled_rates_are_kept_on_disk(tmp_path: Path) -> None:
    """A second process finds them without loading the price data."""
    PriceList(tmp_path).card("openai", "gpt-4o", day=DAY)
    PriceList(tmp_path).card("openai", "nobody", day=DAY)
    code = (
        "import sys; from datetime import date; from pathlib import Path; from bursar.pricing.rates import PriceList\n"
        f"prices = PriceList(Path({str(tmp_path)!r})); day = date({DAY.year}, {DAY.month}, {DAY.day})\n"
        "assert prices.card('openai', 'gpt-4o', day=day).base.output == 10_000_000\n"
        "assert prices.card('openai', 'nobody', day=day) is None\n"
        "assert 'genai_prices' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b'{"openai|gpt-4o||||2026-11-20": 7}', "negative", "float", "short"]
)
def test_a_damaged_cache_is_compiled_anew(tmp_path: Path, content: Any) -> None:
    """Whatever stands in the cache file: the price is right, and the file is mended."""
    good = PriceList(tmp_path).card("openai", "gpt-4o", day=DAY)
    (path,) = tmp_path.iterdir()
    if isinstance(content, str):
        kept = orjson.loads(path.read_bytes())
        ((_, entry),) = kept.items()
        entry[2] = {"negative": [-1] * 10, "float": [1.5] * 10, "short": [1]}[content]
        content = orjson.dumps(kept)
    path.write_bytes(content)
    assert PriceList(tmp_path).card("openai", "gpt-4o", day=DAY) == good
    assert PriceList(tmp_path).card("openai", "gpt-4o", day=DAY) == good


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    """A file where the directory should be: prices are compiled each time."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert PriceList(blocked / "x").card("openai", "gpt-4o", day=DAY) is not None


def test_the_cache_lies_where_caches_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    """BURSAR_CACHE_DIR, else the user's cache directory."""
    monkeypatch.setenv("BURSAR_CACHE_DIR", "/somewhere")
    assert cache_directory() == Path("/somewhere")
    monkeypatch.delenv("BURSAR_CACHE_DIR")
    assert cache_directory().name == "bursar"


def test_threads_compile_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads that miss at once get the same card, and memory stays bounded."""
    monkeypatch.setattr(rates_module, "_MOST_CARDS", 3)
    prices = PriceList(tmp_path)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(prices.card("openai", "gpt-4o", day=DAY))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    for model in ("gpt-4o-mini", "gpt-4.1", "o3", "gpt-5"):
        prices.card("openai", model, day=DAY)
    assert len(prices._cards) <= 3


def test_today_is_a_day() -> None:
    """The clock's day is that of UTC, and the two clocks run."""
    assert CLOCK.today() == datetime.now(UTC).date()
    assert CLOCK.monotonic_us() <= CLOCK.monotonic_us()
