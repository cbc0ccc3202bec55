"""Windows of time in named zones, over clock changes and skipped days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.words.windows import WINDOWS, window_at

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe",
         "America/Havana", "America/Sao_Paulo"]  # fmt: skip
HOUR_US = 3_600_000_000


def us(*moment: int, zone: str = "UTC") -> int:
    return int(datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(["day", "week", "month"]), st.integers(us(2005, 1, 1), us(2035, 1, 1)))
def test_every_moment_lies_in_one_window(name: str, kind: str, at_us: int) -> None:
    """A window holds the moment, its first microsecond has the same key, the one before and the end another."""
    zone = ZoneInfo(name)
    window = window_at(kind, at_us, zone)
    assert window.since_us <= at_us < window.until_us
    assert window_at(kind, window.since_us, zone) == window
    assert window_at(kind, window.until_us - 1, zone) == window
    assert window_at(kind, window.since_us - 1, zone).until_us == window.since_us
    assert window_at(kind, window.until_us, zone).key != window.key


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), st.integers(us(2005, 1, 1), us(2035, 1, 1)))
def test_a_day_is_what_the_calendar_of_the_zone_says(name: str, at_us: int) -> None:
    """The key of a day is the date that a clock on the wall shows."""
    zone = ZoneInfo(name)
    shown = datetime.fromtimestamp(at_us // 1_000_000, zone)
    assert window_at("day", at_us, zone).key == f"day:{shown:%Y-%m-%d}"
    assert window_at("month", at_us, zone).key == f"month:{shown:%Y-%m}"
    assert window_at("week", at_us, zone).key == f"week:{shown:%G-W%V}"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("America/Havana", (2026, 11, 1), 25),
        ("America/Sao_Paulo", (2018, 11, 4), 23),
        ("UTC", (2024, 2, 29), 24),
    ],
)
def test_days_over_a_clock_change(zone: str, day: tuple[int, int, int], hours: float) -> None:
    """A day is as long as it is: 23, 24.5 or 25 hours."""
    window = window_at("day", us(*day, 12, zone=zone), ZoneInfo(zone))
    assert (window.until_us - window.since_us) / HOUR_US == hours


def test_a_day_that_never_was() -> None:
    """Samoa went from the 29th to the 31st of December 2011: the days around it touch."""
    zone = ZoneInfo("Pacific/Apia")
    before = window_at("day", us(2011, 12, 29, 12, zone="Pacific/Apia"), zone)
    after = window_at("day", us(2011, 12, 31, 12, zone="Pacific/Apia"), zone)
    assert (before.key, after.key) == ("day:2011-12-29", "day:2011-12-31")
    assert before.until_us == after.since_us


def test_the_hour_that_comes_twice_is_two() -> None:
    """Between three and two o'clock in Berlin an hour repeats: two windows, each of an hour."""
    zone = ZoneInfo("Europe/Berlin")
    first = window_at("hour", us(2026, 10, 25, 0, 30), zone)
    second = window_at("hour", us(2026, 10, 25, 1, 30), zone)
    assert first.until_us == second.since_us
    assert first.key != second.key


def test_the_whole_of_time_is_one_window() -> None:
    """A limit in total has one account."""
    assert window_at("total", us(1999, 1, 1), ZoneInfo("UTC")) == window_at("total", us(2040, 1, 1), ZoneInfo("UTC"))
    assert all(window_at(kind, us(2026, 1, 1), ZoneInfo("UTC")).key.startswith(kind) for kind in WINDOWS)


def test_years_have_the_week_that_iso_says() -> None:
    """The last days of December may lie in the first week of the next year."""
    assert window_at("week", us(2024, 12, 31), ZoneInfo("UTC")).key == "week:2025-W01"
    assert datetime(2024, 12, 30, tzinfo=UTC) + timedelta(days=7) == datetime(2025, 1, 6, tzinfo=UTC)
