"""A tool call before its gates: what its arguments say, what a person may put in their place, what the model reads."""

from __future__ import annotations

import contextlib
import inspect
import json
from typing import TYPE_CHECKING, Any, Final

from bursar._canonical import canonical
from bursar._gates import Gated
from bursar.clients.doors import owner_of
from bursar.tracing.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bursar._call import ToolStep
    from bursar._errors import ApprovalDenied

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
