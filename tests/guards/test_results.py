"""Results as hashes: what changes by itself makes no difference, everything else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.guards.arguments import canonical
from bursar.guards.results import Result, normalised, read_result

VOLATILE = [
    ("a point in time", "at 2026-11-22T10:20:30.123Z", "at 2025-01-02T03:04:05.678Z"),
    ("a point in time with a zone", "at 2026-11-22 10:20:30 +02:00", "at 2026-11-23 11:21:31 +02:00"),
    ("a clock time", "started 10:20:30", "started 11:21:31"),
    ("half a day", "at 9:05 pm", "at 10:06 am"),
    ("seconds of the epoch", "ts 1795212345", "ts 1795219999"),
    ("a duration", "took 1.25 s", "took 320 ms"),
    ("an address", "<object at 0x7f9a1c2d>", "<object at 0x7f9b3e4f>"),
    ("a process", "pid 4012 exited", "pid 77 exited"),
    ("an id", "trace 550e8400-e29b-41d4-a716-446655440000", "trace f47ac10b-58cc-4372-a567-0e02b2c3d479"),
    ("white space", "a  b\n\tc", "a b c"),
]


@pytest.mark.parametrize(("what", "one", "other"), VOLATILE, ids=[case[0] for case in VOLATILE])
def test_what_changes_by_itself_makes_no_difference(what: str, one: str, other: str) -> None:
    """Times, durations, addresses, processes, ids and white space."""
    assert read_result(one).normal == read_result(other).normal


MEANT = [
    ("a price", "$ 12.50", "$ 12.51"),
    ("a date", "departs 2026-11-22", "departs 2026-11-23"),
    ("a count", "12 rows", "13 rows"),
    ("a word", "ready", "running"),
    ("a score", "3 points", "4 points"),
    ("a colour", "#aabbcc", "#aabbcd"),
]


@pytest.mark.parametrize(("what", "one", "other"), MEANT, ids=[case[0] for case in MEANT])
def test_what_is_meant_makes_a_difference(what: str, one: str, other: str) -> None:
    """Prices, dates, counts and words; with digits masked only words and letters."""
    assert read_result(one).normal != read_result(other).normal


def test_digits_are_masked_in_runs() -> None:
    """Growing numbers are one; a number is not nothing."""
    assert read_result("line 9").masked == read_result("line 1000").masked
    assert read_result("line 9").masked != read_result("line").masked


@pytest.mark.parametrize(
    ("content", "error", "empty", "transient"),
    [
        ("", False, True, False),
        ([], False, True, False),
        (None, False, True, False),
        ("[]", False, True, False),
        ([{"type": "text", "text": "fine"}], False, False, False),
        ({"rows": []}, False, False, False),
        ("Error: no such table", True, False, False),
        ("Traceback (most recent call last):", True, False, False),
        ('{"error": "not found"}', True, False, False),
        ("bash: line 12: javac: command not found", True, False, False),
        ("ls: cannot access 'x': No such file or directory", True, False, False),
        ("503 Service Unavailable", True, False, True),
        ("HTTP/1.1 429 Too Many Requests", True, False, True),
        ("Error: overloaded, try again", True, False, True),
        ("no errors found", False, False, False),
        ("503 rows selected", False, False, False),
    ],
)
def test_failures_are_told_by_their_first_words(content: object, error: bool, empty: bool, transient: bool) -> None:
    """Where the protocol has no flag; failures of the infrastructure apart."""
    found = read_result(content)
    assert (found.error, found.empty, found.transient) == (error, empty, transient)


def test_the_flag_of_the_protocol_wins() -> None:
    """What says that it failed did, whatever its words; and the other way round."""
    assert read_result("all well", is_error=True).error
    assert not read_result("Error: only a quotation", is_error=False).error


@given(st.text(), st.text())
def test_any_text_can_be_hashed(one: str, other: str) -> None:
    """Lone surrogates, control characters, scripts: equal texts are equal, and masking twice is as once."""
    assert read_result(one) == read_result(one)
    assert isinstance(read_result(one + other), Result)
    assert read_result("\ud800").normal
    assert normalised(normalised(one)) == normalised(one) or any(c.isdigit() for c in one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a": 1, "b": [2, 3]}', '{"b":[2,3],"a":1}', True),
        ('{"a": 1.0}', {"a": 1}, True),
        ('{"a": "caf\u00e9"}', {"a": "cafe\u0301"}, True),
        ("  plain words ", "plain words", True),
        ({"a": 1 << 80}, {"a": float(1 << 80)}, True),
        ({"a": {1: 2}}, {"a": {"1": 2}}, True),
        ('{"a": 1}', '{"a": 2}', False),
        ('{"a": "1"}', '{"a": 1}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": null}', "{}", False),
        ({"a": "\ud800"}, {"a": "\ud801"}, False),
    ],
)
def test_arguments_have_one_spelling(one: object, other: object, same: bool) -> None:
    """Order of keys, form of numbers and of letters make no difference; values and order in lists do."""
    assert (canonical(one) == canonical(other)) is same


class Handle:
    """An object that must not be asked for anything."""

    def model_dump(self, **_: object) -> object:
        raise AssertionError

    __str__ = __repr__ = model_dump  # type: ignore[assignment]


def test_arguments_of_any_depth_and_kind() -> None:
    """Nested too deep for a parser, or objects of the caller, which are not run: a spelling all the same."""
    deep: object = "x"
    for _ in range(500):
        deep = [deep]
    assert canonical(deep)
    handle = Handle()
    assert canonical({"a": handle}) == canonical({"a": handle}) != canonical({"a": Handle()})
    # Long texts count to their middle.
    assert canonical({"a": "x" * 200_000}) != canonical({"a": "x" * 100_000 + "y" + "x" * 99_999})
