"""Canonical JSON of arguments: equal means equal, nothing of the caller's is run, and all is bounded."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bursar.words.canonical import MOST_NODES, Fingerprints, canonical, size_of


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise AssertionError


class Evil(metaclass=Meta):
    """An object that must not be asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __repr__(self) -> str:
        raise AssertionError

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        return 1


class EvilDict(dict[str, Any]):
    def items(self) -> Any:
        raise AssertionError

    def __iter__(self) -> Any:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


class EvilText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


class Colour(enum.StrEnum):
    RED = "red"


def cycle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def deep(levels: int) -> list[Any]:
    nest: list[Any] = []
    for _ in range(levels):
        nest = [nest]
    return nest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x": -0.0}, {"x": 0.0}),
        ({"x": "é"}, {"x": "e\u0301"}),
        ([1, 2], (1, 2)),
        ({"x": "red"}, {"x": Colour.RED}),
    ],
)
def test_what_is_the_same_is_the_same(one: Any, other: Any) -> None:
    """Order of keys, the sign of zero, forms of a letter, tuples and enumerations make no other call."""
    assert canonical(one) == canonical(other)
    assert canonical(one).whole


def test_what_differs_differs() -> None:
    """Types of JSON stay apart, and so do values that JSON lacks."""
    nan, inf = float("nan"), float("inf")
    values: list[Any] = [1, 1.0, True, "1", None, [1], {"1": 1}, {1: 1}, {True: 1}, "true", nan, inf, -inf, 2**64, -(2**64), b"1", "31"]  # fmt: skip
    assert len({canonical(value).data for value in values}) == len(values)
    assert canonical({"x": nan}) == canonical({"x": nan})


HOSTILE: dict[str, Callable[[], Any]] = {
    "object": Evil,
    "inside": lambda: {"x": Evil()},
    "key": lambda: {Evil(): 1},
    "dictionary": lambda: EvilDict(a=1),
    "text": lambda: [EvilText("x")],
    "surrogates": lambda: {"\ud800": "\udfff"},
    "bytes": lambda: b"\xff" * 10_000_000,
    "set": lambda: {1, 2},
    "datetime": lambda: dt.datetime.now(tz=dt.UTC),
    "large number": lambda: 2**100_000,
    "cycle": cycle,
    "deep": lambda: deep(100_000),
    "long text": lambda: "x" * 100_000_000,
    "many texts": lambda: ["y" * 1_000] * 10_000,
    "long list": lambda: list(range(1_000_000)),
    "many keys": lambda: {str(n): n for n in range(100_000)},
    "type": lambda: Evil,
    "function": lambda: cycle,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_bounded_and_run_nothing(name: str) -> None:
    """Whatever comes, there is JSON of at most some hundred kilobytes, and no code of the value's has run."""
    value = HOSTILE[name]()
    written = canonical(value)
    assert len(written.data) < 600_000
    json.loads(written.data)


def test_what_cannot_be_looked_into_is_told_apart_by_identity() -> None:
    """The same handle is the same argument, another one is another, and the bytes are not whole."""
    one, other = object(), object()
    assert canonical({"db": one}) == canonical({"db": one})
    assert canonical({"db": one}) != canonical({"db": other})
    assert not canonical({"db": one}).whole


def test_what_is_cut_still_tells_lengths_and_ends() -> None:
    """Of long texts and lists the ends and the length decide."""
    long = "a" * 200_000
    assert canonical(long) != canonical(long + "a")
    assert canonical(long) != canonical(long[:-1] + "b")
    assert canonical([0] * (MOST_NODES + 10)) != canonical([0] * (MOST_NODES + 11))
    assert not canonical(long).whole


def test_sizes() -> None:
    """Bytes of a text or of its JSON, and None where nobody counted them."""
    for value, size in (("abc", 3), ("é", 2), ("\ud800", 3), (b"12", 2), ({"a": 1}, 7), (None, 4), (object(), None)):
        assert size_of(value, canonical(value)) == size


def test_hashes_are_keyed() -> None:
    """The same key gives the same 16 digits, another key others; without one they hold within the process."""
    one, same, other = (Fingerprints(partial(bytes, key)) for key in (b"k" * 32, b"k" * 32, b"o" * 100))
    assert one.of(b"x") == same.of(b"x") != other.of(b"x")
    assert len(one.of(b"x")) == 16
    nobody = Fingerprints(lambda: None)
    assert nobody.of(b"x") == nobody.of(b"x") != Fingerprints(lambda: None).of(b"x")
