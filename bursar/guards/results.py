"""What a tool brought back, as hashes: with what changes by itself masked, then with every digit masked; never text.

Masked are points in time, clock times, durations, UUIDs, addresses and process ids; white space is collapsed. A
result longer than 4,096 characters is masked at its head and tail only; its middle counts as it is, so that a change
anywhere is seen, and what lies in the middle and changes by itself makes a result new.
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import Any, Final, NamedTuple

import orjson

_PART: Final = 2_048
"""Characters that are masked at either end of a long result: masking costs ten times what hashing does."""
# Every alternative begins with the digit that the scan stops at: text without digits is passed over at full speed.
_CHANGES: Final = re.compile(
    r"""\d(?<!\w\w)(?:
        (?<=\b0)x[0-9a-fA-F]{4,}                                                       # an address
      | \d{3}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:\s?(?:Z|[+-]\d\d:?\d\d))?  # a point in time
      | \d?:[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?(?:\s?[AaPp][Mm]\b)?                       # a clock time
      | (?<=1)[4-9]\d{8}(?:\d{3}|\.\d+)?\b                                             # seconds of the epoch
      | \d*+(?:\.\d++)?\s?(?:ns|us|µs|ms|s|secs?|seconds?|mins?|minutes?|hrs?|hours?)\b  # a duration
    )""",
    re.VERBOSE,
)
_PROCESS: Final = re.compile(r"\b([pP](?:id|ID|rocess))([ =:#]{1,2})\d+")
_PROCESS_NEAR: Final = re.compile("[pP](?:id|ID|rocess)[ =:#]")
_UUID: Final = re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b")
_UUID_CORE: Final = re.compile(r"-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-")
_NO_DIGITS: Final = {ord(digit): "0" if digit == "0" else None for digit in "0123456789"} | {
    ord(digit): "0" for digit in "123456789"
}
_RUNS: Final = re.compile("00+")
_ERROR: Final = re.compile(
    r"\s*(?:\W{0,3}(?:error|exception|fatal|failed|failure|traceback|invalid|usage:)"
    r"|(?:HTTP\S{0,4} |status:? ?)?[45]\d\d:? (?:service|too many|bad|internal|gateway|unauthori|forbidden|not found)"
    r"|\{\W{0,3}(?:error|is_error|exception)\W|[\w./-]{1,60}: (?:[\w /.-]{1,60}: )?(?:line \d+: )?(?:\S{1,60}: )?"
    r"(?:command not found|no such file|not found|cannot |permission denied|error))",
    re.IGNORECASE,
)
_TRANSIENT: Final = re.compile(
    r"\b(?:429|502|503|504|529)\b|rate.?limit|overloaded|too many requests|temporarily unavailable"
    r"|service unavailable|bad gateway|gateway time-?out|connection (?:reset|refused|aborted)",
    re.IGNORECASE,
)
_HEAD: Final = 400
"""Characters in which a failure says what it is."""
EMPTY: Final = sha1(b"", usedforsecurity=False).hexdigest()[:16]
"""The hash of a result that says nothing."""


class Result(NamedTuple):
    """The hashes of one result.

    `normal` is equal where nothing but what changes by itself differs, `masked` where nothing but digits does.
    transient: a failure of the infrastructure that is no fault of the call (429, 5xx); retrying is the right thing.
    """

    normal: str
    masked: str
    error: bool
    empty: bool
    transient: bool


def read_result(content: object, *, is_error: bool | None = None) -> Result:
    """Hash a tool's answer: a text, a list of content blocks or plain data.

    `is_error` where the protocol says it; else the first words decide.
    """
    text = content if content.__class__ is str else text_of(content)
    assert isinstance(text, str)
    normal, middle = _ends(text) if len(text) > 2 * _PART else (normalised(text), b"")
    head = text[:_HEAD]
    error = _ERROR.match(head) is not None if is_error is None else is_error
    return Result(
        digest(normal.encode("utf-8", "surrogatepass") + middle),
        digest(without_digits(normal).encode("utf-8", "surrogatepass") + middle),
        error,
        normal in ("", "[]", "{}", "null", "None"),
        error and _TRANSIENT.search(head) is not None,
    )


def _ends(text: str) -> tuple[str, bytes]:
    # A megabyte is encoded once and hashed where it lies: each copy of it costs as much as half of its hash.
    head, tail = text[:_PART], text[-_PART:]
    whole = memoryview(text.encode("utf-8", "surrogatepass"))
    first, last = (len(end.encode("utf-8", "surrogatepass")) for end in (head, tail))
    return f"{normalised(head)}\n{normalised(tail)}", digest(whole[first : len(whole) - last]).encode()


def normalised(text: str) -> str:
    """The text with what changes by itself masked and white space collapsed."""
    if "-" in text and _UUID_CORE.search(text):
        text = _UUID.sub("#", text)
    text = _CHANGES.sub("#", text)
    if _PROCESS_NEAR.search(text):
        text = _PROCESS.sub(r"\1\2#", text)
    return " ".join(text.split())


def without_digits(text: str) -> str:
    """The text with every run of digits made one."""
    return _RUNS.sub("0", text.translate(_NO_DIGITS))


def text_of(content: Any) -> str:
    """The text of a result: of content blocks what they say, of other data its JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple):
        return "\n".join(text_of(block) for block in content)
    said = content.get("text") if isinstance(content, dict) else None
    if isinstance(said, str):
        return said
    try:
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str).decode()
    except (TypeError, ValueError):
        return str(content)


def digest(content: bytes | memoryview) -> str:
    """Sixteen hexadecimal digits; SHA-1 because it is the fastest here, and nobody gains by a collision."""
    return sha1(content, usedforsecurity=False).hexdigest()[:16]
