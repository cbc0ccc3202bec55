from importlib import import_module
from typing import Any

import pytest

from bursar.testing import tokenizer

MOST_AT_ONCE = 16
TEXTS = [
    "",
    "The quick brown fox jumps over the lazy dog.",
    '{"tool": "search_flights", "arguments": {"from": "SFO", "to": "JFK", "seats": 12345}}',
    "def count(self) -> int:\n    return len(self._items)\n\n\n",
    "2026-11-22T10:31:07.123Z ERROR [worker-3] request_id=9f36c2 took 1042ms\n",
    "naïve café 日本語 🙂\x00\t\r\n\u2028  trailing   ",
    "\ud800 a lone surrogate",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokens_of_a_text_make_it_up(text: str) -> None:
    """Joined, the tokens are the text again, and the count is how many they are."""
    tokens = tokenizer.split(text)
    assert "".join(tokens) == text
    assert tokenizer.count(text) == len(tokens)


@pytest.mark.parametrize("tokens", [0, 1, 2, 13, 14, 15, 200, 5000])
def test_made_up_prose_has_exactly_the_tokens_asked_for(tokens: int) -> None:
    """Generated text counts as many tokens as were wanted, and is the same for the same seed."""
    words = tokenizer.prose(tokens, seed=7)
    assert tokenizer.count("".join(words)) == tokens
    assert words == tokenizer.prose(tokens, seed=7)


def test_known_texts_have_the_counts_one_finds_by_hand() -> None:
    """Words of up to seven letters with their space, pairs of digits, and runs of three signs are a token."""
    assert tokenizer.split("Please reserve 123 seats!!") == [
        "Please",
        " reserve",
        " ",
        "12",
        "3",
        " seats",
        "!!",
    ]
    assert tokenizer.split('{"unreasonable": "JSON"}') == [
        '{"',
        "unreaso",
        "nable",
        '":',
        " ",
        '"',
        "JSO",
        "N",
        '"}',
    ]


def longest(pattern: Any) -> int:
    """How many characters one attempt at a parsed pattern looks at, at most, all of its alternatives together."""
    total = 0
    for kind, given in pattern:
        name = str(kind)
        if name == "BRANCH":
            total += sum(longest(each) for each in given[1])
        elif name == "MAX_REPEAT":
            least, most, inner = given
            assert least <= most <= MOST_AT_ONCE, f"{inner} eats {most}"
            total += int(most) * longest(inner)
        elif name == "SUBPATTERN":
            total += longest(given[-1])
        else:
            assert name in {"IN", "LITERAL", "NOT_LITERAL", "RANGE", "CATEGORY"}, name
            total += 1
    return total


def test_the_work_is_linear_in_the_text() -> None:
    """From each character on, a bounded number of further ones is looked at: nothing in the pattern repeats for ever."""
    assert longest(import_module("re._parser").parse(tokenizer._TOKEN.pattern)) <= 4 * MOST_AT_ONCE


@pytest.mark.parametrize("piece", ["a", " ", "\n", "^", "A", "1", "é", "hello world, 42!\n", '{"k": [1, 2]}, '])
def test_texts_without_any_boundary_are_counted_in_proportion(piece: str) -> None:
    """Ten times the text has ten times the tokens, up to one where it was cut, and never more than its bytes."""
    text = piece * (40_000 // len(piece))
    once, ten_times = tokenizer.count(text), tokenizer.count(text * 10)
    assert 0 < once <= len(text.encode())
    assert 10 * (once - 1) <= ten_times <= 10 * once


def test_blocks_are_equal_where_texts_are_equal() -> None:
    """Two texts with a common beginning have equal runs of tokens up to where they part."""
    shared = "".join(tokenizer.prose(256, seed=1))
    one, other = (tokenizer.blocks(shared + end, 128) for end in (" and one", " and the other"))
    assert one[:2] == other[:2]
    assert one[2:] != other[2:]
    assert [tokens for _, tokens in one] == [128, 128, 2]
