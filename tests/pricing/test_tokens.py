"""Tokens: exact where they are counted, bounded where they are estimated, and never the network or a panic."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar import BursarWarning
from bursar.pricing import tokens
from bursar.pricing.tokens import COUNTER, SAMPLED_ABOVE, TokenCounter, estimate_tokens

# Counted with another implementation of the same encoding.
KNOWN = [
    ("hello world", 2),
    ("The quick brown fox jumps over the lazy dog.", 10),
    ("I'll say we've won, you're it", 7),
    ("1234567890", 4),
    ("a  b\n\n\tc   ", 6),
    ("<|endoftext|> is text", 9),
    ("Grüße aus Köln", 5),
    ("你好，世界", 3),
    ("👩‍👩‍👧 family", 9),
    ("def f(x):\n    return x**2\n", 10),
    ('{"a": [1, 2, null]}', 11),
    ("                    x", 2),
    ("https://example.org/a?b=c&d=%20", 12),
    ("ЗДРАВСТВУЙ мир", 9),
]
TEXTS = {
    "english": "The model reads every page, notes what changed, and asks for the next one. " * 30,
    "json": '{"id": 17, "name": "ana", "tags": ["red", "blue"], "at": "2026-11-24T10:00:00Z"}\n' * 30,
    "python": "def total(rows: list[int]) -> int:\n    return sum(row for row in rows if row > 0)\n" * 30,
    "german": "Die Straßenbahn fährt über die Brücke, während es schön dämmert. " * 30,
    "chinese": "今天天气很好，我们去公园散步吧。" * 30,
    "log": "2026-11-24 10:00:00,123 INFO worker-7 done in 0.031s status=200 path=/v1/x\n" * 30,
}


@pytest.mark.parametrize(("text", "count"), KNOWN)
def test_counts_are_those_of_the_encoding(text: str, count: int) -> None:
    """Words, digits, contractions, scripts, code, white space; special tokens are text like any other."""
    assert COUNTER.count(text) == count
    assert COUNTER.measure(text) == (count, len(text.encode()), True)


@pytest.mark.parametrize(
    "text",
    [" " * 1_000_946, "\t" * 1_000_000 + "a", "a" * 1_000_000, "^" * 1_000_000, "\0" * 500_000, "\u00a0" * 400_000],
)
def test_no_text_breaks_or_stalls_the_counter(text: str) -> None:
    """A million of anything is measured from samples, in bounded time, and can still be counted whole."""
    size = TokenCounter.measure(COUNTER, text)
    assert not size.exact
    assert 0 < size.tokens <= size.utf8_bytes
    assert COUNTER.count(text) > 0


def test_long_texts_are_sampled_well() -> None:
    """Above 64 K characters three pieces are counted; on even text they say it within two per cent."""
    text = TEXTS["english"] * 60
    assert len(text) > SAMPLED_ABOVE
    size = COUNTER.measure(text)
    assert size.tokens == pytest.approx(COUNTER.count(text), rel=0.02)
    assert not size.exact


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_the_first_guess_is_of_the_right_size(text: str) -> None:
    """Before the ranks are there the estimate is never below 60 % of the truth, nor above three times."""
    assert 0.6 * COUNTER.count(text) <= estimate_tokens(text) <= 3 * COUNTER.count(text)


@given(st.text(max_size=300))
def test_any_text_has_a_size(text: str) -> None:
    """Never an error; never more tokens than bytes; bytes are those of UTF-8."""
    size = COUNTER.measure(text)
    assert 0 <= size.tokens <= size.utf8_bytes
    assert size.utf8_bytes == len(text.encode("utf-8", "surrogatepass"))
    assert estimate_tokens(text) >= 0


def test_lone_surrogates_are_measured() -> None:
    """What is no valid text has a size as well."""
    assert COUNTER.measure("\ud800x").utf8_bytes == 4
    assert COUNTER.count("\ud800x") > 0


def test_until_the_ranks_are_there_a_guess_serves() -> None:
    """A new counter answers at once; when it has loaded, it counts, and the guess is forgotten."""
    counter = TokenCounter()
    text = TEXTS["json"]
    first = counter.measure(text)
    assert not first.exact
    deadline = time.monotonic() + 20
    while not counter.ready and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counter.measure(text) == (COUNTER.count(text), len(text), True)
    counter.warm()


def test_damaged_ranks_are_told_once_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong checksum: one warning, and estimates from then on."""
    monkeypatch.setattr(tokens, "_RANKS_SHA256", "0" * 64)
    counter = TokenCounter()
    with pytest.warns(BursarWarning, match="checksum"):
        assert counter.count("hello world") == estimate_tokens("hello world")
    assert counter.count("hello world") == 2
    counter.warm()
    assert not counter.measure("hello world").exact


def test_a_panic_of_the_tokenizer_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no Exception is caught; an interrupt is not."""

    class Panicking:
        error: BaseException = BaseException("panic")

        def encode_ordinary(self, text: str) -> Any:
            raise self.error

    counter = TokenCounter()
    counter._encoding = Panicking()
    assert counter.count("hello world") == estimate_tokens("hello world")
    Panicking.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        counter.count("hello")


def test_what_was_measured_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are kept by hash, not texts, and not without end."""
    monkeypatch.setattr(tokens, "_MOST_CACHED", 10)
    counter = TokenCounter()
    counter.count("load")
    for n in range(50):
        counter.measure(f"text {n}")
    assert 0 < len(counter._sizes) <= 10
    assert all(isinstance(part, int) for key in counter._sizes for part in key)


def test_threads_measure_together() -> None:
    """Many threads, one loading, one answer."""
    counter, found = TokenCounter(), []
    threads = [threading.Thread(target=lambda: found.append(counter.count(TEXTS["python"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {COUNTER.count(TEXTS["python"])}


def test_a_child_forked_while_loading_loads_for_itself() -> None:
    """The parent's half-done loading does not lock the child."""
    counter = TokenCounter()
    counter.warm()
    child = os.fork()
    if child == 0:
        os._exit(0 if counter.count("hello world") == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_counting_needs_no_network() -> None:
    """With every socket forbidden the ranks are still there."""
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from bursar.pricing.tokens import COUNTER\n"
        "assert COUNTER.count('hello world') == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TIKTOKEN_CACHE_DIR": "/nonexistent"})
