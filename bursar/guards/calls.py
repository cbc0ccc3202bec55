"""A completed tool call as the loop guard sees it: hashes of what was asked and of what came back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from bursar.guards.arguments import canonical, parsed
from bursar.guards.results import digest, read_result, without_digits
from bursar.words.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Effect = Literal["read", "idempotent", "write", "poll"]
EFFECTS: Final = ("read", "idempotent", "write", "poll")
_COMMANDS: Final = ("command", "cmd", "script", "code", "input")
_BULKY: Final = 120
"""Characters of arguments from which on equal text is no coincidence: three times a search by date and place."""
_MOVE: Final = re.compile(r"\s*cd(?:\s+(?P<quote>['\"]?)(?P<to>[^\s'\"&;|`$]+)(?P=quote))?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ToolTraits:
    """What a tool declares about its repeats.

    `effect`: "read" (nothing changes; also what is taken where nothing is said), "idempotent" (writes, and twice is as
    once), "write" (each call does it again: a message sent, an order placed), "poll" (asks until something has
    happened: repeating is its purpose). `loop_key`: the fields of the arguments that tell calls apart, or a function
    of the arguments; the others are ignored. `exempt`: the tool is neither progress nor repetition, as `think`.

    Raises `ConfigError` for an unknown effect, `TypeError` for a key that is neither fields nor a function.
    """

    effect: Effect = "read"
    loop_key: Sequence[str] | Callable[[Any], object] | None = None
    exempt: bool = False

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS:
            raise ConfigError(f"effect={self.effect!r} is none of {', '.join(EFFECTS)}")
        key: object = self.loop_key
        fields = isinstance(key, list | tuple) and bool(key) and all(isinstance(name, str) for name in key)
        if key is not None and not callable(key) and not fields:
            raise TypeError(f"loop_key={key!r} is a list of fields of the arguments, or a function of them")


PLAIN: Final = ToolTraits()


class ToolFact(NamedTuple):
    """One completed call; every field that says what was said is a hash.

    `call` covers the tool and its arguments, `near` the same with digits masked (None where only hashes are known),
    `result` and `masked` are the two hashes of `results.Result`. `moves` is the directory that a shell was sent to,
    which decides what the next command means; `bulky`: the arguments are long, so that equal ones are no coincidence.
    """

    tool: str
    call: str
    result: str
    masked: str
    call_id: str = ""
    near: str | None = None
    error: bool = False
    empty: bool = False
    transient: bool = False
    moves: str | None = None
    bulky: bool = False


def fact(
    tool: str,
    arguments: object,
    content: object,
    traits: ToolTraits = PLAIN,
    *,
    call_id: str = "",
    is_error: bool | None = None,
) -> ToolFact:
    """Make a fact of a call and its result; nothing of the text is kept."""
    call, told = call_key(tool, arguments, traits)
    result = read_result(content, is_error=is_error)
    near = without_digits(told.decode())
    return ToolFact(
        tool=tool,
        call=call,
        result=result.normal,
        masked=result.masked,
        call_id=call_id,
        near=digest(f"{tool} {near}".encode("utf-8", "surrogatepass")),
        error=result.error,
        empty=result.empty,
        transient=result.transient,
        moves=None if result.error else _moves(arguments),
        bulky=len(near) >= _BULKY,
    )


def call_key(tool: str, arguments: object, traits: ToolTraits = PLAIN) -> tuple[str, bytes]:
    """The hash of a call, and the arguments that it is made of in one spelling."""
    told = canonical(arguments if traits.loop_key is None else _keyed(arguments, traits.loop_key))
    return digest(tool.encode("utf-8", "surrogatepass") + b" " + told), told


def traits_of(tool: str, declared: Mapping[str, ToolTraits]) -> ToolTraits:
    """What is declared for a tool, by its name or by the first pattern that fits."""
    if not declared:
        return PLAIN
    found = declared.get(tool)
    if found is not None:
        return found
    return next((traits for pattern, traits in declared.items() if fnmatchcase(tool, pattern)), PLAIN)


def _keyed(arguments: object, key: Sequence[str] | Callable[[Any], object]) -> object:
    value = parsed(arguments)
    if callable(key):
        try:
            return key(value)
        except Exception:  # noqa: BLE001 - a key that the arguments do not have: all of them count
            return value
    return {name: value.get(name) for name in key} if isinstance(value, dict) else value


def _moves(arguments: object) -> str | None:
    # Told by the text before anything is parsed: few calls are a bare `cd`.
    if isinstance(arguments, str) and ("cd" not in arguments or len(arguments) > 4_096):
        return None
    value = parsed(arguments)
    if isinstance(value, dict):
        value = next((value[name] for name in _COMMANDS if isinstance(value.get(name), str)), None)
    found = _MOVE.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else found["to"] or "~"
