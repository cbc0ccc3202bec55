"""Arguments and results as canonical JSON: bounded, and without running anything of the caller's.

Equal values have equal bytes: keys are sorted, texts are in Unicode's composed form, -0.0 is 0.0, while 1, 1.0 and true
stay three values. What is no JSON appears as its type and its identity: within a process the same handle is the same
argument, and two objects that nobody can look into are not taken for one.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import unicodedata
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_NODES: Final = 2_000
"""Values that are looked at of one structure; of the rest only how many they are is kept."""
MOST_TEXT: Final = 65_536
"""Characters that are looked at of one structure; of a longer text its two ends and its length."""
_DEEPEST: Final = 64
_INT_MAX: Final = 2**63 - 1
_LARGEST_BITS: Final = 4_096
_PERSON: Final = b"bursar-tool"
_name_of: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
"""A type's name, past whatever its metaclass calls so."""


class Canonical(NamedTuple):
    """Canonical JSON of a value; `whole` says that nothing was cut and that all of it is JSON."""

    data: bytes
    whole: bool


class Fingerprints:
    """Keyed 64-bit hashes of canonical JSON: who lacks the ledger's key cannot try out what the arguments were."""

    def __init__(self, key: Callable[[], bytes | None]) -> None:
        self._key = key
        self._hash: Any = None

    def of(self, data: bytes) -> str:
        """The hash as 16 hexadecimal digits. Where the ledger has no key, one of this process: comparable here."""
        if self._hash is None:
            key = hashlib.blake2b(self._key() or secrets.token_bytes(32), digest_size=32, person=_PERSON).digest()
            self._hash = hashlib.blake2b(digest_size=8, key=key)
        found = self._hash.copy()
        found.update(data)
        digest: str = found.hexdigest()
        return digest


def canonical(
    value: Any, *, nodes: int = MOST_NODES, text: int = MOST_TEXT, spelling: type[Walk] | None = None
) -> Canonical:
    """Write a value as canonical JSON, as far as these bounds reach. Never raises.

    `spelling` says otherwise how numbers, keys and broken characters are written.
    """
    walk = (spelling or Walk)(nodes, text)
    try:
        data = orjson.dumps(walk.plain(value, 0), option=orjson.OPT_SORT_KEYS)
    except Exception:  # noqa: BLE001 - another thread may change it while it is read
        return Canonical(orjson.dumps(_object(value), option=orjson.OPT_SORT_KEYS), whole=False)
    return Canonical(data, walk.whole)


def size_of(value: Any, written: Canonical) -> int | None:
    """Bytes of a result: a text's in UTF-8, else those of its JSON; None where that is not known."""
    if type(value) is str:
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if type(value) is bytes:
        return len(value)
    return len(written.data) if written.whole else None


def type_name(value: object) -> str:
    """The name of a value's type, from the type itself."""
    return _name_of(type(value))


class Walk:
    """One walk over a structure, with what is left of its bounds."""

    __slots__ = ("nodes", "text", "whole")
    lone = "replace"
    """What becomes of half a pair, which is no character: it is replaced, as in the rows of the ledger."""

    def __init__(self, nodes: int, text: int) -> None:
        self.nodes, self.text, self.whole = nodes, text, True

    def plain(self, value: Any, depth: int) -> Any:  # noqa: C901, PLR0911 - a line for each kind of value
        """The value as plain JSON would have it; what is too deep, too much or no JSON is left out and told."""
        kind = type(value)
        self.nodes -= 1
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if depth > _DEEPEST or self.nodes < 0:
            self.whole = False
            return {"\0cut": _name_of(kind)}
        if issubclass(kind, dict):
            return self._members(dict.items(value), dict.__len__(value), depth)
        if issubclass(kind, list):
            return self._items(list.__iter__(value), list.__len__(value), depth)
        if issubclass(kind, tuple):
            return self._items(tuple.__iter__(value), tuple.__len__(value), depth)
        if issubclass(kind, int):
            return number(int.__int__(value))
        if issubclass(kind, float):
            return self.real(float.__float__(value))
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if kind is bytes:
            return {"\0bytes": self._text(value[: MOST_TEXT // 2].hex()), "length": len(value)}
        self.whole = False
        return _object(value)

    def _text(self, text: str) -> str:
        length = len(text)
        if length > self.text:
            half = max(0, self.text) // 2
            text = f"{text[:half]}\0{length}\0{text[length - half :]}"
            self.whole = False
        self.text -= length
        if text.isascii():
            return text
        return unicodedata.normalize("NFC", text).encode("utf-8", self.lone).decode()

    def _members(self, members: Iterable[tuple[Any, Any]], length: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in members:
            if self.nodes <= 0:
                self.whole = False
                found["\0length"] = length
                break
            found[self.key(key)] = self.plain(value, depth + 1)
        return found

    def _items(self, items: Iterable[Any], length: int, depth: int) -> list[Any]:
        found: list[Any] = []
        for item in items:
            if self.nodes <= 0:
                self.whole = False
                found.append({"\0length": length})
                break
            found.append(self.plain(item, depth + 1))
        return found

    def real(self, value: float) -> Any:
        """How a float is written."""
        if math.isfinite(value):
            return value + 0.0
        return {"\0float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}

    def key(self, key: Any) -> str:
        """How a key is written. JSON has none but texts: others stay apart from the text that they would be."""
        if type(key) is str:
            return self._text(key)
        return "\0" + orjson.dumps(self.plain(key, _DEEPEST), option=orjson.OPT_SORT_KEYS).decode()


def number(value: int) -> Any:
    """How a whole number is written."""
    if -_INT_MAX <= value <= _INT_MAX:
        return value
    # As text in base ten a very large one takes minutes.
    return {"\0int": hex(value) if value.bit_length() <= _LARGEST_BITS else f"{value.bit_length()} bits"}


def _object(value: object) -> dict[str, Any]:
    return {"\0object": _name_of(type(value)), "id": id(value)}
