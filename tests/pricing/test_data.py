"""Newer price data: fetched on purpose, checked, kept with its date, undone."""

from __future__ import annotations

import tomllib
import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from bursar.pricing.data import FOLDER, PACKAGED_ON, check, fetch, keep, kept, load, packaged, undo
from bursar.pricing.rates import PriceList
from bursar.words.errors import BursarWarning, PriceDataError

DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)


def model(name: str, into: float, out: float) -> dict[str, Any]:
    return {"id": name, "match": {"equals": name}, "prices": {"input_mtok": into, "output_mtok": out}}


def data(sonnet: float = 2, *more: dict[str, Any]) -> list[Any]:
    """A small list of both vendors, in the form in which genai-prices publishes its own."""
    return [
        {"id": "anthropic", "name": "A", "api_pattern": "a", "models": [model("claude-sonnet-5-5", sonnet, 10), *more]},
        {"id": "openai", "name": "O", "api_pattern": "o", "models": [model("gpt-4o", 2.5, 10)]},
    ]


def test_a_copy_is_in_force_until_it_is_undone(tmp_path: Path) -> None:
    """Every price made of it says so; going back brings the copy before, then what came with the package."""
    before = PriceList(home=tmp_path).card("anthropic", "claude-sonnet-5-5", day=DAY)
    first = keep(tmp_path, data(3), "here", NOW)
    second = keep(tmp_path, data(4), "there", NOW.replace(hour=9))
    assert kept(tmp_path) == second
    for copy, rate in ((second, 4_000_000), (first, 3_000_000)):
        card = PriceList(home=tmp_path).card("anthropic", "claude-sonnet-5-5", day=DAY)
        assert card is not None
        assert card.base.input == rate
        assert card.version.startswith(f"genai-prices data {copy.path.stem} 2026-11-20 ")
        assert undo(tmp_path)[0] == copy
    assert PriceList(home=tmp_path).card("anthropic", "claude-sonnet-5-5", day=DAY) == before
    with pytest.raises(PriceDataError, match="nothing to undo"):
        undo(tmp_path)


def test_the_day_of_the_packaged_prices_is_that_of_their_release() -> None:
    """It stands in the lock file: whoever pins another version sees this fail."""
    lock = tomllib.loads((Path(__file__).parents[2] / "uv.lock").read_text())
    (pinned,) = [each for each in lock["package"] if each["name"] == "genai-prices"]
    uploaded = {date.fromisoformat(str(each["upload-time"])[:10]) for each in pinned["wheels"]}
    assert packaged() == f"genai-prices {pinned['version']}"
    assert uploaded == {PACKAGED_ON}


def test_what_would_change_is_said(tmp_path: Path) -> None:
    """Rates that moved, models that came and went; nothing where nothing changed."""
    old = load(keep(tmp_path, data(2), "here", NOW))
    assert check(data(2), "x", old, DAY) == []
    new = data(1, model("claude-opus-9", 1, 2))
    assert [(c.model, c.kind, c.before, c.after) for c in check(new, "x", old, DAY)] == [
        ("anthropic claude-opus-9", "input", None, Decimal(1)),
        ("anthropic claude-opus-9", "output", None, Decimal(2)),
        ("anthropic claude-sonnet-5-5", "input", Decimal(2), Decimal(1)),
    ]


def test_a_slip_of_a_point_is_refused_unless_forced(tmp_path: Path) -> None:
    """More than ten times up or down is no new price."""
    old = load(keep(tmp_path, data(2), "here", NOW))
    for slip in (0.1, 21):
        with pytest.raises(PriceDataError, match="--force"):
            check(data(slip), "x", old, DAY)
        assert len(check(data(slip), "x", old, DAY, force=True)) == 1


@pytest.mark.parametrize(
    "providers",
    [[], [1], [{"id": "anthropic"}], data()[:1], [{**data()[0], "models": [model("x", -1, 2)]}, data()[1]]],
    ids=["empty", "no providers", "half a provider", "no openai", "negative"],
)
def test_what_is_no_price_data_is_refused(providers: list[Any], tmp_path: Path) -> None:
    """Nothing of it is kept; a negative rate is no rate, and then the vendor has none."""
    with pytest.raises(PriceDataError):
        check(providers, "x", load(None), DAY)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff", b'"x"', b"<html>"])
def test_a_file_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    """Empty, torn, an object, no UTF-8, a page: the file and what is wrong with it."""
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(PriceDataError, match=r"data\.json"):
        fetch(str(path))


def test_offline_it_says_what_to_do() -> None:
    """A port that nobody listens on, a file that is not there: the address, and that a file will do."""
    for source in ("http://127.0.0.1:9/data.json", "/nowhere/data.json", "ftp://x"):
        with pytest.raises(PriceDataError, match="bursar prices update FILE"):
            fetch(source)


def test_a_damaged_copy_stops_no_call(tmp_path: Path) -> None:
    """In the middle of a call the packaged prices are used, with a warning, and every price says so."""
    copy = keep(tmp_path, data(3), "here", NOW)
    content = orjson.loads(copy.path.read_bytes())
    content["providers"][0]["models"][0]["prices"]["input_mtok"] = 0.0001
    copy.path.write_bytes(orjson.dumps(content))
    with pytest.warns(BursarWarning, match="damaged"):
        card = PriceList(tmp_path / "cache", home=tmp_path).card("anthropic", "claude-sonnet-5-5", day=DAY)
    assert card is not None
    assert card.version.startswith(packaged())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PriceList(tmp_path / "other", home=tmp_path).card("anthropic", "claude-sonnet-5-5", day=DAY) == card
    with pytest.raises(PriceDataError, match="--undo"):
        load(copy)


def test_no_copy_is_no_folder(tmp_path: Path) -> None:
    """Looking for a copy makes nothing."""
    assert kept(tmp_path) is None
    assert not (tmp_path / FOLDER).exists()
