"""Weights of pictures: the vendors' own examples."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.pricing.vision import claude_image, gpt_image

CLAUDE = [
    ("claude-sonnet-4-5-20250929", (1_075, 1_520), 33 * 47),
    ("claude-opus-4-20250514", (1_092, 1_092), 39 * 39),
    ("claude-sonnet-4-6", (1_920, 1_080), 1_560),
    ("anthropic.claude-opus-4-7-v1:0", (1_920, 1_080), 2_691),
    ("claude-opus-4-8", (3_840, 2_160), 4_784),
    ("claude-opus-5-5", (3_024, 1_964), 4_760),
    ("claude-haiku-5-5", (4_032, 3_024), 4_740),
    ("claude-3-5-sonnet-latest", (200, 200), 64),
]
GPT = [
    ("gpt-4o", (1_024, 1_024), "high", 765),
    ("gpt-4o-2024-11-20", (2_048, 4_096), "auto", 1_105),
    ("gpt-4.1", (4_096, 8_192), "low", 85),
    ("gpt-4o-mini", (1_024, 1_024), "high", 2_833 + 4 * 5_667),
    ("o3", (1_024, 1_024), "high", 75 + 4 * 150),
    ("gpt-5", (1_024, 1_024), "auto", 70 + 4 * 140),
    ("gpt-4.1-mini", (1_024, 1_024), "auto", 1_659),
    ("ft:gpt-4.1-mini-2025-04-14:us", (1_800, 2_400), "high", 2_353),
    ("gpt-4.1-nano", (1_024, 1_024), "high", 2_520),
    ("gpt-6-astra", (4_000, 3_000), "auto", 14_100),
    ("gpt-6-astra", (4_000, 3_000), "low", 308),
]


@pytest.mark.parametrize(("model", "size", "tokens"), CLAUDE)
def test_claude_counts_patches(model: str, size: tuple[int, int], tokens: int) -> None:
    """The published examples come out to the token, and the older rule is within the bound."""
    weight = claude_image(model, size)
    assert weight.likely == tokens
    assert weight.likely <= weight.most <= weight.likely * 1.06
    assert not weight.unbounded


@pytest.mark.parametrize(("model", "size", "detail", "tokens"), GPT)
def test_openai_counts_tiles_or_patches(model: str, size: tuple[int, int], detail: str, tokens: int) -> None:
    """The published examples come out to the token; where it is scaled the bound is all of the budget."""
    weight = gpt_image(model, size, detail)
    assert weight.likely == tokens <= weight.most <= 1.1 * tokens
    assert not weight.unbounded


def test_an_unseen_picture_has_the_largest_weight() -> None:
    """Without a size the bound is what the model takes at most, and is marked."""
    assert claude_image("claude-sonnet-4-5", None)[1:] == (1_568, True)
    assert claude_image("claude-of-next-year", None)[1:] == (4_784, True)
    assert gpt_image("gpt-4o", None, "auto")[1:] == (85 + 8 * 170, True)
    assert gpt_image("gpt-6", None, "auto")[1:] == (36_000, True)
    assert gpt_image("somebody/elses-model", (10, 10), "auto").unbounded


SIDES = st.integers(1, 65_535)


@given(
    SIDES,
    SIDES,
    st.sampled_from(["gpt-4o", "gpt-4o-mini", "gpt-5.4", "gpt-5.5", "o4-mini", "gpt-5-nano", "x"]),
    st.sampled_from(["low", "high", "auto", "original"]),
)
def test_no_picture_weighs_more_than_the_largest(width: int, height: int, model: str, detail: str) -> None:
    """Any size of any shape is within what is assumed of an unseen one, for both vendors, and weighs something."""
    cases: list[tuple[Any, Any]] = [
        (claude_image("claude-sonnet-4-6", (width, height)), claude_image("claude-sonnet-4-6", None))
    ]
    cases.append((gpt_image(model, (width, height), detail), gpt_image(model, None, detail)))
    for found, largest in cases:
        assert 0 < found.likely <= found.most <= largest.most * 1.05
