"""Who is asked: one approver or several one after another, as they are written."""

from __future__ import annotations

import re
from typing import Any, Final

from bursar.words.errors import ConfigError
from bursar.words.questions import NAMED, Step
from bursar.words.seconds import parse_duration

_PYTHON: Final = re.compile(r"python:[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def parse_approvers(given: Any) -> tuple[Step, ...]:
    """Read `approver=` of a gate: a name, a function, or a list of them, each but the last for a time.

    Raises `ConfigError` for a name that none has, `TypeError` for what is no approver.
    """
    if given is None:
        return ()
    several = list(given) if isinstance(given, list | tuple) else [given]
    if not several:
        raise ConfigError("approver=[] asks nobody: leave it out, or name one")
    steps = [_step(one) for one in several]
    for step in steps[:-1]:
        if step.most_us is None and step.who != "interrupt" and not callable(step.who):
            raise ConfigError(
                f"approver {step.who!r} has another behind it: say for how long it is asked, as in '{step.who} 30s'"
            )
    return tuple(steps)


def _step(one: Any) -> Step:
    if callable(one):
        return Step(one)
    if not isinstance(one, str):
        raise TypeError(f"approver={one!r:.80} is neither a name nor a function")
    name, _, most = one.strip().partition(" ")
    if name not in NAMED and not _PYTHON.fullmatch(name):
        raise ConfigError(
            f"approver={one[:80]!r} is not known; write {', '.join(NAMED)} or python:module:function, and behind it "
            "for how long, where another follows"
        )
    return Step(name, parse_duration(most.strip(), "approver") if most.strip() else None)
