"""Prices that were set: in bursar.toml and by hand, by days, and what they make of the list; by hand computed."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bursar.flow.charge import context_of
from bursar.pricing.price import Cost, price
from bursar.pricing.rates import PriceList, RateCard
from bursar.pricing.shelf import add_price, price_list, read_shelf
from bursar.settings.config import Settings, read_settings
from bursar.settings.file import File
from bursar.settings.toml import read_prices
from bursar.words.errors import ConfigError
from bursar.words.events import CostStatus, Usage

DAY = date(2026, 11, 20)
USED = Usage(5_000, 1_500)


def listed(tmp_path: Path, text: str) -> PriceList:
    path = tmp_path / "bursar.toml"
    path.write_text(text)
    return PriceList(set_prices=read_prices(File(path)))


def cost(prices: PriceList, model: str, provider: str = "anthropic", tier: str | None = None, *, day: date = DAY, usage: Usage = USED, region: str | None = None) -> Cost:  # fmt: skip
    return price(usage, prices.card(provider, model, context=context_of(tier, None, region), day=day))


def version(prices: PriceList, model: str, provider: str = "anthropic", *, day: date = DAY) -> str:
    card: RateCard | None = prices.card(provider, model, day=day)
    assert card is not None
    return card.version


def test_a_negotiated_rate_holds_from_its_day(tmp_path: Path) -> None:
    """The day before, the list; from the first to the last day, both included, the rate; the version says which."""
    prices = listed(
        tmp_path,
        '[[price]]\nmodel = "claude-opus-5-5"\nfrom = 2026-11-01\nuntil = "2026-11-30"\ninput = "3"\noutput = "15"\n',
    )
    for day, into, out in (
        (date(2026, 10, 31), 4_000, 20_000),
        (date(2026, 11, 1), 3_000, 15_000),
        (date(2026, 11, 30), 3_000, 15_000),
        (date(2026, 12, 1), 4_000, 20_000),
    ):
        assert cost(prices, "claude-opus-5-5", day=day).nusd == 5_000 * into + 1_500 * out
    assert version(prices, "claude-opus-5-5", day=date(2026, 10, 31)).startswith("genai-prices ")
    assert version(prices, "claude-opus-5-5").startswith("bursar.toml:1 from 2026-11-01 over genai-prices ")


def test_kinds_that_are_not_named_keep_their_list_price(tmp_path: Path) -> None:
    """Cached input is still $0.20 a million, a search still a cent."""
    prices = listed(tmp_path, '[[price]]\nmodel = "claude-opus-5-5"\ninput = "3"\n')
    found = cost(prices, "claude-opus-5-5", usage=Usage(5_000, 1_500, 4_000, web_searches=1))
    assert found.nusd == 1_000 * 3_000 + 4_000 * 200 + 1_500 * 20_000 + 10_000_000
    assert found.status is CostStatus.LIST_PRICE


def test_tiers_and_cliffs_keep_their_proportion(tmp_path: Path) -> None:
    """Batch stays half, above the cliff stays five times, US stays 1.1 times what was negotiated."""
    prices = listed(tmp_path, '[[price]]\nmodel = "claude-haiku-5-5"\ninput = "0.08"\noutput = "0.40"\n')
    assert cost(prices, "claude-haiku-5-5", tier="batch").nusd == 5_000 * 40 + 1_500 * 200
    assert cost(prices, "claude-haiku-5-5", usage=Usage(120_000, 500)).nusd == 120_000 * 400 + 500 * 2_000
    assert cost(prices, "claude-haiku-5-5", region="us").nusd == 5_000 * 88 + 1_500 * 440


def test_a_tier_can_have_a_price_of_its_own(tmp_path: Path) -> None:
    """What is set for batch holds for batch alone, and goes before what is set for all."""
    prices = listed(
        tmp_path,
        '[[price]]\nmodel = "gpt-4o"\ntier = "batch"\ninput = "1"\noutput = "4"\n'
        '[[price]]\nmodel = "gpt-4o"\ninput = "2"\noutput = "8"\n',
    )
    assert cost(prices, "gpt-4o", "openai", "batch").nusd == 5_000 * 1_000 + 1_500 * 4_000
    assert cost(prices, "gpt-4o", "openai").nusd == 5_000 * 2_000 + 1_500 * 8_000


@pytest.mark.parametrize("said", ['discount = "12 %"', 'discount = "12%"', 'factor = "0.88"'])
def test_a_discount_is_on_everything_per_token(tmp_path: Path, said: str) -> None:
    """In every tier, cache included; a search costs what it costs."""
    prices = listed(tmp_path, f'[[price]]\nmodel = "*"\nprovider = "anthropic"\n{said}\n')
    usage = Usage(5_000, 1_500, 4_000, web_searches=1)
    assert (
        cost(prices, "claude-opus-5-5", usage=usage).nusd == 1_000 * 3_520 + 4_000 * 176 + 1_500 * 17_600 + 10_000_000
    )
    assert cost(prices, "claude-opus-5-5", tier="batch").nusd == 5_000 * 1_760 + 1_500 * 8_800
    assert cost(prices, "gpt-4o", "openai").nusd == 5_000 * 2_500 + 1_500 * 10_000
    assert cost(prices, "nobody-knows").nusd is None


def test_a_model_that_no_list_has(tmp_path: Path) -> None:
    """Its rates are exact; cached input costs as input at most, a tier of which nothing is said is bounded."""
    prices = listed(tmp_path, '[[price]]\nmodel = "our-deployment"\ninput = "2"\noutput = "10"\n')
    azure = "azure.ai.openai"
    assert cost(prices, "our-deployment", azure) == Cost(25_000_000, CostStatus.LIST_PRICE, 10_000_000, 15_000_000)
    assert cost(prices, "our-deployment", azure, usage=Usage(5_000, 0, 4_000)).status is CostStatus.UPPER_BOUND
    assert cost(prices, "our-deployment", azure, "batch").status is CostStatus.UPPER_BOUND
    assert cost(prices, "our-deployment", azure, "priority").status is CostStatus.LOWER_BOUND
    assert version(prices, "our-deployment", azure).startswith("bursar.toml:1 2026-11-20 ")


def test_half_a_price_is_none(tmp_path: Path) -> None:
    """Input without output makes no price for a model that no list has, except for one that only makes vectors."""
    prices = listed(
        tmp_path, '[[price]]\nmodel = "our-x"\ninput = "2"\n[[price]]\nmodel = "our-embedder"\ninput = "2"\n'
    )
    assert cost(prices, "our-x").nusd is None
    assert cost(prices, "our-embedder", usage=Usage(1_000, 0)).nusd == 2_000_000


def test_of_several_the_most_exact_and_the_last_holds(tmp_path: Path) -> None:
    """The model before every model, its provider before any, a later first day before an earlier, then the last line."""
    prices = listed(
        tmp_path,
        '[[price]]\nmodel = "*"\nfactor = "0.5"\n'
        '[[price]]\nmodel = "gpt-4o"\nfrom = 2026-02-01\ninput = "2"\n'
        '[[price]]\nmodel = "gpt-4o"\nfrom = 2026-01-01\ninput = "3"\n'
        '[[price]]\nmodel = "gpt-4o"\nprovider = "azure.ai.openai"\ninput = "4"\n'
        '[[price]]\nmodel = "gpt-4.1"\ninput = "5"\n[[price]]\nmodel = "gpt-4.1"\ninput = "6"\n',
    )
    usage = Usage(1_000, 0)
    assert cost(prices, "gpt-4o", "openai", usage=usage).nusd == 2_000_000
    assert cost(prices, "gpt-4o-2024-08-06", "openai", usage=usage).nusd == 2_000_000
    assert cost(prices, "gpt-4o", "azure.ai.openai", usage=usage).nusd == 4_000_000
    assert cost(prices, "gpt-4.1", "openai", usage=usage).nusd == 6_000_000
    assert cost(prices, "gpt-4o-mini", "openai", usage=usage).nusd == 75_000


BAD: list[tuple[str, str]] = [
    ('input = "-1"', "input='-1'"),
    ('input = "0"', "above zero"),
    ('input = "0.0"', "above zero"),
    ("input = nan", "input=nan"),
    ("input = inf", "input=inf"),
    ('input = "nan"', "'nan'"),
    ('input = "1e3"', "'1e3'"),
    ('input = "1_000"', "'1_000'"),
    ('input = "١٢"', "'١٢'"),
    ('input = " 1 "', "' 1 '"),
    ("input = 2.5", 'input = "2.5"'),
    ("input = true", "input='True'"),
    ('input = "2000000"', "no price"),
    ("input = []", "input="),
    ('inptu = "1"', "did you mean 'input'?"),
    ('colour = "1"', "'colour' is not a setting of price"),
    ('discount = "120 %"', "'120 %'"),
    ('discount = "0 %"', "'0 %'"),
    ('discount = "-5 %"', "'-5 %'"),
    ("discount = 12", "discount='12'"),
    ('factor = "0"', "above zero"),
    ('factor = "11"', "at most 10"),
    ('input = "1"\ndiscount = "5 %"', "one"),
    ("", "a price has rates"),
    ('input = "1"\nfrom = "yesterday"', "'yesterday'"),
    ('input = "1"\nfrom = 2026-11-01T00:00:00', "no day"),
    ('input = "1"\nfrom = 2026-11-02\nuntil = 2026-11-01', "would never hold"),
    ('input = "1"\ntier = "express"', "'express'"),
    ('input = "1"\nprovider = 7', "provider = 7"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "named"), BAD, ids=lambda value: value[:30])
def test_what_cannot_be_a_price_is_refused_with_its_line(tmp_path: Path, said: str, named: str) -> None:
    """Negative, zero, not finite, a float, other digits, unknown kinds, impossible days: file, line and value."""
    with pytest.raises(ConfigError) as refused:
        listed(tmp_path, f'# one\n[[price]]\nmodel = "gpt-4o"\n{said}\n')
    assert str(refused.value).startswith(f"{tmp_path}/bursar.toml:")
    assert 2 <= int(str(refused.value).split(":")[1]) <= 6
    assert named in str(refused.value)


@pytest.mark.parametrize("text", ["price = 3\n", "price = [1]\n", '[price]\nmodel = "x"\n', '[[price]]\ninput = "1"\n', '[[price]]\nmodel = ""\ninput = "1"\n', '[[price]]\nmodel = "*"\ninput = "1"\n'])  # fmt: skip
def test_what_is_no_list_of_prices_is_refused(tmp_path: Path, text: str) -> None:
    """A table, a number, a price without a model, a rate for every model."""
    with pytest.raises(ConfigError, match=r"bursar\.toml:\d"):
        listed(tmp_path, text)


def test_settings_have_the_prices_of_the_file(tmp_path: Path) -> None:
    """They stand in bursar.toml beside limits."""
    path = tmp_path / "bursar.toml"
    path.write_text('[[price]]\nmodel = "gpt-4o"\ninput = "2"\n')
    (spec,) = read_settings({"config": path}).prices
    assert (spec.model, spec.rates, spec.origin) == ("gpt-4o", (("input", 2_000_000),), "bursar.toml:1")


def test_what_is_set_by_hand_goes_first(tmp_path: Path) -> None:
    """prices.toml beside the ledger before bursar.toml; its comments and lines stay as they were."""
    ledger, config = tmp_path / "ledger.db", tmp_path / "bursar.toml"
    config.write_text('[[price]]\nmodel = "gpt-4o"\ninput = "2"\n')
    shelf = tmp_path / "prices.toml"
    shelf.write_text("# ours")
    path, spec = add_price(ledger, {"model": "gpt-4o", "input": "1.5"})
    assert (path, spec.origin) == (shelf, "prices.toml:3")
    assert shelf.read_text().startswith("# ours\n")
    prices = price_list(ledger, Settings(prices=read_settings({"config": config}).prices))
    assert cost(prices, "gpt-4o", "openai", usage=Usage(1_000, 0)).nusd == 1_500_000
    assert version(prices, "gpt-4o", "openai").startswith("prices.toml:3 over genai-prices ")


def test_a_price_that_cannot_be_is_not_written(tmp_path: Path) -> None:
    """The file is as it was, no other file is left, and the error names it."""
    ledger = tmp_path / "ledger.db"
    add_price(ledger, {"model": "gpt-4o", "input": "1.5"})
    before = (tmp_path / "prices.toml").read_text()
    nasty: list[dict[str, str]] = [{"model": "x", "input": "-1"}, {"model": 'x"\n[bursar]\n', "inptu": "1"}]
    for fields in nasty:
        with pytest.raises(ConfigError, match=r"prices\.toml:\d"):
            add_price(ledger, fields)
    assert (tmp_path / "prices.toml").read_text() == before
    assert [path.name for path in tmp_path.iterdir() if "prices" in path.name] == ["prices.toml"]


def test_two_processes_set_prices_at_once(tmp_path: Path) -> None:
    """Nothing is lost or torn: every price of both is there."""
    code = (
        "import sys; from pathlib import Path; from bursar.pricing.shelf import add_price\n"
        "for n in range(15): add_price(Path(sys.argv[1]), {'model': f'{sys.argv[2]}-{n}', 'input': '1', 'output': '2'})\n"
    )
    others: list[Any] = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "ledger.db"), name]) for name in ("a", "b")
    ]
    assert [other.wait() for other in others] == [0, 0]
    assert {spec.model for spec in read_shelf(tmp_path / "ledger.db")} == {
        f"{name}-{n}" for name in "ab" for n in range(15)
    }


def test_a_shelf_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """It is never passed over: prices would change without a word."""
    (tmp_path / "prices.toml").write_text("[limits]\n")
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        read_shelf(tmp_path / "ledger.db")


@pytest.mark.parametrize(
    ("said", "nusd", "status"),
    [
        ("", 5_000 * 4_000 + 1_500 * 20_000, CostStatus.LOWER_BOUND),
        ('provider = "azure.ai.openai"\nfactor = "1"', 5_000 * 4_000 + 1_500 * 20_000, CostStatus.LIST_PRICE),
        ('provider = "azure.ai.openai"\nfactor = "1.1"', 5_000 * 4_400 + 1_500 * 22_000, CostStatus.LIST_PRICE),
        ('provider = "azure.ai.openai"\ndiscount = "10 %"', 5_000 * 3_600 + 1_500 * 18_000, CostStatus.LOWER_BOUND),
        ('factor = "1.1"', 5_000 * 4_400 + 1_500 * 22_000, CostStatus.LOWER_BOUND),
    ],
)
def test_who_knows_his_deployments_is_priced_exactly(tmp_path: Path, said: str, nusd: int, status: CostStatus) -> None:
    """No call says whether an Azure deployment is global: a factor for Azure does, and prices are no bounds any more."""
    prices = listed(tmp_path, f'[[price]]\nmodel = "*"\n{said}\n' if said else "")
    found = cost(prices, "gpt-5.6-sol", "azure.ai.openai")
    assert (found.nusd, found.status) == (nusd, status)
