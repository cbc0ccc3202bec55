"""Tokens: exact where they are counted, bounded where they are estimated, and never the network or a panic."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from base64 import b64encode
from importlib.resources import files
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar import BursarWarning
from bursar.pricing import tokens
from bursar.pricing.tokens import COUNTER, PIECE, SAMPLED_ABOVE, TextSize, TokenCounter, estimate_tokens, load_encoding

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
    "base64": b64encode(random.Random(3).randbytes(1_500)).decode(),
    "emoji": "🎉 Great job! 🚀🔥 See you soon 👋😀😂🥳 " * 30,
    "russian": "Сегодня хорошая погода, и мы пошли гулять в парк вместе с друзьями. " * 30,
    "nul": "\0" * 500,
}
ANY_TEXT = st.text(st.characters(), max_size=300)


class Failing:
    """A tokenizer that raises what it was given."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def encode_ordinary(self, text: str) -> Any:
        raise self.error


def counter_with(encoding: object) -> TokenCounter:
    counter = TokenCounter()
    counter._book = tokens._Book(cast("Any", encoding), {})
    return counter


def wait_for(counter: TokenCounter) -> None:
    deadline = time.monotonic() + 20
    while not counter.ready and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counter.ready


@pytest.mark.parametrize(("text", "count"), KNOWN)
def test_counts_are_those_of_the_encoding(text: str, count: int) -> None:
    """Words, digits, contractions, scripts, code, white space; special tokens are text like any other."""
    assert COUNTER.count(text) == count
    assert COUNTER.measure(text) == (count, len(text.encode()), True)


@pytest.mark.parametrize(
    "text",
    [
        *(" " * 1_000_946, "\t" * 1_000_000 + "a", "a" * 1_000_000, "^" * 1_000_000, "\0" * 500_000),
        *("\u00a0" * 400_000, "今" * 400_000, "😀" * 300_000, "word " * 2_000_000),
    ],
    ids=["spaces", "tabs", "letters", "carets", "nul", "nbsp", "chinese", "emoji", "ten megabytes"],
)
def test_no_text_breaks_or_stalls_the_counter(text: str) -> None:
    """A million of anything is measured from samples, in bounded time, and can still be counted whole."""
    exact = COUNTER.count(text)
    started = time.thread_time()
    size = COUNTER.measure(text)
    assert time.thread_time() - started < 0.25
    assert not size.exact
    assert 0 < size.tokens <= size.utf8_bytes
    assert size.tokens == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("name", ["english", "german", "chinese", "json", "python", "log", "russian"])
def test_long_texts_are_counted_as_if_in_one_piece(name: str) -> None:
    """Pieces are cut at ends of words, where no token crosses: their sum is the count of the whole."""
    text = (TEXTS[name] * (4 * PIECE // len(TEXTS[name]) + 1))[7:]
    assert len(list(tokens._pieces(text))) > 4
    assert "".join(tokens._pieces(text)) == text
    assert COUNTER.count(text) == len(load_encoding().encode_ordinary(text))


@given(st.text(st.sampled_from("aZ09 '\n\t.,;s_-/\"\u00a0\x1cé中，\u0301٣²"), max_size=60))
def test_no_token_crosses_a_seam(text: str) -> None:
    """Wherever a text may be cut, the two halves have as many tokens as the whole."""
    for seam in tokens._SEAM.finditer(text):
        at = seam.start()
        assert COUNTER.count(text[:at]) + COUNTER.count(text[at:]) == COUNTER.count(text)


def test_long_texts_are_sampled_well() -> None:
    """Above 64 KB three pieces are counted; on even text they say it within two per cent."""
    text = TEXTS["english"] * 60
    assert len(text) > SAMPLED_ABOVE
    size = COUNTER.measure(text)
    assert size.tokens == pytest.approx(COUNTER.count(text), rel=0.02)
    assert not size.exact


def test_whether_a_text_is_sampled_is_a_matter_of_bytes() -> None:
    """Up to 64 KB of UTF-8 a text is counted whole, one byte above it is not."""
    assert COUNTER.measure("今a" * (SAMPLED_ABOVE // 4)).exact
    assert not COUNTER.measure("今a" * (SAMPLED_ABOVE // 4) + "a").exact


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_the_first_guess_is_of_the_right_size(text: str) -> None:
    """Before the ranks are there the estimate is never below 60 % of the truth, nor above 1.7 times."""
    assert 0.6 * COUNTER.count(text) <= estimate_tokens(text) <= 1.7 * COUNTER.count(text)


@given(ANY_TEXT)
def test_any_text_has_a_size(text: str) -> None:
    """Never an error, surrogates or not; never more tokens than bytes; none only for no text."""
    for size in (COUNTER.measure(text), tokens._size(None, text)):
        assert size.utf8_bytes == len(text.encode("utf-8", "surrogatepass"))
        assert bool(text) <= size.tokens <= size.utf8_bytes
    assert COUNTER.count(text) == COUNTER.measure(text).tokens


@given(st.text(max_size=300))
def test_bytes_are_those_of_utf8(text: str) -> None:
    """For valid text the bytes are exactly what is sent."""
    assert COUNTER.measure(text).utf8_bytes == len(text.encode())


def test_lone_surrogates_are_measured() -> None:
    """What is no valid text has a size as well: the three bytes of the character that stands in for it."""
    assert COUNTER.measure("\ud800x").utf8_bytes == len("\ufffdx".encode())
    assert COUNTER.count("\ud800x") == COUNTER.count("\ufffdx")


def test_until_the_ranks_are_there_a_guess_serves() -> None:
    """A new counter answers at once; when it has loaded, it counts, and the guess is forgotten."""
    counter = TokenCounter()
    text = TEXTS["json"]
    started = time.thread_time()
    assert counter.measure(text) == (estimate_tokens(text), len(text), False)
    assert time.thread_time() - started < 0.1
    assert not counter.measure(text).exact
    wait_for(counter)
    assert counter.measure(text) == (COUNTER.count(text), len(text), True)


def test_warming_starts_one_thread() -> None:
    """However often a counter is asked to warm, it loads once, off the caller's thread."""
    counter = TokenCounter()
    before = threading.active_count()
    for n in range(20):
        counter.warm()
        counter.measure(f"text {n}")
    assert threading.active_count() <= before + 1
    wait_for(counter)
    book = counter._book
    counter.warm()
    counter.count("again")
    assert counter._book is book


def test_without_a_thread_a_guess_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the call goes on, and the next one asks again."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    counter = TokenCounter()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert not counter.measure("hello world").exact
    counter.measure("hello again")
    wait_for(counter)


def test_a_wrong_checksum_is_told_once_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that are not ours: one warning, and estimates from then on."""
    monkeypatch.setattr(tokens, "_RANKS_SHA256", "0" * 64)
    counter = TokenCounter()
    with pytest.warns(BursarWarning, match="checksum") as told:
        assert counter.count("hello world") == estimate_tokens("hello world")
        assert counter.count("hello world") == 2
    assert len(told) == 1
    counter.warm()
    assert not counter.measure("hello world").exact


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_a_damaged_file_stops_no_call(damage: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happened to the file, and even where warnings are errors: the estimate serves."""
    whole = files("bursar.pricing").joinpath("o200k.xz").read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    content = {"cut": whole[:middle], "flipped": flipped, "empty": b""}
    if damage in content:
        (tmp_path / "o200k.xz").write_bytes(content[damage])
    monkeypatch.setattr(tokens, "files", lambda package: tmp_path)
    counter = TokenCounter()
    assert counter.count("hello world") == estimate_tokens("hello world")
    assert not counter.ready
    assert counter.measure("hello world") == (estimate_tokens("hello world"), 11, False)


def test_a_panic_of_the_tokenizer_is_survived() -> None:
    """What is no Exception is caught, and what then serves is not called exact."""
    counter = counter_with(Failing(BaseException("panic")))
    assert counter.count("hello world") == estimate_tokens("hello world")
    assert counter.measure("hello world") == TextSize(estimate_tokens("hello world"), 11, exact=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_a_wish_to_end_goes_through(error: BaseException) -> None:
    """An interrupt and an exit are not taken for a panic."""
    with pytest.raises(type(error)):
        counter_with(Failing(error)).count("hello")


def test_what_was_measured_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are kept by hash, not texts, and not without end; a text sent again is not counted again."""
    monkeypatch.setattr(tokens, "_MOST_CACHED", 10)
    counter = counter_with(load_encoding())
    for n in range(50):
        counter.measure(f"text {n}")
    sizes = counter._book.sizes
    assert 0 < len(sizes) <= 10
    assert all(isinstance(part, int) for key in sizes for part in key)
    assert counter.measure("text 49") is counter.measure("text 49")


def test_threads_measure_together() -> None:
    """Many threads, one loading, one answer."""
    counter = TokenCounter()
    found: list[tuple[int, int]] = []

    def work() -> None:
        sizes = [counter.measure(f"{n} {TEXTS['python']}").utf8_bytes for n in range(200)]
        found.append((counter.count(TEXTS["python"]), sum(sizes)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sum(len(f"{n} {TEXTS['python']}") for n in range(200))
    assert found == [(COUNTER.count(TEXTS["python"]), expected)] * 8


FORKING = """
import os, sys, time
from bursar.pricing.tokens import TokenCounter
counter = TokenCounter()
counter.warm()
time.sleep({delay})
child = os.fork()
if child == 0:
    early = counter.measure("hello world").tokens
    os._exit(0 if early > 0 and counter.count("hello world") == 2 and counter.ready else 1)
assert os.waitpid(child, 0)[1] == 0
assert counter.count("hello world") == 2
"""


@pytest.mark.parametrize("delay", [0, 0.005, 0.02, 0.1])
def test_a_child_forked_while_loading_loads_for_itself(delay: float) -> None:
    """Neither our locks nor those of half-done imports are left closed in the child; nothing is complained of."""
    # Newer Pythons warn of every fork beside threads, which is what this is about.
    python = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", FORKING.format(delay=delay)]
    done = subprocess.run(python, check=True, timeout=20, capture_output=True, text=True)
    assert done.stderr == ""


def test_a_child_forked_in_the_middle_of_a_long_import_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits for an import only so long; its child, where importing might hang, does without."""
    monkeypatch.setattr(tokens, "_FORK_WAIT_S", 0.05)
    counter = TokenCounter()
    with tokens._importing:
        child = os.fork()
        if child == 0:
            os._exit(0 if counter.count("hello world") == estimate_tokens("hello world") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert counter.count("hello world") == 2


def test_a_child_keeps_what_its_parent_had_loaded() -> None:
    """Once the ranks are loaded, forking costs no second loading."""
    COUNTER.count("load")
    child = os.fork()
    if child == 0:
        os._exit(0 if COUNTER.ready and COUNTER.measure("hello world").exact else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_counting_needs_no_network() -> None:
    """With every socket forbidden the ranks are still there, and tiktoken is loaded no sooner than they are."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from bursar.pricing.tokens import COUNTER\n"
        "assert 'tiktoken' not in sys.modules\n"
        "assert COUNTER.count('hello world') == 2\n"
        "assert 'requests' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TIKTOKEN_CACHE_DIR": "/nonexistent"})
