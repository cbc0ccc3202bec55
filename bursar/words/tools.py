"""What is known of tools before they are called: how they were declared, what they cost, and who asked for one."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.settings.prices import parse_fee

if TYPE_CHECKING:
    from collections.abc import Callable

EFFECTS: Final = ("read", "idempotent", "write", "poll")
"""What a call does: nothing that lasts; the same however often; something more each time; look whether it is time."""


class ToolSpec(NamedTuple):
    """A tool as `bursar.tool` declared it, for guards to read.

    nusd: what one call costs at most, None where nobody said. effect: one of `EFFECTS`, None where nobody said.
    loop_key: given a call's arguments, says what makes two calls the same. exempt: no loop is made of its calls.
    """

    name: str
    nusd: int | None = None
    effect: str | None = None
    loop_key: Callable[..., object] | None = None
    exempt: bool = False


class ToolRule(NamedTuple):
    """What `[tool."pattern"]` says of the tools whose names match."""

    pattern: str
    nusd: int | None = None
    effect: str | None = None


class ToolAsk(NamedTuple):
    """A tool call that an answer asks for; those that run at the provider are none.

    args: what stands in the answer, an object or JSON text; it is gone when `args_hash` has been made of it.
    declared: the tool is decorated, so the call is counted and charged when it runs. nusd: what it costs.
    """

    name: str
    tool_call_id: str | None = None
    args: object = None
    args_hash: str | None = None
    declared: bool = False
    nusd: int | None = None
    effect: str | None = None


declared: Final[dict[str, ToolSpec]] = {}
"""The decorated tools of this process by name; of two with one name, the later."""


def parse_tool_fee(value: object, shown: str) -> int:
    """Read what a tool call costs as nano-dollars; "0" says that it is free. Raises as `parse_fee`."""
    return 0 if value in ("0", "0.0", "0.00") or (type(value) is int and value == 0) else parse_fee(value, shown)


@lru_cache(maxsize=1_024)
def rule_for(rules: tuple[ToolRule, ...], name: str) -> ToolRule:
    """What the file says of a tool: for each key the most specific pattern that has it.

    Specific: a plain name first, then the pattern with more letters of its own.
    """
    found = ToolRule(name)
    for rule in sorted((rule for rule in rules if fnmatchcase(name, rule.pattern)), key=_loose):
        found = ToolRule(
            name, rule.nusd if found.nusd is None else found.nusd, rule.effect if found.effect is None else found.effect
        )
    return found


def _loose(rule: ToolRule) -> tuple[int, str]:
    wild = any(mark in rule.pattern for mark in "*?[")
    letters = sum(mark not in "*?[]!" for mark in rule.pattern)
    return (-letters if wild else -10_000, rule.pattern)
