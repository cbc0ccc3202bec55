"""Count tokens with o200k, offline: the ranks are packaged, checked, and loaded off the hot path.

tiktoken downloads its ranks at first use, without a time-out; this never does. Until the packaged ranks are
loaded (a thread does it, in about half a second) a byte-class heuristic serves. tiktoken's own panics are no
`Exception`, a million spaces is enough for one: text is fed in pieces and every panic falls back to the heuristic.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import threading
import warnings
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar._errors import BursarWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE: Final = 100_000
"""Characters handed to tiktoken at once: its worst cases are quadratic, or a panic, far above this."""
SAMPLED_ABOVE: Final = 65_536
"""Characters above which `measure` counts three pieces and extrapolates, so that a call never waits for a prompt."""
_SAMPLE: Final = 8_192
_MOST_CACHED: Final = 16_384
_RANKS_SHA256: Final = "bac143fe7fe950090c6e4ed9a2f80de5412a92495758b52becbbe5a7eea25ecb"
_SPECIAL: Final = {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}
# The encoding's own definition of where tokens may not cross, as published with its ranks.
_LETTER_TAIL: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER: Final = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER: Final = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_PATTERN: Final = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_LETTER_TAIL}",
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_LETTER_TAIL}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
_ROUGH: Final = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|[^\x00-\x7f]|[!-/:-@\[-`{-~]{1,2}|\n+|[ \t]{2,16}", re.ASCII)


class TextSize(NamedTuple):
    """The size of a text: o200k tokens, bytes of UTF-8, and whether the tokens were counted or estimated."""

    tokens: int
    utf8_bytes: int
    exact: bool


class TokenCounter:
    """Counts o200k tokens. Safe for threads; a forked child loads anew."""

    def __init__(self) -> None:
        self._encoding: Any = None
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._loading = False
        self._broken = False
        self._sizes: dict[tuple[int, int], TextSize] = {}

    @property
    def ready(self) -> bool:
        """Whether the ranks are loaded."""
        return self._encoding is not None

    def warm(self) -> None:
        """Start loading in a thread, once; returns at once."""
        if self._encoding is None and not self._loading and not self._broken:
            self._loading = True
            threading.Thread(target=self._load, name="bursar-ranks", daemon=True).start()

    def measure(self, text: str) -> TextSize:
        """Size a text at a bounded price: at most some ten milliseconds, whatever its length."""
        key = (hash(text), len(text))
        size = self._sizes.get(key)
        if size is not None:
            return size
        self.warm()
        encoding = self._encoding
        utf8_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if len(text) <= SAMPLED_ABOVE:
            tokens = _tokens(encoding, text)
            size = TextSize(tokens, utf8_bytes, encoding is not None)
        else:
            size = TextSize(_sampled(encoding, text), utf8_bytes, exact=False)
        if encoding is not None:
            if len(self._sizes) >= _MOST_CACHED:
                self._sizes.clear()
            self._sizes[key] = size
        return size

    def count(self, text: str) -> int:
        """Count a text exactly (in pieces of 100,000 characters), loading the ranks first if need be."""
        if self._encoding is None:
            self._load()
        return sum(_tokens(self._encoding, text[i : i + PIECE]) for i in range(0, len(text), PIECE))

    def _load(self) -> None:
        with self._lock:
            if self._encoding is not None or self._broken:
                return
            try:
                self._encoding = load_encoding()
            except (OSError, ValueError, lzma.LZMAError, ImportError) as error:
                self._broken = True
                warnings.warn(
                    f"the packaged token ranks cannot be used ({error}); tokens are estimated from bytes. "
                    "Reinstall bursar to mend it.",
                    BursarWarning,
                    stacklevel=2,
                )


def load_encoding() -> Any:
    """Build the tokenizer from the packaged ranks. Raises `ValueError` when they are damaged."""
    import tiktoken

    packed = lzma.decompress(files("bursar.pricing").joinpath("o200k.xz").read_bytes())
    if hashlib.sha256(packed).hexdigest() != _RANKS_SHA256:
        raise ValueError("their checksum is wrong")
    ranks = {token: rank for rank, token in enumerate(_unpacked(packed))}
    return tiktoken.Encoding("bursar_o200k", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=_SPECIAL)


def estimate_tokens(text: str) -> int:
    """Estimate tokens from classes of bytes: for the first half second, and where tiktoken gives up."""
    return sum(1 for _ in _ROUGH.finditer(text))


def _unpacked(packed: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(packed):
        end = at + 1 + packed[at]
        yield packed[at + 1 : end]
        at = end


def _tokens(encoding: Any, text: str) -> int:
    if encoding is None:
        return estimate_tokens(text)
    try:
        return len(encoding.encode_ordinary(text))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - the tokenizer's panic is no Exception
        return estimate_tokens(text)


def _sampled(encoding: Any, text: str) -> int:
    starts = (0, (len(text) - _SAMPLE) // 2, len(text) - _SAMPLE)
    seen = sum(_tokens(encoding, text[start : start + _SAMPLE]) for start in starts)
    return -(-seen * len(text) // (_SAMPLE * len(starts)))


COUNTER: Final = TokenCounter()
"""The one of this process."""
