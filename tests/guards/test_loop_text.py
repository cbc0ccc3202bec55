"""A text that repeats itself is heard; lists, tables, data and recorded answers are not."""

from __future__ import annotations

import json
import random

import pytest

from bursar.guards.loop_text import DATA_FACTOR, LEAST, TextEcho, repeated
from tests.clients.conversations import agent, recorded

SENTENCE = "I will look at the file again to be sure. "


def heard(text: str, piece: int = 17) -> int | None:
    """After how many characters of a stream the echo is heard."""
    echo = TextEcho()
    for at in range(0, len(text), piece):
        echo.said(text[at : at + piece])
        if echo.heard is not None:
            return at + piece
    return None


@pytest.mark.parametrize(
    "unit", [SENTENCE, "I see. ", "Lines\nof a\nparagraph that says nothing more.\n\n", "ha" * 200]
)
def test_one_piece_again_and_again_is_heard(unit: str) -> None:
    """From a thousand tokens of it on, whatever stood before, and wherever chunks are split."""
    before = " ".join(random.Random(3).choices(["an", "answer", "that", "says", "many", "things", "in", "turn"], k=900))
    for piece in (1, 17, 1_000):
        at = heard(before + unit * (12_000 // len(unit)), piece)
        assert at is not None
        assert LEAST <= at - len(before) <= LEAST + 1_600 + len(unit)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"Row {n}: ok\n" for n in range(2_000)),
        "".join(f"| {n} | {n * 7 % 13} | yes |\n" for n in range(1_000)),
        SENTENCE * (LEAST // len(SENTENCE) - 1) + "That was all.",
        "-" * 3 * LEAST,
        "0, " * LEAST,
        "```\n" + "    pass\n" * (2 * LEAST // 9),
        "\n".join(json.dumps({"id": n, "name": "the same", "done": False}) for n in range(800)),
        (SENTENCE * 40 + "\nBut then something else came.\n") * 3,
        "ab" * (LEAST // 2 - 1),
    ],
)
def test_what_differs_somewhere_or_is_data_is_not(text: str) -> None:
    """Numbered lines, tables, rules, zeros and code that is alike for a while."""
    assert heard(text) is None


def test_data_that_goes_on_for_ever_is_heard_later() -> None:
    """Zeros to no end are worth nothing either."""
    at = heard("0, " * 4 * DATA_FACTOR * LEAST)
    assert at is not None
    assert at >= DATA_FACTOR * LEAST


def test_no_recorded_answer_repeats_itself() -> None:
    """Of all texts that models have said in recorded runs."""
    runs = recorded("[!i]*") or [agent(40)]
    texts = [message["content"] or "" for run in runs for message in run if message["role"] == "assistant"]
    assert texts
    assert not [text for text in texts if heard(text, 64) is not None]


def test_what_is_repeated_is_told() -> None:
    """The length of the piece and how often it came."""
    found = repeated("So. " + SENTENCE * 200)
    assert found is not None
    assert (found.piece, found.times, found.characters) == (len(SENTENCE), 200, 200 * len(SENTENCE))
