"""The cost gate: which calls a person is asked about before they are made, and which are refused outright.

A rule has filters (which calls it looks at) and conditions (what about them asks or denies). It asks on what a call
will probably cost and denies on what it can cost at most: a person should not be disturbed for a bound that is hardly
ever reached, and a limit should not be passed by an answer that is longer than most. Every rule that applies is heard;
a denial goes before a question, and each question has to be answered. So rules only ever add to one another: what the
program says loosens nothing that the file says.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from bursar.guards.approvers import parse_approvers
from bursar.guards.gate_rules import FULL, TOP, Rule
from bursar.guards.options import parse_share
from bursar.words.errors import ConfigError
from bursar.words.money import parse_usd
from bursar.words.seconds import parse_duration
from bursar.words.tools import EFFECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

ASKS: Final = ("always", "dearer", FULL)


@dataclass(frozen=True, slots=True)
class CostGate:
    """Ask somebody, or refuse, before a call of a model or a tool is made.

    Which calls: `tool` (a pattern of names, "wire_*"), `effect` ("read", "idempotent", "write" or "poll", or several),
    `model` (a pattern, or "top" for the upper half of the vendor's prices; `top` names other patterns for that),
    `when` (a function of a tool's arguments as a dict; what it raises counts as yes). Without any of them all calls.

    What about them: `ask_above_usd` asks where a call will probably cost more, `ask_above_share` ("25%") where that is
    more than such a part of what is left, `ask="always"` asks always, `ask="dearer"` where a model costs more than any
    that `[workflow.x] models = [...]` declares, or than the one that it is a fallback from, `ask="full"` where a call
    does not fit what is left of the run's own budget: a yes raises that limit by what it lacks, or by the answer's
    `raise_usd`, a no leaves it to the budget, which refuses it. `deny_above_usd` refuses what can cost more at most,
    `deny=True` all of it. An unknown price asks, and under `deny_above_usd` is refused; a tool nobody has named a price
    for is asked about only by a gate that names tools, effects or arguments.

    Who is asked: `approver` is "terminal", "inbox", "interrupt", "python:module:function", a function of a
    `bursar.approvals.Question`, or several one after another, each for so long ("terminal 30s", "inbox"); without it
    whoever another gate of this call asks, else the terminal. No answer within `timeout` ("120s", a number of seconds;
    None for the approver's own) is a no. Time in which a person thinks is not counted against `Budget(seconds=...)`,
    except with `count_wait`.

    Raises `TypeError` for a float of dollars or another wrong type, `ConfigError` for a gate that could never act, an
    empty pattern, an unknown effect or approver.
    """

    ask_above_usd: str | int | Decimal | None = None
    deny_above_usd: str | int | Decimal | None = None
    ask_above_share: str | None = None
    tool: str | None = None
    effect: str | Sequence[str] | None = None
    model: str | None = None
    when: Callable[[dict[str, Any]], object] | None = None
    ask: str | None = None
    deny: bool = False
    top: Sequence[str] = ()
    approver: Any = None
    timeout: str | float | None = None
    count_wait: bool = False

    def __post_init__(self) -> None:
        self.rule()

    def rule(self, origin: str = "") -> Rule:
        """The gate in plain values, checked. `origin` says where it is written, where that is a file."""
        kinds, effects = self._calls()
        if self.deny is not True and self.deny is not False:
            raise TypeError(f"deny={self.deny!r} is True or False; an amount is deny_above_usd='1.00'")
        rule = Rule(
            kinds=kinds,
            tool=self.tool,
            effects=effects,
            model=self.model,
            top=tuple(self.top),
            when=self.when,
            ask=self.ask,
            deny=self.deny,
            ask_nusd=None if self.ask_above_usd is None else parse_usd(self.ask_above_usd, "ask_above_usd"),
            deny_nusd=None if self.deny_above_usd is None else parse_usd(self.deny_above_usd, "deny_above_usd"),
            ask_share=None if self.ask_above_share is None else parse_share(self.ask_above_share, "ask_above_share"),
            approvers=parse_approvers(self.approver),
            timeout_us=None if self.timeout is None else parse_duration(self.timeout, "timeout"),
            count_wait=self.count_wait is True,
            text=self._text(),
            origin=origin,
        )
        if not (rule.ask or rule.deny or rule.ask_nusd or rule.deny_nusd or rule.ask_share):
            raise ConfigError(
                f"{rule.text} would never ask and never deny: name ask_above_usd='0.10', ask='always' or another of "
                "ask_above_share, deny_above_usd, deny"
            )
        return rule

    def _calls(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The kinds of calls that it looks at, and their effects."""
        for name in ("tool", "model"):
            pattern = getattr(self, name)
            if pattern is not None and (not isinstance(pattern, str) or not pattern.strip()):
                raise ConfigError(f"{name}={pattern!r} is no pattern of names, as in {name}='wire_*'")
        effects = (self.effect,) if isinstance(self.effect, str) else tuple(self.effect or ())
        for effect in effects:
            if effect not in EFFECTS:
                raise ConfigError(f"effect={effect!r} is none of {', '.join(EFFECTS)}")
        if self.ask is not None and self.ask not in ASKS:
            raise ConfigError(f"ask={self.ask!r} is none of {', '.join(ASKS)}")
        if self.when is not None and not callable(self.when):
            raise TypeError(f"when={self.when!r:.80} is no function of a tool's arguments")
        of_tools = self.tool is not None or bool(effects) or self.when is not None
        of_models = self.model is not None or self.ask == "dearer"
        if of_tools and of_models:
            raise ConfigError("a gate looks at tools (tool, effect, when) or at models (model, ask='dearer'), not both")
        if isinstance(self.top, str) or (self.top and self.model != TOP):
            raise ConfigError(f"top={self.top!r} is a list of patterns that model='top' stands for")
        return ("tool",) if of_tools else ("model",) if of_models else ("model", "tool"), effects

    def _text(self) -> str:
        parts = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value in (None, (), False) or each.name in ("timeout", "count_wait"):
                continue
            parts.append(
                f"{each.name}={getattr(value, '__qualname__', 'function') if callable(value) else repr(value)}"
            )
        return f"CostGate({', '.join(parts)})"
