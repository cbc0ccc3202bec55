"""The gates of a run, and what has become of one call before them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.guards.gate import CostGate
from bursar.guards.gate_rules import FULL, TOP, Rule
from bursar.words.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bursar.settings.config import Settings
    from bursar.words.ports import Asker


class Gates(NamedTuple):
    """The rules that apply to the calls of a frame, and who asks about them.

    `declared`: the models that each workflow of the file says it uses. `asker` is made at the first question.
    """

    rules: tuple[Rule, ...]
    declared: Mapping[str, Sequence[str]]
    asker: Callable[[], Asker]

    def of(self, kind: str) -> tuple[Rule, ...]:
        """The rules that look at calls of this kind."""
        return tuple(rule for rule in self.rules if kind in rule.kinds)

    def with_rules(self, rules: Iterable[Rule]) -> Gates:
        """These and further rules, each once."""
        return self._replace(rules=tuple(dict.fromkeys((*self.rules, *rules))))

    @property
    def asks_full(self) -> bool:
        """Whether a rule asks where a budget has no room."""
        return any(rule.ask == FULL for rule in self.rules)

    @property
    def by_rank(self) -> bool:
        """Whether a rule needs the rank of a model among its vendor's."""
        return any(rule.model == TOP and not rule.top for rule in self.rules)


class Passed(NamedTuple):
    """A yes to a call: to what, at what price at most (None: at a price nobody knows), for which rules."""

    binding: str
    ceiling_nusd: int | None
    rules: frozenset[Rule]

    def covers(self, binding: str, bound_nusd: int | None, rule: Rule) -> bool:
        """Whether it is a yes to this as well."""
        if binding != self.binding or rule not in self.rules:
            return False
        if bound_nusd is None or self.ceiling_nusd is None:
            return bound_nusd is None and self.ceiling_nusd is None
        return bound_nusd <= self.ceiling_nusd


@dataclass(slots=True, eq=False)
class Gated:
    """One call before its gates: what of it is bound to a yes, what is shown of it, and every yes so far.

    `told` is what the call says, as bytes: read again each time, since a caller may change it while a person thinks.
    `shown` is the same for a person, and whether it is whole. `given` are a tool's arguments; `edited` is
    what a person has put in their place. `op_id`: of the call as whoever asks first knows it.
    """

    told: Callable[[], bytes]
    shown: Callable[[], tuple[str, bool]]
    given: Mapping[str, Any] | None = None
    edited: dict[str, Any] | None = None
    passes: list[Passed] = field(default_factory=list)
    op_id: str | None = None

    @property
    def arguments(self) -> Mapping[str, Any] | None:
        """What a tool is to be called with, as it is now."""
        return self.given if self.edited is None else self.edited


def rules_of_file(settings: Settings) -> tuple[Rule, ...]:
    """The gates of `bursar.toml`. Raises `ConfigError` with file and line."""
    found = []
    for spec in settings.gates:
        try:
            found.append(CostGate(**spec.given).rule(spec.origin))
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{spec.origin}: {error}") from None
    return tuple(found)
