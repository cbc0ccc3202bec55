"""A tool call before its gates: what its arguments say, what a person may put in their place, what the model reads."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import json
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.doors import owner_of
from bursar.flow.gates import Gated
from bursar.tracing.redact import redact
from bursar.words.canonical import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bursar.flow.call import ToolStep
    from bursar.words.errors import ApprovalDenied

_NODES: Final = 200_000
_TEXT: Final = 10_000_000
"""How much of the arguments a yes is bound to: more than any model writes."""
MORE: Final = "\0more"
"""Stands for arguments by position beyond those that have names."""
SELF: Final = ("self", "cls", "mcs")
_OPEN_ENDED: Final = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def gated(given: Mapping[str, Any]) -> Gated:
    """Arguments before their gates; they are read again each time, since whoever gave them may change them."""

    def shown() -> tuple[str, bool]:
        written = canonical(given, nodes=_NODES, text=_TEXT)
        return written.data.decode(), written.whole

    return Gated(lambda: canonical(given, nodes=_NODES, text=_TEXT).data, shown, given)


class Outer:
    """A tool call that a framework's adapter lets pass: the decorated function in it is the same call, once."""

    __slots__ = ("_gate", "_name", "_open", "_token")

    def __init__(self, name: str, gate: Gated) -> None:
        self._name, self._gate, self._open = name, gate, True
        self._token = _outer.set(self)

    def close(self) -> None:
        """It is over, or is not made."""
        self._open = False

    def take(self, name: str, given: Mapping[str, Any]) -> Gated | None:
        """How it stands before its gates, for a call of this name that has at least its arguments."""
        said = self._gate.arguments or {}
        same = name == self._name and all(key in given and _same(value, given[key]) for key, value in said.items())
        if not self._open or not same:
            return None
        self._open = False
        return self._gate


_outer: contextvars.ContextVar[Outer | None] = contextvars.ContextVar("bursar_outer_tool", default=None)


def standing(name: str, given: Mapping[str, Any]) -> Gated:
    """How a call stands before its gates: as the adapter round it has left it, else at the beginning."""
    outer = _outer.get()
    return (None if outer is None else outer.take(name, given)) or gated(given)


def _same(one: Any, other: Any) -> bool:
    return canonical(one, nodes=_NODES, text=_TEXT) == canonical(other, nodes=_NODES, text=_TEXT)


def edited(fn: Callable[..., Any], step: ToolStep, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function with what a person has put in place of its arguments. Raises `TypeError` as such a call would."""
    assert step.gate is not None
    said = merged(step.gate)
    owner = owner_of(step)
    step.args_hash = owner.fingerprints.of(canonical(said).data)
    step.flags += ("edited",)
    if owner.contents is not None:
        step.words = f"{step.name} {json.dumps(step.gate.edited)}"
    bound = inspect.signature(fn).bind(*args, **kwargs)
    kinds = {name: each.kind for name, each in bound.signature.parameters.items()}
    rest = next((name for name, kind in kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None)
    for name in list(bound.arguments):
        if name not in said and kinds[name] not in _OPEN_ENDED and name not in SELF:
            # Left out by whoever edited: the function's own default.
            del bound.arguments[name]
    extra = {name: value for name, value in said.items() if name != MORE and (name not in kinds or name == rest)}
    bound.arguments.update({name: value for name, value in said.items() if name != MORE and name not in extra})
    if rest is not None:
        bound.arguments[rest] = extra
    elif extra:
        raise TypeError(f"{fn.__qualname__} has no argument {', '.join(sorted(extra))}: who approved it has added that")
    return fn(*bound.args, **bound.kwargs)


def merged(gate: Gated) -> dict[str, Any]:
    """The edited arguments, with the caller's own objects for all that was left as it was shown."""
    text, given = gate.shown()[0], gate.given or {}
    shown = [json.loads(text)]
    with contextlib.suppress(ValueError):
        # Secrets in it were not shown: what stands for them is left as well.
        shown.append(json.loads(redact(text)))
    return {
        name: given[name] if name in given and any(one.get(name) == value for one in shown) else value
        for name, value in (gate.edited or {}).items()
    }


def refusal(denied: ApprovalDenied) -> str:
    """What the model reads in place of a result."""
    who = f" by {denied.by}" if denied.by else ""
    return (
        f"This call of {denied.name} was not made: it was refused{who}: {denied.answer}. Do not make the same call "
        "again; go on without it, or ask for what would be accepted."
    )
